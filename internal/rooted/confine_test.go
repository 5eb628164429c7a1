package rooted

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"georep/internal/change"
	"georep/internal/need"
)

// TestLinksAreNotFollowed: a symbolic link is an object, never a way.
func TestLinksAreNotFollowed(t *testing.T) {
	onEach(t, func(t *testing.T, _ *Root, dir string) {
		must(t, os.MkdirAll(filepath.Join(dir, "outside/sub"), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "outside/file"), []byte("secret"), 0o600))
		must(t, os.MkdirAll(filepath.Join(dir, "top/real/sub"), 0o755))
		r := open(t, filepath.Join(dir, "top"))
		d := r.Top()
		for name, target := range map[string]string{"in": "real", "out": "../outside", "abs": filepath.Join(dir, "outside"), "proc": "/proc/self/root"} {
			must(t, d.Symlink(target, name))
			for _, path := range []string{name, name + "/sub", "real/../" + name} {
				if _, err := r.OpenDir(path); !is(err, unix.ENOTDIR, unix.EINVAL) {
					t.Errorf("directory %s: %v", path, err)
				}
			}
			if _, err := d.OpenDir(name); !is(err, unix.ENOTDIR) {
				t.Errorf("directory %s: %v", name, err)
			}
		}
		must(t, d.Symlink("../outside/file", "file"))
		before := mustStat(t, filepath.Join(dir, "outside/file"))
		_, err := d.OpenFile("file")
		wants(t, err, unix.ELOOP)
		_, err = d.OpenRW("file")
		wants(t, err, unix.ELOOP)
		_, err = d.Create("file", 0o777)
		wants(t, err, unix.EEXIST)
		attr := change.Attr{Mode: 0o777, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Mtime: change.Time{Sec: 77}}
		must(t, d.SetAttr("file", change.Symlink, attr, true, true))
		must(t, d.SetTimes("file", change.Time{Sec: 78}))
		if o, err := d.Stat("file"); err != nil || o.Mtime.Sec != 78 {
			t.Errorf("the link's own time: %+v, %v", o, err)
		}
		_, err = d.RemoveAll(t.Context(), "out", nil)
		must(t, err)
		if after := mustStat(t, filepath.Join(dir, "outside/file")); after != before {
			t.Errorf("outside: %+v became %+v", before, after)
		}
	})
}

func mustStat(t testing.TB, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	st.Atim = unix.Timespec{}
	return st
}

// swap exchanges two names again and again until stop is closed.
func swap(dir, a, b string, stop <-chan struct{}, wg *sync.WaitGroup) {
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, a), unix.AT_FDCWD, filepath.Join(dir, b), unix.RENAME_EXCHANGE)
		}
	})
}

// TestRaceWithLinks lets somebody exchange names beneath the root for links that lead outside, as fast as they can, while
// everything is tried; nothing outside may change.
func TestRaceWithLinks(t *testing.T) {
	onEach(t, func(t *testing.T, outer *Root, dir string) {
		must(t, os.MkdirAll(filepath.Join(dir, "outside/sub"), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "outside/file"), []byte("secret"), 0o600))
		must(t, os.WriteFile(filepath.Join(dir, "outside/sub/file"), []byte("secret"), 0o600))
		top := filepath.Join(dir, "top")
		must(t, os.MkdirAll(filepath.Join(top, "dir/sub"), 0o755))
		must(t, os.WriteFile(filepath.Join(top, "file"), []byte("own"), 0o644))
		must(t, os.Symlink("../outside", filepath.Join(top, "evil")))
		must(t, os.Symlink("../outside/file", filepath.Join(top, "evilfile")))
		r := open(t, top, WithFaults(outer.faults))
		paths := []string{"outside", "outside/sub", "outside/file", "outside/sub/file"}
		var before []unix.Stat_t
		for _, p := range paths {
			before = append(before, mustStat(t, filepath.Join(dir, p)))
		}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		swap(top, "dir", "evil", stop, &wg)
		swap(top, "file", "evilfile", stop, &wg)
		reached := 0
		for i := range 3000 {
			if attack(t, r, i) {
				reached++
			}
		}
		close(stop)
		wg.Wait()
		if reached == 0 {
			t.Error("the directory itself was never reached: nothing was tested")
		}
		for i, p := range paths {
			if after := mustStat(t, filepath.Join(dir, p)); after != before[i] {
				t.Errorf("%s: %+v became %+v", p, before[i], after)
			}
		}
	})
}

// attack does everything once; errors are expected. It says whether the true directory was reached.
func attack(t *testing.T, r *Root, i int) bool {
	top := r.Top()
	attr := change.Attr{Mode: 0o777, UID: 0, GID: 0, Mtime: change.Time{Sec: int64(i)}}
	_ = top.SetAttr("file", change.File, attr, true, true)
	_ = top.SetAttr("dir", change.Dir, attr, true, true)
	_ = top.SetTimes("file", attr.Mtime)
	if f, err := top.OpenRW("file"); err == nil {
		if _, err := f.WriteAt([]byte("mine"), 0); err != nil {
			t.Error(err)
		}
		f.Close()
	}
	if f, err := top.OpenFile("file"); err == nil {
		buf := make([]byte, 6)
		f.ReadAt(buf, 0)
		if string(buf) == "secret" {
			t.Error("read a file outside")
		}
		f.Close()
	}
	if i%16 == 0 {
		_, _ = top.RemoveAll(t.Context(), "none", nil)
	}
	d, err := r.OpenDir("dir/sub")
	if err != nil {
		return false
	}
	defer d.Close()
	if err := d.Mkdir("x", 0o755); err != nil && !is(err, unix.EEXIST) {
		t.Error(err)
	}
	if _, err := d.RemoveAll(t.Context(), "x", nil); err != nil {
		t.Error(err)
	}
	return true
}

// TestRemoveAllRace: what is exchanged for a link while it is cleared leads nowhere else.
func TestRemoveAllRace(t *testing.T) {
	onEach(t, func(t *testing.T, outer *Root, dir string) {
		must(t, os.MkdirAll(filepath.Join(dir, "outside/sub"), 0o755))
		for _, name := range []string{"outside/a", "outside/b", "outside/sub/c"} {
			must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		}
		r := open(t, dir, WithFaults(outer.faults))
		stop := make(chan struct{})
		var wg sync.WaitGroup
		must(t, os.MkdirAll(filepath.Join(dir, "top"), 0o755))
		must(t, os.Symlink("../outside", filepath.Join(dir, "evil")))
		swap(dir, "top/d", "evil", stop, &wg)
		for range 200 {
			_ = os.MkdirAll(filepath.Join(dir, "top/d/sub"), 0o755)
			_ = unix.Mknod(filepath.Join(dir, "top/own"), unix.S_IFREG|0o600, 0)
			_, _ = r.Top().RemoveAll(t.Context(), "top", nil)
			if _, err := os.Lstat(filepath.Join(dir, "evil")); err != nil {
				_ = os.Symlink("../outside", filepath.Join(dir, "evil"))
			}
		}
		close(stop)
		wg.Wait()
		for _, name := range []string{"outside/a", "outside/b", "outside/sub/c"} {
			if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
				t.Errorf("outside: %v", err)
			}
		}
	})
}

// TestMountsAreNotEntered: what is mounted beneath the root is another's.
func TestMountsAreNotEntered(t *testing.T) {
	needRoot(t)
	onEach(t, func(t *testing.T, r *Root, dir string) {
		for _, name := range []string{"a/tmpfs", "a/bind", "a/source"} {
			must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
		}
		must(t, os.WriteFile(filepath.Join(dir, "a/file"), nil, 0o600))
		must(t, os.WriteFile(filepath.Join(dir, "a/source/kept"), nil, 0o600))
		mount := func(source, target, fstype string, flags uintptr) {
			target = filepath.Join(dir, target)
			must(t, unix.Mount(source, target, fstype, flags, ""))
			t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
		}
		mount("tmpfs", "a/tmpfs", "tmpfs", 0)
		mount(filepath.Join(dir, "a/source"), "a/bind", "", unix.MS_BIND) // of the same device
		mount(filepath.Join(dir, "a/source/kept"), "a/file", "", unix.MS_BIND)
		must(t, os.WriteFile(filepath.Join(dir, "a/tmpfs/kept"), nil, 0o600))
		a := openDir(t, r, "a")
		for _, name := range []string{"tmpfs", "bind", "file"} {
			o, err := a.StatLite(name)
			wants(t, err, ErrOtherDevice)
			if o.Kind == 0 {
				t.Errorf("%s: no kind", name)
			}
			_, err = a.Stat(name)
			wants(t, err, ErrOtherDevice)
			_, err = r.OpenDir("a/" + name + "/x")
			if !is(err, ErrOtherDevice, unix.ENOTDIR) {
				t.Errorf("%s: %v", name, err)
			}
			wants(t, a.SetAttr(name, 0, change.Attr{Mode: 0o777}, true, true), ErrOtherDevice)
		}
		_, err := r.OpenDir("a/bind")
		wants(t, err, ErrOtherDevice)
		_, err = a.OpenDir("tmpfs")
		wants(t, err, ErrOtherDevice)
		_, err = a.OpenFile("file")
		wants(t, err, ErrOtherDevice)
		var failures []string
		_, err = r.Top().RemoveAll(t.Context(), "a", func(path string, _ error) { failures = append(failures, path) })
		if err == nil || len(failures) != 3 {
			t.Errorf("clearing around mounts: %v, failures %q", err, failures)
		}
		if _, err := os.Lstat(filepath.Join(dir, "a/tmpfs/kept")); err != nil {
			t.Error(err)
		}
	})
}

// TestSubvolumesAreOtherDevices: nothing can be linked or moved across their border.
func TestSubvolumesAreOtherDevices(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp(mounts.get(t, "btrfs"), "test")
	must(t, err)
	run(t, "btrfs", "subvolume", "create", filepath.Join(dir, "sub"))
	r := open(t, dir)
	_, err = r.OpenDir("sub")
	wants(t, err, ErrOtherDevice)
	_, err = r.Top().StatLite("sub")
	wants(t, err, ErrOtherDevice)
	if _, err := open(t, filepath.Join(dir, "sub")).Top().Self(); err != nil {
		t.Errorf("a subvolume as root: %v", err)
	}
}

// TestNothingWaits: a FIFO has nobody at its other end, and a device is not for us.
func TestNothingWaits(t *testing.T) {
	onEach(t, func(t *testing.T, r *Root, _ string) {
		d := r.Top()
		must(t, d.Mknod("fifo", change.FIFO, 0o666, 0))
		must(t, d.Mknod("socket", change.Socket, 0o666, 0))
		must(t, d.Mkdir("dir", 0o755))
		for name, no := range map[string]unix.Errno{"fifo": unix.ENXIO, "socket": unix.ENXIO, "dir": unix.EISDIR} {
			_, err := d.OpenFile(name)
			wants(t, err, no)
			_, err = d.OpenRW(name)
			wants(t, err, no)
		}
		attr := change.Attr{Mode: 0o4712, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Mtime: change.Time{Sec: 5, Nsec: 6}}
		must(t, d.SetAttr("fifo", change.FIFO, attr, true, true))
		o, err := d.Stat("fifo")
		must(t, err)
		if o.Mode != 0o4712 || o.Mtime != attr.Mtime {
			t.Errorf("%+v", o)
		}
		must(t, d.ReadXattrs("fifo", &o))
		wants(t, d.SetAttr("fifo", change.File, attr, true, true), unix.ESTALE)
	})
}

// TestFaultLayer: every call of a long scenario fails once in each way; each failure is reported as what it is, none panics, and
// afterwards all works.
func TestFaultLayer(t *testing.T) {
	dir := need.InMemory(t)
	must(t, os.Mkdir(filepath.Join(dir, "scratch"), 0o700))
	calls := map[string]bool{}
	r := open(t, dir, WithScratch("scratch"))
	r.faults = func(call, path string) error { calls[call] = true; return nil }
	if err := scenario(r, 0); err != nil {
		t.Fatal(err)
	}
	for _, want := range strings.Fields(`openat openat2 statx name_to_handle_at getdents64 lseek readlinkat mkdirat symlinkat mknodat linkat renameat
		renameat2 unlinkat fchmod utimensat listxattr getxattr setxattr removexattr pread64 pwrite64 ftruncate fsync fadvise64 fallocate
		copy_file_range syncfs fstatfs`) {
		if !calls[want] {
			t.Errorf("the scenario never calls %s", want)
		}
	}
	n := 0
	for call := range calls {
		for _, no := range []unix.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EACCES, unix.EPERM, unix.EMFILE, unix.ESTALE, unix.ENOMEM} {
			for nth := range 3 {
				n++
				seen, hit := 0, false
				r.faults = func(c, _ string) error {
					if c != call {
						return nil
					}
					seen++
					if seen == nth+1 {
						hit = true
						return no
					}
					return nil
				}
				err := scenario(r, n)
				r.faults = nil
				if hit && err != nil {
					if !is(err, no) {
						t.Errorf("%s answers %v: got %v", call, no, err)
					}
				}
				if err := scenario(r, 100000+n); err != nil {
					t.Fatalf("after %s answered %v: %v", call, no, err)
				}
			}
		}
	}
}

// scenario uses every operation in a directory of its own and clears it up.
func scenario(r *Root, n int) (err error) {
	var first error
	note := func(err error) {
		if err != nil && first == nil {
			first = err
		}
	}
	name := "s" + string(rune('A'+n%26)) + strings.Repeat("x", n/26%200)
	top := r.Top()
	defer func() {
		faults := r.faults
		r.faults = nil
		top.RemoveAll(background(), name, nil)
		r.faults = faults
	}()
	note(top.Mkdir(name, 0o700))
	if first != nil {
		return first
	}
	d, err := r.OpenDir(name)
	if err != nil {
		return err
	}
	defer d.Close()
	note(scenarioNames(r, d))
	if first == nil {
		note(scenarioFiles(d))
	}
	if first == nil {
		_, _, _, _, err := r.Statfs()
		note(err)
		note(r.SyncFS(background()))
		_, err = top.RemoveAll(background(), name, nil)
		note(err)
	}
	return first
}
