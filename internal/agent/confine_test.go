package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"georep/internal/need"
)

// confineVariable makes this test program confine itself as an agent does, to its first argument, and then try what must not be possible
// with the directory that the variable names. Its second argument is "read-only", or missing.
const confineVariable = "GEOREP_TEST_CONFINE"

// attempt is something that a confined process tries.
type attempt struct {
	name string
	try  func() error
}

func attemptOpen(path string, flags int) func() error {
	return func() error {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o644)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}

// outward are attempts on what is outside. before is a handle on that from the time before the process was confined.
func outward(root, outside string, before int) []attempt {
	in := func(name string) string { return filepath.Join(root, name) }
	out := func(name string) string { return filepath.Join(outside, name) }
	return []attempt{
		{"read", attemptOpen(out("file"), unix.O_RDONLY)},
		{"write", attemptOpen(out("file"), unix.O_WRONLY)},
		{"create", attemptOpen(out("new"), unix.O_WRONLY|unix.O_CREAT)},
		{"list", attemptOpen(outside, unix.O_RDONLY|unix.O_DIRECTORY)},
		{"write by dots", attemptOpen(root+"/../"+filepath.Base(outside)+"/file", unix.O_WRONLY)},
		{"write by a symlink", attemptOpen(in("exit")+"/file", unix.O_WRONLY)},
		{"write by /proc", attemptOpen("/proc/self/root"+out("file"), unix.O_WRONLY)},
		{"create by an old handle", func() error {
			fd, err := unix.Openat(before, "new", unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}},
		{"truncate", func() error { return unix.Truncate(out("file"), 0) }},
		{"unlink", func() error { return unix.Unlink(out("file")) }},
		{"rmdir", func() error { return unix.Rmdir(out("dir")) }},
		{"mkdir", func() error { return unix.Mkdir(out("new"), 0o755) }},
		{"symlink", func() error { return unix.Symlink("x", out("new")) }},
		{"fifo", func() error { return unix.Mkfifo(out("new"), 0o644) }},
		{"link out", func() error { return unix.Link(in("inside"), out("new")) }},
		{"link in", func() error { return unix.Link(out("file"), in("new")) }},
		{"rename out", func() error { return unix.Rename(in("inside"), out("new")) }},
		{"rename over", func() error { return unix.Rename(in("inside"), out("file")) }},
		{"rename in", func() error { return unix.Rename(out("file"), in("new")) }},
		{"rename there", func() error { return unix.Rename(out("file"), out("new")) }},
		{"exchange", func() error {
			return unix.Renameat2(unix.AT_FDCWD, in("inside"), unix.AT_FDCWD, out("file"), unix.RENAME_EXCHANGE)
		}},
	}
}

// inward are attempts on what is inside.
func inward(root string) []attempt {
	in := func(name string) string { return filepath.Join(root, name) }
	return []attempt{
		{"create", attemptOpen(in("made"), unix.O_WRONLY|unix.O_CREAT)},
		{"truncate", func() error { return unix.Truncate(in("made"), 0) }},
		{"mkdir", func() error { return unix.Mkdir(in("made dir"), 0o755) }},
		{"link", func() error { return unix.Link(in("made"), in("made dir/link")) }},
		{"rename", func() error { return unix.Rename(in("made"), in("made dir/renamed")) }},
		{"unlink", func() error {
			return errors.Join(unix.Unlink(in("made dir/link")), unix.Unlink(in("made dir/renamed")), unix.Rmdir(in("made dir")))
		}},
	}
}

// confined is what the test program does for confineVariable: it says what should not have happened.
func confined(outside string, args []string) (wrong []string) {
	root, readOnly := args[0], len(args) > 1
	before, err := unix.Open(outside, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return []string{err.Error()}
	}
	if !confine(root, readOnly) {
		return []string{"it is not confined"}
	}
	refused := outward(root, outside, before)
	if readOnly {
		refused = append(refused, inward(root)[0], attempt{"unlink inside", func() error { return unix.Unlink(filepath.Join(root, "inside")) }})
	}
	// On several threads, as the kernel confines each by itself.
	var group sync.WaitGroup
	var mu sync.Mutex
	for range 4 {
		group.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for _, a := range refused {
				// What would only need to be in one hierarchy is answered as between two file systems.
				if err := a.try(); !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EXDEV) {
					mu.Lock()
					wrong = append(wrong, fmt.Sprintf("%s: %v", a.name, err))
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	if readOnly {
		return wrong
	}
	for _, a := range inward(root) {
		if err := a.try(); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s inside: %v", a.name, err))
		}
	}
	return wrong
}

// TestConfinedProcessReachesNothingOutside has a process try what the agent's code would never do, after it was confined in the same way.
func TestConfinedProcessReachesNothingOutside(t *testing.T) {
	if err := landlockMissing(); err != nil {
		need.Missing(t, "a kernel with Landlock: "+err.Error())
	}
	for _, args := range [][]string{nil, {"read-only"}} {
		c := newCanary(t)
		cmd := exec.Command(os.Args[0], append([]string{c.root}, args...)...)
		cmd.Env = append(os.Environ(), confineVariable+"="+c.outside)
		said, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v %v: what should have been refused or done:\n%s", args, err, said)
		}
		c.check(t)
	}
}

// canary is a root with a tree next to it that must stay as it is.
type canary struct {
	root, outside string
	before        map[string]string
}

func newCanary(t *testing.T) *canary {
	t.Helper()
	base := t.TempDir()
	c := &canary{root: filepath.Join(base, "root"), outside: filepath.Join(base, "outside")}
	for _, dir := range []string{c.root, c.outside, filepath.Join(c.outside, "dir")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{filepath.Join(c.root, "inside"), filepath.Join(c.outside, "file"), filepath.Join(c.outside, "dir/deep"), filepath.Join(base, "beside")} {
		if err := os.WriteFile(file, []byte("as it was"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(c.outside, filepath.Join(c.root, "exit")); err != nil {
		t.Fatal(err)
	}
	c.before = c.state(t)
	return c
}

// state describes everything but what georep keeps for itself in the root.
func (c *canary) state(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	base := filepath.Dir(c.root)
	err := filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, base)
		switch {
		case name == "/root/.georep":
			return fs.SkipDir
		case name == "/root" || name == "": // its own times are the business of what is in it
			return nil
		}
		text := fmt.Sprintf("%v %d %v %+v", info.Mode(), info.Size(), info.ModTime(), info.Sys().(*syscall.Stat_t).Ino)
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %q %d", content, info.Sys().(*syscall.Stat_t).Nlink)
		}
		out[name] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// check compares everything with what it was.
func (c *canary) check(t *testing.T) {
	t.Helper()
	now := c.state(t)
	for _, name := range slices.Sorted(maps.Keys(c.before)) {
		if now[name] != c.before[name] {
			t.Errorf("%s was %s and is %s", name, c.before[name], now[name])
		}
		delete(now, name)
	}
	if len(now) > 0 {
		t.Errorf("there are now %v", now)
	}
}
