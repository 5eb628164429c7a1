package bypath

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"georep/internal/change"
	"georep/internal/wire"
)

const nobody = 65534

// unprivileged says whether the test may go on as a common account. As root it runs the same test again as nobody, in another
// process, and reports how that ended.
func unprivileged(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	dir, err := os.MkdirTemp("", "georep-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "test")
	if err := copyProgram(program); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	temp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(temp, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = temp
	cmd.Env = append(os.Environ(), "TMPDIR="+temp, "HOME="+temp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("as nobody: %v\n%s", err, out)
	}
	return false
}

func copyProgram(to string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	in, err := os.Open(self)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

// What cannot be given to another owner is made all the same, and its answer names what is missing.
func TestUnprivilegedCannotGiveAway(t *testing.T) {
	if !unprivileged(t) {
		return
	}
	w := newWorld(t)
	for name, o := range map[string]change.Object{"file": fileOf(1, "x"), "dir": dirOf(1), "link": linkOf(1, "x"), "fifo": nodeOf(1, change.FIFO)} {
		o.UID = 12345
		r := &wire.Request{Op: change.Make, At: w.at(name), Object: o}
		if o.Kind == change.File {
			r.Inline, r.HasInline = []byte("x"), true
		}
		o.Mode |= 0o6000
		r.Object = o
		for range 2 {
			res := w.apply(r)
			if res.Status != change.Applied || res.Sec != w.sec(name) || res.Errno != syscall.EPERM || !strings.Contains(res.Detail, "root") {
				t.Errorf("%s: %+v", name, res)
			}
			info, err := os.Lstat(w.path(name))
			if err != nil || info.Mode()&os.ModeSetuid != 0 && o.Kind != change.Dir {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
		if res := w.apply(&wire.Request{Op: change.Drop, At: w.at(name), Object: o, MayRemove: true}); res.Status != change.Applied {
			t.Errorf("drop %s: %+v", name, res)
		}
	}
	w.leavesOwners(t)
	device := nodeOf(1, change.CharDev)
	device.Rdev = 0x103
	if res := w.apply(&wire.Request{Op: change.Make, At: w.at("dev"), Object: device}); res.Errno != syscall.EPERM || !strings.Contains(res.Detail, "root") {
		t.Errorf("device: %+v", res)
	}
	if w.tree() != "" || w.leftovers() != nil {
		t.Errorf("what failed left behind %q, %v", w.tree(), w.leftovers())
	}
}

func TestUnprivilegedWritesInItsReadOnlyDirectories(t *testing.T) {
	if !unprivileged(t) {
		return
	}
	w := newWorld(t)
	closed := dirOf(1)
	closed.Mode = 0o555
	w.apply(&wire.Request{Op: change.Make, At: w.at("d"), Object: closed})
	steps := []*wire.Request{
		inline(wire.Request{Op: change.Make, At: w.at("d/f")}, 2, "content"),
		{Op: change.Make, At: w.at("d/sub"), Object: closed},
		{Op: change.Make, At: w.at("d/link"), Object: linkOf(3, "f")},
	}
	for _, r := range steps {
		if res := w.apply(r); res.Status != change.Applied {
			t.Errorf("%v %s: %+v", r.Op, r.At.Name, res)
		}
	}
	large := random(1, 100_000)
	r := &wire.Request{Op: change.Write, At: w.at("d/f"), Sec: w.sec("d/f"), Object: largeOf(4, large)}
	if res := w.write(r, &sending{content: large, wants: true}); res.Status != change.Applied {
		t.Errorf("write: %+v", res)
	}
	for _, r := range []*wire.Request{
		{Op: change.Move, At: w.at("d/sub/g"), From: w.at("d/f"), Sec: w.sec("d/f"), Object: fileOf(4, "")},
		{Op: change.Link, At: w.at("d/h"), From: w.at("d/sub/g"), Sec: w.sec("d/f"), Object: fileOf(4, "")},
		{Op: change.Drop, At: w.at("d/link"), Sec: w.sec("d/link"), Object: linkOf(3, "f")},
	} {
		if res := w.apply(r); res.Status != change.Applied {
			t.Errorf("%v %s: %+v", r.Op, r.At.Name, res)
		}
	}
	w.contains("d/sub/g", large)
	w.contains("d/h", large)
	for _, name := range []string{"d", "d/sub"} {
		if info, err := os.Stat(w.path(name)); err != nil || info.Mode().Perm() != 0o555 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	res := w.apply(&wire.Request{Op: change.Drop, At: w.at("d"), Sec: w.sec("d"), Object: closed, MayRemove: true})
	if res.Status != change.Applied || w.tree() != "" {
		t.Errorf("drop: %+v, there is %q", res, w.tree())
	}
}

// leavesOwners tries that, asked to leave owners alone, nothing is said of them.
func (w *world) leavesOwners(t *testing.T) {
	t.Helper()
	w.applier.noOwner = true
	defer func() { w.applier.noOwner = false }()
	o := fileOf(1, "x")
	o.UID, o.GID, o.Mode = 12345, 12345, 0o6755
	r := inline(wire.Request{Op: change.Make, At: w.at("left"), Object: o}, 1, "x")
	r.Object = o
	if res := w.apply(r); res.Status != change.Applied || res.Errno != 0 {
		t.Errorf("without owners: %+v", res)
	}
	if info, err := os.Stat(w.path("left")); err != nil || info.Mode() != 0o755 {
		t.Errorf("without owners: %v, %v", info.Mode(), err)
	}
	if res := w.apply(&wire.Request{Op: change.Drop, At: w.at("left"), Object: o}); res.Status != change.Applied {
		t.Errorf("drop: %+v", res)
	}
}
