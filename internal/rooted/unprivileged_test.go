package rooted

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"georep/internal/change"
)

// unprivilegedEnv names the directory to work in, for the process that TestWithoutPrivileges starts.
const unprivilegedEnv = "GEOREP_ROOTED_UNPRIVILEGED"

const nobody = 65534

// TestWithoutPrivileges runs TestAsNobody as another user.
func TestWithoutPrivileges(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp("", "rooted")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	program := filepath.Join(dir, "program")
	copyProgram(t, program)
	work := filepath.Join(dir, "work")
	must(t, os.Mkdir(work, 0o755))
	must(t, os.WriteFile(filepath.Join(work, "roots"), []byte("content"), 0o644))
	must(t, unix.Setxattr(filepath.Join(work, "roots"), "trusted.hidden", []byte("x"), 0))
	must(t, os.Mkdir(filepath.Join(work, "rootsdir"), 0o755))
	must(t, os.Chown(work, nobody, nobody))
	cmd := exec.Command(program, "-test.run=^TestAsNobody$", "-test.v")
	cmd.Env = append(os.Environ(), unprivilegedEnv+"="+work)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	in, err := os.Open("/proc/self/exe")
	must(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, err)
	must(t, out.Close())
}

func TestAsNobody(t *testing.T) {
	dir := os.Getenv(unprivilegedEnv)
	if dir == "" {
		return // TestWithoutPrivileges runs it
	}
	r := open(t, dir)
	t.Run("link", func(t *testing.T) { nobodyLinks(t, r) })
	t.Run("owner", func(t *testing.T) { nobodySetsOwner(t, r) })
	t.Run("read-only", func(t *testing.T) { nobodyLabelsReadOnly(t, r) })
	t.Run("foreign", func(t *testing.T) { nobodyMeetsForeign(t, r) })
	t.Run("unlistable", func(t *testing.T) { nobodyCannotList(t, r) })
	t.Run("write-protected", func(t *testing.T) { nobodyClears(t, r, dir) })
}

func nobodyLinks(t *testing.T, r *Root) {
	d := r.Top()
	for _, name := range []string{"one", "two"} {
		f, err := d.OpenTemp(0o600)
		must(t, err)
		must(t, f.LinkTo(d, name))
		must(t, f.LinkTo(d, name+name))
		wants(t, f.LinkTo(d, name), unix.EEXIST)
		must(t, f.Close())
	}
	gone, err := d.OpenDir("rootsdir")
	must(t, err)
	defer gone.Close()
	f, err := d.OpenTemp(0o600)
	must(t, err)
	defer f.Close()
	wants(t, f.LinkTo(gone, "x"), unix.EACCES)
}

func nobodySetsOwner(t *testing.T, r *Root) {
	d := r.Top()
	attr := change.Attr{Mode: 0o4755, UID: 0, GID: nobody, Mtime: change.Time{Sec: 5}}
	err := d.SetAttr("one", change.File, attr, true, true)
	wants(t, err, unix.EPERM)
	if e := err.(*Error); e.Call != "fchownat" || e.Path != "one" {
		t.Errorf("got %v", err)
	}
	o, err := d.Stat("one")
	must(t, err)
	if o.Mode != 0o600 {
		t.Errorf("mode %o although the owner could not be set", o.Mode)
	}
	attr.UID = nobody
	must(t, d.SetAttr("one", change.File, attr, true, true))
}

func nobodyLabelsReadOnly(t *testing.T, r *Root) {
	d := r.Top()
	attr := change.Attr{Mode: 0o400, UID: nobody, GID: nobody, Mtime: change.Time{Sec: 5}}
	for _, label := range []string{"first", "second"} {
		attr.Xattrs = []change.Xattr{{Name: "user.label", Value: []byte(label)}}
		must(t, d.SetAttr("two", change.File, attr, true, true))
		o, err := d.Stat("two")
		must(t, err)
		must(t, d.ReadXattrs("two", &o))
		if o.Mode != attr.Mode || o.Mtime != attr.Mtime || len(o.Xattrs) != 1 || string(o.Xattrs[0].Value) != label {
			t.Errorf("got %+v", o.Attr)
		}
		attr.Mode = 0o444
	}
}

func nobodyMeetsForeign(t *testing.T, r *Root) {
	d := r.Top()
	f, err := d.OpenFile("roots")
	must(t, err)
	defer f.Close()
	o, err := f.Stat()
	must(t, err)
	must(t, f.ReadXattrs(&o))
	if len(o.Xattrs) != 0 || !o.HasXattrs {
		t.Errorf("saw %v", o.Xattrs)
	}
	_, err = d.OpenRW("roots")
	wants(t, err, unix.EACCES)
	must(t, openDir(t, r, "rootsdir").Entries(nil, func(string, change.Kind, uint64) error { return nil }))
	attr := own(0o600)
	attr.Xattrs = xattrs("trusted.x", "y")
	wants(t, d.SetAttr("two", change.File, attr, true, true), unix.EPERM)
	wants(t, d.Mknod("char", change.CharDev, 0o600, unix.Mkdev(1, 3)), unix.EPERM)
	h, err := d.Handle("rootsdir")
	must(t, err)
	_, err = r.OpenHandle(h)
	wants(t, err, unix.EPERM)
}

func nobodyCannotList(t *testing.T, r *Root) {
	d := r.Top()
	must(t, d.Mkdir("hidden", 0o300))
	h := openDir(t, r, "hidden")
	f, err := h.OpenTemp(0o600)
	must(t, err)
	must(t, f.LinkTo(h, "inner"))
	must(t, f.Close())
	wants(t, h.Entries(nil, func(string, change.Kind, uint64) error { return nil }), unix.EACCES)
	must(t, h.SetTimes("", change.Time{Sec: 8}))
	attr := own(0o300)
	attr.Xattrs = xattrs("user.x", "y")
	must(t, h.SetSelf(attr, true, true))
	must(t, h.SetSelf(attr, true, true)) // although what is there cannot be read
	if path, err := h.Path(); path != "hidden" || err != nil {
		t.Errorf("got %q, %v", path, err)
	}
	must(t, h.SetSelf(own(0o300), false, true))
	n, err := d.RemoveAll(t.Context(), "hidden", nil)
	if n != 2 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
}

func nobodyClears(t *testing.T, r *Root, dir string) {
	d := r.Top()
	must(t, os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755))
	write(t, openDir(t, r, "a/b"), "file", "")
	for _, p := range []string{"a/b/c", "a/b", "a"} {
		must(t, os.Chmod(filepath.Join(dir, p), 0o555))
	}
	n, err := d.RemoveAll(t.Context(), "a", nil)
	if n != 4 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
}
