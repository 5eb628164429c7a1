package source

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"georep/internal/change"
	"georep/internal/need"
	"georep/internal/source/fanotify"
)

// until applies batches until the replica equals the directory.
func (r *replica) until(v *Volume, dir string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		b, err := v.Next(ctx)
		if err != nil {
			r.t.Fatalf("next: %v; the replica differs:\n%s", err, differences(describeTree(r.t, dir), r.tree()))
		}
		r.apply(v, b)
		if b.CaughtUp && differences(describeTree(r.t, dir), r.tree()) == "" {
			return
		}
	}
}

// TestLostEventIsFoundByPass makes changes of which the kernel tells nothing.
func TestLostEventIsFoundByPass(t *testing.T) {
	kinds(t, func(t *testing.T, e Events) {
		dir := t.TempDir()
		write(t, dir+"/a/file", strings.Repeat("x", 4096))
		write(t, dir+"/a/other", "before")
		r := newReplica(t)
		v := watched(t, dir, r, func(o *Options) { o.Events, o.ScanInterval = e, 50*time.Millisecond })
		if e == Inotify {
			r.follow(v, time.Now())
			v.watch.(*inotifyWatch).Remove(r.entries[lookup(r, "a")].ID)
			write(t, dir+"/a/new", "unseen")
			must(t, os.Remove(dir+"/a/other"))
			must(t, os.Rename(dir+"/a/file", dir+"/a/renamed"))
		} else {
			// A mapping outlives the descriptor, whose close is the last event.
			fd, err := unix.Open(dir+"/a/file", unix.O_RDWR, 0)
			must(t, err)
			mapping, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			must(t, err)
			must(t, unix.Close(fd))
			r.follow(v, time.Now())
			copy(mapping, "written by nobody")
			must(t, unix.Msync(mapping, unix.MS_SYNC))
			must(t, unix.Munmap(mapping))
		}
		r.until(v, dir)
	})
}

// TestQueueOverflow lets the kernel's queue of inotify overflow, and wants what happened meanwhile found, a change that leaves size and
// time as they were among it.
func TestQueueOverflow(t *testing.T) {
	limit, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	must(t, err)
	var most int
	if _, err := fmt.Sscan(string(limit), &most); err != nil || most > 100_000 {
		need.Missing(t, fmt.Sprintf("fs.inotify.max_queued_events of at most 100000, not %s", limit))
	}
	dir := t.TempDir()
	for i := range 20 {
		write(t, fmt.Sprintf("%s/d%d/file", dir, i), "before")
	}
	r := newReplica(t)
	v := watched(t, dir, r, func(o *Options) { o.Events, o.ScanInterval = Inotify, -1 })
	r.follow(v, time.Now())
	v.drain.Lock() // nobody reads
	for i := range most {
		name := fmt.Sprintf("%s/d%d/%d", dir, i%20, i%2)
		must(t, os.Mkdir(name, 0o700))
		must(t, os.Remove(name))
	}
	st, err := os.Stat(dir + "/d3/file")
	must(t, err)
	must(t, os.WriteFile(dir+"/d3/file", []byte("AFTER!"), 0o600))
	must(t, os.Chtimes(dir+"/d3/file", st.ModTime(), st.ModTime()))
	must(t, os.Rename(dir+"/d4/file", dir+"/d5/moved"))
	must(t, os.RemoveAll(dir+"/d6"))
	must(t, os.Mkdir(dir+"/new", 0o700))
	v.drain.Unlock()
	passes := v.next.number
	r.follow(v, time.Now())
	r.check(dir)
	if v.next.number <= passes {
		t.Error("no pass was made: the queue did not overflow, and this test proves nothing")
	}
}

// TestFanotifyOverflow is about a queue without limit: the kernel says so all the same when it has no memory.
func TestFanotifyOverflow(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	v := watched(t, dir, newReplica(t), func(o *Options) { o.Events = Fanotify })
	v.want.Store(wantNone)
	v.watch.(*fanotifyWatch).event(fanotify.Event{Overflow: true})
	if got := v.want.Load(); got != wantDoubt {
		t.Errorf("after an overflow %d is wanted, not a pass that doubts", got)
	}
}

// TestSameSizeAndTimeSeenLive changes content under equal size and time.
func TestSameSizeAndTimeSeenLive(t *testing.T) {
	kinds(t, func(t *testing.T, e Events) {
		dir := t.TempDir()
		write(t, dir+"/a", "one")
		write(t, dir+"/sub/b", "one")
		when := time.Unix(1_600_000_000, 5)
		must(t, os.Chtimes(dir+"/a", when, when))
		must(t, os.Chtimes(dir+"/sub/b", when, when))
		r := newReplica(t)
		v := watched(t, dir, r, func(o *Options) { o.Events = e })
		r.follow(v, time.Now())
		must(t, os.WriteFile(dir+"/a", []byte("two"), 0o600))
		must(t, os.Chtimes(dir+"/a", when, when))
		must(t, os.WriteFile(dir+"/sub/b", []byte("two"), 0o600))
		must(t, os.Chtimes(dir+"/sub/b", when, when))
		must(t, os.Rename(dir+"/sub/b", dir+"/c"))
		r.follow(v, time.Now())
		r.check(dir)
	})
}

// limitedEnv marks the process that may make few watches only.
const limitedEnv = "GEOREP_SOURCE_LIMITED"

// TestWatchLimit runs in a user namespace in which there are fewer watches than directories.
func TestWatchLimit(t *testing.T) {
	if os.Getenv(limitedEnv) == "" {
		child := exec.Command(os.Args[0], "-test.run=^TestWatchLimit$", "-test.v")
		child.Env = append(os.Environ(), limitedEnv+"=1")
		child.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		out, err := child.CombinedOutput()
		if err != nil && len(out) == 0 {
			need.Missing(t, "the right to make a user namespace")
		}
		if err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	must(t, os.WriteFile("/proc/sys/user/max_inotify_watches", []byte("6"), 0))
	dir := t.TempDir()
	for i := range 12 {
		write(t, fmt.Sprintf("%s/d%d/file", dir, i), "before")
	}
	r := newReplica(t)
	v := watched(t, dir, r, func(o *Options) { o.ScanInterval = 50 * time.Millisecond })
	if v.Events() != Inotify {
		t.Fatalf("%v is in use, want inotify", v.Events())
	}
	begin := time.Now()
	note, at := notes(t, r, v)
	if !strings.Contains(note, "max_user_watches") || !strings.Contains(note, "scanning only") {
		t.Errorf("the limit is told as %q", note)
	}
	if !at.Before(begin.Add(time.Minute)) || at.IsZero() || v.unseenSince().IsZero() {
		t.Errorf("caught up as of %v although not all is watched", at)
	}
	for i := range 12 {
		write(t, fmt.Sprintf("%s/d%d/new", dir, i), "after")
	}
	r.until(v, dir)
}

// notes follows a volume until it has caught up after a remark.
func notes(t *testing.T, r *replica, v *Volume) (note string, at time.Time) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		b, err := v.Next(ctx)
		must(t, err)
		r.apply(v, b)
		if b.Note != "" {
			note = b.Note
		}
		if b.CaughtUp && note != "" {
			return note, b.At
		}
	}
}

// TestScanningOnlyIsHonest wants a volume without events to be as old as its last pass.
func TestScanningOnlyIsHonest(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a", "one")
	r := newReplica(t)
	v := watched(t, dir, r, func(o *Options) { o.Events = None })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var first Batch
	for !first.CaughtUp {
		var err error
		first, err = v.Next(ctx)
		must(t, err)
		r.apply(v, first)
	}
	write(t, dir+"/b", "two")
	changed := time.Now()
	v.Again(change.Place{}) // leads to a further batch, without a pass
	for {
		b, err := v.Next(ctx)
		must(t, err)
		r.apply(v, b)
		if !b.CaughtUp {
			continue
		}
		if b.At.After(changed) {
			t.Fatalf("caught up as of %v, but nobody has looked since %v", b.At, changed)
		}
		break
	}
	v.RescanAll()
	r.until(v, dir)
}
