package treetest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"georep/internal/need"
)

// builder makes the same tree each time it is called.
type builder struct {
	t    *testing.T
	root string
}

func (b *builder) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *builder) path(name string) string { return filepath.Join(b.root, name) }

func (b *builder) time(name string, sec, nsec int64) {
	b.t.Helper()
	at := unix.Timespec{Sec: sec, Nsec: nsec}
	b.must(unix.UtimesNanoAt(unix.AT_FDCWD, b.path(name), []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
}

// build makes a tree with one of everything that the process may make.
func build(t *testing.T, root string) *builder {
	b := &builder{t: t, root: root}
	for _, dir := range []string{"", "d", "l", "l/deep", "odd\nname", "empty"} {
		b.must(os.MkdirAll(b.path(dir), 0o755))
		b.must(os.Chmod(b.path(dir), 0o755))
	}
	b.must(os.WriteFile(b.path("file"), []byte(strings.Repeat("content ", 9000)), 0o644))
	b.must(os.WriteFile(b.path("l/deep/not\xffutf8"), []byte("x"), 0o600))
	b.must(os.WriteFile(b.path("l/link 1"), []byte("linked"), 0o644))
	b.must(os.Link(b.path("l/link 1"), b.path("l/deep/link 2")))
	b.must(os.WriteFile(b.path("l/twin"), []byte("linked"), 0o644))
	b.must(os.Symlink("l/link 1", b.path("symlink")))
	b.must(unix.Mkfifo(b.path("fifo"), 0o644))
	b.must(unix.Mknod(b.path("socket"), unix.S_IFSOCK|0o600, 0))
	sparse, err := os.Create(b.path("sparse"))
	b.must(err)
	_, err = sparse.WriteAt([]byte("end"), 4<<20)
	b.must(errors.Join(err, sparse.Close()))
	b.must(unix.Setxattr(b.path("file"), "user.color", []byte("blue"), 0))
	b.must(unix.Setxattr(b.path("d"), "user.color", []byte("red"), 0))
	b.must(unix.Setxattr(b.path("file"), "system.posix_acl_access", ACL(6, 1000, 4), 0))
	b.must(unix.Setxattr(b.path("d"), "system.posix_acl_default", ACL(7, 1000, 5), 0))
	if os.Geteuid() == 0 {
		b.must(unix.Mknod(b.path("device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
		b.must(unix.Lsetxattr(b.path("symlink"), "trusted.note", []byte("on a symlink"), 0))
		b.must(unix.Setxattr(b.path("file"), "security.capability", Capability(1<<10), 0))
	}
	b.still()
	return b
}

// still gives everything in the tree the same times, the deepest first.
func (b *builder) still() {
	b.t.Helper()
	var paths []string
	b.must(filepath.WalkDir(b.root, func(path string, _ os.DirEntry, err error) error {
		paths = append(paths, path[len(b.root):])
		return err
	}))
	for i := len(paths) - 1; i >= 0; i-- {
		b.time(paths[i], 1_600_000_000, 123_456_789)
	}
}

func pairOf(t *testing.T) (a, b *builder) {
	return build(t, filepath.Join(t.TempDir(), "a")), build(t, filepath.Join(t.TempDir(), "b"))
}

func TestEqualTreesHaveNoDifference(t *testing.T) {
	a, b := pairOf(t)
	b.must(os.MkdirAll(b.path(".georep/hold"), 0o700))
	b.time("", 1_600_000_000, 123_456_789)
	differences, err := Compare(a.root, b.root, Options{})
	if err != nil || len(differences) != 0 {
		t.Fatalf("equal trees: %v\n%s", err, Format(differences))
	}
}

// mutation changes one property of the copy, and says what must be found then.
type mutation struct {
	name string
	root bool // only root can do it
	do   func(b *builder)
	path string
	want Property
}

// replaceBy removes a name and makes something else there.
func replaceBy(name string, do func(path string) error) func(*builder) {
	return func(b *builder) {
		b.must(os.RemoveAll(b.path(name)))
		b.must(do(b.path(name)))
	}
}

func mutations() []mutation {
	chmod := func(name string, mode uint32) func(*builder) {
		return func(b *builder) { b.must(unix.Chmod(b.path(name), mode)) }
	}
	chown := func(name string, uid, gid int) func(*builder) {
		return func(b *builder) { b.must(unix.Lchown(b.path(name), uid, gid)) }
	}
	set := func(name, attr string, value []byte) func(*builder) {
		return func(b *builder) { b.must(unix.Lsetxattr(b.path(name), attr, value, 0)) }
	}
	remove := func(name, attr string) func(*builder) {
		return func(b *builder) { b.must(unix.Lremovexattr(b.path(name), attr)) }
	}
	return []mutation{
		{"file missing", false, func(b *builder) { b.must(os.Remove(b.path("file"))) }, "file", Missing},
		{"tree missing", false, func(b *builder) { b.must(os.RemoveAll(b.path("odd\nname"))) }, "odd\nname", Missing},
		{"extra", false, func(b *builder) { b.must(os.Mkdir(b.path("d/extra"), 0o755)) }, "d/extra", Extra},
		{"nested reserved name is not reserved", false, func(b *builder) { b.must(os.Mkdir(b.path("d/.georep"), 0o755)) }, "d/.georep", Extra},
		{"kind", false, replaceBy("empty", func(p string) error { return os.WriteFile(p, nil, 0o755) }), "empty", Kind},
		{"fifo is no socket", false, replaceBy("fifo", func(p string) error { return unix.Mknod(p, unix.S_IFSOCK|0o644, 0) }), "fifo", Kind},
		{"permission", false, chmod("l/deep/not\xffutf8", 0o601), "l/deep/not\xffutf8", Mode},
		{"setuid", false, chmod("l/twin", 0o4644), "l/twin", Mode},
		{"setgid", false, chmod("l/deep", 0o2755), "l/deep", Mode},
		{"sticky", false, chmod("empty", 0o1755), "empty", Mode},
		{"mode of the top", false, chmod("", 0o750), ".", Mode},
		{"uid", true, chown("fifo", 7, -1), "fifo", UID},
		{"uid of a symlink", true, chown("symlink", 7, -1), "symlink", UID},
		{"gid of a directory", true, chown("d", -1, 7), "d", GID},
		{"size", false, func(b *builder) { b.must(os.Truncate(b.path("l/twin"), 5)) }, "l/twin", Size},
		{"content", false, replaceBy("l/twin", func(p string) error { return os.WriteFile(p, []byte("Linked"), 0o644) }), "l/twin", Content},
		{"content behind a hole", false, func(b *builder) {
			f, err := os.OpenFile(b.path("sparse"), os.O_WRONLY, 0)
			b.must(err)
			_, err = f.WriteAt([]byte("E"), 4<<20)
			b.must(errors.Join(err, f.Close()))
		}, "sparse", Content},
		{"content in a hole", false, func(b *builder) {
			f, err := os.OpenFile(b.path("sparse"), os.O_WRONLY, 0)
			b.must(err)
			_, err = f.WriteAt([]byte("E"), 1<<20)
			b.must(errors.Join(err, f.Close()))
		}, "sparse", Content},
		{"hole filled", false, func(b *builder) {
			f, err := os.OpenFile(b.path("sparse"), os.O_WRONLY, 0)
			b.must(err)
			_, err = f.Write(make([]byte, 1<<20))
			b.must(errors.Join(err, f.Close()))
		}, "sparse", Blocks},
		{"device number", true, replaceBy("device", func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) }), "device", Rdev},
		{"target", false, func(b *builder) {
			replaceBy("symlink", func(p string) error { return os.Symlink("l/link 2", p) })(b)
			if os.Geteuid() == 0 {
				set("symlink", "trusted.note", []byte("on a symlink"))(b)
			}
		}, "symlink", Target},
		{"link broken", false, replaceBy("l/link 1", func(p string) error { return os.WriteFile(p, []byte("linked"), 0o644) }), "l/link 1", Links},
		{"links joined", false, replaceBy("l/twin", func(p string) error { return os.Link(filepath.Join(filepath.Dir(p), "link 1"), p) }), "l/twin", Links},
		{"xattr changed", false, set("file", "user.color", []byte("green")), "file", "xattr:user.color"},
		{"xattr empty instead of absent", false, set("file", "user.empty", nil), "file", "xattr:user.empty"},
		{"xattr missing on a directory", false, remove("d", "user.color"), "d", "xattr:user.color"},
		{"xattr of the top", false, set("", "user.top", []byte("x")), ".", "xattr:user.top"},
		{"access ACL", false, set("file", "system.posix_acl_access", ACL(6, 1001, 4)), "file", "xattr:system.posix_acl_access"},
		{"default ACL", false, remove("d", "system.posix_acl_default"), "d", "xattr:system.posix_acl_default"},
		{"trusted xattr of a symlink", true, set("symlink", "trusted.note", []byte("other")), "symlink", "xattr:trusted.note"},
		{"file capability", true, set("file", "security.capability", Capability(1<<11)), "file", "xattr:security.capability"},
	}
}

// TestEachPropertyIsCompared proves that the judge can fail: each mutation of the copy must be found, and nothing else.
func TestEachPropertyIsCompared(t *testing.T) {
	for _, m := range mutations() {
		t.Run(m.name, func(t *testing.T) {
			if m.root {
				need.Root(t)
			}
			a, b := pairOf(t)
			m.do(b)
			b.still()
			wantOne(t, a, b, m.path, m.want)
		})
	}
}

func wantOne(t *testing.T, a, b *builder, path string, want Property) {
	t.Helper()
	differences, err := Compare(a.root, b.root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	// Breaking the first of two names makes the second differ as well.
	if want == Links && len(differences) == 2 && differences[1].Property == Links {
		differences = differences[:1]
	}
	if len(differences) != 1 || differences[0].Path != path || differences[0].Property != want {
		t.Fatalf("want one difference, %s of %q; got:\n%s", want, path, Format(differences))
	}
}

func TestTimesAreComparedToTheNanosecond(t *testing.T) {
	a, b := pairOf(t)
	for _, path := range []string{"", "d", "file", "symlink", "fifo", "empty"} {
		b.time(path, 1_600_000_000, 123_456_788)
		want := path
		if path == "" {
			want = "."
		}
		wantOne(t, a, b, want, Mtime)
		b.still()
	}
}

func TestOptions(t *testing.T) {
	a, b := pairOf(t)
	b.must(os.Remove(b.path("file")))
	b.must(os.Remove(b.path("fifo")))
	b.still()
	ignore := func(path string) bool { return path == "file" || path == "fifo" }
	if differences, err := Compare(a.root, b.root, Options{Ignore: ignore}); err != nil || len(differences) != 0 {
		t.Errorf("ignored paths: %v %s", err, Format(differences))
	}
	if differences, err := Compare(a.root, b.root, Options{Max: 1}); err != nil || len(differences) != 1 {
		t.Errorf("at most one: %v %s", err, Format(differences))
	}
	if _, err := Compare(a.root, filepath.Join(b.root, "none"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a top that is not there: %v", err)
	}
}

func TestAwaitReportsWhatStillDiffers(t *testing.T) {
	a, b := pairOf(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := Await(ctx, a.root, b.root, Options{}); err != nil {
		t.Fatal(err)
	}
	b.must(os.Remove(b.path("l/twin")))
	b.still()
	cancel()
	if err := Await(ctx, a.root, b.root, Options{}); err == nil || !strings.Contains(err.Error(), "l/twin") || !errors.Is(err, context.Canceled) {
		t.Fatalf("want an error that names the path and the cause, got %v", err)
	}
}

// TestDepthBeyondPathMax compares trees in which no path as a whole could be given to the kernel.
func TestDepthBeyondPathMax(t *testing.T) {
	tops := []string{t.TempDir(), t.TempDir()}
	for i, top := range tops {
		fd, err := unix.Open(top, unix.O_DIRECTORY|unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		for range 25 {
			name := strings.Repeat("n", 250)
			if err := unix.Mkdirat(fd, name, 0o755); err != nil {
				t.Fatal(err)
			}
			at := unix.Timespec{Sec: 1}
			if err := unix.UtimesNanoAt(fd, ".", []unix.Timespec{at, at}, 0); err != nil {
				t.Fatal(err)
			}
			below, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
			fd = below
		}
		at := unix.Timespec{Sec: int64(i)}
		if err := unix.UtimesNanoAt(fd, ".", []unix.Timespec{at, at}, 0); err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
	differences, err := Compare(tops[0], tops[1], Options{})
	if err != nil || len(differences) != 1 || differences[0].Property != Mtime || len(differences[0].Path) < unix.PathMax {
		t.Fatalf("want one difference of mtime at the bottom: %v\n%s", err, Format(differences))
	}
}
