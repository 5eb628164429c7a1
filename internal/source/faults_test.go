package source

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"georep/internal/change"
	"georep/internal/rooted"
)

// faulty lets one call of a root fail.
type faulty struct {
	mu    sync.Mutex
	calls int
	at    int // the call that fails; 0: none
	many  int // how many fail from there on
	errno syscall.Errno
	hit   string
}

func (f *faulty) fault(call, path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.at > 0 && f.calls >= f.at && f.calls < f.at+f.many {
		f.hit += fmt.Sprintf(" %s %q", call, path)
		return f.errno
	}
	return nil
}

func (f *faulty) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = 0
}

var everyFault = flag.Bool("faults", false, "let every call fail in turn, not every seventh")

// TestEveryCallFails lets calls fail in turn while a tree is read and followed. Each time the error must end the observation, or be
// reported, or do no harm: when all that was reported has been looked at again, the replica equals the tree.
func TestEveryCallFails(t *testing.T) {
	kinds(t, func(t *testing.T, e Events) {
		errno := map[Events]syscall.Errno{Fanotify: syscall.EIO, Inotify: syscall.ENOMEM}[e]
		step := 7
		if *everyFault {
			step = 1
		}
		for n := 1; n < 2000; n += step {
			f := &faulty{at: n, many: 1 + n%3, errno: errno}
			if !failOnce(t, e, f) {
				t.Logf("%v: %d calls", errno, f.calls)
				return
			}
			if t.Failed() {
				t.Fatalf("%v at call %d:%s", errno, n, f.hit)
			}
		}
	})
}

// failOnce follows a small tree with a fault, and says whether that came.
func failOnce(t *testing.T, e Events, f *faulty) bool {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/a/b/c", "one")
	write(t, dir+"/d", "two")
	must(t, os.Link(dir+"/d", dir+"/a/e"))
	must(t, os.Symlink("a", dir+"/link"))
	root, err := rooted.Open(dir, rooted.WithFaults(f.fault))
	if err != nil {
		return true
	}
	defer root.Close()
	r := newReplica(t)
	r.faulty = true
	v, err := New(context.Background(), Options{Root: root, Path: dir, Index: r, TempDir: t.TempDir(), Events: e, Coalesce: time.Millisecond, ScanInterval: -1})
	if err != nil {
		return true // it says so
	}
	defer v.Close()
	if !r.reach(v) {
		return true
	}
	must(t, os.Rename(dir+"/a/b", dir+"/x"))
	must(t, os.Mkdir(dir+"/new", 0o755))
	write(t, dir+"/new/f", "three")
	must(t, os.Remove(dir+"/a/e"))
	must(t, os.WriteFile(dir+"/d", []byte("2wo"), 0o600))
	must(t, os.Chmod(dir+"/x", 0o700))
	if !r.reach(v) {
		return true
	}
	f.stop()
	if f.hit == "" {
		return false
	}
	v.Again(change.Place{}) // so that it answers at once
	for at := range r.problems {
		v.Again(at)
	}
	if !r.reach(v) {
		t.Errorf("ended after the fault")
		return true
	}
	if d := differences(describeTree(t, dir), r.tree()); d != "" {
		t.Errorf("reported: %v; the replica differs:\n%s", r.problems, d)
	}
	return true
}

// reach applies batches until the volume has caught up; false when it has ended with an error.
func (r *replica) reach(v *Volume) bool {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	since := time.Now()
	for {
		asked := v.next.asked.Load()
		b, err := v.Next(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			r.t.Error("never caught up")
		}
		if err != nil {
			return false
		}
		for _, p := range b.Problems {
			r.problems[p.At] = p
		}
		r.apply(v, b)
		if b.CaughtUp && !asked && !v.next.asked.Load() && b.At.After(since) && !b.Scan.Running {
			return true
		}
		if b.CaughtUp {
			v.next.rested = time.Time{} // it may say so again at once
		}
	}
}

// TestUnreadableDirectory keeps what is below a directory that cannot be listed, and sees it when it can.
func TestUnreadableDirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a/b", "one")
	write(t, dir+"/c", "one")
	broken := true
	var mu sync.Mutex
	root, err := rooted.Open(dir, rooted.WithFaults(func(call, path string) error {
		mu.Lock()
		defer mu.Unlock()
		if broken && call == "getdents64" && path == "a" {
			return syscall.EIO
		}
		return nil
	}))
	must(t, err)
	defer root.Close()
	r := newReplica(t)
	v, err := New(context.Background(), Options{Root: root, Path: dir, Index: r, TempDir: t.TempDir(), Events: None, ScanInterval: -1})
	must(t, err)
	defer v.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var problem Problem
	next := func(until func(Batch) bool) {
		for {
			b, err := v.Next(ctx)
			must(t, err)
			r.apply(v, b)
			for _, p := range b.Problems {
				problem = p
			}
			if until(b) {
				return
			}
		}
	}
	next(func(b Batch) bool { return b.CaughtUp })
	if problem.Errno != syscall.EIO || problem.Call != "getdents64" || problem.Path != "a" || problem.At.Name != "." {
		t.Fatalf("reported is %+v", problem)
	}
	v.Again(problem.At)
	problem = Problem{}
	next(func(Batch) bool { return problem.Errno == syscall.EIO })
	mu.Lock()
	broken = false
	mu.Unlock()
	v.Again(problem.At)
	gone := false
	next(func(b Batch) bool {
		for _, at := range b.Gone {
			gone = gone || at == problem.At
		}
		return gone && b.CaughtUp
	})
	r.check(dir)
}
