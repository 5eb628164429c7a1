package test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"georep/internal/need"
)

// failing is a file system on a disk that can be made to lose what is written to it.
type failing struct {
	t          testing.TB
	dir, image string
	filler     string // while it is there, the disk has no room for anything new
}

// newFailing makes one that works.
func newFailing(t testing.TB) *failing {
	t.Helper()
	backing := mount(t, "tmpfs")
	f := &failing{t: t, dir: filepath.Join(t.TempDir(), "disk"), image: filepath.Join(backing, "image"), filler: filepath.Join(backing, "filler")}
	must(t, os.Mkdir(f.dir, 0o755))
	command(t, "truncate", "-s", "96M", f.image)
	// All that ext4 needs for itself lies at the beginning and gets its place on the disk now, so that later only content finds none.
	command(t, need.Program(t, "mkfs.ext4"), "-q", "-b", "4096", "-E", "packed_meta_blocks=1,lazy_itable_init=0,lazy_journal_init=0,nodiscard",
		"-J", "size=4", "-N", "512", f.image)
	command(t, "fallocate", "-l", "4608K", f.image)
	f.mount()
	t.Cleanup(func() { _ = unix.Unmount(f.dir, unix.MNT_DETACH) })
	return f
}

func (f *failing) mount() {
	f.t.Helper()
	command(f.t, "mount", "-o", "loop", f.image, f.dir)
}

// remount forgets what was only in memory.
func (f *failing) remount() {
	f.t.Helper()
	unmount(f.t, f.dir)
	f.mount()
}

func (f *failing) fail() {
	f.t.Helper()
	var st unix.Statfs_t
	must(f.t, unix.Statfs(filepath.Dir(f.filler), &st))
	file, err := os.Create(f.filler)
	must(f.t, err)
	defer file.Close()
	must(f.t, syscall.Fallocate(int(file.Fd()), 0, 0, int64(st.Bavail)*st.Bsize))
}

func (f *failing) mend() {
	f.t.Helper()
	must(f.t, os.Remove(f.filler))
}

// TestMustP2WhatAFailedSyncLostIsSentAgain mirrors to a disk that loses content while it is written in the background: that is not
// acknowledged, and sent again, although everybody who reads it finds it there until it leaves the memory.
func TestMustP2WhatAFailedSyncLostIsSentAgain(t *testing.T) {
	t.Parallel()
	f := newFailing(t)
	s := newSite(t)
	s.dest = filepath.Join(f.dir, "copy")
	for _, name := range []string{"small", "large", "old"} {
		s.write("d/"+name, []byte("first"))
	}
	s.copied()
	f.remount()
	f.fail()
	s.write("d/small", noise(1, 20_000))
	s.write("d/large", noise(2, 10<<20))
	s.write("d/new", noise(3, 300_000))
	r := s.once()
	r.ended(1)
	if text := r.problem(); !strings.Contains(text, "syncfs") || !strings.Contains(text, "dmesg") {
		t.Errorf("it says %q", text)
	}
	if read(s.out("d/new")) != read(s.in("d/new")) {
		t.Log("the content is not even in memory, so that the rest proves little")
	}
	f.mend()
	if r := s.once(); r.code != 0 && !strings.Contains(r.problem(), "syncfs") { // what failed behind our back is told with the next sync
		t.Errorf("it says %q", r.problem())
	}
	s.copied()
	f.remount()
	s.equal()
}
