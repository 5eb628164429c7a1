package source

import (
	"sync"

	"georep/internal/change"
	"georep/internal/rooted"
)

// openedMax bounds the directories that are kept open for reading files.
const openedMax = 32

// opened keeps directories open while files in them are read one after the other: to find a directory by its identity costs more
// than to read a small file. A directory that moves or vanishes meanwhile stays the same directory, and what is opened in it
// is checked to be the object that is meant; so an entry cannot be wrong, only of no more use. All are let go when nothing is to be read.
type opened struct {
	mu    sync.Mutex
	dirs  map[change.ID]*openedDir
	order []*openedDir // the oldest first
}

type openedDir struct {
	*rooted.Dir
	id    change.ID
	users int
	gone  bool // no longer in dirs: the last user closes it
}

// get gives an open directory, which the caller must put back; find opens one that is not.
func (o *opened) get(id change.ID, find func() (*rooted.Dir, error)) (*openedDir, error) {
	o.mu.Lock()
	if d := o.dirs[id]; d != nil {
		d.users++
		o.mu.Unlock()
		return d, nil
	}
	o.mu.Unlock()
	dir, err := find()
	if err != nil {
		return nil, err
	}
	d := &openedDir{Dir: dir, id: id, users: 1}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dirs == nil {
		o.dirs = map[change.ID]*openedDir{}
	}
	if o.dirs[id] != nil { // somebody else was as fast
		d.gone = true
		return d, nil
	}
	if len(o.order) >= openedMax {
		o.remove(o.order[0])
	}
	o.dirs[id] = d
	o.order = append(o.order, d)
	return d, nil
}

// put ends the use of a directory; useless says that it shall not be given out again.
func (o *opened) put(d *openedDir, useless bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	d.users--
	switch {
	case d.gone && d.users == 0:
		_ = d.Close() // it was only read
	case useless && !d.gone:
		o.remove(d)
	}
}

// remove forgets a directory. Called with mu held.
func (o *opened) remove(d *openedDir) {
	delete(o.dirs, d.id)
	for i, other := range o.order {
		if other == d {
			o.order = append(o.order[:i], o.order[i+1:]...)
			break
		}
	}
	d.gone = true
	if d.users == 0 {
		_ = d.Close() // it was only read
	}
}

// clear forgets all.
func (o *opened) clear() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.order) > 0 {
		o.remove(o.order[0])
	}
}
