package rooted

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"georep/internal/need"
)

// openDescriptors counts ours.
func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// TestRemoveAllDeep clears a tree much deeper than the number of descriptors it may hold, with something on every level.
func TestRemoveAllDeep(t *testing.T) {
	onEach(t, func(t *testing.T, r *Root, _ string) {
		const depth = 300
		d := openDir(t, r, "")
		for i := range depth {
			write(t, d, "file", "")
			must(t, d.Mkdir("side", 0o755))
			must(t, d.Mkdir("down", 0o755))
			if i%50 == 0 {
				must(t, d.Symlink("/", "link"))
			}
			next, err := d.OpenDir("down")
			must(t, err)
			must(t, d.Close())
			d = next
		}
		must(t, d.Close())
		before, most := openDescriptors(t), 0
		faults := r.faults
		r.faults = func(call, path string) error {
			if call == "getdents64" {
				most = max(most, openDescriptors(t))
			}
			if faults != nil {
				return faults(call, path)
			}
			return nil
		}
		removed, err := r.Top().RemoveAll(t.Context(), "down", func(path string, err error) { t.Error(path, err) })
		if want := int64(1 + (depth-1)*3 + 5); err != nil || removed != want {
			t.Errorf("removed %d of %d, %v", removed, want, err)
		}
		if most > before+openFrames+8 {
			t.Errorf("%d descriptors were open, %d before", most, before)
		}
		if after := openDescriptors(t); after != before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}

// TestRemoveAllWide clears directories of more entries, and of more subdirectories, than are remembered at once.
func TestRemoveAllWide(t *testing.T) {
	onEach(t, func(t *testing.T, r *Root, dir string) {
		const n = 1500
		must(t, os.Mkdir(filepath.Join(dir, "wide"), 0o755))
		for i := range n {
			must(t, os.Mkdir(filepath.Join(dir, "wide", fmt.Sprint("directory", i)), 0o755))
			must(t, os.WriteFile(filepath.Join(dir, "wide", fmt.Sprint("file", i)), nil, 0o644))
		}
		removed, err := r.Top().RemoveAll(t.Context(), "wide", nil)
		if err != nil || removed != 2*n+1 {
			t.Errorf("removed %d, %v", removed, err)
		}
	})
}

func TestRemoveAllSimple(t *testing.T) {
	onEach(t, func(t *testing.T, r *Root, dir string) {
		d := r.Top()
		write(t, d, "file", "")
		must(t, d.Mkdir("dir", 0o755))
		must(t, d.Symlink("file", "link"))
		for name, want := range map[string]int64{"file": 1, "dir": 1, "link": 1, "none": 0} {
			if n, err := d.RemoveAll(t.Context(), name, nil); n != want || err != nil {
				t.Errorf("%s: removed %d, %v", name, n, err)
			}
		}
		must(t, os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := d.RemoveAll(ctx, "a", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// TestRemoveAllGoesOn: what cannot be removed is reported, once, and all else goes.
func TestRemoveAllGoesOn(t *testing.T) {
	needRoot(t)
	onEach(t, func(t *testing.T, r *Root, dir string) {
		for i := range 40 {
			must(t, os.MkdirAll(filepath.Join(dir, fmt.Sprintf("top/%02d/x/y", i)), 0o755))
			must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("top/%02d/x/file", i)), nil, 0o644))
		}
		// Immutable: not even root may remove them.
		for _, name := range []string{"top/07/x/file", "top/23/x/y"} {
			setImmutable(t, filepath.Join(dir, name), true)
			t.Cleanup(func() { setImmutable(t, filepath.Join(dir, name), false) })
		}
		var reported []string
		removed, err := r.Top().RemoveAll(t.Context(), "top", func(path string, err error) {
			wants(t, err, unix.EPERM)
			reported = append(reported, path)
		})
		slices.Sort(reported)
		if !is(err, unix.EPERM) || !slices.Equal(reported, []string{"top/07/x/file", "top/23/x/y"}) {
			t.Errorf("got %v, reported %q", err, reported)
		}
		left := 0
		must(t, filepath.WalkDir(dir, func(string, os.DirEntry, error) error { left++; return nil }))
		if left != 8 || removed != 1+40*4-7 {
			t.Errorf("%d names are left, %d were removed", left, removed)
		}
	})
}

func setImmutable(t *testing.T, path string, on bool) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	must(t, err)
	flags &^= immutableFlag
	if on {
		flags |= immutableFlag
	}
	must(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags))
}

// TestRemoveAllFaults: whatever fails in the middle, what stays is reported or returned, and a second run ends it.
func TestRemoveAllFaults(t *testing.T) {
	dir := need.InMemory(t)
	r := open(t, dir)
	for _, call := range []string{"openat2", "openat", "getdents64", "lseek", "statx", "unlinkat"} {
		for _, no := range []unix.Errno{unix.EIO, unix.EACCES, unix.EPERM, unix.EMFILE, unix.ESTALE, unix.ENOTDIR} {
			for nth := 1; nth <= 40; nth += 4 {
				path := "top"
				for range 40 {
					path += "/d"
				}
				must(t, os.MkdirAll(filepath.Join(dir, path), 0o755))
				before := openDescriptors(t)
				seen := 0
				r.faults = func(c, _ string) error {
					if c == call {
						if seen++; seen == nth {
							return no
						}
					}
					return nil
				}
				reports := 0
				_, err := r.Top().RemoveAll(t.Context(), "top", func(string, error) { reports++ })
				r.faults = nil
				_, there := os.Lstat(filepath.Join(dir, "top"))
				if (there == nil) != (err != nil) {
					t.Errorf("%s %v at call %d: error %v, but still there: %v", call, no, nth, err, there == nil)
				}
				if err != nil && reports == 0 {
					t.Errorf("%s %v at call %d: %v without a report", call, no, nth, err)
				}
				if after := openDescriptors(t); after != before {
					t.Fatalf("%s %v at call %d: %d descriptors before, %d after", call, no, nth, before, after)
				}
				if _, err := r.Top().RemoveAll(t.Context(), "top", nil); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// immutableFlag is FS_IMMUTABLE_FL of linux/fs.h.
const immutableFlag = 0x10

// TestRemoveAllMoved: a directory that is moved away while it is cleared takes the way back with it, and what it leads to is
// not touched.
func TestRemoveAllMoved(t *testing.T) {
	dir := t.TempDir()
	path := "top"
	for range 50 {
		path += "/d"
	}
	must(t, os.MkdirAll(filepath.Join(dir, path), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "elsewhere/kept"), 0o755))
	r := open(t, dir)
	moved := false
	r.faults = func(call, _ string) error {
		if call == "unlinkat" && !moved { // the first is top, the next the innermost: by then the upper ones are closed
			if _, err := os.Lstat(filepath.Join(dir, path)); err != nil {
				moved = true
				must(t, os.Rename(filepath.Join(dir, "top/d/d/d/d"), filepath.Join(dir, "elsewhere/d")))
			}
		}
		return nil
	}
	before := openDescriptors(t)
	_, err := r.Top().RemoveAll(t.Context(), "top", nil)
	wants(t, err, unix.ESTALE)
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere/kept")); err != nil {
		t.Error(err)
	}
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
