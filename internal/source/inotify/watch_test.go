package inotify

import (
	"errors"
	"os"
	"strings"
	"testing"

	"georep/internal/change"
	"georep/internal/rooted"
)

// TestFileWatches watches a file: what is written to it under any name is told, a directory's own watch stays what it was although it has
// got the file's name, and the watch can be ended.
func TestFileWatches(t *testing.T) {
	top := t.TempDir()
	for _, err := range []error{
		os.Mkdir(top+"/d", 0o700), os.WriteFile(top+"/f", nil, 0o600), os.Mkdir(top+"/outside", 0o700), os.Link(top+"/f", top+"/outside/f"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := rooted.Open(top)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	d, err := root.OpenDir("d")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	w, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	dir, file := change.NewID(1, 1), change.NewID(2, 2)
	if err := w.Add(d, dir); err != nil {
		t.Fatal(err)
	}
	if !w.AddFile(root.Top(), "f", file) || w.AddFile(root.Top(), "f", file) {
		t.Error("the file is not watched, or twice")
	}
	if w.AddFile(root.Top(), "d", change.NewID(3, 3)) {
		t.Error("a directory is watched as a file")
	}
	want := func(what string, do func() error, want ...string) {
		t.Helper()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		var got []string
		err := w.Drain(func(e Event) {
			switch {
			case e.File == file && e.Content:
				got = append(got, "content")
			case e.Dir == dir && e.Created:
				got = append(got, "entry "+e.Name)
			}
		})
		if err != nil || strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: %q, %v, want %q", what, got, err, want)
		}
	}
	append1 := func() error {
		f, err := os.OpenFile(top+"/outside/f", os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString("x")
		return errors.Join(err, f.Close())
	}
	want("written outside", append1, "content", "content")
	want("made in the directory", func() error { return os.Mkdir(top+"/d/new", 0o700) }, "entry new")
	w.RemoveFile(file)
	want("written without a watch", append1)
	if !w.AddFile(root.Top(), "f", file) {
		t.Error("the file cannot be watched again")
	}
	w.mu.Lock()
	w.dropFiles()
	w.mu.Unlock()
	want("written after directories needed the room", append1)
	if w.AddFile(root.Top(), "f", file) {
		t.Error("a file takes room that directories need")
	}
}
