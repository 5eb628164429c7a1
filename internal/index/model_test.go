package index

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"georep/internal/change"
)

// model is what an index should hold, kept in the plainest way.
type model map[change.Place]change.Entry

// sameEntry compares as cmp.Equal does, but quickly. No test keeps extended attributes, which a record has not.
func sameEntry(a, b change.Entry) bool {
	return bytes.Equal(appendRecord(nil, &a), appendRecord(nil, &b)) && len(a.Xattrs)+len(b.Xattrs) == 0
}

func (m model) put(at change.Place, e change.Entry) {
	if e.Kind == change.Dir {
		maps.DeleteFunc(m, func(p change.Place, was change.Entry) bool { return was.ID == e.ID && p != at })
	}
	e.HasXattrs = false
	m[at] = e
}

// below lists all places below a directory. A directory that is open above itself is not entered again.
func (m model) below(dir change.ID) map[change.Place]bool {
	found := map[change.Place]bool{}
	var visit func(change.ID, []change.ID)
	visit = func(dir change.ID, open []change.ID) {
		for at, e := range m {
			if at.Dir != dir {
				continue
			}
			found[at] = true
			if e.Kind == change.Dir && !slices.Contains(open, e.ID) {
				visit(e.ID, append(slices.Clip(open), e.ID))
			}
		}
	}
	visit(dir, []change.ID{dir})
	return found
}

func (m model) names(id change.ID) []change.Place {
	var places []change.Place
	for at, e := range m {
		if e.ID == id {
			places = append(places, at)
		}
	}
	slices.SortFunc(places, comparePlaces)
	return places
}

func comparePlaces(a, b change.Place) int {
	return strings.Compare(string(a.Dir[:])+a.Name, string(b.Dir[:])+b.Name)
}

func (m model) path(dir change.ID) (string, change.ID, bool) {
	if dir == change.StashID {
		return StashPath, change.ID{}, true
	}
	var parts []string
	var sec change.ID
	for i := 0; i <= len(m); i++ {
		places := m.names(dir)
		if len(places) == 0 || m[places[0]].Kind != change.Dir {
			return "", change.ID{}, false
		}
		at := places[0]
		if i == 0 {
			sec = m[at].Sec
		}
		if !at.IsRoot() {
			parts = append(parts, at.Name)
		}
		if at.Dir == change.StashID {
			parts = append(parts, StashPath)
		}
		if at.IsRoot() || at.Dir == change.StashID {
			slices.Reverse(parts)
			return strings.Join(parts, "/"), sec, true
		}
		dir = at.Dir
	}
	return "", change.ID{}, false // a circle
}

// The objects and names of the tests are few, so that they meet often.
var (
	testDirectories = []change.ID{rootID(), change.NewID(10, 1), change.NewID(11, 1), change.NewID(11, 2), change.NewID(12, 5), change.NewID(1<<40, 0)}
	testFiles       = []change.ID{change.NewID(20, 1), change.NewID(20, 2), change.NewID(21, 1), change.NewID(22, 1), change.NewID(1<<60, 9)}
)

func drawPlace(t *rapid.T) change.Place {
	if rapid.IntRange(0, 20).Draw(t, "root") == 0 {
		return change.Place{}
	}
	dirs := append(slices.Clone(testDirectories), change.StashID)
	name := rapid.OneOf(
		rapid.SampledFrom([]string{"a", "b", "c", "a\n", "\xff\xfe", strings.Repeat("n", 255), strings.Repeat("n", 254) + "m"}),
		rapid.StringMatching(`file-00[0-9][0-9]\.dat`),
	)
	return change.Place{Dir: rapid.SampledFrom(dirs).Draw(t, "dir"), Name: name.Draw(t, "name")}
}

func drawEntry(t *rapid.T, at change.Place) change.Entry {
	id := rapid.SampledFrom(testFiles).Draw(t, "file")
	kind := rapid.SampledFrom([]change.Kind{change.File, change.Symlink, change.CharDev, change.FIFO}).Draw(t, "kind")
	if at.IsRoot() || rapid.Bool().Draw(t, "isDirectory") {
		id, kind = rapid.SampledFrom(testDirectories).Draw(t, "directory"), change.Dir
	}
	return drawRecord(t, id, kind)
}

func drawRecord(t *rapid.T, id change.ID, kind change.Kind) change.Entry {
	e := change.Entry{Sec: change.NewID(rapid.Uint64().Draw(t, "sec"), 1), Racy: rapid.Bool().Draw(t, "racy")}
	e.ID, e.Kind = id, kind
	e.Mode = rapid.Uint32Range(0, 0o7777).Draw(t, "mode")
	e.UID, e.GID = rapid.Uint32().Draw(t, "uid"), rapid.Uint32().Draw(t, "gid")
	e.Mtime = change.Time{Sec: rapid.Int64().Draw(t, "mtime"), Nsec: rapid.Uint32Range(0, 999_999_999).Draw(t, "nsec")}
	e.Ctime = change.Time{Sec: rapid.Int64().Draw(t, "ctime"), Nsec: rapid.Uint32Range(0, 999_999_999).Draw(t, "cnsec")}
	e.Nlink = rapid.Uint32Range(0, 4).Draw(t, "nlink")
	e.Size = rapid.Int64Range(0, 1<<40).Draw(t, "size")
	e.Blocks = rapid.Int64Range(0, 1<<62).Draw(t, "blocks")
	e.XattrSum = rapid.SampledFrom([]uint64{0, 1, 1 << 63}).Draw(t, "xattrs")
	e.Rdev = rapid.SampledFrom([]uint64{0, 0, 1<<64 - 1}).Draw(t, "rdev")
	if kind == change.Symlink {
		e.Target = strings.Repeat("t", rapid.SampledFrom([]int{1, 60, 900, 4095}).Draw(t, "target"))
	}
	return e
}

// machine drives an index and the model side by side.
type machine struct {
	t    *testing.T
	path string
	x    *Index
	m    model
}

func (s *machine) update(t *rapid.T) {
	next := maps.Clone(s.m)
	fails := rapid.IntRange(0, 9).Draw(t, "fails") == 0
	refused := errors.New("refused")
	err := s.x.Update(func(tx *Tx) error {
		var trees []change.ID
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			at := drawPlace(t)
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1:
				delete(next, at)
				if err := tx.Delete(at); err != nil {
					return err
				}
			case 2:
				dir := rapid.SampledFrom(testDirectories).Draw(t, "tree")
				trees = append(trees, dir)
				tx.DeleteTree(dir)
			default:
				e := drawEntry(t, at)
				next.put(at, e)
				if err := tx.Put(at, e); err != nil {
					return err
				}
			}
		}
		if fails {
			return refused
		}
		slices.SortFunc(trees, func(a, b change.ID) int { return strings.Compare(string(a[:]), string(b[:])) })
		for _, dir := range trees {
			for at := range next.below(dir) {
				delete(next, at)
			}
		}
		return nil
	})
	switch {
	case fails && !errors.Is(err, refused):
		t.Fatalf("Update gives %v", err)
	case !fails && err != nil:
		t.Fatal(err)
	case !fails:
		s.m = next
	}
}

func (s *machine) get(t *rapid.T) {
	at := drawPlace(t)
	e, found, err := s.x.Get(at)
	want, exists := s.m[at]
	if err != nil || found != exists || found && !sameEntry(e, want) {
		t.Fatalf("Get %v gives %v, %v, want %v: %s", at, found, err, exists, cmp.Diff(want, e))
	}
}

func (s *machine) names(t *rapid.T) {
	id := rapid.SampledFrom(append(slices.Clone(testDirectories), testFiles...)).Draw(t, "id")
	places, err := s.x.Names(id)
	want := s.m.names(id)
	if err != nil || !slices.Equal(places, want) {
		t.Fatalf("Names gives %v and %v, want %v", places, err, want)
	}
	first, found, err := s.x.Where(id)
	if err != nil || found != (len(want) > 0) || found && first != want[0] {
		t.Fatalf("Where gives %v, %v and %v, want the first of %v", first, found, err, want)
	}
}

func (s *machine) list(t *rapid.T) {
	dir := rapid.SampledFrom(append(slices.Clone(testDirectories), change.StashID, change.ID{})).Draw(t, "dir")
	after := rapid.SampledFrom([]string{"", "a", "b", "file-0042.dat", "n"}).Draw(t, "after")
	var want []string
	for at := range s.m {
		if at.Dir == dir && (after == "" || at.Name > after) {
			want = append(want, at.Name)
		}
	}
	slices.Sort(want)
	var got []string
	err := s.x.List(dir, after, func(name string, e change.Entry) error {
		got = append(got, name)
		if !sameEntry(e, s.m[change.Place{Dir: dir, Name: name}]) {
			t.Fatalf("List gives a wrong entry for %q", name)
		}
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("List gives %q and %v, want %q", got, err, want)
	}
	limit := rapid.Int64Range(0, 5).Draw(t, "limit")
	count, err := s.x.Count(dir, limit)
	below := int64(len(s.m.below(dir)))
	if limit > 0 {
		below = min(below, limit)
	}
	if err != nil || count != below {
		t.Fatalf("Count up to %d gives %d and %v, want %d", limit, count, err, below)
	}
}

func (s *machine) paths(t *rapid.T) {
	for _, dir := range append(slices.Clone(testDirectories), change.StashID, testFiles[0]) {
		path, sec, found, err := s.x.Path(dir)
		wantPath, wantSec, want := s.m.path(dir)
		if err != nil || found != want || path != wantPath || sec != wantSec {
			t.Fatalf("Path of %v gives %q, %v, %v, %v, want %q, %v, %v", dir, path, sec, found, err, wantPath, wantSec, want)
		}
	}
}

func (s *machine) reopen(t *rapid.T) {
	closing := s.x.Close
	if rapid.Bool().Draw(t, "crash") {
		closing = s.x.abandon
	}
	if err := closing(); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.x, err = Open(s.path, Options{Directories: 3}); err != nil {
		t.Fatal(err)
	}
}

// TestIndexEqualsModel runs random calls against an index and a map.
func TestIndexEqualsModel(t *testing.T) {
	dir := scratch(t)
	rapid.Check(t, func(r *rapid.T) {
		s := &machine{t: t, path: filepath.Join(dir, "index"), m: model{}}
		if err := os.RemoveAll(s.path); err != nil {
			r.Fatal(err)
		}
		var err error
		if s.x, err = Open(s.path, Options{Directories: 3}); err != nil {
			r.Fatal(err)
		}
		defer func() { _ = s.x.Close() }()
		r.Repeat(map[string]func(*rapid.T){
			"update": s.update, "update again": s.update, "get": s.get, "names": s.names, "list": s.list, "paths": s.paths, "reopen": s.reopen,
			"": func(r *rapid.T) {
				if got := all(t, s.x); !maps.EqualFunc(got, s.m, sameEntry) {
					r.Fatalf("the index differs: %s", cmp.Diff(map[change.Place]change.Entry(s.m), got))
				}
			},
		})
	})
}
