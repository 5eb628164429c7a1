package bypath

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"georep/internal/change"
	"georep/internal/wire"
)

// TestPlacedByItsEnd: content is placed, with attributes, as its stream's end says: elsewhere than was said at the beginning, under
// several names, over what is there.
func TestPlacedByItsEnd(t *testing.T) {
	for _, size := range []int{1000, partSize + 1000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			w := newWorld(t)
			w.dir("d", "e")
			w.file("e/old", "old")
			w.link("e/old", "d/twin")
			content := random(1, size)
			first := &wire.Request{Op: change.Make, At: w.at("d/f"), Object: largeOf(3, content)}
			o := largeOf(3, content)
			o.Mode, o.Mtime = 0o640, change.Time{Sec: 77, Nsec: 7}
			final := &wire.Request{Op: change.Write, At: w.at("e/old"), Sec: w.sec("e/old"), Names: []wire.Ref{w.at("d/twin")}, Object: o}
			if res := w.write(first, &sending{content: content, final: final}); res.Status != change.Applied || res.Sec != w.sec("e/old") {
				t.Fatalf("%+v", res)
			}
			w.contains("e/old", content)
			w.contains("d/twin", content)
			info, err := os.Stat(w.path("e/old"))
			if err != nil || info.Mode().Perm() != 0o640 || info.ModTime().Unix() != 77 {
				t.Errorf("%v %v", info, err)
			}
			if _, err := os.Lstat(w.path("d/f")); !os.IsNotExist(err) {
				t.Errorf("it is at the first place: %v", err)
			}
			if left := w.leftovers(); left != nil {
				t.Error("left over:", left)
			}
		})
	}
}

// TestNotPlacedByItsEnd: an end that names what is not there, or is no file's, changes nothing; a large part is kept.
func TestNotPlacedByItsEnd(t *testing.T) {
	w := newWorld(t)
	w.file("there", "another's")
	content := random(1, partSize)
	first := &wire.Request{Op: change.Make, At: w.at("f"), Object: largeOf(3, content)}
	for name, final := range map[string]*wire.Request{
		"exists":    {Op: change.Make, At: w.at("there"), Object: largeOf(3, content)},
		"operation": {Op: change.Drop, At: w.at("there"), Object: largeOf(3, content)},
		"root":      {Op: change.Write, Object: largeOf(3, content)},
	} {
		res := w.write(first, &sending{content: content, wants: true, final: final})
		if name == "exists" && res.Status != change.Exists || name != "exists" && (res.Status != change.Failed || res.Errno != syscall.EINVAL) {
			t.Errorf("%s: %+v", name, res)
		}
	}
	w.contains("there", []byte("another's"))
	if _, err := os.Lstat(w.path("f")); !os.IsNotExist(err) {
		t.Errorf("it is at the first place: %v", err)
	}
	s := &sending{content: content, wants: true}
	if res := w.write(first, s); res.Status != change.Applied || s.copied < partSize {
		t.Errorf("%+v, of %d bytes %d had not to be sent again", res, len(content), s.copied)
	}
}
