package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"georep/internal/change"
	"georep/internal/rooted"
)

// replica is a secondary as simple as can be: it is the index, and what was observed is acknowledged at once.
type replica struct {
	t  *testing.T
	mu sync.RWMutex

	entries map[change.Place]change.Entry
	below   map[change.ID]map[string]bool
	names   map[change.ID]map[change.Place]bool
	content map[change.ID]string
	version map[change.ID]change.Object // of which content was read
	of      *Volume                     // that fresh is about
	fresh   map[change.Place]uint64
	root    change.ID
	drops   int
	orphans []change.Observation // whose directory had not been seen

	faulty   bool                     // errors of reading are expected
	problems map[change.Place]Problem // that were reported
}

func newReplica(t *testing.T) *replica {
	return &replica{
		t: t, entries: map[change.Place]change.Entry{}, below: map[change.ID]map[string]bool{},
		names: map[change.ID]map[change.Place]bool{}, content: map[change.ID]string{}, version: map[change.ID]change.Object{}, fresh: map[change.Place]uint64{},
		problems: map[change.Place]Problem{},
	}
}

func (r *replica) Get(at change.Place) (change.Entry, bool, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok := r.entries[at]
	return e, ok, nil
}

func (r *replica) Names(id change.ID) ([]change.Place, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var names []change.Place
	for at := range r.names[id] {
		names = append(names, at)
	}
	return names, nil
}

func (r *replica) List(dir change.ID, after string, fn func(string, change.Entry) error) error {
	r.mu.RLock()
	var names []string
	for name := range r.below[dir] {
		if name > after {
			names = append(names, name)
		}
	}
	r.mu.RUnlock()
	sort.Strings(names)
	for _, name := range names {
		e, ok, _ := r.Get(change.Place{Dir: dir, Name: name})
		if !ok {
			continue
		}
		if err := fn(name, e); err != nil {
			return err
		}
	}
	return nil
}

func (r *replica) put(at change.Place, o change.Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.entries[at]; ok && old.ID != o.ID {
		r.remove(at)
		if len(r.names[old.ID]) == 0 {
			// As the real one does, in case that it is seen elsewhere.
			r.set(change.Stashed(old.ID), old.Object)
		}
	}
	if o.Kind == change.Dir {
		for other := range r.names[o.ID] {
			if other != at {
				r.remove(other)
			}
		}
	} else {
		for other := range r.names[o.ID] {
			if other.Dir == change.StashID {
				r.remove(other)
			}
		}
	}
	for other := range r.names[o.ID] {
		r.set(other, o) // what is done to an object shows under all its names
	}
	r.set(at, o)
	if at.IsRoot() {
		r.root = o.ID
	} else if at.Dir != r.root && len(r.names[at.Dir]) == 0 {
		r.orphans = append(r.orphans, change.Observation{At: at, Object: o})
	}
}

func (r *replica) set(at change.Place, o change.Object) {
	r.entries[at] = change.Entry{Object: o}
	if !at.IsRoot() {
		if r.below[at.Dir] == nil {
			r.below[at.Dir] = map[string]bool{}
		}
		r.below[at.Dir][at.Name] = true
	}
	if r.names[o.ID] == nil {
		r.names[o.ID] = map[change.Place]bool{}
	}
	r.names[o.ID][at] = true
}

func (r *replica) remove(at change.Place) {
	e := r.entries[at]
	delete(r.entries, at)
	delete(r.below[at.Dir], at.Name)
	delete(r.names[e.ID], at)
	if len(r.names[e.ID]) == 0 {
		delete(r.names, e.ID)
	}
}

func (r *replica) drop(at change.Place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropTree(at)
}

func (r *replica) dropTree(at change.Place) {
	e, ok := r.entries[at]
	if !ok {
		return
	}
	r.drops++
	r.remove(at)
	if e.Kind != change.Dir || len(r.names[e.ID]) > 0 {
		return
	}
	for name := range r.below[e.ID] {
		r.dropTree(change.Place{Dir: e.ID, Name: name})
	}
	delete(r.below, e.ID)
}

// apply takes a batch as the engine would.
func (r *replica) apply(v *Volume, b Batch) {
	if r.of != v {
		r.of, r.fresh = v, map[change.Place]uint64{}
	}
	for i := range b.Seen {
		o := &b.Seen[i]
		if o.Fresh < r.fresh[o.At] {
			continue
		}
		r.fresh[o.At] = o.Fresh
		if o.Absent {
			r.drop(o.At)
			continue
		}
		r.put(o.At, o.Object)
		was, read := r.version[o.Object.ID]
		if o.Object.Kind == change.File && (!read || o.Content || was.Mtime != o.Object.Mtime || was.Size != o.Object.Size) {
			r.read(v, o.At, o.Object)
		}
	}
}

// read takes a file's content, or asks for it to be seen again.
func (r *replica) read(v *Volume, at change.Place, o change.Object) {
	c, err := v.Open(context.Background(), at, o)
	if err != nil {
		r.unread(o.ID)
		if !errors.Is(err, fs.ErrNotExist) && !r.faulty {
			r.t.Errorf("open %q: %v", at.Name, err)
		}
		v.Again(at)
		return
	}
	defer c.Close()
	data, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
	if err != nil || c.Unchanged() != nil || c.Size() != o.Size {
		r.unread(o.ID)
		v.Again(at)
		return
	}
	r.content[o.ID], r.version[o.ID] = string(data), o
}

// unread makes a file look unlike anything, as one whose content was not acknowledged.
func (r *replica) unread(id change.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.version, id)
	for at := range r.names[id] {
		e := r.entries[at]
		e.Ctime = change.Time{}
		r.entries[at] = e
	}
}

// tree describes what the replica holds, by path.
func (r *replica) tree() map[string]string {
	out := map[string]string{}
	var walk func(dir change.ID, path string)
	walk = func(dir change.ID, path string) {
		for name := range r.below[dir] {
			e := r.entries[change.Place{Dir: dir, Name: name}]
			p := change.Join(path, name)
			out[p] = describe(&e.Object, r.content[e.ID])
			if e.Kind == change.Dir {
				walk(e.ID, p)
			}
		}
	}
	top := r.entries[change.Place{}]
	out[""] = describe(&top.Object, "")
	walk(r.root, "")
	return out
}

func describe(o *change.Object, content string) string {
	s := fmt.Sprintf("%v %s mode %o uid %d gid %d mtime %d.%09d target %q rdev %d", o.ID, o.Kind, o.Mode, o.UID, o.GID,
		o.Mtime.Sec, o.Mtime.Nsec, o.Target, o.Rdev)
	if o.Kind == change.File {
		s += fmt.Sprintf(" size %d content %q", o.Size, content)
	}
	return s
}

// describeTree describes a directory as tree does.
func describeTree(t *testing.T, path string) map[string]string {
	t.Helper()
	root, err := rooted.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	out := map[string]string{}
	var walk func(p string)
	walk = func(p string) {
		d, err := root.OpenDir(p)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		self, err := d.Self()
		if err != nil {
			t.Fatal(err)
		}
		out[p] = describe(&self, "")
		err = d.Entries(nil, func(name string, kind change.Kind, _ uint64) error {
			q := change.Join(p, name)
			if kind == change.Dir {
				walk(q)
				return nil
			}
			o, err := d.Stat(name)
			if err != nil {
				return err
			}
			content := ""
			if kind == change.File {
				data, err := os.ReadFile(path + "/" + q)
				if err != nil {
					return err
				}
				content = string(data)
			}
			out[q] = describe(&o, content)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	walk("")
	return out
}

// differences lists how two trees differ.
func differences(want, got map[string]string) string {
	var lines []string
	for p, w := range want {
		if g, ok := got[p]; !ok {
			lines = append(lines, fmt.Sprintf("%q is missing: %s", p, w))
		} else if g != w {
			lines = append(lines, fmt.Sprintf("%q is\n\t%s\nwant\n\t%s", p, g, w))
		}
	}
	for p, g := range got {
		if _, ok := want[p]; !ok {
			lines = append(lines, fmt.Sprintf("%q should not be: %s", p, g))
		}
	}
	sort.Strings(lines)
	if n := len(lines); n > 20 {
		lines = append(lines[:20], fmt.Sprintf("and %d more", n-20))
	}
	return strings.Join(lines, "\n")
}

// follow applies batches until the source has caught up with everything that happened before since, and nothing is to be seen again.
func (r *replica) follow(v *Volume, since time.Time) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var last []string
	for {
		asked := v.next.asked.Load()
		b, err := v.Next(ctx)
		if err != nil {
			r.t.Fatalf("next: %v\nlast batches:\n%s\n%s", err, strings.Join(last, "\n"), waiting(v))
		}
		last = append(last[max(0, len(last)-20):], fmt.Sprintf("%+v", b))
		for _, p := range b.Problems {
			r.t.Errorf("problem: %+v", p)
		}
		r.apply(v, b)
		if b.CaughtUp && !asked && !v.next.asked.Load() && b.At.After(since) && !b.Scan.Running {
			break
		}
		if b.CaughtUp {
			v.next.rested = time.Time{} // it may say so again at once
		}
	}
	for _, o := range r.orphans {
		if len(r.names[o.At.Dir]) > 0 {
			r.t.Logf("%+v came before its directory, which is at %+v", o, r.names[o.At.Dir])
		}
	}
	r.orphans = nil
}

// waiting tells what a volume has not handed out yet.
func waiting(v *Volume) string {
	v.pending.mu.Lock()
	defer v.pending.mu.Unlock()
	var b strings.Builder
	for at, it := range v.pending.items {
		path, found := v.dirs.path(at.Dir, v.dirs.remembered)
		fmt.Fprintf(&b, "%+v waits after %d tries in %q (%v): %+v\n", at, it.tries, path, found, it.look)
	}
	oldest, jobs := v.walker.Oldest()
	fmt.Fprintf(&b, "absences %d %d %d %d, oldest job %d %v, pass %v", v.next.told.late.Len(), v.next.told.ripe.Len(),
		v.next.swept.late.Len(), v.next.swept.ripe.Len(), oldest, jobs, v.walker.Running() != nil)
	return b.String()
}

// followWhile applies batches until done is closed.
func (r *replica) followWhile(v *Volume, done <-chan struct{}) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { <-done; cancel() }()
	for {
		b, err := v.Next(ctx)
		if errors.Is(err, context.Canceled) {
			return
		}
		if err != nil {
			r.t.Fatalf("next: %v", err)
		}
		r.apply(v, b)
	}
}

// check compares the replica with the directory.
func (r *replica) check(path string) {
	r.t.Helper()
	if d := differences(describeTree(r.t, path), r.tree()); d != "" {
		r.t.Fatalf("the replica differs:\n%s", d)
	}
}

// watched opens a volume on a directory.
func watched(t *testing.T, path string, index Index, change func(*Options)) *Volume {
	t.Helper()
	root, err := rooted.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	o := Options{Root: root, Path: path, Index: index, TempDir: t.TempDir()}
	if change != nil {
		change(&o)
	}
	v, err := New(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

// lookup finds the place of a path.
func lookup(r *replica, path string) change.Place {
	at := change.Place{}
	id := r.root
	for _, name := range strings.Split(path, "/") {
		at = change.Place{Dir: id, Name: name}
		id = r.entries[at].ID
	}
	return at
}
