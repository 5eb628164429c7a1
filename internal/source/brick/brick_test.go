package brick

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"georep/internal/change"
	"georep/internal/gluster"
	"georep/internal/need"
	"georep/internal/source/changelog"
)

// made is a brick that was put together by hand.
type made struct {
	t    *testing.T
	root string
	next byte
}

func newMade(t *testing.T) *made {
	t.Helper()
	need.Root(t)
	m := &made{t: t, root: t.TempDir()}
	m.must(os.MkdirAll(filepath.Join(m.root, changelog.Dir, "htime"), 0o755))
	m.must(os.MkdirAll(filepath.Join(m.root, ".glusterfs/00/00"), 0o755))
	m.must(os.Symlink("../../..", filepath.Join(m.root, ".glusterfs/00/00", gluster.GFID(gluster.Root))))
	if err := unix.Setxattr(m.root, "trusted.gfid", gluster.Root[:], 0); err != nil {
		need.Missing(t, "a temporary directory on a file system with trusted attributes: "+err.Error())
	}
	return m
}

func (m *made) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *made) id() change.ID {
	m.next++
	return change.ID{0x10 + m.next, 0x20, 6: 0x40, 8: 0x80, 15: m.next}
}

func (m *made) handle(id change.ID) string {
	text := gluster.GFID(id)
	path := filepath.Join(m.root, ".glusterfs", text[:2], text[2:4], text)
	m.must(os.MkdirAll(filepath.Dir(path), 0o755))
	return path
}

func (m *made) set(path, name string, value []byte) {
	m.t.Helper()
	m.must(unix.Lsetxattr(path, name, value, 0))
}

// dir makes a directory in another.
func (m *made) dir(parent change.ID, path string) change.ID {
	m.t.Helper()
	id := m.id()
	m.must(os.Mkdir(filepath.Join(m.root, path), 0o750))
	m.set(filepath.Join(m.root, path), "trusted.gfid", id[:])
	up := gluster.GFID(parent)
	m.must(os.Symlink(fmt.Sprintf("../../%s/%s/%s/%s", up[:2], up[2:4], up, filepath.Base(path)), m.handle(id)))
	return id
}

// name makes a further name of a file, with what the brick notes of it.
func (m *made) name(id, parent change.ID, path string) {
	m.t.Helper()
	m.must(os.Link(m.handle(id), filepath.Join(m.root, path)))
	m.note(id, parent, filepath.Base(path))
}

func (m *made) note(id, parent change.ID, name string) {
	m.set(m.handle(id), fmt.Sprintf("trusted.gfid2path.%x%s", parent[:4], name), []byte(gluster.GFID(parent)+"/"+name))
}

func (m *made) file(parent change.ID, path, content string) change.ID {
	m.t.Helper()
	id := m.id()
	full := filepath.Join(m.root, path)
	m.must(os.WriteFile(full, []byte(content), 0o640))
	m.set(full, "trusted.gfid", id[:])
	m.must(os.Link(full, m.handle(id)))
	m.note(id, parent, filepath.Base(path))
	return id
}

func (m *made) tree() *tree {
	m.t.Helper()
	t, err := openTree(m.root, false)
	m.must(err)
	return t
}

func (m *made) read(id change.ID) object {
	m.t.Helper()
	o, err := m.tree().readOnce(id)
	m.must(err)
	return o
}

func TestObjectsOfABrick(t *testing.T) {
	m := newMade(t)
	d := m.dir(gluster.Root, "d")
	f := m.file(d, "d/f", "content")
	m.name(f, gluster.Root, "second")
	mdata := make([]byte, 57)
	mdata[0] = 1
	binary.BigEndian.PutUint64(mdata[9:], 1000)
	binary.BigEndian.PutUint64(mdata[25:], 2000)
	binary.BigEndian.PutUint64(mdata[33:], 5)
	m.set(m.handle(f), "trusted.glusterfs.mdata", mdata)
	m.set(m.handle(f), "user.note", []byte("x"))
	o := m.read(f)
	if o.standing != here || len(o.names) != 2 || o.Nlink != 2 || o.Size != 7 || o.Mtime != (change.Time{Sec: 2000, Nsec: 5}) || o.Ctime.Sec != 1000 {
		t.Errorf("%+v", o)
	}
	if len(o.Xattrs) != 1 || o.Xattrs[0].Name != "user.note" || o.Mode != 0o640 {
		t.Errorf("%+v", o.Object)
	}
	if o := m.read(d); o.standing != here || o.Kind != change.Dir || o.names[0] != (change.Place{Dir: gluster.Root, Name: "d"}) || o.Mode != 0o750 {
		t.Errorf("%+v", o)
	}
	if o := m.read(gluster.Root); o.standing != here || !o.names[0].IsRoot() {
		t.Errorf("%+v", o)
	}
	if o := m.read(m.id()); o.standing != missing {
		t.Errorf("%+v", o)
	}
	m.must(os.Remove(filepath.Join(m.root, "second"))) // a name that is just going
	if o := m.read(f); o.standing != unclear {
		t.Errorf("%+v", o)
	}
	size := binary.BigEndian.AppendUint64(nil, 1<<30)
	m.set(m.handle(f), "trusted.ec.size", size)
	if o := m.read(f); !o.elsewhere || o.Size != 1<<30 {
		t.Errorf("%+v", o)
	}
}

func TestWhatIsNotTheBricks(t *testing.T) {
	m := newMade(t)
	pointerTo := m.file(gluster.Root, "p", "")
	m.must(os.Chmod(m.handle(pointerTo), os.ModeSticky))
	if o := m.read(pointerTo); o.standing != here {
		t.Errorf("an empty sticky file: %+v", o)
	}
	m.set(m.handle(pointerTo), linkto, []byte("v-client-1\x00"))
	if o := m.read(pointerTo); o.standing != pointer {
		t.Errorf("%+v", o)
	}
	shards := shardDir
	m.must(os.Mkdir(filepath.Join(m.root, ".shard"), 0o755))
	m.must(os.Symlink(fmt.Sprintf("../../00/00/%s/.shard", gluster.GFID(gluster.Root)), m.handle(shards)))
	base := m.id()
	part := m.file(shards, ".shard/"+gluster.GFID(base)+".3", "part")
	if o := m.read(part); o.standing != internal || o.base != base {
		t.Errorf("%+v", o)
	}
	if o := m.read(shards); o.standing != internal {
		t.Errorf("%+v", o)
	}
}

// world is an index and a volume for a source.
type world struct {
	entries map[change.Place]change.Entry
	there   map[change.Place]change.ID // what the volume has besides the brick
	parted  bool
	asked   int
}

func (w *world) Get(at change.Place) (change.Entry, bool, error) {
	e, ok := w.entries[at]
	return e, ok, nil
}

func (w *world) List(dir change.ID, after string, fn func(string, change.Entry) error) error {
	for at, e := range w.entries {
		if at.Dir == dir && at.Name > after {
			if err := fn(at.Name, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *world) Names(id change.ID) (names []change.Place, err error) {
	for at, e := range w.entries {
		if e.ID == id {
			names = append(names, at)
		}
	}
	return names, nil
}

func (w *world) Assume(at change.Place, e change.Entry) error { w.entries[at] = e; return nil }
func (w *world) Forget(at change.Place) error                 { delete(w.entries, at); return nil }

func (w *world) Lookup(_ context.Context, at change.Place) (change.ID, bool, error) {
	w.asked++
	id, ok := w.there[at]
	return id, ok, nil
}

func (w *world) Attributes(context.Context, change.ID) (change.Attr, error) {
	return change.Attr{}, unix.ENOENT
}
func (w *world) Open(context.Context, change.ID) (*os.File, error) { return nil, unix.ENOENT }
func (w *world) Trigger(context.Context, change.ID) error          { return nil }
func (w *world) Whole(context.Context) (bool, error)               { return !w.parted, nil }

func (m *made) source(w *world, after int64) *Source {
	m.t.Helper()
	s, err := New(Options{Path: m.root, Index: w, Volume: w, After: after, Trusted: true, XattrSum: func([]change.Xattr) uint64 { return 0 }})
	m.must(err)
	m.t.Cleanup(func() { m.must(s.Close()) })
	return s
}

// take hands everything over until the source says that this was all, and notes it in the index.
func (m *made) take(s *Source, w *world) (seen []string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		b, err := s.Next(ctx)
		m.must(err)
		for _, o := range b.Seen {
			name := o.At.Name
			if _, known := w.entries[change.Place{}]; !known && !o.At.IsRoot() && !o.Absent {
				m.t.Errorf("%q comes before the root", name)
			}
			if o.Absent {
				name = "-" + name
				delete(w.entries, o.At)
			} else {
				w.entries[o.At] = change.Entry{Object: o.Object, Sec: o.Object.ID}
			}
			seen = append(seen, name)
		}
		if b.CaughtUp {
			return seen
		}
	}
}

func TestCrawlAndDeletions(t *testing.T) {
	m := newMade(t)
	d := m.dir(gluster.Root, "d")
	e := m.dir(d, "d/e")
	m.file(e, "d/e/f", "1")
	w := &world{entries: map[change.Place]change.Entry{}, there: map[change.Place]change.ID{}}
	// On the secondary: a file that nobody has any more, and one that another brick has.
	gone, moved := m.id(), m.id()
	for name, id := range map[string]change.ID{"gone": gone, "moved": moved} {
		w.entries[change.Place{Dir: gluster.Root, Name: name}] = change.Entry{Object: change.Object{ID: id, Kind: change.File}, Sec: id}
	}
	w.there[change.Place{Dir: gluster.Root, Name: "moved"}] = moved
	seen := m.take(m.source(w, 0), w)
	order := []int{slices.Index(seen, ""), slices.Index(seen, "d"), slices.Index(seen, "e"), slices.Index(seen, "f")}
	if !slices.IsSorted(order) || order[0] < 0 {
		t.Errorf("%q", seen)
	}
	if !slices.Contains(seen, "-gone") || slices.Contains(seen, "-moved") {
		t.Errorf("%q", seen)
	}
	if again := m.take(m.source(w, 0), w); len(again) > 0 {
		t.Errorf("nothing has changed, but %q comes", again)
	}
}

func TestNothingIsGoneWhileAPartIsAway(t *testing.T) {
	m := newMade(t)
	id := m.id()
	at := change.Place{Dir: gluster.Root, Name: "gone"}
	w := &world{entries: map[change.Place]change.Entry{at: {Object: change.Object{ID: id, Kind: change.File}, Sec: id}}, parted: true}
	s := m.source(w, 0)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	for {
		b, err := s.Next(ctx)
		if err != nil {
			break
		}
		for _, o := range b.Seen {
			if o.Absent {
				t.Fatalf("%q was given up", o.At.Name)
			}
		}
		if b.CaughtUp {
			t.Fatal("it says that this was all")
		}
	}
	w.parted = false
	if seen := m.take(s, w); !slices.Contains(seen, "-gone") {
		t.Errorf("%q", seen)
	}
}

func TestFalseUnlink(t *testing.T) {
	m := newMade(t)
	f := m.file(gluster.Root, "f", "1")
	m.must(os.WriteFile(filepath.Join(m.root, changelog.Dir, "htime/HTIME.1000"), nil, 0o600))
	w := &world{entries: map[change.Place]change.Entry{}, there: map[change.Place]change.ID{}}
	m.take(m.source(w, 0), w)
	journal := "GlusterFS Changelog | version: v1.2 | encoding : 2\nE" + gluster.GFID(f) + "\x005\x00" + gluster.GFID(gluster.Root) + "/f\x00\x00\x00"
	m.must(os.WriteFile(filepath.Join(m.root, changelog.Dir, "CHANGELOG"), []byte(journal), 0o600))
	if seen := m.take(m.source(w, 2000), w); slices.Contains(seen, "-f") {
		t.Errorf("a journal alone has deleted a file: %q", seen)
	}
}
