package test

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"georep/internal/need"
	"georep/internal/treetest"
)

// TestMustP18P19AndP23Fidelity copies a tree with everything in it over a real sshd, changes everything, and looks at the copy each
// time; on each file system that people use.
func TestMustP18P19AndP23Fidelity(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fstype, func(t *testing.T) {
			t.Parallel()
			s := newSiteIn(t, mount(t, fstype))
			w := everything(t, s.source)
			s.copied()
			before := s.sent()
			if r := s.copied(); r.last().Snapshot.ContentSent != 0 {
				t.Errorf("a second run sent %d bytes of content", r.last().Snapshot.ContentSent)
			}
			t.Logf("a run with nothing to do sends %d bytes", s.sent()-before)
			w.changeEverything()
			s.copied()
			r := s.start()
			r.caughtUp()
			w.changeAgain()
			s.follows()
			r.stop(syscall.SIGINT)
			s.copied("--checksum")
		})
	}
}

// changeEverything changes one thing of each kind.
func (w tree) changeEverything() {
	// Holes are filled, and made.
	w.at("sparse/end", 1<<20, noise(100, 10_000))
	w.at("sparse/hole", 5<<20, []byte("no longer"))
	w.allocate("sparse/comb", punch, 64<<10*4, 1<<20)
	w.allocate("files/i", punch, 2<<20, 4<<20)
	w.allocate("sparse/beyond 4 GiB", punch, 5<<30, 50_000)
	w.at("sparse/beyond 4 GiB", 6<<30-10, noise(101, 5))
	w.allocate("sparse/allocated", unix.FALLOC_FL_KEEP_SIZE, 1<<20, 1<<20)
	must(w.t, os.Truncate(w.path("sparse/punched"), 3<<20+77))
	// Content, with and without another size.
	w.at("files/e", 30_000, []byte("changed"))
	w.at("files/i", 8<<20, []byte("changed"))
	must(w.t, os.Truncate(w.path("files/f"), 100))
	w.file("files/a", []byte("no longer empty"))
	// Attributes only.
	w.mode("modes/dir", 0o4777)
	w.own("owners/symlink", 5, 6)
	w.time("links/odd", 77, 7)
	w.noAttr("attributes/file", "user.empty")
	w.noAttr("attributes/file", "system.posix_acl_access")
	w.noAttr("attributes/dir", "system.posix_acl_default")
	w.attr("attributes/dir", "user.text", []byte("red"))
	w.attr("attributes/symlink", "trusted.note", []byte("changed"))
	w.attr("attributes/file", "security.capability", treetest.Capability(1<<12))
	w.attr("", "user.top", []byte("changed"))
	w.own("", 0, 0)
	// Links leave, come, and are joined.
	w.remove("links/one")
	w.link("links/below/two", "links/four")
	w.remove("links/twin")
	w.link("links/below/two", "links/twin")
	w.remove("links/below/large")
	w.file("links/below/large", noise(51, 2<<20))
	// One kind is replaced by another.
	w.replace("special/fifo", func(name string) { w.file(name, []byte("a file")) })
	w.replace("special/null", func(name string) { w.dir(name + "/dir") })
	w.replace("files/g", func(name string) { w.symlink("a", name) })
	w.replace("links/dir", func(name string) { w.node(name, unix.S_IFSOCK|0o600, 0) })
	w.replace("a", func(name string) { w.file(name, []byte("was a tree")) })
	w.replace("special/big", func(name string) { w.node(name, unix.S_IFCHR|0o600, unix.Mkdev(1, 5)) })
}

func (w tree) replace(name string, by func(name string)) {
	w.remove(name)
	by(name)
}

// changeAgain is what is changed under the eyes of a live mirror.
func (w tree) changeAgain() {
	w.deep("deep", 20, func(fd int) { putAt(w.t, fd, "bottom", "changed, far below") })
	w.remove("a")
	w.rename("links", "sparse/links", 0)
	w.rename("odd/"+strings.Repeat("L", 255), "odd/"+strings.Repeat("M", 255), 0)
	w.rename("odd/new\nline", "odd/not\xff\xfeutf8\xc3", unix.RENAME_EXCHANGE)
	w.allocate("sparse/end", punch, 0, 8<<20)
	w.at("sparse/hole", 9<<20, noise(102, 300_000))
	w.at("sparse/beyond 4 GiB", 4<<30, noise(103, 10_000))
	w.mode("modes/dir", 0o2755)
	w.own("special/block", 9, 9)
	w.mode("special/block", 0o6660)
	w.attr("attributes/file", "system.posix_acl_access", treetest.ACL(7, 1001, 1))
	w.noAttr("attributes/file", "security.capability")
	w.noAttr("attributes/fifo", "trusted.note")
	w.noAttr("", "user.top")
	w.time("empty", 5, 5)
	w.time("attributes/symlink", 6, 6)
	w.time("", 7, 7)
}

// TestMetadataOnly demands that a change of attributes moves no content, of a file of any size.
func TestMetadataOnly(t *testing.T) {
	need.Root(t)
	t.Parallel()
	const size = 20 << 20
	s := newSite(t)
	w := tree{t, s.source}
	w.file("large", noise(1, size))
	s.copied()
	idle := s.idle()
	for name, change := range map[string]func(){
		"mode":  func() { w.mode("large", 0o6750) },
		"owner": func() { w.own("large", 1234, 5678) },
		"xattr": func() { w.attr("large", "user.color", []byte("blue")) },
		"ACL":   func() { w.attr("large", "system.posix_acl_access", treetest.ACL(6, 1000, 4)) },
		"link":  func() { w.link("large", "another"+string(noise(7, 1))) },
	} {
		change()
		before := s.sent()
		r := s.copied()
		if n := s.sent() - before - idle; n > 20_000 || r.last().Snapshot.ContentSent != 0 {
			t.Errorf("a change of the %s sent %d bytes, %d of them content", name, n, r.last().Snapshot.ContentSent)
		}
	}
	// A new time may mean new content. The two sides find out that there is none without moving it.
	w.time("large", 1_700_000_000, 1)
	before := s.sent()
	s.copied()
	if n := s.sent() - before - idle; n > size/100 {
		t.Errorf("a new time sent %d bytes", n)
	}
}

// idle is how many bytes a run sends that has nothing to do: those of ssh and of the greetings.
func (s *site) idle() int64 {
	s.t.Helper()
	before := s.sent()
	s.copied()
	return s.sent() - before
}

// quietly changes the content of a file of the source and leaves its size and its time.
func (s *site) quietly(name string, content []byte) {
	s.t.Helper()
	var st unix.Stat_t
	must(s.t, unix.Stat(s.in(name), &st))
	if int64(len(content)) != st.Size {
		s.t.Fatal("this would change the size")
	}
	must(s.t, os.WriteFile(s.in(name), content, 0o644))
	must(s.t, unix.UtimesNanoAt(unix.AT_FDCWD, s.in(name), []unix.Timespec{st.Atim, st.Mtim}, 0))
}

// TestMustP29SameSizeSameTime changes content under an equal size and time: while it is watched, and while it is not.
func TestMustP29SameSizeSameTime(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i, name := range []string{"small", "large", "old"} {
		s.write(name, noise(byte(i), 10+i*9<<20))
		tree{t, s.source}.time(name, 1_500_000_000, 123_456_789)
	}
	r := s.start()
	r.caughtUp()
	s.follows()
	s.quietly("small", noise(10, 10))
	s.quietly("large", noise(11, 10+9<<20))
	s.follows()
	r.stop(syscall.SIGINT)
	s.quietly("old", noise(12, 10+18<<20))
	s.quietly("small", noise(13, 10))
	s.copied("--checksum")
}
