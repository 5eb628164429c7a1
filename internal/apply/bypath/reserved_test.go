package bypath

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/wire"
)

func (w *world) look(path string) ([]wire.Entry, error) {
	d := wire.Dir{Path: path}
	if path != apply.Hold {
		d.Sec = w.sec(path)
	}
	var all []wire.Entry
	err := w.applier.Look(context.Background(), d, func(e wire.Entry) error {
		all = append(all, e)
		return nil
	})
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all, err
}

func TestLookShowsAllButTheReserved(t *testing.T) {
	w := newWorld(t)
	w.must(w.applier.Prepare())
	w.dir("d")
	w.file("f", "content")
	w.must(os.Symlink("f", w.path("l")))
	w.must(syscall.Mkfifo(w.path("p"), 0o600))
	if err := syscall.Setxattr(w.path("f"), "user.note", []byte("here"), 0); err != nil && !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Fatal(err)
	}
	entries, err := w.look("")
	w.must(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
		if e.Object.ID != w.sec(e.Name) || !e.Object.HasXattrs {
			t.Errorf("%+v", e)
		}
		if e.Name == "f" && e.Object.Xattrs != nil && string(e.Object.Xattrs[0].Value) != "here" {
			t.Errorf("%+v", e)
		}
		if e.Name == "l" && e.Object.Target != "f" {
			t.Errorf("%+v", e)
		}
	}
	if fmt.Sprint(names) != "[d f l p]" {
		t.Error(names)
	}
}

func TestLookAtTheStashShowsOnlyTheWorkersOwn(t *testing.T) {
	w := newWorld(t)
	w.must(w.applier.Prepare())
	w.file("f", "content")
	w.link("f", apply.Hold+"/"+id(1).String())
	w.link("f", apply.Hold+"/"+keptPrefix+id(2).String())
	w.link("f", apply.Hold+"/"+tempPrefix+"x")
	entries, err := w.look(apply.Hold)
	w.must(err)
	if len(entries) != 1 || entries[0].Name != id(1).String() {
		t.Errorf("%+v", entries)
	}
}

func TestLookFindsAMovedDirectoryAndRefusesAnother(t *testing.T) {
	w := newWorld(t)
	w.dir("d")
	w.file("d/f", "content")
	old := wire.Dir{Path: "d", Sec: w.sec("d")}
	count := 0
	look := func() error {
		count = 0
		return w.applier.Look(context.Background(), old, func(wire.Entry) error { count++; return nil })
	}
	w.must(look())
	w.must(os.Rename(w.path("d"), w.path("e")))
	if err := look(); err != nil || count != 1 {
		t.Error("moved:", err, count)
	}
	w.must(os.RemoveAll(w.path("e")))
	w.dir("d")
	if err := look(); !errors.Is(err, wire.ErrStale) {
		t.Error("removed:", err)
	}
}

func TestLookEndsWithItsReader(t *testing.T) {
	w := newWorld(t)
	for i := range 10 {
		w.file(fmt.Sprint("f", i), "")
	}
	enough := errors.New("enough")
	if err := w.applier.Look(context.Background(), wire.Dir{}, func(wire.Entry) error { return enough }); !errors.Is(err, enough) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.applier.Look(ctx, wire.Dir{}, func(wire.Entry) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestBind(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	step := func(session string, adopt bool, want wire.BindResult) {
		t.Helper()
		got, err := w.applier.Bind(ctx, session, adopt)
		if err != nil || got != want {
			t.Errorf("bind %s: %+v, %v, want %+v", session, got, err, want)
		}
	}
	w.dir("lost+found")
	step("one", false, wire.BindResult{Empty: true, Bound: true})
	step("one", false, wire.BindResult{Empty: true, Bound: true})
	step("two", false, wire.BindResult{Empty: true, Other: "one"})
	w.file("f", "content")
	w.restart()
	step("one", false, wire.BindResult{Bound: true})
	step("two", false, wire.BindResult{Other: "one"})
	step("two", true, wire.BindResult{Bound: true})
	step("one", false, wire.BindResult{Other: "two"})
	w.must(os.Remove(w.path(apply.Reserved + "/" + apply.Marker)))
	step("one", false, wire.BindResult{})
	step("one", true, wire.BindResult{Bound: true})
	for _, session := range []string{"", "a\nb", strings.Repeat("x", 300)} {
		if res, err := w.applier.Bind(ctx, session, true); err == nil {
			t.Errorf("session %q: %+v", session, res)
		}
	}
	w.must(w.applier.Commit(ctx, "a longer mark", false))
	w.must(w.applier.Commit(ctx, "mark", false))
	w.must(w.applier.Commit(ctx, "", true))
	step("one", true, wire.BindResult{Bound: true, Mark: "mark"})
	step("two", true, wire.BindResult{Bound: true})
	w.must(os.RemoveAll(w.path(apply.Reserved)))
	w.must(os.Symlink("../outside", w.path(apply.Reserved)))
	if res, err := w.applier.Bind(ctx, "one", true); err == nil {
		t.Errorf("through a symlink: %+v", res)
	}
	w.checkOutside()
}

func TestCommitPurgesWhatWasKept(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	w.must(w.applier.Prepare())
	w.file("f", "unknown")
	w.dir("d/deep/down")
	w.apply(inline(wire.Request{Op: change.Make, At: w.at("f"), Replace: true}, 1, "x"))
	w.apply(inline(wire.Request{Op: change.Make, At: w.at("d"), Replace: true, MayRemove: true}, 2, "x"))
	w.link("f", apply.Hold+"/"+id(7).String())
	for name, age := range map[string]time.Duration{"old": 2 * partAge, "young": 0} {
		w.file(apply.Part+"/"+name, "part")
		when := time.Now().Add(-age)
		w.must(os.Chtimes(w.path(apply.Part+"/"+name), when, when))
	}
	if w.keptCount() != 2 {
		t.Fatal(w.keptCount(), "objects were kept")
	}
	w.must(w.applier.Commit(ctx, "", false))
	if w.keptCount() != 2 {
		t.Error("a commit without purge cleared the stash")
	}
	w.must(w.applier.Commit(ctx, "", true))
	if w.keptCount() != 0 {
		t.Error(w.keptCount(), "objects are kept after a purge")
	}
	if _, err := os.Stat(w.path(apply.Hold + "/" + id(7).String())); err != nil {
		t.Error("what the worker put into the stash is gone:", err)
	}
	if _, err := os.Stat(w.path(apply.Part + "/young")); err != nil {
		t.Error("a part that may be resumed is gone:", err)
	}
	w.fail(func(call, _ string) error {
		if call == "syncfs" {
			return syscall.EIO
		}
		return nil
	})
	if err := w.applier.Commit(ctx, "", false); !errors.Is(err, syscall.EIO) {
		t.Error("a sync that failed:", err)
	}
}

// TestManyAtOnce lets more directories be in use at once than are kept open.
func TestManyAtOnce(t *testing.T) {
	w := newWorld(t)
	w.must(w.applier.Close())
	applier, err := New(Options{Root: w.root, Dirs: 4})
	w.must(err)
	w.applier = applier
	const dirs, files = 24, 40
	refs := make([]wire.Ref, dirs)
	for i := range refs {
		w.dir(fmt.Sprint("d", i))
		refs[i] = w.at(fmt.Sprintf("d%d/f", i))
	}
	var failures atomic.Int64
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for n := range files {
				for i := range dirs {
					at := refs[(i+worker*3)%dirs]
					at.Name = fmt.Sprintf("f-%d-%d", worker, n)
					if res := w.apply(inline(wire.Request{Op: change.Make, At: at}, n, "content")); res.Status != change.Applied {
						failures.Add(1)
					}
					if n%10 == 0 {
						applier.dirs.forget(at.Dir.Sec)
					}
				}
			}
		})
	}
	group.Wait()
	if failures.Load() > 0 {
		t.Error(failures.Load(), "requests failed")
	}
	for i := range dirs {
		if entries, err := os.ReadDir(w.path(fmt.Sprint("d", i))); err != nil || len(entries) != 8*files {
			t.Errorf("d%d has %d entries, %v", i, len(entries), err)
		}
	}
	if n := len(applier.dirs.byID); n > 4 {
		t.Error(n, "directories are open")
	}
}

// TestSameNameAtOnce lets several processes' worth of requests fight for one name: it always shows one whole object.
func TestSameNameAtOnce(t *testing.T) {
	w := newWorld(t)
	at := w.at("x")
	var group sync.WaitGroup
	for worker := range 6 {
		group.Go(func() {
			for n := range 60 {
				var r *wire.Request
				switch (worker + n) % 3 {
				case 0:
					r = inline(wire.Request{}, worker, strings.Repeat("content", worker+1))
				case 1:
					r = &wire.Request{Object: dirOf(worker)}
				default:
					r = &wire.Request{Object: linkOf(worker, "target")}
				}
				r.Op, r.At, r.Replace, r.MayRemove = change.Make, at, true, true
				res := w.apply(r)
				switch res.Errno {
				case 0, syscall.EBUSY, syscall.EEXIST, syscall.EISDIR, syscall.ENOENT, syscall.ENOTDIR, syscall.ESTALE, syscall.EINVAL:
				default:
					t.Errorf("%+v", res)
				}
			}
		})
	}
	group.Wait()
	if shape(w.tree()) != "x" {
		t.Error(w.tree())
	}
	w.must(w.applier.Commit(context.Background(), "", true))
	if left := w.leftovers(); left != nil {
		t.Error("left over:", left)
	}
}

// TestStashIsNotNothing has a root of which everything waits in the stash: it is not empty.
func TestStashIsNotNothing(t *testing.T) {
	w := newWorld(t)
	w.must(w.applier.Prepare())
	if res, err := w.applier.Bound("s"); err != nil || !res.Empty {
		t.Errorf("a new destination is %+v, %v", res, err)
	}
	w.file(".georep/hold/tmp-x", "of a process that died")
	w.file(".georep/hold/"+change.NewID(1, 2).String(), "content")
	if res, err := w.applier.Bound("s"); err != nil || res.Empty {
		t.Errorf("a destination whose content waits in the stash is %+v, %v", res, err)
	}
}
