package source

import (
	"os"
	"testing"
	"time"
)

// TestWrittenUnderALostName writes to a file that was opened under a name which now is another file's, or nobody's, or was moved on with
// its directory: the event tells the old name, and the file is found under the name that it has left.
func TestWrittenUnderALostName(t *testing.T) {
	for what, lose := range map[string]func(t *testing.T, dir string){
		"another file's": func(t *testing.T, dir string) {
			write(t, dir+"/new", "new")
			must(t, os.Rename(dir+"/new", dir+"/sub/a"))
		},
		"nobody's": func(t *testing.T, dir string) { must(t, os.Remove(dir+"/sub/a")) },
		"a directory's": func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/sub/a"))
			must(t, os.Mkdir(dir+"/sub/a", 0o700))
		},
		"of a directory that is gone": func(t *testing.T, dir string) { must(t, os.RemoveAll(dir+"/sub")) },
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir+"/sub/a", "before")
			must(t, os.Link(dir+"/sub/a", dir+"/b"))
			r := newReplica(t)
			v := watched(t, dir, r, func(o *Options) { o.Events = Fanotify })
			r.follow(v, time.Now())
			f, err := os.OpenFile(dir+"/b", os.O_RDWR, 0)
			must(t, err)
			defer f.Close()
			g, err := os.OpenFile(dir+"/sub/a", os.O_RDWR, 0)
			must(t, err)
			defer g.Close()
			lose(t, dir)
			r.follow(v, time.Now())
			_, err = g.WriteAt([]byte("later and longer"), 0)
			must(t, err)
			r.follow(v, time.Now())
			r.check(dir)
		})
	}
}
