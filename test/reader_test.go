package test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// page is the content of one version of a file: each line tells the version, and how long the file is.
func page(version, lines int) []byte {
	line := fmt.Sprintf("version %6d of %6d lines\n", version, lines)
	return bytes.Repeat([]byte(line), lines)
}

// whole says whether what was read is one version, whole.
func whole(content []byte) error {
	var version, lines int
	first, _, _ := strings.Cut(string(content), "\n")
	if _, err := fmt.Sscanf(first, "version %d of %d lines", &version, &lines); err != nil {
		return fmt.Errorf("%q is the beginning of no version: %w", first, err)
	}
	if !bytes.Equal(content, page(version, lines)) {
		return fmt.Errorf("not all is version %d, with its %d lines: there are %d bytes", version, lines, len(content))
	}
	return nil
}

// TestMustP22ReadersSeeOldOrNew reads copies over and over while they are replaced, small ones and large ones, one with two names, and
// with both ends killed now and then. A version comes into the source whole, as no copy can be better than what it was made of.
func TestMustP22ReadersSeeOldOrNew(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	sizes := map[string]int{"small": 10, "middle": 20_000, "large": 400_000}
	write := func(version int) {
		made := filepath.Join(filepath.Dir(s.source), "made")
		for name, lines := range sizes {
			must(t, os.WriteFile(made, page(version, lines+version), 0o644))
			must(t, os.Rename(made, s.in(name)))
		}
		must(t, os.RemoveAll(s.in("link")))
		must(t, os.Link(s.in("middle"), s.in("link")))
	}
	write(0)
	s.copied()
	r := s.start()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	defer readers.Wait()
	defer close(stop)
	for name := range sizes {
		readers.Go(func() { readAgain(t, s.out(name), stop) })
	}
	readers.Go(func() { listAgain(t, s.dest, stop) })
	for version := 1; version <= 12; version++ {
		write(version)
		if version%4 == 0 {
			for _, pid := range s.agents() {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have gone
			}
			r.kill()
			r = s.start()
		}
		s.follows()
	}
	r.stop(syscall.SIGINT)
}

// readAgain reads a file as a whole until stop; it must be there all the time.
func readAgain(t *testing.T, path string, stop <-chan struct{}) {
	n := 0
	for {
		select {
		case <-stop:
			if n == 0 {
				t.Errorf("%s was not read once", path)
			}
			return
		default:
		}
		content, err := os.ReadFile(path)
		if err == nil {
			err = whole(content)
		}
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		n++
	}
}

// listAgain lists a directory until stop: there are never names in it that the source has not given.
func listAgain(t *testing.T, dir string, stop <-chan struct{}) {
	known := map[string]bool{"small": true, "middle": true, "large": true, "link": true, ".georep": true}
	for {
		select {
		case <-stop:
			return
		default:
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Error(err)
			return
		}
		for _, e := range entries {
			if !known[e.Name()] {
				t.Errorf("%q appeared in the copy", e.Name())
				return
			}
		}
	}
}

// TestNoTemporaryNames kills both ends in the middle of everything, again and again, and looks for names that nobody gave; the
// next whole run leaves nothing in the reserved directory either.
func TestNoTemporaryNames(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	given := map[string]bool{}
	for i := range 300 {
		name := fmt.Sprintf("d%d/f%d", i%7, i)
		s.write(name, noise(byte(i), i*400))
		given[name], given[filepath.Dir(name)] = true, true
	}
	s.write("large", noise(1, 12<<20))
	given["large"] = true
	for round := range 8 {
		r := s.start("--once")
		begun := s.sent()
		await(t, "something to be sent", func() bool { return ended(r) || s.sent()-begun > int64(1+round)*600_000 })
		for _, pid := range s.agents() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have gone
		}
		r.kill()
		s.onlyGiven(given)
		for name := range given { // so that there is something to be done again
			if len(name)%3 == round%3 && strings.Contains(name, "/") {
				s.write(name, noise(byte(round), 3000*round))
			}
		}
		tree{t, s.source}.at("large", int64(round)<<20, noise(byte(round), 100_000))
	}
	s.copied()
	for _, name := range names(t, s.out(".georep")) {
		if info, err := os.Lstat(s.out(".georep/" + name)); err == nil && !info.IsDir() && name != "lock" && name != "volume" && name != "mark" {
			t.Errorf("%s is left in the reserved directory", name)
		}
	}
	s.holdsNoDeleted()
}

// onlyGiven demands that the copy has only names that the source has.
func (s *site) onlyGiven(given map[string]bool) {
	s.t.Helper()
	err := filepath.WalkDir(s.dest, func(path string, _ os.DirEntry, err error) error {
		rel, _ := filepath.Rel(s.dest, path)
		switch {
		case rel == ".georep":
			return fs.SkipDir
		case errors.Is(err, fs.ErrNotExist) || rel == "." || given[rel]:
			return nil
		case err != nil:
			return err
		}
		return fmt.Errorf("%q is in the copy", rel)
	})
	if err != nil {
		s.t.Error(err)
	}
}

// holdsNoDeleted demands that the copy takes no more space than the source, as by content that was kept for later.
func (s *site) holdsNoDeleted() {
	s.t.Helper()
	used := func(root string) (n int64) {
		for _, name := range names(s.t, root) {
			var st unix.Stat_t
			must(s.t, unix.Lstat(filepath.Join(root, name), &st))
			if st.Mode&unix.S_IFMT == unix.S_IFREG {
				n += st.Blocks * 512
			}
		}
		return n
	}
	if have, want := used(s.dest), used(s.source); have > want+want/50+1<<20 {
		s.t.Errorf("the copy takes %d bytes, the source %d", have, want)
	}
}

// ended says whether a run has ended.
func ended(r *run) bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}
