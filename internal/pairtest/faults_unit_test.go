package pairtest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// theme is one kind of change, small enough that all entries of a unit stand or fall together.
type theme struct {
	name string
	// before makes what is mirrored in order, after changes it. Both work in a directory of their own.
	before, after func(d scene)
}

// scene is the directory of a unit at the source.
type scene struct {
	t    testing.TB
	path string
}

func (d scene) at(name string) string { return filepath.Join(d.path, name) }

func (d scene) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d scene) file(name, content string) {
	d.t.Helper()
	d.must(os.WriteFile(d.at(name), []byte(content), 0o644))
}

func (d scene) dir(names ...string) {
	d.t.Helper()
	for _, name := range names {
		d.must(os.MkdirAll(d.at(name), 0o755))
	}
}

func (d scene) rename(from, to string) { d.t.Helper(); d.must(os.Rename(d.at(from), d.at(to))) }
func (d scene) remove(name string)     { d.t.Helper(); d.must(os.RemoveAll(d.at(name))) }
func (d scene) link(from, to string)   { d.t.Helper(); d.must(os.Link(d.at(from), d.at(to))) }
func (d scene) symlink(to, name string) {
	d.t.Helper()
	d.must(os.Symlink(to, d.at(name)))
}

// large is content that does not fit into a request.
func large(seed string) string { return strings.Repeat(seed+" goes on and on; ", 20_000) }

func nothing(scene) {}

// themes are all kinds of changes.
func themes() []theme {
	return append(contentThemes(), nameThemes()...)
}

func contentThemes() []theme {
	return []theme{
		{"new file", nothing, func(d scene) { d.file("f", "new") }},
		{"new large file", nothing, func(d scene) { d.file("f", large("new")) }},
		{"new tree", nothing, func(d scene) { d.dir("a/b"); d.file("a/f", "f"); d.file("a/b/g", "g") }},
		{"new others", nothing, func(d scene) {
			d.symlink("nowhere", "l")
			d.must(unix.Mkfifo(d.at("p"), 0o640))
		}},
		{"new hard links", nothing, func(d scene) { d.file("f", "f"); d.dir("a"); d.link("f", "g"); d.link("f", "a/h") }},
		{"new sparse file", nothing, func(d scene) {
			d.must(os.WriteFile(d.at("f"), nil, 0o600))
			d.must(os.Truncate(d.at("f"), 1<<20))
		}},
		{"changed file", func(d scene) { d.file("f", "old") }, func(d scene) { d.file("f", "newer") }},
		{"changed large file", func(d scene) { d.file("f", large("old")) }, func(d scene) {
			content := []byte(large("old"))
			copy(content[100_000:], bytes.Repeat([]byte("new"), 1000))
			d.file("f", string(content))
		}},
		{"changed hard links", func(d scene) { d.file("f", "old"); d.link("f", "g") }, func(d scene) { d.file("f", "newer") }},
		{"changed attributes", func(d scene) { d.file("f", "f"); d.dir("a"); d.symlink("x", "l") }, func(d scene) {
			d.must(os.Chmod(d.at("f"), 0o4751))
			d.must(os.Chmod(d.at("a"), 0o700))
			d.must(unix.Setxattr(d.at("f"), "user.note", []byte("here"), 0))
			d.must(unix.Setxattr(d.at("a"), "user.note", []byte("there"), 0))
			at := unix.NsecToTimespec(time.Unix(1_500_000_000, 5).UnixNano())
			d.must(unix.UtimesNanoAt(unix.AT_FDCWD, d.at("l"), []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
		}},
	}
}

func nameThemes() []theme {
	return []theme{
		{"renamed file", func(d scene) { d.file("f", "f"); d.dir("a") }, func(d scene) { d.rename("f", "a/g") }},
		{"renamed directory", func(d scene) { d.dir("a/b", "c"); d.file("a/b/f", "f") }, func(d scene) { d.rename("a", "c/d") }},
		{"renamed over", func(d scene) { d.file("f", "f"); d.file("g", "g") }, func(d scene) { d.rename("f", "g") }},
		{"exchanged", func(d scene) { d.dir("a", "b"); d.file("a/f", "f"); d.file("b/g", "g") }, func(d scene) {
			d.must(unix.Renameat2(unix.AT_FDCWD, d.at("a"), unix.AT_FDCWD, d.at("b"), unix.RENAME_EXCHANGE))
		}},
		{"file becomes directory", func(d scene) { d.file("x", "x") }, func(d scene) { d.remove("x"); d.dir("x/y") }},
		{"directory becomes file", func(d scene) { d.dir("x/y"); d.file("x/f", "f") }, func(d scene) { d.remove("x"); d.file("x", "x") }},
		{"removed", func(d scene) { d.file("f", "f"); d.dir("a/b"); d.file("a/b/g", "g"); d.symlink("x", "l") }, func(d scene) {
			d.remove("f")
			d.remove("a")
			d.remove("l")
		}},
		{"removed hard link", func(d scene) { d.file("f", "f"); d.link("f", "g") }, func(d scene) { d.remove("f") }},
	}
}
