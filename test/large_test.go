package test

import (
	"os"
	"syscall"
	"testing"
)

// TestLargeFileHoldsUpNothing has a large file on its way over a slow link, and sees others made, changed, renamed and deleted on the
// other side meanwhile, beside it and above it. It arrives in the directory that has another name by then, and its content goes over once.
func TestLargeFileHoldsUpNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const size = 24 << 20
	s.write("d/changed", noise(1, 5000))
	s.write("d/gone", noise(2, 5000))
	s.write("d/sub/file", noise(3, 5000))
	r := s.start("--bwlimit", "2M")
	r.caughtUp()
	before := s.sent()
	s.write("d/large", noise(4, size))
	await(t, "the large file to be on its way", func() bool { return s.sent()-before > 1<<20 })
	s.write("d/quick", noise(5, 5000))
	s.write("d/changed", noise(6, 5000))
	must(t, os.Remove(s.in("d/gone")))
	must(t, os.Rename(s.in("d/sub"), s.in("moved")))
	must(t, os.Rename(s.in("d"), s.in("e")))
	await(t, "the other changes", func() bool {
		return exists(s.out("e/quick")) && exists(s.out("moved/file")) && !exists(s.out("d")) && !exists(s.out("e/gone")) &&
			read(s.out("e/changed")) == string(noise(6, 5000))
	})
	if exists(s.out("e/large")) || s.sent()-before > size {
		t.Errorf("the large file was there first: %d bytes were sent", s.sent()-before)
	}
	await(t, "the large file", func() bool { return exists(s.out("e/large")) })
	r.stop(syscall.SIGINT)
	if sent := s.sent() - before; sent > size*105/100 {
		t.Errorf("%d bytes were sent for %d", sent, size)
	}
	s.equal()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
