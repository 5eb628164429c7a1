package source

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"georep/internal/need"
)

// insideEnv marks the process that has a mount namespace of its own.
const insideEnv = "GEOREP_SOURCE_NAMESPACE"

// TestMain gives root a mount namespace, so that the file systems that tests mount vanish with them, however they end.
func TestMain(m *testing.M) {
	if os.Geteuid() == 0 && os.Getenv(insideEnv) == "" && os.Getenv(limitedEnv) == "" {
		if unshare, err := exec.LookPath("unshare"); err == nil && exec.Command(unshare, "-m", "true").Run() == nil {
			args := append([]string{"unshare", "-m", "--propagation", "private"}, os.Args...)
			err := syscall.Exec(unshare, args, append(os.Environ(), insideEnv+"=1"))
			fmt.Fprintln(os.Stderr, "unshare:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(need.Program(t, name), args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// mount makes a file system of that type and gives a directory on it.
func mount(t *testing.T, fstype string) string {
	t.Helper()
	need.Root(t)
	if os.Getenv(insideEnv) == "" {
		need.Missing(t, "a mount namespace (unshare -m)")
	}
	top := t.TempDir()
	dir := filepath.Join(top, fstype)
	must(t, os.Mkdir(dir, 0o755))
	args := []string{"-t", "tmpfs", "-o", "size=64m", "tmpfs", dir}
	switch fstype {
	case "ext4", "xfs", "btrfs":
		image := dir + ".image"
		run(t, "truncate", "-s", "512M", image)
		run(t, "mkfs."+fstype, "-q", image)
		args = []string{"-t", fstype, "-o", "loop", image, dir}
	case "overlay":
		must(t, os.MkdirAll(top+"/lower/below/deep", 0o755))
		write(t, top+"/lower/below/file", "below")
		must(t, os.Mkdir(top+"/upper", 0o755))
		must(t, os.Mkdir(top+"/work", 0o755))
		args = []string{"-t", "overlay", "-o", fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", top), "overlay", dir}
	}
	run(t, "mount", args...)
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	inside := dir + "/volume"
	if fstype == "overlay" {
		inside = dir
	}
	must(t, os.MkdirAll(inside, 0o755))
	return inside
}

// TestFileSystems lets a storm run on each file system, with the events that Auto takes there.
func TestFileSystems(t *testing.T) {
	want := map[string]Events{"ext4": Fanotify, "xfs": Fanotify, "btrfs": Fanotify, "tmpfs": Fanotify, "overlay": Inotify}
	for fstype, events := range want {
		t.Run(fstype, func(t *testing.T) {
			dir := mount(t, fstype)
			outside := filepath.Dir(dir) + "/outside"
			if fstype == "overlay" {
				outside = t.TempDir()
			} else {
				must(t, os.Mkdir(outside, 0o755))
			}
			base := seed(t)
			rage(t, base, dir, outside, 200, events).Wait()
			r := newReplica(t)
			v := watched(t, dir, r, func(o *Options) {
				o.Coalesce = 3 * time.Millisecond
				if fstype == "overlay" {
					// It drops names of open files from the cache, after which inotify tells nothing of what is written to them.
					o.ScanInterval = 100 * time.Millisecond
				}
			})
			if v.Events() != events {
				t.Fatalf("%v is in use, want %v", v.Events(), events)
			}
			for round := range uint64(4) {
				raging := rage(t, base+1+round, dir, outside, 200, events)
				done := make(chan struct{})
				go func() { raging.Wait(); close(done) }()
				r.followWhile(v, done)
				if fstype == "overlay" {
					r.until(v, dir)
					continue
				}
				r.follow(v, time.Now())
				r.check(dir)
			}
		})
	}
}
