package pairtest_test

import (
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"georep/internal/need"
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

// New attributes are set by half, for an error of one call, and the source goes back to the old ones: the copy does too.
func TestHalfSetAttributesGoBack(t *testing.T) {
	need.Root(t)
	p, ctx := newPair(t)
	put(t, p.Primary+"/d/f", "one")
	once(t, ctx, p)
	var broken atomic.Bool
	broken.Store(true)
	p.Faults = func(call, path string) error {
		if broken.Load() && (call == "fchmod" || call == "setxattr") && strings.HasPrefix(path, "d") {
			return syscall.EIO
		}
		return nil
	}
	for _, path := range []string{p.Primary + "/d", p.Primary + "/d/f"} {
		if err := os.Chown(path, 5, 6); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := p.Run(ctx, 0); err != nil || len(sum.Failures) != 2 {
		t.Errorf("failing: %+v, %v", sum.Failures, err)
	}
	broken.Store(false)
	for path, mode := range map[string]os.FileMode{p.Primary + "/d": 0o755, p.Primary + "/d/f": 0o644} {
		if err := os.Chown(path, 0, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	once(t, ctx, p)
	same(t, p)
}

// New content reaches one name of a file and not the other, for an error, and the source goes back to the old content and times: the copy does
// too.
func TestHalfWrittenNamesGoBack(t *testing.T) {
	p, ctx := newPair(t)
	put(t, p.Primary+"/a/f", "one")
	put(t, p.Primary+"/b/x", "x")
	if err := os.Link(p.Primary+"/a/f", p.Primary+"/b/f"); err != nil {
		t.Fatal(err)
	}
	was, err := os.Stat(p.Primary + "/a/f")
	if err != nil {
		t.Fatal(err)
	}
	once(t, ctx, p)
	var broken atomic.Bool
	var count atomic.Int64
	broken.Store(true)
	p.Faults = func(call, path string) error {
		if broken.Load() && (call == "renameat" || call == "linkat" || call == "renameat2") {
			if count.Add(1) > 2 {
				return syscall.EIO
			}
		}
		return nil
	}
	if err := os.WriteFile(p.Primary+"/a/f", []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	if sum, err := p.Run(ctx, 0); err != nil || len(sum.Failures) == 0 {
		t.Errorf("failing: %+v, %v", sum.Failures, err)
	}
	broken.Store(false)
	if err := os.WriteFile(p.Primary+"/a/f", []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(p.Primary+"/a/f", was.ModTime(), was.ModTime()); err != nil {
		t.Fatal(err)
	}
	once(t, ctx, p)
	same(t, p)
}

// A file is made, in the place of nothing or of another, and the answer is an error all the same. Then the source takes it back: what has no
// failure any more was not carried out by anybody, and is looked at.
func TestHalfMadeFileGoes(t *testing.T) {
	p, ctx := newPair(t)
	put(t, p.Primary+"/d/old", "one")
	once(t, ctx, p)
	var broken atomic.Bool
	broken.Store(true)
	p.Faults = func(call, path string) error {
		if broken.Load() && call == "name_to_handle_at" && (path == "d/new" || path == "d/old" && !strings.Contains(path, "(")) {
			return syscall.EIO
		}
		return nil
	}
	if err := os.Link(p.Primary+"/d/old", p.Primary+"/../kept"); err != nil {
		t.Fatal(err)
	}
	put(t, p.Primary+"/d/new", "two")
	put(t, p.Primary+"/d/other", "six")
	if err := os.Rename(p.Primary+"/d/other", p.Primary+"/d/old"); err != nil {
		t.Fatal(err)
	}
	if sum, err := p.Run(ctx, 0); err != nil || len(sum.Failures) != 2 {
		t.Errorf("failing: %+v, %v", sum.Failures, err)
	}
	broken.Store(false)
	if _, err := os.Stat(p.Secondary + "/d/new"); err != nil {
		t.Log("nothing was made, so that this shows nothing")
	}
	if err := os.Remove(p.Primary + "/d/new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(p.Primary+"/../kept", p.Primary+"/d/old"); err != nil {
		t.Fatal(err)
	}
	once(t, ctx, p)
	same(t, p)
}
