package bypath

import (
	"context"
	"os"
	"syscall"
	"testing"

	"georep/internal/change"
	"georep/internal/wire"
)

// TestNothingIsAdoptedAfterAFailedSync lets a sync fail: what was written before it is written again, however equal it looks, also by a
// later process; what is written after it is not.
func TestNothingIsAdoptedAfterAFailedSync(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	bind := func() {
		t.Helper()
		if res, err := w.applier.Bind(ctx, "s", true); err != nil || !res.Bound {
			t.Fatalf("bind gives %+v, %v", res, err)
		}
	}
	adopt := func() change.ID {
		t.Helper()
		o := change.Object{ID: change.NewID(7, 7), Kind: change.File, Size: 4, Attr: change.Attr{Mode: 0o644}}
		o.UID, o.GID = uint32(os.Getuid()), uint32(os.Getgid())
		res := w.applier.Apply(ctx, &wire.Request{Op: change.Adopt, At: wire.Ref{Name: "f"}, Object: o, Inline: []byte("data"), HasInline: true, Replace: true})
		if res.Status != change.Applied || res.Errno != 0 {
			t.Fatalf("adopt gives %+v", res)
		}
		return res.Sec
	}
	bind()
	first := adopt()
	part := w.path(".georep/part/" + change.NewID(7, 7).String())
	w.must(w.applier.Prepare())
	w.must(os.WriteFile(part, []byte("part"), 0o600))
	if adopt() != first {
		t.Error("what is equal was written again without a reason")
	}
	w.fail(func(call, _ string) error {
		if call == "syncfs" {
			return syscall.EIO
		}
		return nil
	})
	if err := w.applier.Commit(ctx, "mark", false); err == nil {
		t.Fatal("the sync has not failed")
	}
	w.fail(nil)
	w.restart()
	bind()
	if _, err := os.Stat(part); err == nil {
		t.Error("the part of before is still there")
	}
	w.must(w.applier.Commit(ctx, "mark", false)) // says nothing about f
	second := adopt()
	if second == first {
		t.Error("a file that may not be on the disk was adopted")
	}
	w.restart()
	bind()
	if third := adopt(); third != second && !w.sameTick("f") {
		t.Error("what was written after the failed sync was not adopted")
	}
	w.must(w.applier.Commit(ctx, "", true))
	if _, err := os.Stat(w.path(".georep/unsafe")); err == nil {
		t.Error("it is never safe again")
	}
	fourth := adopt()
	w.restart()
	bind()
	if adopt() != fourth {
		t.Error("what is equal was written again in the end")
	}
}

// sameTick says whether a file was changed in the same tick of the file system's clock in which the sync failed.
func (w *world) sameTick(name string) bool {
	w.t.Helper()
	var f, mark syscall.Stat_t
	w.must(syscall.Stat(w.path(name), &f))
	w.must(syscall.Stat(w.path(".georep/unsafe"), &mark))
	return f.Ctim == mark.Ctim
}
