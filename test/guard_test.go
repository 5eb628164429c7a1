package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// guarded is a mirror of 1,300 entries on a file system of their own.
func guarded(t *testing.T) *site {
	s := newSite(t)
	mountOn(t, "tmpfs", s.source)
	fill(s, "")
	s.copied()
	return s
}

// entriesGuarded is how many files fill makes: more than the number from which deletions are guarded by default.
const entriesGuarded = 1300

func fill(s *site, text string) {
	for i := range entriesGuarded {
		s.write(fmt.Sprintf("d%d/f%d", i%13, i), []byte(text+fmt.Sprint(i)))
	}
}

// nothingDeleted demands that all that fill had made is in the copy.
func (s *site) nothingDeleted() {
	s.t.Helper()
	for i := range entriesGuarded {
		name := fmt.Sprintf("d%d/f%d", i%13, i)
		if got := read(s.out(name)); got != fmt.Sprint(i) {
			s.t.Fatalf("%s is %q in the copy", name, got)
		}
	}
}

// asks demands that a run stopped for a person to decide, and told how.
func (r *run) asks() {
	r.t.Helper()
	r.ended(3)
	if text := r.problem(); !strings.Contains(text, "--allow-delete") && !strings.Contains(text, "mount") {
		r.t.Errorf("it says neither --allow-delete nor mount: %s", text)
	}
}

// empty removes all that is in the source.
func (s *site) empty() {
	s.t.Helper()
	entries, err := os.ReadDir(s.source)
	must(s.t, err)
	for _, e := range entries {
		must(s.t, os.RemoveAll(s.in(e.Name())))
	}
}

// losses are ways in which a source loses what was in it, by mistake or by intent.
func losses() map[string]func(s *site) {
	return map[string]func(s *site){
		"emptied":   func(s *site) { s.empty() },
		"unmounted": func(s *site) { unmount(s.t, s.source) },
		"another file system": func(s *site) {
			unmount(s.t, s.source)
			mountOn(s.t, "tmpfs", s.source)
			s.write("new", []byte("new"))
		},
		"mounted over": func(s *site) {
			mountOn(s.t, "tmpfs", s.source)
			s.write("new", []byte("new"))
		},
		"another directory": func(s *site) {
			unmount(s.t, s.source)
			must(s.t, os.Rename(s.source, s.source+".old"))
			must(s.t, os.Mkdir(s.source, 0o755))
			s.write("d1/f1", []byte("1"))
			s.write("new", []byte("new"))
		},
		"most of it gone": func(s *site) {
			for i := range 12 {
				must(s.t, os.RemoveAll(s.in(fmt.Sprintf("d%d", i))))
			}
			s.write("new", []byte("new"))
		},
	}
}

// TestMustP11DeletionsAsk takes the source away in every way between two runs: nothing is deleted, other changes flow, and a person is
// asked, each time; with their consent the copy becomes what the source is.
func TestMustP11DeletionsAsk(t *testing.T) {
	for name, lose := range losses() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := guarded(t)
			lose(s)
			want := read(s.in("new"))
			for range 2 { // asking again does not wear it out
				s.runs("--once").asks()
				s.nothingDeleted()
				if got := read(s.out("new")); got != want {
					t.Errorf("other changes do not flow: the new file is %q", got)
				}
			}
			s.runs("--once", "--allow-delete").ended(0)
			s.equal()
			s.copied()
		})
	}
}

// runs runs the mirror to its end.
func (s *site) runs(flags ...string) *run {
	s.t.Helper()
	r := s.start(flags...)
	r.wait()
	return r
}

// TestMustP11UnderALiveMirror does the same while it looks on.
func TestMustP11UnderALiveMirror(t *testing.T) {
	for name, lose := range losses() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := guarded(t)
			r := s.start("--scan-interval", "1s")
			r.caughtUp()
			lose(s)
			want := read(s.in("new"))
			await(t, "it to hold deletions", func() bool { return r.seen("halted", nil) || ended(r) })
			if name == "most of it gone" {
				s.deletedWithinLimit()
				r.stop(syscall.SIGINT)
				return
			}
			s.nothingDeleted()
			if ended(r) {
				r.asks() // the directory that it watched is not there any more
				r = s.start()
				r.awaits("halted", nil)
			}
			await(t, "other changes to flow", func() bool { return read(s.out("new")) == want })
			s.write("later", []byte("later"))
			await(t, "later changes to flow", func() bool { return read(s.out("later")) == "later" })
			s.nothingDeleted()
			r.stop(syscall.SIGINT)
			s.nothingDeleted()
			r = s.start("--allow-delete")
			s.follows()
			r.stop(syscall.SIGINT)
		})
	}
}

// deletedWithinLimit demands that what vanished bit by bit was deleted only until it was too much.
func (s *site) deletedWithinLimit() {
	s.t.Helper()
	n := 0
	for i := range entriesGuarded {
		if _, err := os.Lstat(s.out(fmt.Sprintf("d%d/f%d", i%13, i))); err != nil {
			n++
		}
	}
	if n > 1000 {
		s.t.Errorf("%d entries were deleted", n)
	}
}

// TestRemountGoesOn demands that what was unmounted by mistake needs nothing but to be mounted again.
func TestRemountGoesOn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	needMounts(t)
	kept := filepath.Join(t.TempDir(), "kept")
	must(t, os.Mkdir(kept, 0o755))
	mountOn(t, "tmpfs", kept)
	command(t, "mount", "--bind", kept, s.source)
	t.Cleanup(func() { _ = syscall.Unmount(s.source, syscall.MNT_DETACH) }) // it may not be mounted
	fill(s, "")
	s.write("large", noise(1, 4<<20))
	s.copied()
	unmount(t, s.source)
	s.runs("--once").asks()
	command(t, "mount", "--bind", kept, s.source)
	s.write("d1/more", nil)
	before := s.sent()
	s.copied()
	if n := s.sent() - before; n > 1<<20 { // all is compared once more, and nothing of it sent
		t.Errorf("%d bytes were sent for a file without content", n)
	}
}

// TestMountsBelow demands that what a mount within the source hides is not taken for deleted, and that its going away is not
// taken for the deletion of what is not mirrored; once and live.
func TestMountsBelow(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	needMounts(t)
	s.flags = []string{"--scan-interval", "1s"}
	for _, name := range []string{"sub/hidden/a", "sub/b", "beside", "other/below/c"} {
		s.write(name, []byte(name))
	}
	s.copied()
	kept := func(what string) {
		t.Helper()
		for _, name := range []string{"sub/hidden/a", "sub/b", "beside", "other/below/c"} {
			if read(s.out(name)) != name {
				t.Errorf("%s: %s is not in the copy any more", what, name)
			}
		}
	}
	mountOn(t, "tmpfs", s.in("sub"))
	s.write("sub/not mirrored", nil)
	s.runs("--once").ended(0)
	kept("a mount over a directory")
	s.runs("--once", "--checksum").ended(0)
	kept("a mount over a directory, compared by content")
	unmount(t, s.in("sub"))
	s.copied()
	r := s.start()
	r.caughtUp()
	mountOn(t, "tmpfs", s.in("other/below"))
	s.write("marker", []byte("1"))
	await(t, "a change beside the mount", func() bool { return read(s.out("marker")) == "1" })
	scans := r.count("scan-done")
	await(t, "two scans", func() bool { return r.count("scan-done") > scans+1 })
	kept("a mount while it is live")
	unmount(t, s.in("other/below"))
	s.write("other/below/d", []byte("new"))
	s.follows()
	r.stop(syscall.SIGINT)
	s.copied()
}

// count is how many events of that name have come.
func (r *run) count(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, e := range r.events {
		if e.Event == name {
			n++
		}
	}
	return n
}
