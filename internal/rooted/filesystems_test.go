package rooted

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"georep/internal/need"
)

// insideEnv marks the process that has a mount namespace of its own.
const insideEnv = "GEOREP_ROOTED_NAMESPACE"

// TestMain runs the tests in a mount namespace of their own where that is allowed, so that the file systems they mount vanish
// with them, however they end.
func TestMain(m *testing.M) {
	if os.Geteuid() == 0 && os.Getenv(insideEnv) == "" {
		if unshare, err := exec.LookPath("unshare"); err == nil && exec.Command(unshare, "-m", "true").Run() == nil {
			args := append([]string{"unshare", "-m", "--propagation", "private"}, os.Args...)
			err := syscall.Exec(unshare, args, append(os.Environ(), insideEnv+"=1"))
			fmt.Fprintln(os.Stderr, "unshare:", err)
			os.Exit(1)
		}
	}
	code := m.Run()
	mounts.release()
	os.Exit(code)
}

func needRoot(t testing.TB) {
	t.Helper()
	need.Root(t)
	if os.Getenv(insideEnv) == "" {
		need.Missing(t, "a mount namespace (unshare -m)")
	}
}

type mounted struct {
	mu  sync.Mutex
	top string
	at  map[string]string
}

var mounts mounted

func (m *mounted) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, dir := range m.at {
		unix.Unmount(dir, unix.MNT_DETACH)
	}
	if m.top != "" {
		os.RemoveAll(m.top)
	}
}

// get mounts a file system of that type, once for all tests.
func (m *mounted) get(t testing.TB, fstype string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if dir, ok := m.at[fstype]; ok {
		return dir
	}
	if m.top == "" {
		top, err := os.MkdirTemp("", "rooted")
		if err != nil {
			t.Fatal(err)
		}
		m.top, m.at = top, map[string]string{}
	}
	dir := filepath.Join(m.top, fstype)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{"-t", "tmpfs", "-o", "size=512m", "tmpfs", dir}
	if fstype != "tmpfs" {
		image := dir + ".image"
		run(t, "truncate", "-s", "512M", image)
		run(t, "mkfs."+fstype, "-q", image)
		args = []string{"-t", fstype, "-o", "loop", image, dir}
	}
	run(t, "mount", args...)
	m.at[fstype] = dir
	return dir
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(need.Program(t, name), args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// onEach runs a test on the file system of the temporary directory and, for root, on the others, and there also as on an old
// kernel without openat2.
func onEach(t *testing.T, test func(t *testing.T, r *Root, dir string)) {
	t.Run("here", func(t *testing.T) {
		dir := t.TempDir()
		test(t, open(t, dir), dir)
	})
	t.Run("walk", func(t *testing.T) {
		dir := t.TempDir()
		r := open(t, dir, WithFaults(func(call, _ string) error {
			if call == "openat2" {
				return unix.ENOSYS
			}
			return nil
		}))
		r.noListAt.Store(true)
		test(t, r, dir)
	})
	for _, fstype := range []string{"tmpfs", "ext4", "xfs", "btrfs"} {
		t.Run(fstype, func(t *testing.T) {
			needRoot(t)
			dir, err := os.MkdirTemp(mounts.get(t, fstype), "test")
			if err != nil {
				t.Fatal(err)
			}
			test(t, open(t, dir), dir)
		})
	}
}

func open(t testing.TB, dir string, opts ...Option) *Root {
	t.Helper()
	r, err := Open(dir, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// must is for calls that have to succeed.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wants is for calls that have to fail in this way.
func wants(t testing.TB, err error, no syscall.Errno) {
	t.Helper()
	if !is(err, no) {
		t.Fatalf("got error %v, want %v", err, no)
	}
}

func write(t testing.TB, d *Dir, name, content string) {
	t.Helper()
	f, err := d.Create(name, 0o644)
	must(t, err)
	_, err = f.WriteAt([]byte(content), 0)
	must(t, err)
	must(t, f.Close())
}

func openDir(t testing.TB, r *Root, path string) *Dir {
	t.Helper()
	d, err := r.OpenDir(path)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}
