package source

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"georep/internal/change"
	"georep/internal/rooted"
	"georep/internal/source/scan"
)

// reserved is the name in the root that belongs to georep.
const reserved = ".georep"

// excluded says whether the entry name of the directory at a path, which is not excluded itself, is left out.
func (v *Volume) excluded(dir, name string, isDir bool) bool {
	if dir == "" && name == reserved {
		return true
	}
	return v.o.Ignore != nil && v.o.Ignore.Excluded(change.Join(dir, name), isDir)
}

// excludedPath says whether the directory at path, or one above it, is left out.
func (v *Volume) excludedPath(path string) bool {
	if path == reserved || strings.HasPrefix(path, reserved+"/") {
		return true
	}
	if v.o.Ignore == nil || path == "" {
		return false
	}
	for i := range len(path) {
		if path[i] == '/' && v.o.Ignore.Excluded(path[:i], true) {
			return true
		}
	}
	return v.o.Ignore.Excluded(path, true)
}

// openForScan finds a directory for the walker.
func (v *Volume) openForScan(d scan.Dir) (*rooted.Dir, scan.Dir, error) {
	dir, path, err := v.dirs.open(d.ID, d.Path)
	if err == nil && path != d.Path {
		if v.excludedPath(path) {
			dir.Close()
			return nil, d, scan.ErrGone
		}
		d.Path = path
		if at, err := v.dirs.place(path); err == nil {
			d.Parent = at.Dir
		}
	}
	if errors.Is(err, errAstray) {
		// When all events have been read its new place is known, and it must be compared there.
		v.pending.add(scan.Listing(d.ID), look{deep: true})
	}
	return dir, d, err
}

// looking is one round of looks and what they found.
type looking struct {
	Batch
	v      *Volume
	absent []change.Place
	moved  []*item                // to be looked at once more
	jobs   []job                  // directories to be compared, after Seen has been handed out
	seq    uint64                 // of the place being looked at
	times  map[change.ID]string   // directories whose entries changed, with their paths
	order  []change.ID            // of times
	placed map[change.ID]struct{} // directories that are known to be handed out, asked in this round
}

// job is a directory to be compared because of what a look found.
type job struct {
	dir scan.Dir
	seq uint64 // of that look
}

// observe looks at places.
func (v *Volume) observe(items []*item) *looking {
	k := &looking{v: v, times: make(map[change.ID]string), placed: make(map[change.ID]struct{})}
	if len(items) > 0 {
		k.seq = items[0].seq
	}
	groups := make(map[change.ID][]*item)
	var order []change.ID
	for _, it := range items {
		if it.at.IsRoot() {
			k.lookRoot(it.look)
			continue
		}
		if groups[it.at.Dir] == nil {
			order = append(order, it.at.Dir)
		}
		groups[it.at.Dir] = append(groups[it.at.Dir], it)
	}
	for _, id := range order {
		k.lookIn(id, groups[id])
	}
	for _, id := range k.order {
		k.lookItself(id, k.times[id])
	}
	v.pending.retry(k.moved)
	return k
}

// lookItself looks at the state of the directory that was at a path a moment ago.
func (k *looking) lookItself(id change.ID, path string) {
	at, err := k.v.dirs.place(path)
	switch {
	case err == nil:
		err = k.lookAlone(at, path, id)
		if !strayed(err) {
			return // seen, or reported
		}
	case !strayed(err):
		k.v.problem(&k.Batch, scan.Listing(id), path, err)
		return
	}
	k.v.pending.add(scan.Listing(id), look{})
}

// strayed says whether err means that something was not where it was looked for, and may be found elsewhere soon.
func strayed(err error) bool { return vanished(err) && !errors.Is(err, syscall.EXDEV) }

// maxTries bounds the looks that fail because something moves all the time.
const maxTries = 20

// lookRoot looks at the root itself.
func (k *looking) lookRoot(l look) {
	fresh := k.v.tick()
	top := k.v.o.Root.Top()
	o, err := top.Self()
	if err == nil {
		err = top.SelfXattrs(&o)
	}
	if err != nil {
		k.v.problem(&k.Batch, change.Place{}, "", err)
		return
	}
	k.v.known.put(o.ID, struct{}{})
	k.Seen = append(k.Seen, change.Observation{Object: o, Fresh: fresh})
	if l.deep || l.again && k.v.troubled.has(o.ID) {
		k.jobs = append(k.jobs, job{scan.Dir{ID: o.ID}, k.seq})
	}
}

// lookIn looks at places in one directory.
func (k *looking) lookIn(id change.ID, items []*item) {
	dir, path, err := k.v.dirs.open(id, "")
	if err != nil {
		k.unreachable(id, path, err, items)
		return
	}
	defer dir.Close()
	left := k.v.excludedPath(path)
	if err := k.lookAbove(id, path); !left && err != nil {
		k.unreachable(id, path, err, items)
		return
	}
	for _, it := range items {
		l := it.look
		k.seq = it.seq
		if it.at.Name == scan.Itself {
			k.alter(id, path)
			if l.again || l.deep {
				k.list(dir, path, id, l.again)
			}
			continue
		}
		if left {
			k.outside(it.at, l)
			continue
		}
		if l.entry {
			k.alter(id, path)
		}
		k.lookAt(dir, path, it.at, l)
	}
}

// alter notes that a directory's own state is to be seen at the end of the round.
func (k *looking) alter(id change.ID, path string) {
	if _, ok := k.times[id]; !ok {
		k.times[id] = path
		k.order = append(k.order, id)
	}
}

// unreachable deals with places whose directory cannot be opened.
func (k *looking) unreachable(id change.ID, path string, err error, items []*item) {
	certain := errors.Is(err, scan.ErrGone) && !errors.Is(err, errAstray)
	given, altered := false, false
	for _, it := range items {
		switch {
		case !strayed(err):
			altered = altered || it.look.entry
			k.v.troubled.put(id, struct{}{})
			k.v.problem(&k.Batch, it.at, change.Join(path, it.at.Name), err)
			continue
		case !certain && it.tries < maxTries:
			k.moved = append(k.moved, it)
			continue
		case it.look.again:
			k.Gone = append(k.Gone, it.at)
		}
		given = true
	}
	if altered { // its own state is to be seen as well, as soon as that is possible
		k.v.problem(&k.Batch, scan.Listing(id), path, err)
	}
	if given && !certain && k.v.mayBeThere(id) {
		k.v.RescanAll()
	}
	// If it was deleted or has moved, what the index has of it is at least one place that is no longer right.
	if at, ok := k.v.dirs.acknowledged(id); ok && errors.Is(err, scan.ErrGone) {
		k.v.pending.add(at, look{follow: true})
	}
}

// lookAbove makes sure that the directories from the root down to id are handed out before anything in id is.
func (k *looking) lookAbove(id change.ID, path string) error {
	if k.isPlaced(id) {
		return nil
	}
	if id == k.v.rootID {
		k.lookRoot(look{})
		return nil
	}
	at, err := k.v.dirs.place(path)
	if err != nil {
		return err
	}
	up, _ := splitPath(path)
	if err := k.lookAbove(at.Dir, up); err != nil {
		return err
	}
	return k.lookAlone(at, path, id)
}

// isPlaced says whether a directory was handed out before.
func (k *looking) isPlaced(id change.ID) bool {
	if _, ok := k.placed[id]; ok || k.v.known.has(id) {
		return true
	}
	_, ok := k.v.dirs.acknowledged(id)
	if ok {
		k.placed[id] = struct{}{}
	}
	return ok
}

// lookAlone looks at the place of the directory id. Its error is errAstray when it is not there, or else one that was reported.
func (k *looking) lookAlone(at change.Place, path string, id change.ID) error {
	if at.IsRoot() {
		k.lookRoot(look{})
		return nil
	}
	up, _ := splitPath(path)
	dir, up, err := k.v.dirs.open(at.Dir, up)
	if err != nil {
		if !strayed(err) {
			k.v.problem(&k.Batch, at, path, err)
		}
		return err
	}
	defer dir.Close()
	seen, problems, gone := len(k.Seen), len(k.Problems), len(k.Gone)
	k.lookAt(dir, up, at, look{})
	switch {
	case len(k.Seen) > seen && k.Seen[len(k.Seen)-1].Object.ID == id:
		return nil
	case len(k.Problems) > problems:
		p := k.Problems[problems]
		return &rooted.Error{Call: p.Call, Path: p.Path, Err: p.Errno}
	case len(k.Gone) > gone:
		return syscall.EXDEV
	}
	return errAstray // it moves at this moment
}

// lookAt looks at one place of the open directory dir.
func (k *looking) lookAt(dir *rooted.Dir, dirPath string, at change.Place, l look) {
	fresh := k.v.tick()
	ticket := k.v.pending.ticket()
	if k.v.busy() {
		k.v.looked.put(k.v.hash(at), fresh)
	}
	o, err := dir.Stat(at.Name)
	if err == nil && k.v.excluded(dirPath, at.Name, o.Kind == change.Dir) {
		k.outside(at, l)
		return
	}
	if err == nil {
		err = dir.ReadXattrs(at.Name, &o)
	}
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist):
		k.missing(at, l)
		return
	default:
		k.v.problem(&k.Batch, at, change.Join(dirPath, at.Name), err)
		return
	}
	k.v.handOut(at)
	k.v.linked(at, &o)
	k.v.watchFile(dir, at, &o)
	l.deep = k.v.takeUnread(at) || l.deep
	doubt, doubted := k.v.takeDoubt(o.ID)
	if doubted && doubt.ticket > ticket {
		k.v.pending.add(at, look{content: doubt.content, follow: true}) // it changed since it was looked at, perhaps under another name
	}
	if o.Kind == change.Dir {
		k.directory(at, dirPath, &o, l)
		k.v.placed.put(o.ID, fresh)
	} else if !l.follow {
		k.v.relink(at, &o)
	}
	k.Seen = append(k.Seen, change.Observation{At: at, Object: o, Content: (doubt.content || l.content) && o.Kind == change.File, Fresh: fresh})
}

// directory decides whether what is below a directory must be compared.
func (k *looking) directory(at change.Place, dirPath string, o *change.Object, l look) {
	v := k.v
	placed := k.isPlaced(o.ID)
	v.dirs.saw(o.ID, at.Dir, at.Name)
	v.known.put(o.ID, struct{}{})
	if !placed || l.deep || v.troubled.has(o.ID) {
		v.troubled.delete(o.ID)
		k.jobs = append(k.jobs, job{scan.Dir{ID: o.ID, Parent: at.Dir, Path: change.Join(dirPath, at.Name), Seen: o.Ctime}, k.seq})
	}
}

// missing notes that nothing is at a place. It is of no interest where nothing was before.
func (k *looking) missing(at change.Place, l look) {
	if l.again || k.v.wasHandedOut(at) || k.acknowledged(at) {
		k.absent = append(k.absent, at)
	}
	if !l.follow {
		k.v.lookElsewhere(at, l.content)
	}
}

// outside notes that what is at a place is left out.
func (k *looking) outside(at change.Place, l look) {
	if l.again || k.acknowledged(at) {
		k.absent = append(k.absent, at)
	}
}

func (k *looking) acknowledged(at change.Place) bool {
	_, ok, err := k.v.o.Index.Get(at)
	return ok || err != nil
}

// list tells whether the entries of a directory can be listed again, and has them compared if so. answer says that
// somebody waits to hear that they can.
func (k *looking) list(dir *rooted.Dir, path string, id change.ID, answer bool) {
	started := errors.New("started")
	err := dir.Entries(nil, func(string, change.Kind, uint64) error { return started })
	if err != nil && !errors.Is(err, started) {
		k.v.problem(&k.Batch, scan.Listing(id), path, err)
		return
	}
	k.v.troubled.delete(id)
	if answer {
		k.Gone = append(k.Gone, scan.Listing(id))
	}
	d := scan.Dir{ID: id, Path: path}
	if at, err := k.v.dirs.place(path); err == nil {
		d.Parent = at.Dir
	}
	k.jobs = append(k.jobs, job{d, k.seq})
}

// problem adds to a batch what could not be read. What lies on another file system is not a problem, but left out.
func (v *Volume) problem(b *Batch, at change.Place, path string, err error) {
	v.report(b, scan.NewProblem(at, path, err))
}

func (v *Volume) report(b *Batch, p scan.Problem) {
	if p.Errno == syscall.EXDEV {
		b.Gone = append(b.Gone, p.At)
		if !v.mounts.has(p.Path) {
			v.mounts.put(p.Path, struct{}{})
			v.note(fmt.Sprintf("%q is left out: another file system is mounted there", p.Path))
		}
		return
	}
	if p.At.Name != scan.Itself && slices.ContainsFunc(b.Seen, func(o change.Observation) bool { return o.At == p.At }) {
		v.pending.add(p.At, look{deep: true}) // a look has succeeded meanwhile, which did not know that what is below was not compared
		return
	}
	if p.At.Name == scan.Itself {
		v.troubled.put(p.At.Dir, struct{}{})
	} else {
		v.unread.put(v.hash(p.At), struct{}{})
	}
	b.Problems = append(b.Problems, Problem{At: p.At, Path: p.Path, Call: p.Call, Errno: p.Errno})
}

// takeUnread says whether a place could not be read, so that nothing below it was compared, and forgets that.
func (v *Volume) takeUnread(at change.Place) bool {
	h := v.hash(at)
	was := v.unread.has(h)
	v.unread.delete(h)
	return was
}

// relink has the other names of an object looked at when it cannot have all those that the index lists.
func (v *Volume) relink(at change.Place, o *change.Object) {
	names, err := v.o.Index.Names(o.ID)
	if err != nil || len(names) == 0 {
		return
	}
	listed := uint32(0)
	here := false
	for _, name := range names {
		if name.Dir != change.StashID {
			listed++
		}
		here = here || name == at
	}
	if !here {
		listed++
	}
	if listed <= o.Nlink {
		return
	}
	for _, name := range names {
		if name != at && name.Dir != change.StashID {
			v.pending.add(name, look{follow: true})
		}
	}
}

// handOut remembers that a place was handed out.
func (v *Volume) handOut(at change.Place) { v.handed.put(v.hash(at), struct{}{}) }

// wasHandedOut says whether a place was handed out so recently that the index may not know it yet.
func (v *Volume) wasHandedOut(at change.Place) bool { return v.handed.has(v.hash(at)) }

func (v *Volume) hash(at change.Place) uint64 {
	var h maphash.Hash
	h.SetSeed(v.seed)
	h.Write(at.Dir[:])
	h.WriteString(at.Name)
	return h.Sum64()
}
