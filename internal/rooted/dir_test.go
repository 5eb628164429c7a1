package rooted

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"georep/internal/change"
)

// foreign is a name that is no valid UTF-8 and hard on shells.
const foreign = "caf\xe9 \n*\x01\xff"

func TestEveryKindOfObject(t *testing.T) {
	onEach(t, func(t *testing.T, r *Root, dir string) {
		d := r.Top()
		must(t, d.Mkdir(foreign, 0o750))
		sub, err := d.OpenDir(foreign)
		must(t, err)
		defer sub.Close()
		write(t, sub, "file", "content")
		must(t, sub.Symlink("no/where\xff", "link"))
		must(t, sub.Mknod("fifo", change.FIFO, 0o640, 0))
		must(t, sub.Mknod("socket", change.Socket, 0o640, 0))
		want := map[string]change.Kind{"file": change.File, "link": change.Symlink, "fifo": change.FIFO, "socket": change.Socket}
		if os.Geteuid() == 0 {
			must(t, sub.Mknod("char", change.CharDev, 0o600, unix.Mkdev(400, 70000)))
			must(t, sub.Mknod("block", change.BlockDev, 0o600, unix.Mkdev(7, 9)))
			want["char"], want["block"] = change.CharDev, change.BlockDev
		}
		wants(t, sub.Mknod("other", change.File, 0o600, 0), unix.EINVAL)
		ids := map[change.ID]string{}
		for name, kind := range want {
			o, err := sub.Stat(name)
			must(t, err)
			lite, err := sub.StatLite(name)
			must(t, err)
			if o.Kind != kind || lite.Kind != kind || lite.ID.Ino() != o.ID.Ino() || o.ID.Ino() == 0 || lite.ID == o.ID {
				t.Errorf("%s: kind %v and %v, identity %v and %v", name, o.Kind, lite.Kind, o.ID, lite.ID)
			}
			if other, twice := ids[o.ID]; twice {
				t.Errorf("%s and %s have the same identity", name, other)
			}
			ids[o.ID] = name
			switch name {
			case "char":
				if o.Rdev != unix.Mkdev(400, 70000) {
					t.Errorf("device %d:%d", unix.Major(o.Rdev), unix.Minor(o.Rdev))
				}
			case "link":
				if o.Target != "no/where\xff" || lite.Target != "" {
					t.Errorf("targets %q and %q", o.Target, lite.Target)
				}
			case "file":
				if o.Size != 7 || o.Nlink != 1 {
					t.Errorf("file: %+v", o)
				}
			}
		}
		checkEntries(t, sub, want)
		checkEntries(t, sub, want) // from the start again
		self, err := sub.Self()
		must(t, err)
		outer, err := d.Stat(foreign)
		must(t, err)
		if self.ID != outer.ID || self.Kind != change.Dir || self.Mode != 0o750 {
			t.Errorf("directory by itself %+v, by its name %+v", self, outer)
		}
	})
}

func checkEntries(t *testing.T, d *Dir, want map[string]change.Kind) {
	t.Helper()
	seen := map[string]change.Kind{}
	must(t, d.Entries(nil, func(name string, kind change.Kind, ino uint64) error {
		o, err := d.StatLite(name)
		must(t, err)
		if o.ID.Ino() != ino {
			t.Errorf("%s: inode %d listed, %d by stat", name, ino, o.ID.Ino())
		}
		seen[name] = kind
		return nil
	}))
	if len(seen) != len(want) {
		t.Errorf("listed %v, want %v", seen, want)
	}
	for name, kind := range want {
		if seen[name] != kind {
			t.Errorf("%s is listed as %v, want %v", name, seen[name], kind)
		}
	}
}

func TestEntriesInSmallPieces(t *testing.T) {
	onEach(t, func(t *testing.T, r *Root, dir string) {
		const n = 2000
		for i := range n {
			name := strings.Repeat("n", 1+i%200) + string(rune('a'+i%26)) + string(rune('A'+i/26%26)) + string(rune('0'+i/676))
			must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		}
		count := func(buf []byte) int {
			got := map[string]bool{}
			must(t, r.Top().Entries(buf, func(name string, _ change.Kind, _ uint64) error {
				got[name] = true
				return nil
			}))
			return len(got)
		}
		if a, b := count(make([]byte, 1024)), count(make([]byte, 256<<10)); a != b || a < 1500 {
			t.Errorf("%d entries in small pieces, %d in big ones", a, b)
		}
		stop := errors.New("stop")
		if err := r.Top().Entries(nil, func(string, change.Kind, uint64) error { return stop }); err != stop {
			t.Errorf("got %v", err)
		}
	})
}

func TestNamesAndLinks(t *testing.T) {
	onEach(t, func(t *testing.T, r *Root, dir string) {
		d := r.Top()
		must(t, d.Mkdir("a", 0o755))
		must(t, d.Mkdir("b", 0o755))
		a, b := openDir(t, r, "a"), openDir(t, r, "b")
		write(t, a, "one", "1")
		write(t, b, "two", "2")
		one, err := a.Stat("one")
		must(t, err)
		must(t, a.Link("one", b, foreign))
		wants(t, a.Link("one", b, "two"), unix.EEXIST)
		wants(t, a.Rename("one", b, "two", NoReplace), unix.EEXIST)
		must(t, a.Rename("one", b, "two", Exchange))
		now, err := b.Stat("two")
		must(t, err)
		if now.ID != one.ID || now.Nlink != 2 {
			t.Errorf("%+v is not %+v with another name", now, one)
		}
		must(t, b.Rename("two", a, "three", NoReplace))
		must(t, b.Rename(foreign, a, "one", 0))
		must(t, d.Symlink("a", "link"))
		must(t, d.Link("link", d, "link2"))
		if o, err := d.Stat("link2"); err != nil || o.Kind != change.Symlink || o.Target != "a" {
			t.Errorf("a linked link: %+v, %v", o, err)
		}
		wants(t, d.Unlink("a"), unix.EISDIR)
		wants(t, d.Rmdir("a"), unix.ENOTEMPTY)
		wants(t, d.Rmdir("link"), unix.ENOTDIR)
		wants(t, d.Unlink("none"), unix.ENOENT)
		must(t, d.Rmdir("b"))
		if _, err := d.Stat("b"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
		if _, err := a.Readlink("one"); !is(err, unix.EINVAL) {
			t.Errorf("got %v", err)
		}
		long := strings.Repeat("x", 4000)
		if err := d.Symlink(long, "long"); err == nil { // XFS allows 1024 bytes
			if got, err := d.Readlink("long"); err != nil || got != long {
				t.Errorf("a long target came back with %d bytes, %v", len(got), err)
			}
		}
	})
}

// TestRefusedNames: no operation takes what is not one component.
func TestRefusedNames(t *testing.T) {
	dir := t.TempDir()
	r := open(t, filepath.Join(dir), WithFaults(func(call, path string) error { return nil }))
	d := r.Top()
	write(t, d, "ok", "")
	f, err := d.OpenRW("ok")
	must(t, err)
	defer f.Close()
	for _, name := range []string{"", ".", "..", "a/b", "/", "../x", "x\x00", "/etc/passwd", strings.Repeat("n", 256)} {
		_, statErr := d.Stat(name)
		_, liteErr := d.StatLite(name)
		_, dirErr := d.OpenDir(name)
		_, fileErr := d.OpenFile(name)
		_, rwErr := d.OpenRW(name)
		_, createErr := d.Create(name, 0o600)
		_, linkErr := d.Readlink(name)
		_, removeErr := d.RemoveAll(t.Context(), name, nil)
		for what, err := range map[string]error{
			"stat": statErr, "dir": dirErr, "file": fileErr, "rw": rwErr, "create": createErr, "readlink": linkErr, "remove": removeErr,
			"mkdir": d.Mkdir(name, 0), "symlink": d.Symlink("t", name), "mknod": d.Mknod(name, change.FIFO, 0, 0),
			"link from": d.Link(name, d, "to"), "link to": d.Link("ok", d, name), "rename from": d.Rename(name, d, "to", 0),
			"rename to": d.Rename("ok", d, name, 0), "exchange": d.Rename("ok", d, name, Exchange), "unlink": d.Unlink(name),
			"rmdir": d.Rmdir(name), "attr": d.SetAttr(name, 0, change.Attr{}, true, true), "xattr": d.ReadXattrs(name, &change.Object{}),
			"linkto": f.LinkTo(d, name),
		} {
			if !is(err, unix.EINVAL, unix.ENAMETOOLONG) {
				t.Errorf("%s of %q: %v", what, name, err)
			}
		}
		if name != "" { // the directory itself
			if !is(liteErr, unix.EINVAL, unix.ENAMETOOLONG) {
				t.Errorf("statlite of %q: %v", name, liteErr)
			}
			if err := d.SetTimes(name, change.Time{}); !is(err, unix.EINVAL, unix.ENAMETOOLONG) {
				t.Errorf("times of %q: %v", name, err)
			}
		}
	}
	for _, path := range []string{"/", "/etc", "a//b", "a/", "./a", "a/../b", "..", "a\x00b", "."} {
		if _, err := r.OpenDir(path); !is(err, unix.EINVAL) {
			t.Errorf("directory %q: %v", path, err)
		}
	}
}

func TestErrorsSayWhere(t *testing.T) {
	r := open(t, t.TempDir())
	must(t, r.Top().Mkdir("a", 0o755))
	_, err := openDir(t, r, "a").OpenFile("b")
	if err == nil || err.Error() != "openat a/b: no such file or directory" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	var e *Error
	if !errors.As(err, &e) || e.Call != "openat" || e.Path != "a/b" || e.Err != unix.ENOENT {
		t.Errorf("got %#v", e)
	}
	if _, err = Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "none") {
		t.Errorf("got %v", err)
	}
}

// TestDeepPaths: paths may be longer than any system call takes.
func TestDeepPaths(t *testing.T) {
	onEach(t, func(t *testing.T, r *Root, dir string) {
		const depth = 60
		name := strings.Repeat("\xfe", 200)
		d := openDir(t, r, "")
		var parts []string
		for range depth {
			must(t, d.Mkdir(name, 0o755))
			next, err := d.OpenDir(name)
			must(t, err)
			must(t, d.Close())
			d = next
			parts = append(parts, name)
		}
		write(t, d, "end", "x")
		self, err := d.Self()
		must(t, err)
		if got, err := d.Path(); err != nil || got != strings.Join(parts, "/") {
			t.Errorf("a path of %d bytes, %v", len(got), err)
		}
		must(t, d.Close())
		again := openDir(t, r, strings.Join(parts, "/"))
		if o, err := again.Self(); err != nil || o.ID != self.ID {
			t.Errorf("%v is not %v: %v", o.ID, self.ID, err)
		}
		if _, err := r.OpenDir(strings.Join(append(slices.Clone(parts), "none"), "/")); !is(err, unix.ENOENT) {
			t.Errorf("got %v", err)
		}
		removed, err := r.Top().RemoveAll(t.Context(), name, nil)
		if err != nil || removed != depth+1 {
			t.Errorf("removed %d, %v", removed, err)
		}
	})
}

func TestPathFollowsTheDirectory(t *testing.T) {
	onEach(t, func(t *testing.T, r *Root, dir string) {
		must(t, os.MkdirAll(filepath.Join(dir, "top/a/b"), 0o755))
		must(t, os.Mkdir(filepath.Join(dir, "top/x (deleted)"), 0o755))
		inner := open(t, filepath.Join(dir, "top"))
		check := func(d *Dir, want string, wantErr error) {
			t.Helper()
			if got, err := d.Path(); got != want || !errors.Is(err, wantErr) {
				t.Errorf("got %q, %v, want %q, %v", got, err, want, wantErr)
			}
		}
		check(inner.Top(), "", nil)
		b := openDir(t, inner, "a/b")
		check(b, "a/b", nil)
		must(t, os.Rename(filepath.Join(dir, "top/a"), filepath.Join(dir, "top/c")))
		check(b, "c/b", nil)
		must(t, os.Rename(filepath.Join(dir, "top"), filepath.Join(dir, "moved")))
		check(b, "c/b", nil)
		check(openDir(t, inner, "x (deleted)"), "x (deleted)", nil)
		must(t, os.Rename(filepath.Join(dir, "moved/c/b"), filepath.Join(dir, "moved2")))
		check(b, "", ErrOutside)
		must(t, os.Remove(filepath.Join(dir, "moved2")))
		check(b, "", ErrDeleted)
		if err := b.Entries(nil, func(string, change.Kind, uint64) error { return nil }); !is(err, unix.ENOENT) {
			t.Errorf("a removed directory is listed: %v", err)
		}
	})
}

func TestOpenHandle(t *testing.T) {
	needRoot(t)
	onEach(t, func(t *testing.T, r *Root, dir string) {
		must(t, os.MkdirAll(filepath.Join(dir, "top/a"), 0o755))
		must(t, os.MkdirAll(filepath.Join(dir, "outside"), 0o755))
		write(t, openDir(t, r, "top"), "file", "")
		inner := open(t, filepath.Join(dir, "top"))
		top := inner.Top()
		h, err := top.Handle("a")
		must(t, err)
		o, err := top.Stat("a")
		must(t, err)
		if o.ID != change.NewID(o.ID.Ino(), h.Hash()) {
			t.Errorf("identity %v is not made of handle %x", o.ID, h)
		}
		d, err := inner.OpenHandle(h)
		must(t, err)
		defer d.Close()
		if path, err := d.Path(); path != "a" || err != nil {
			t.Errorf("got %q, %v", path, err)
		}
		if _, err := d.OpenFile("none"); err == nil || err.Error() != "openat a/none: no such file or directory" {
			t.Errorf("got %v", err)
		}
		out, err := r.Top().Handle("outside")
		must(t, err)
		other, err := inner.OpenHandle(out)
		must(t, err)
		defer other.Close()
		if _, err := other.Path(); !errors.Is(err, ErrOutside) {
			t.Errorf("got %v", err)
		}
		file, err := top.Handle("file")
		must(t, err)
		if _, err := inner.OpenHandle(file); !is(err, unix.ENOTDIR) {
			t.Errorf("got %v", err)
		}
		must(t, top.Rmdir("a"))
		must(t, d.Close())
		if _, err := inner.OpenHandle(h); !is(err, unix.ESTALE) {
			t.Errorf("a removed directory: %v", err)
		}
		for _, h := range []Handle{{}, {Type: 1, Bytes: make([]byte, 200)}, {Type: 99, Bytes: []byte{1}}} {
			if _, err := inner.OpenHandle(h); err == nil {
				t.Errorf("%v was opened", h)
			}
		}
	})
}

// TestMessagesOutliveTheirDirectory: a file can be named when the directory in which it was opened is closed, or is being closed.
func TestMessagesOutliveTheirDirectory(t *testing.T) {
	base := t.TempDir()
	needRoot(t)
	must(t, os.Mkdir(filepath.Join(base, "d"), 0o700))
	must(t, os.WriteFile(filepath.Join(base, "d/f"), []byte("content"), 0o600))
	r := open(t, base)
	h, err := r.Top().Handle("d")
	must(t, err)
	d, err := r.OpenHandle(h)
	must(t, err)
	f, err := d.OpenFile("f")
	must(t, err)
	must(t, f.Close())
	closed := make(chan error)
	go func() { closed <- d.Close() }()
	for range 2 {
		if _, err := f.Stat(); err == nil || err.Error() == "" {
			t.Errorf("a file that is closed: %v", err)
		}
		must(t, <-closed)
		closed = make(chan error, 1)
		closed <- nil
	}
}
