package source

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// TestWrittenUnderALostName writes to a file that was opened under a name which now is another file's, or nobody's, or was moved on with
// its directory: the event tells the old name, and the file is found under the name that it has left. The same by a name that is not in the
// tree.
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
		"outside":                     func(t *testing.T, dir string) { must(t, os.Rename(dir+"/sub/a", dir+"/../outside")) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			kinds(t, func(t *testing.T, e Events) { underALostName(t, e, lose) })
		})
	}
}

func underALostName(t *testing.T, e Events, lose func(t *testing.T, dir string)) {
	for _, early := range []bool{true, false} {
		t.Run(fmt.Sprint("early=", early), func(t *testing.T) {
			dir := t.TempDir() + "/tree"
			write(t, dir+"/sub/a", "before")
			if early {
				must(t, os.Link(dir+"/sub/a", dir+"/b"))
			}
			r := newReplica(t)
			v := watched(t, dir, r, func(o *Options) { o.Events, o.ScanInterval = e, -1 })
			r.follow(v, time.Now())
			if !early {
				must(t, os.Link(dir+"/sub/a", dir+"/b"))
				r.follow(v, time.Now())
			}
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
