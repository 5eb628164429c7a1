package bypath

import (
	"container/list"
	"errors"
	"strings"
	"sync"
	"syscall"
	"time"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/rooted"
	"georep/internal/wire"
)

// trustFor is how long an open directory is taken to still lie beneath the root without asking the kernel again.
const trustFor = time.Second

// dirCache keeps directories open by their identity. One that is in use when it is evicted is closed by its last user.
type dirCache struct {
	limit int

	mu   sync.Mutex
	byID map[change.ID]*openDir
	used list.List // of *openDir, the most recently used first
}

// openDir is an open directory with the number of its users.
type openDir struct {
	*rooted.Dir
	cache   *dirCache // nil: not shared, nothing to release
	id      change.ID
	users   int
	element *list.Element // nil: not in the cache any more
	checked time.Time
	isRoot  bool
	folds   bool // it takes different names for the same
	isHold  bool
}

func (d *openDir) release() {
	if d.cache == nil {
		return
	}
	d.cache.mu.Lock()
	d.users--
	last := d.users == 0 && d.element == nil
	d.cache.mu.Unlock()
	if last {
		_ = d.Close()
	}
}

// take gives the directory with that identity if it is open and still beneath the root.
func (c *dirCache) take(id change.ID) *openDir {
	c.mu.Lock()
	d := c.byID[id]
	if d == nil {
		c.mu.Unlock()
		return nil
	}
	c.used.MoveToFront(d.element)
	d.users++
	due := time.Since(d.checked) > trustFor
	c.mu.Unlock()
	if due && !c.verify(d) {
		d.release()
		return nil
	}
	return d
}

// verify asks whether a directory is still beneath the root, and takes it out of the cache if not.
func (c *dirCache) verify(d *openDir) bool {
	_, err := d.Path()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.remove(d)
		return false
	}
	d.checked = time.Now()
	return true
}

// add takes over dir. It gives the one that was there before if there is one.
func (c *dirCache) add(id change.ID, dir *rooted.Dir, folds bool) *openDir {
	var idle []*openDir
	c.mu.Lock()
	if c.byID == nil {
		c.byID = map[change.ID]*openDir{}
	}
	d := c.byID[id]
	known := d != nil
	if !known {
		d = &openDir{Dir: dir, cache: c, id: id, isHold: id == holdKey, folds: folds, checked: time.Now()}
		d.element = c.used.PushFront(d)
		c.byID[id] = d
		for len(c.byID) > c.limit && c.used.Back() != d.element {
			old := c.used.Back().Value.(*openDir)
			c.remove(old)
			if old.users == 0 {
				idle = append(idle, old)
			}
		}
	}
	d.users++
	c.mu.Unlock()
	if known {
		_ = dir.Close()
	}
	for _, old := range idle {
		_ = old.Close()
	}
	return d
}

// remove takes d out of the cache. Called with mu held.
func (c *dirCache) remove(d *openDir) {
	if d.element != nil {
		c.used.Remove(d.element)
		delete(c.byID, d.id)
		d.element = nil
	}
}

// forget closes the directory with that identity as soon as nobody uses it.
func (c *dirCache) forget(id change.ID) {
	c.mu.Lock()
	d := c.byID[id]
	if d == nil {
		c.mu.Unlock()
		return
	}
	d.users++
	c.remove(d)
	c.mu.Unlock()
	d.release()
}

// forgetLost takes those directories out of the cache that are no longer beneath the root, and says whether there were any.
func (c *dirCache) forgetLost(dirs []wire.Dir) bool {
	lost := false
	for i := range dirs {
		c.mu.Lock()
		d := c.byID[dirs[i].Sec]
		if d != nil {
			d.users++
		}
		c.mu.Unlock()
		if d == nil {
			continue
		}
		if !c.verify(d) {
			lost = true
		}
		d.release()
	}
	return lost
}

func (c *dirCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.byID {
		c.remove(d)
		if d.users == 0 {
			_ = d.Close()
		}
	}
}

// dir opens the directory that d addresses. errStale: what is there is not that directory.
func (a *Applier) dir(d wire.Dir) (*openDir, error) {
	if d.Path == "" || !d.Sec.IsZero() && d.Sec == a.self {
		if !d.Sec.IsZero() && d.Sec != a.self {
			return nil, errStale
		}
		return &openDir{Dir: a.root.Top(), id: a.self, isRoot: true}, nil
	}
	if first, rest, _ := strings.Cut(d.Path, "/"); first == apply.Reserved {
		if d.Path == apply.Hold {
			return a.hold()
		}
		if !strings.HasPrefix(rest, "hold/") {
			return nil, apply.Refuse("%q is reserved", d.Path)
		}
	}
	if !d.Sec.IsZero() {
		if open := a.dirs.take(d.Sec); open != nil {
			return open, nil
		}
	}
	dir, err := a.root.OpenDir(d.Path)
	if err != nil {
		return nil, notThere(err)
	}
	self, err := dir.Self()
	if err != nil || !d.Sec.IsZero() && self.ID != d.Sec {
		_ = dir.Close()
		if err == nil {
			err = errStale
		}
		return nil, err
	}
	return a.dirs.add(self.ID, dir, a.folds(dir)), nil
}

// notThere makes errStale of the errors that say that a path does not lead to a directory.
func notThere(err error) error {
	if is(err, syscall.ENOENT, syscall.ENOTDIR, syscall.ELOOP) {
		return errStale
	}
	return err
}

// is says whether err holds one of these numbers.
func is(err error, numbers ...syscall.Errno) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	for _, n := range numbers {
		if errno == n {
			return true
		}
	}
	return false
}

// place is one name in an open directory.
type place struct {
	*openDir
	name string
}

// place opens the directory of ref, and refuses names that are not the worker's to use.
func (a *Applier) place(ref wire.Ref) (place, error) {
	if !change.ValidName(ref.Name) {
		return place{}, apply.Refuse("%q is no name", ref.Name)
	}
	d, err := a.dir(ref.Dir)
	if err != nil {
		return place{}, err
	}
	if d.isRoot && ref.Name == apply.Reserved {
		d.release()
		return place{}, apply.Refuse("%q is reserved", ref.Name)
	}
	if d.folds {
		d.release()
		return place{}, foldError("that differ in upper and lower case only (chattr +F)")
	}
	if d.isHold {
		if _, err := change.ParseID(ref.Name); err != nil {
			d.release()
			return place{}, apply.Refuse("%q is no name in the stash", ref.Name)
		}
	}
	return place{openDir: d, name: ref.Name}, nil
}

// stat gives what is at p; ok is false when nothing is.
func (p place) stat() (o change.Object, ok bool, err error) {
	o, err = p.Stat(p.name)
	if is(err, syscall.ENOENT) {
		return o, false, nil
	}
	return o, err == nil, err
}
