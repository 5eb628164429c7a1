package bypath

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"

	"georep/internal/change"
	"georep/internal/rooted"
	"georep/internal/wire"
)

// TestProbe binds on the file system of the tests, which keeps names as they are and times in nanoseconds, and leaves nothing behind.
func TestProbe(t *testing.T) {
	w := newWorld(t)
	res, err := w.applier.Bind(context.Background(), "s", false)
	w.must(err)
	if !res.Bound || res.TimeStep != 0 {
		t.Errorf("bind gives %+v", res)
	}
	w.must(w.applier.Sweep(context.Background()))
	left, err := os.ReadDir(w.path(".georep/hold"))
	w.must(err)
	if len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestProbeOfAFoldingDirectory refuses a destination that is marked as one that does not tell upper case from lower, and later a directory
// in it that is.
func TestProbeOfAFoldingDirectory(t *testing.T) {
	w := newWorld(t)
	w.applier.folds = func(*rooted.Dir) bool { return true }
	if res, err := w.applier.Bind(context.Background(), "s", true); err == nil || res.Bound || !strings.Contains(err.Error(), "upper and lower case") {
		t.Errorf("bind gives %+v, %v", res, err)
	}
	if res, err := w.applier.Bound("s"); err != nil || res.Bound {
		t.Errorf("it was marked: %+v, %v", res, err)
	}
	w.dir("d")
	d := wire.Dir{Path: "d", Sec: w.sec("d")}
	res := w.applier.Apply(context.Background(), &wire.Request{Op: change.Make, At: wire.Ref{Dir: d, Name: "x"}, Object: change.Object{Kind: change.FIFO}})
	if res.Status != change.Failed || res.Errno != syscall.EOPNOTSUPP || !strings.Contains(res.Detail, "chattr") {
		t.Errorf("in such a directory it answers %+v", res)
	}
	w.applier.folds = (*rooted.Dir).Folds
	if res, err := w.applier.Bind(context.Background(), "s", true); err != nil || !res.Bound {
		t.Errorf("bind gives %+v, %v", res, err)
	}
}

// TestProbeFails binds although nothing can be made for the probe, as when the disk is full.
func TestProbeFails(t *testing.T) {
	w := newWorld(t)
	_, err := w.applier.Bind(context.Background(), "s", false)
	w.must(err)
	w.fail(func(call, path string) error {
		if call == "openat" && strings.Contains(path, "tmp-") {
			return syscall.ENOSPC
		}
		return nil
	})
	if res, err := w.applier.Bind(context.Background(), "s", false); err != nil || !res.Bound || res.TimeStep != 0 {
		t.Errorf("bind gives %+v, %v", res, err)
	}
}

// TestTimesThatCannotBeKept are failures that say so, after all else was done.
func TestTimesThatCannotBeKept(t *testing.T) {
	w := newWorld(t)
	w.applier.clock.Store(&clock{step: 1, earliest: 0, latest: 1 << 31})
	for sec, want := range map[int64]syscall.Errno{5: 0, 1 << 31: 0, 1<<31 + 1: syscall.EOVERFLOW, -1: syscall.EOVERFLOW} {
		o := change.Object{Kind: change.File, Attr: change.Attr{Mode: 0o644, Mtime: change.Time{Sec: sec}}}
		res := w.applier.Apply(context.Background(), &wire.Request{Op: change.Adopt, At: wire.Ref{Name: "f"}, Object: o})
		if res.Status != change.Applied || res.Errno != want {
			t.Errorf("the time %d gives %+v", sec, res)
		}
	}
}
