package test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"georep/internal/need"
)

// TestMustP1AndP3FullDiskHeals fills the disk of the destination: what does not fit is named and waits, everything else flows,
// it never says that all is well, and when there is room again it ends equal without a person.
func TestMustP1AndP3FullDiskHeals(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	mountOn(t, "tmpfs", s.dest)
	command(t, "mount", "-o", "remount,size=20m", s.dest)
	s.write("large", noise(1, 30<<20))
	for i := range 200 {
		s.write(fmt.Sprintf("d%d/f%d", i%10, i), noise(byte(i), 2000))
	}
	r := s.start()
	r.awaits("entry-failed", func(e event) bool {
		return e.Failure.Path == "large" && e.Failure.Errno == int(syscall.ENOSPC) && strings.Contains(e.Failure.Hint, "full")
	})
	await(t, "everything else to be copied", func() bool { return same(s, "d1/f1") && same(s, "d9/f199") })
	s.write("later", []byte("later"))
	must(t, os.Rename(s.in("d1"), s.in("renamed")))
	await(t, "later changes to flow", func() bool { return same(s, "later") && same(s, "renamed/f1") })
	if !r.latest().Snapshot.RecoveryPoint.IsZero() || r.latest().Snapshot.Failing != 1 {
		t.Errorf("it says that all is well: %+v", r.latest().Snapshot)
	}
	must(t, r.cmd.Process.Signal(os.Interrupt))
	r.wait()
	r = s.start() // what failed is remembered
	r.awaits("progress", func(e event) bool { return e.Snapshot.Failing == 1 })
	command(t, "mount", "-o", "remount,size=100m", s.dest)
	s.follows()
	r.awaits("entry-healed", func(e event) bool { return e.Failure.Path == "large" })
	r.stop(syscall.SIGINT)
	s.copied()
}

// TestMustP3ImmutableFileHeals has a file of the destination that cannot be changed, moved or removed for a while.
func TestMustP3ImmutableFileHeals(t *testing.T) {
	t.Parallel()
	need.Root(t)
	chattr := need.Program(t, "chattr")
	s := newSiteIn(t, mount(t, "ext4"))
	for _, name := range []string{"a", "b", "c/d", "e"} {
		s.write(name, []byte(name))
	}
	s.copied()
	stuck := s.out("a")
	command(t, chattr, "+i", stuck)
	t.Cleanup(func() { _ = syscall.Unlink(stuck) }) // it goes with its file system in any case
	r := s.start()
	r.caughtUp()
	s.write("a", []byte("changed"))
	r.awaits("entry-failed", func(e event) bool {
		return e.Failure.Path == "a" && e.Failure.Errno == int(syscall.EPERM) && strings.Contains(e.Failure.Hint, "chattr")
	})
	must(t, os.Rename(s.in("a"), s.in("c/moved")))
	must(t, os.Rename(s.in("b"), s.in("a")))
	s.write("e", []byte("flows"))
	await(t, "everything else to be copied", func() bool { return same(s, "e") })
	command(t, chattr, "-i", stuck)
	s.follows()
	r.stop(syscall.SIGINT)
	s.copied()
}

// same says whether a file has the same content on both sides.
func same(s *site, name string) bool {
	want, err := os.ReadFile(s.in(name))
	must(s.t, err)
	got, err := os.ReadFile(s.out(name))
	return err == nil && string(got) == string(want)
}

// latest is the last event that has come.
func (r *run) latest() event {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) == 0 {
		return event{}
	}
	return r.events[len(r.events)-1]
}
