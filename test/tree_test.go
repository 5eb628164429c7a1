package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"georep/internal/treetest"
)

// tree makes entries below a root.
type tree struct {
	t    testing.TB
	root string
}

func (w tree) path(name string) string { return filepath.Join(w.root, name) }

func (w tree) dir(name string) {
	w.t.Helper()
	must(w.t, os.MkdirAll(w.path(name), 0o755))
}

func (w tree) file(name string, content []byte) {
	w.t.Helper()
	must(w.t, os.WriteFile(w.path(name), content, 0o644))
}

func (w tree) mode(name string, mode uint32) {
	w.t.Helper()
	must(w.t, unix.Chmod(w.path(name), mode))
}

func (w tree) own(name string, uid, gid int) {
	w.t.Helper()
	must(w.t, unix.Lchown(w.path(name), uid, gid))
}

func (w tree) symlink(target, name string) {
	w.t.Helper()
	must(w.t, os.Symlink(target, w.path(name)))
}

func (w tree) link(from, name string) {
	w.t.Helper()
	must(w.t, unix.Linkat(unix.AT_FDCWD, w.path(from), unix.AT_FDCWD, w.path(name), 0))
}

func (w tree) node(name string, mode uint32, dev uint64) {
	w.t.Helper()
	must(w.t, unix.Mknod(w.path(name), mode, int(dev)))
}

func (w tree) attr(name, attr string, value []byte) {
	w.t.Helper()
	must(w.t, unix.Lsetxattr(w.path(name), attr, value, 0))
}

func (w tree) noAttr(name, attr string) {
	w.t.Helper()
	must(w.t, unix.Lremovexattr(w.path(name), attr))
}

func (w tree) time(name string, sec, nsec int64) {
	w.t.Helper()
	at := unix.Timespec{Sec: sec, Nsec: nsec}
	must(w.t, unix.UtimesNanoAt(unix.AT_FDCWD, w.path(name), []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
}

func (w tree) rename(from, to string, flags uint) {
	w.t.Helper()
	must(w.t, unix.Renameat2(unix.AT_FDCWD, w.path(from), unix.AT_FDCWD, w.path(to), flags))
}

func (w tree) remove(name string) {
	w.t.Helper()
	must(w.t, os.RemoveAll(w.path(name)))
}

// at writes data into a file at an offset; the file is made if need be, and is sparse then.
func (w tree) at(name string, off int64, data []byte) {
	w.t.Helper()
	f, err := os.OpenFile(w.path(name), os.O_CREATE|os.O_WRONLY, 0o644)
	must(w.t, err)
	_, err = f.WriteAt(data, off)
	must(w.t, err)
	must(w.t, f.Close())
}

// allocate is fallocate(2).
func (w tree) allocate(name string, mode uint32, off, n int64) {
	w.t.Helper()
	f, err := os.OpenFile(w.path(name), os.O_WRONLY, 0)
	must(w.t, err)
	must(w.t, unix.Fallocate(int(f.Fd()), mode, off, n))
	must(w.t, f.Close())
}

const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE

// deep makes a path of about 250 bytes a step below a directory, with a file in each, and gives the directory at the bottom to do.
func (w tree) deep(name string, steps int, do func(fd int)) {
	w.t.Helper()
	w.dir(name)
	fd, err := unix.Open(w.path(name), unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(w.t, err)
	for range steps {
		step := strings.Repeat("d", 250)
		if err := unix.Mkdirat(fd, step, 0o755); err != unix.EEXIST {
			must(w.t, err)
		}
		below, err := unix.Openat(fd, step, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(w.t, err)
		unix.Close(fd)
		fd = below
	}
	do(fd)
	unix.Close(fd)
}

// putAt makes or replaces a file in an open directory.
func putAt(t testing.TB, dirfd int, name, content string) {
	t.Helper()
	fd, err := unix.Openat(dirfd, name, unix.O_CREAT|unix.O_TRUNC|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	must(t, err)
	_, err = unix.Write(fd, []byte(content))
	must(t, err)
	must(t, unix.Close(fd))
}

// oddNames are names that have broken one tool or another.
func oddNames() []string {
	return []string{
		"new\nline", "\n", "not\xff\xfeutf8\xc3", strings.Repeat("L", 255), strings.Repeat("\xff", 255), "-rf", "--", " ", " lead", "trail ", "*?[a] $(x)`id`",
		"ümläut", "u\u0308mla\u0308ut", "\u65e5\u672c", "\U0001f600", "back\\slash", "quo\"te'", "tab\t\x01\x1b[31m\x7f", "...", "..a", "a:b", "~", "#x#", ".georep", "%41", "\r",
	}
}

// everything makes a tree with all that is mirrored in it. Only root can.
func everything(t testing.TB, root string) tree {
	w := tree{t, root}
	w.plainFiles()
	w.links()
	w.specials()
	w.sparse()
	w.attributes()
	w.dir("odd")
	for i, name := range oddNames() {
		w.file("odd/"+name, noise(byte(i), i*10))
		w.dir("odd/" + name[:min(len(name), 250)] + ".dir")
		w.file("odd/"+name[:min(len(name), 250)]+".dir/"+name, nil)
	}
	w.deep("deep", 20, func(fd int) {
		putAt(t, fd, "bottom", "far below")
		must(t, unix.Symlinkat("bottom", fd, "symlink"))
		must(t, unix.Linkat(fd, "bottom", unix.AT_FDCWD, w.path("deep/top"), 0))
	})
	w.times()
	return w
}

func (w tree) plainFiles() {
	for _, dir := range []string{"empty", "files", "modes/dir", "owners/dir", "a/b/c"} {
		w.dir(dir)
	}
	for i, size := range []int{0, 1, 511, 4096, 70_000, 131_072, 131_073, 300_000, 9 << 20} {
		w.file("files/"+string(rune('a'+i)), noise(byte(i), size))
	}
	w.file("files/zeros", make([]byte, 1<<20))
	for _, mode := range []uint32{0, 0o001, 0o400, 0o644, 0o777, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777} {
		name := "modes/" + string(rune('a'+mode%26)) + strings.Repeat("x", int(mode%7))
		w.file(name, []byte(name))
		w.dir(name + ".dir")
		w.own(name, 1000, 1001) // which takes setuid away, so the mode comes after it
		w.mode(name, mode)
		w.mode(name+".dir", mode)
	}
	w.file("owners/file", nil)
	w.symlink("file", "owners/symlink")
	for i, name := range []string{"owners/file", "owners/dir", "owners/symlink"} {
		w.own(name, 4_000_000_000-i, 1000+i)
	}
}

func (w tree) links() {
	w.dir("links/below")
	w.file("links/one", noise(50, 5000))
	w.link("links/one", "links/below/two")
	w.link("links/one", "a/b/c/three")
	w.file("links/large", noise(51, 2<<20))
	w.link("links/large", "links/below/large")
	w.file("links/twin", noise(50, 5000))
	for name, target := range map[string]string{
		"dangling": "nowhere", "absolute": "/etc/hostname", "up": "../../..", "self": "self", "long": strings.Repeat("t/", 500), "odd": "not\xff\nutf8", "dir": "a/b",
	} {
		w.symlink(target, "links/"+name)
	}
	w.link("links/dangling", "links/below/dangling")
}

func (w tree) specials() {
	w.dir("special/below")
	w.node("special/fifo", unix.S_IFIFO|0o640, 0)
	w.node("special/socket", unix.S_IFSOCK|0o700, 0)
	w.node("special/null", unix.S_IFCHR|0o666, unix.Mkdev(1, 3))
	w.node("special/big", unix.S_IFCHR|0o600, unix.Mkdev(511, 200_000))
	w.node("special/block", unix.S_IFBLK|0o660, unix.Mkdev(7, 200))
	w.own("special/block", 0, 6)
	for _, name := range []string{"fifo", "socket", "null"} {
		w.link("special/"+name, "special/below/"+name)
	}
}

func (w tree) sparse() {
	w.dir("sparse")
	w.at("sparse/end", 8<<20, []byte("end"))
	w.at("sparse/begin", 0, []byte("begin"))
	must(w.t, os.Truncate(w.path("sparse/begin"), 8<<20))
	w.file("sparse/hole", nil)
	must(w.t, os.Truncate(w.path("sparse/hole"), 16<<20))
	for i := range int64(20) {
		w.at("sparse/comb", i*(256<<10), noise(byte(60+i), 64<<10))
	}
	w.file("sparse/punched", noise(80, 4<<20))
	w.allocate("sparse/punched", punch, 1<<20, 2<<20)
	w.file("sparse/allocated", nil)
	w.allocate("sparse/allocated", 0, 0, 1<<20)
	w.at("sparse/beyond 4 GiB", 5<<30, noise(81, 100_000))
	w.at("sparse/beyond 4 GiB", 3<<30, noise(82, 100_000))
	w.at("sparse/beyond 4 GiB", 6<<30, []byte{0})
}

func (w tree) attributes() {
	w.dir("attributes/dir")
	w.file("attributes/file", []byte("x"))
	w.symlink("file", "attributes/symlink")
	w.node("attributes/fifo", unix.S_IFIFO|0o600, 0)
	for _, name := range []string{"attributes/file", "attributes/dir"} {
		w.attr(name, "user.text", []byte("blue"))
		w.attr(name, "user.empty", nil)
		w.attr(name, "user.bin\xff\nary", noise(90, 700))
		w.attr(name, "user.long", noise(91, 2000))
		w.attr(name, "system.posix_acl_access", treetest.ACL(6, 1000, 4))
	}
	w.attr("attributes/dir", "system.posix_acl_default", treetest.ACL(7, 1000, 5))
	w.attr("attributes/file", "security.capability", treetest.Capability(1<<10))
	for _, name := range []string{"attributes/file", "attributes/dir", "attributes/symlink", "attributes/fifo"} {
		w.attr(name, "trusted.note", []byte("of "+name))
		w.attr(name, "security.note", []byte{0, 1, 2})
	}
	// What is made in a directory with a default ACL has it already, and the mirror must not add or lose anything.
	w.dir("attributes/dir/below")
	w.file("attributes/dir/heir", nil)
	w.file("attributes/dir/disowned", nil)
	w.noAttr("attributes/dir/disowned", "system.posix_acl_access")
	w.attr("", "user.top", []byte("of the top directory"))
	w.own("", 12, 34)
	w.mode("", 0o1751)
}

// times gives everything another odd time; the top and the bottom of what was written come last.
func (w tree) times() {
	n := int64(0)
	var dirs []string
	must(w.t, filepath.WalkDir(w.root, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(w.root, path)
		if e.IsDir() && len(path) > 3000 {
			return filepath.SkipDir // what is deeper has the time at which it was made
		}
		n++
		if e.IsDir() {
			dirs = append(dirs, rel)
		} else {
			w.time(rel, 1_000_000_000+n, 999_999_999-n)
		}
		return nil
	}))
	for i, dir := range dirs {
		w.time(dir, 900_000_000+int64(i), int64(i))
	}
	for name, sec := range map[string]int64{"files/a": -1, "files/b": 0, "files/c": -2_000_000_000, "files/d": 4_000_000_000, "links/dir": -7, "empty": 1} {
		w.time(name, sec, 1)
	}
}
