package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"georep/internal/need"
)

// ntfs mounts a file system that takes upper and lower case for the same.
func ntfs(t testing.TB) string {
	t.Helper()
	needMounts(t)
	dir, image := filepath.Join(t.TempDir(), "ntfs"), filepath.Join(t.TempDir(), "image")
	must(t, os.Mkdir(dir, 0o755))
	command(t, "truncate", "-s", "16M", image)
	command(t, need.Program(t, "mkntfs"), "-F", "-Q", "-q", image)
	command(t, need.Program(t, "lowntfs-3g"), "-o", "ignore_case,permissions", image, dir)
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TestDestinationThatFoldsNamesIsRefused mirrors to a file system on which a file would take the place of another whose name differs
// in case only: it says so in one sentence, before anything is there.
func TestDestinationThatFoldsNamesIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.dest = filepath.Join(ntfs(t), "copy")
	s.write("a", []byte("lower"))
	s.write("A", []byte("upper"))
	r := s.once()
	r.ended(1)
	if text := r.problem(); !strings.Contains(text, "upper and lower case") || !strings.Contains(text, "choose a destination") {
		t.Errorf("it says %q", text)
	}
	if r.last().Snapshot.EntriesDone != 0 || read(s.out("a")) != "" || read(s.out(".georep/volume")) != "" {
		t.Errorf("it has done something: %q", names(t, s.dest))
	}
}

// second mounts a file system that keeps times in whole seconds, and until 2038.
func second(t testing.TB) string {
	t.Helper()
	needMounts(t)
	dir, image := filepath.Join(t.TempDir(), "ext4"), filepath.Join(t.TempDir(), "image")
	must(t, os.Mkdir(dir, 0o755))
	command(t, "truncate", "-s", "32M", image)
	command(t, need.Program(t, "mkfs.ext4"), "-q", "-I", "128", image)
	command(t, "mount", "-t", "ext4", "-o", "loop", image, dir)
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TestDestinationThatCutsTimes mirrors to a file system with times in whole seconds, until 2038: it says so, finds no differences where
// only that was cut off, and names what it cannot keep at all.
func TestDestinationThatCutsTimes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.dest = filepath.Join(second(t), "copy")
	odd := time.Unix(1_600_000_001, 987_654_321)
	for i := range 3 {
		s.write(fmt.Sprintf("d/f%d", i), []byte("content"))
		must(t, os.Chtimes(s.in(fmt.Sprintf("d/f%d", i)), odd, odd))
	}
	must(t, os.Chtimes(s.in("d"), odd, odd))
	r := s.once()
	r.ended(0)
	if !r.seen("notice", func(e event) bool { return strings.Contains(e.Text, "steps of 1s") }) {
		t.Error("it does not say that times are cut off")
	}
	for _, name := range []string{"d", "d/f1"} {
		info, err := os.Stat(s.out(name))
		must(t, err)
		if !info.ModTime().Equal(odd.Truncate(time.Second)) {
			t.Errorf("%s has the time %v", name, info.ModTime())
		}
	}
	// An older state makes it look at everything.
	command(t, "cp", "-a", s.state, s.state+".old")
	s.write("later", []byte("x"))
	s.once().ended(0)
	must(t, os.RemoveAll(s.state))
	must(t, os.Rename(s.state+".old", s.state))
	r = s.once()
	r.ended(0)
	if !r.seen("notice", func(e event) bool { return strings.Contains(e.Text, "looked at again") }) {
		t.Error("it has not looked at everything")
	}
	if sent := r.last().Snapshot.ContentSent; sent > 1 {
		t.Errorf("%d bytes of content were sent although all but one byte is equal", sent)
	}
	// A time that cannot be kept is no silent difference.
	late := time.Unix(4_000_000_000, 0)
	must(t, os.Chtimes(s.in("d/f2"), late, late))
	r = s.once()
	r.ended(1)
	if f := r.last().Failures; len(f) != 1 || f[0].Path != "d/f2" || f[0].Errno != int(syscall.EOVERFLOW) || !strings.Contains(f[0].Error, "2038") || f[0].Hint == "" {
		t.Errorf("failures: %+v", f)
	}
	must(t, os.Chtimes(s.in("d/f2"), odd, odd))
	s.once().ended(0)
	if out, err := exec.Command("diff", "-r", "--exclude=.georep", s.source, s.dest).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestSourceThatCutsTimes changes a file, under equal size, in the second in which a run has read it, on a file system that keeps times in
// whole seconds: the next run finds it.
func TestSourceThatCutsTimes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.source = filepath.Join(second(t), "source")
	must(t, os.Mkdir(s.source, 0o755))
	s.dest = filepath.Join(t.TempDir(), "dest")
	ctime := func(name string) syscall.Timespec {
		var st syscall.Stat_t
		must(t, syscall.Stat(s.in(name), &st))
		return st.Ctim
	}
	run := func() *run { // without ssh, which takes its time
		t.Helper()
		r := start(t, exec.Command(s.program, "mirror", "--json", "--once", "--state-dir", s.state, "--config", os.DevNull, s.source, s.dest))
		r.wait()
		r.ended(0)
		return r
	}
	run()
	for i := range 50 {
		name := fmt.Sprint("file", i)
		await(t, "the begin of a second", func() bool { return time.Now().Nanosecond() < 100_000_000 })
		s.write(name, []byte("one"))
		before := ctime(name)
		run()
		s.write(name, []byte("two"))
		if ctime(name) != before {
			continue // the run took longer than the second: this shows nothing
		}
		run()
		if r := run(); read(s.out(name)) != "two" || r.last().Snapshot.ContentSent != 0 {
			t.Errorf("the copy is %q, and the run after that sent %d bytes", read(s.out(name)), r.last().Snapshot.ContentSent)
		}
		return
	}
	need.Missing(t, "a machine that mirrors a file within a second")
}
