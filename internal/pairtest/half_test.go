package pairtest_test

import (
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// A directory is to be removed, and part of it stays for an error of its own. The directory comes back to the source, as the same object with
// all that was in it: what had been removed is made again.
func TestHalfRemovedDirectoryComesBack(t *testing.T) {
	p, ctx := newPair(t)
	for _, path := range []string{"d/a", "d/b", "d/sub/c", "d/sub/deep/e", "d/stuck/f", "other"} {
		put(t, p.Primary+"/"+path, path)
	}
	once(t, ctx, p)
	var broken atomic.Bool
	broken.Store(true)
	p.Faults = func(call, path string) error {
		if broken.Load() && call == "unlinkat" && (strings.HasSuffix(path, "stuck/f") || strings.HasSuffix(path, "/stuck")) {
			return syscall.EPERM
		}
		return nil
	}
	if err := os.Rename(p.Primary+"/d", p.Primary+"/../outside"); err != nil {
		t.Fatal(err)
	}
	sum, err := p.Run(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(sum.Failures) != 1 || sum.Failures[0].Errno != int(syscall.EPERM) || !strings.Contains(sum.Failures[0].Path, "d") {
		t.Errorf("failing: %+v", sum.Failures)
	}
	broken.Store(false)
	if err := os.Rename(p.Primary+"/../outside", p.Primary+"/d"); err != nil {
		t.Fatal(err)
	}
	once(t, ctx, p)
	same(t, p)
}
