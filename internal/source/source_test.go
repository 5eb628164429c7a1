package source

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"georep/internal/need"
)

// kinds are the ways of learning of changes that these tests run with.
func kinds(t *testing.T, f func(t *testing.T, e Events)) {
	for _, e := range []Events{Fanotify, Inotify} {
		t.Run(e.String(), func(t *testing.T) {
			if e == Fanotify && os.Geteuid() != 0 {
				need.Missing(t, "root, for fanotify")
			}
			f(t, e)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

func TestInitialAndLive(t *testing.T) {
	kinds(t, func(t *testing.T, e Events) {
		dir := t.TempDir()
		write(t, dir+"/a/b/c", "one")
		write(t, dir+"/d", "two")
		must(t, os.Symlink("a/b", dir+"/link"))
		must(t, os.Link(dir+"/d", dir+"/a/d2"))
		must(t, unix.Mkfifo(dir+"/fifo", 0o600))
		must(t, unix.Setxattr(dir+"/d", "user.x", []byte("y"), 0))
		r := newReplica(t)
		v := watched(t, dir, r, func(o *Options) { o.Events = e })
		r.follow(v, time.Now())
		r.check(dir)
		if got := r.entries[lookup(r, "d")].Xattrs; len(got) != 1 || got[0].Name != "user.x" {
			t.Errorf("extended attributes of d: %v", got)
		}
		steps := []func() error{
			func() error { return os.WriteFile(dir+"/d", []byte("2wo"), 0o644) },
			func() error { return os.Rename(dir+"/a", dir+"/e") },
			func() error { return os.Remove(dir + "/e/b/c") },
			func() error { return os.MkdirAll(dir+"/n/e/w/d/i/r", 0o700) },
			func() error { return os.WriteFile(dir+"/n/e/w/d/i/r/file", []byte("deep"), 0o644) },
			func() error { return os.Rename(dir+"/n/e", dir+"/e2") },
			func() error {
				return unix.Renameat2(unix.AT_FDCWD, dir+"/e2", unix.AT_FDCWD, dir+"/d", unix.RENAME_EXCHANGE)
			},
			func() error { return os.RemoveAll(dir + "/d") },
			func() error { return os.Truncate(dir+"/e2", 1) },
			func() error { return os.Chmod(dir+"/e", 0o711) },
			func() error { return os.Chmod(dir, 0o711) },
			func() error { return os.Lchown(dir+"/link", 7, 7) },
			func() error { return os.Link(dir+"/e2", dir+"/e/e3") },
			func() error { return os.Remove(dir + "/e2") },
		}
		for i, step := range steps {
			must(t, step())
			r.follow(v, time.Now())
			if d := differences(describeTree(t, dir), r.tree()); d != "" {
				t.Fatalf("after step %d the replica differs:\n%s", i, d)
			}
		}
	})
}
