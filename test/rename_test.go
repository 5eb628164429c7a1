package test

import (
	"fmt"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// renames are ways to give content other names. Each moves at least size bytes about.
func renames(w tree) []struct {
	name string
	do   func()
} {
	return []struct {
		name string
		do   func()
	}{
		{"a file", func() { w.rename("large", "renamed", 0) }},
		{"a file into another directory", func() { w.rename("renamed", "dir/below/moved", 0) }},
		{"a file over another", func() { w.rename("dir/below/moved", "other", 0) }},
		{"a directory", func() { w.rename("dir", "folder", 0) }},
		{"a directory into another", func() { w.dir("new/above"); w.rename("folder", "new/above/dir", 0) }},
		{"a directory over an empty one", func() { w.dir("empty"); w.rename("new/above/dir", "empty", 0) }},
		{"two files exchanged", func() { w.rename("other", "twin", unix.RENAME_EXCHANGE) }},
		{"a file and a directory exchanged", func() { w.rename("other", "empty", unix.RENAME_EXCHANGE) }},
		{"two directories exchanged", func() {
			w.dir("second/dir")
			w.rename("twin", "second/dir/twin", 0)
			w.rename("second", "other", unix.RENAME_EXCHANGE)
		}},
		{"a ring of three", func() {
			w.rename("second", "t", 0)
			w.rename("other", "second", 0)
			w.rename("empty", "other", 0)
			w.rename("t", "empty", 0)
		}},
		{"a directory into its own former child", func() {
			w.rename("second/dir", "up", 0)
			w.rename("second", "up/second", 0)
		}},
		{"a file that is written then", func() {
			w.rename("up/twin", "up/written", 0)
			w.at("up/written", 5, []byte("changed"))
		}},
		{"one name of several", func() {
			w.link("up/written", "linked")
			w.rename("linked", "up/linked", 0)
			w.remove("up/written")
		}},
		{"a name that is used anew", func() {
			w.rename("up/linked", "old", 0)
			w.file("up/linked", []byte("new"))
		}},
		{"changes of attributes with it", func() {
			w.rename("old", "new/old", 0)
			w.mode("new/old", 0o640)
			w.time("new/old", 1_600_000_000, 5)
		}},
	}
}

// TestMustP4RenamesMoveNoContent renames in every way while the mirror is live, then while it does not run, and looks at the
// bytes on the line.
func TestMustP4RenamesMoveNoContent(t *testing.T) {
	for _, live := range []bool{true, false} {
		t.Run(fmt.Sprintf("live=%v", live), func(t *testing.T) {
			t.Parallel()
			const size = 4 << 20
			s := newSite(t)
			w := tree{t, s.source}
			w.dir("dir/below/deeper")
			for i, name := range []string{"large", "other", "twin", "dir/one", "dir/below/deeper/two"} {
				w.file(name, noise(byte(i), size))
			}
			for i := range 500 {
				w.file(fmt.Sprintf("dir/below/%d", i), noise(byte(i), 4000))
			}
			s.copied()
			idle := s.idle()
			var r *run
			if live {
				r = s.start()
				r.caughtUp()
				idle = 0
			}
			for _, rename := range renames(w) {
				before := s.sent()
				rename.do()
				if live {
					s.follows()
				} else {
					s.copied()
				}
				if n := s.sent() - before - idle; n > 60_000 {
					t.Errorf("%s: %d bytes were sent", rename.name, n)
				}
			}
			if live {
				r.stop(syscall.SIGINT)
				s.copied("--checksum")
			}
		})
	}
}
