package test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"georep/internal/need"
)

// insideEnv marks the process that has a mount namespace of its own.
const insideEnv = "GEOREP_TEST_NAMESPACE"

// TestMain runs the tests in a mount namespace of their own where that is allowed, so that what they mount vanishes with them,
// however they end.
func TestMain(m *testing.M) {
	if os.Geteuid() == 0 && os.Getenv(insideEnv) == "" {
		if unshare, err := exec.LookPath("unshare"); err == nil && exec.Command(unshare, "-m", "true").Run() == nil {
			args := append([]string{"unshare", "-m", "--propagation", "private"}, os.Args...)
			err := syscall.Exec(unshare, args, append(os.Environ(), insideEnv+"=1"))
			fmt.Fprintln(os.Stderr, "unshare:", err)
			os.Exit(1)
		}
	}
	// Most of these tests wait for processes, lines and times to run out.
	if err := flag.Set("test.parallel", "5"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if built.dir != "" {
		if err := os.RemoveAll(built.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// needMounts ends the test unless it may mount.
func needMounts(t testing.TB) {
	t.Helper()
	need.Root(t)
	if os.Getenv(insideEnv) == "" {
		need.Missing(t, "a mount namespace (unshare -m)")
	}
}

// mount mounts a fresh file system of that type, until the test ends, and returns where.
func mount(t testing.TB, fstype string) string {
	t.Helper()
	needMounts(t)
	dir := filepath.Join(t.TempDir(), fstype)
	must(t, os.Mkdir(dir, 0o755))
	mountOn(t, fstype, dir)
	return dir
}

// mountOn mounts a fresh file system of that type on a directory, until the test ends or unmount is called.
func mountOn(t testing.TB, fstype, dir string) {
	t.Helper()
	needMounts(t)
	args := []string{"-t", "tmpfs", "-o", "size=256m", "tmpfs", dir}
	if fstype != "tmpfs" {
		image := filepath.Join(t.TempDir(), "image")
		command(t, "truncate", "-s", "512M", image)
		command(t, need.Program(t, "mkfs."+fstype), "-q", image)
		args = []string{"-t", fstype, "-o", "loop", image, dir}
	}
	command(t, "mount", args...)
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // the test may have unmounted it
}

// unmount takes a file system away although files of it are in use.
func unmount(t testing.TB, dir string) {
	t.Helper()
	must(t, unix.Unmount(dir, unix.MNT_DETACH))
}

// command runs a program to its end.
func command(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
