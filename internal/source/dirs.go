package source

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"georep/internal/change"
	"georep/internal/rooted"
	"georep/internal/source/scan"
)

// directories finds directories by their identity, wherever they are now.
//
// It asks the file system by handle where that is allowed. Otherwise, and for directories whose handle is not remembered, it goes
// down from the root along the names that it saw last, or that the index has, and checks where it arrived.
type directories struct {
	root     *rooted.Root
	rootID   change.ID
	index    Index
	byHandle bool
	seen     *recent[change.ID, sighting]
}

// sighting is what is remembered of a directory.
type sighting struct {
	parent change.ID
	name   string // "" when only the handle is known
	handle rooted.Handle
}

// errAstray is scan.ErrGone for a directory that was not found along the names that are known. It may have moved a moment ago.
var errAstray = fmt.Errorf("%w, or its new place is not known yet", scan.ErrGone)

// deepest bounds the walk up along remembered names, which may be wrong enough to run in a circle.
const deepest = 1 << 16

func newDirectories(root *rooted.Root, rootID change.ID, index Index) *directories {
	t := &directories{root: root, rootID: rootID, index: index, seen: newRecent[change.ID, sighting](64 << 10)}
	if !root.Handles() {
		return t
	}
	if h, err := root.Top().Handle(""); err == nil {
		if d, err := root.OpenHandle(h); err == nil {
			d.Close()
			t.byHandle = true
		}
	}
	return t
}

// saw remembers where a directory is.
func (t *directories) saw(id, parent change.ID, name string) {
	s, _ := t.seen.get(id)
	if s.parent == parent && s.name == name {
		return
	}
	s.parent, s.name = parent, name
	t.seen.put(id, s)
}

// sawHandle remembers by which handle a directory is found.
func (t *directories) sawHandle(id change.ID, h rooted.Handle) {
	s, _ := t.seen.get(id)
	if len(s.handle.Bytes) == 0 {
		s.handle = h
		t.seen.put(id, s)
	}
}

// open opens the directory with that identity and tells its path now. hint is a path to try first, "" none. The error is
// scan.ErrGone when no such directory is in the tree, errAstray among them if that is not certain; any other error says that it may be there.
func (t *directories) open(id change.ID, hint string) (*rooted.Dir, string, error) {
	if id == t.rootID {
		d, err := t.root.OpenDir("")
		return d, "", err
	}
	var failure error
	try := func(path string, ok bool) *rooted.Dir {
		if !ok {
			return nil
		}
		d, err := t.openPath(path, id)
		if err != nil && !vanished(err) && failure == nil {
			failure = err
		}
		return d
	}
	if d := try(hint, hint != ""); d != nil {
		return d, hint, nil
	}
	s, known := t.seen.get(id)
	if t.byHandle && len(s.handle.Bytes) > 0 {
		d, path, err := t.openHandle(s.handle, id)
		if err == nil || errors.Is(err, scan.ErrGone) && !errors.Is(err, errAstray) {
			return d, path, err
		}
		if !errors.Is(err, errAstray) {
			failure = err
		}
	}
	if known {
		path, ok := t.path(id, t.remembered)
		if d := try(path, ok); d != nil {
			return d, path, nil
		}
	}
	path, ok := t.path(id, t.acknowledged)
	if d := try(path, ok); d != nil {
		return d, path, nil
	}
	if failure != nil {
		return nil, path, failure
	}
	return nil, path, errAstray
}

// openPath opens the directory at path if it has that identity; scan.ErrGone if it has another.
func (t *directories) openPath(path string, id change.ID) (*rooted.Dir, error) {
	d, err := t.root.OpenDir(path)
	if err != nil {
		return nil, err
	}
	self, err := d.Self()
	if err == nil && self.ID != id {
		err = scan.ErrGone
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// reach opens the directory with that handle, wherever on the file system it is. The kernel gives up with ENOMEM when the
// directory, or one above it, is renamed meanwhile; that is tried again.
func reach(root *rooted.Root, h rooted.Handle) (d *rooted.Dir, err error) {
	for range 10 {
		if d, err = root.OpenHandle(h); !errors.Is(err, syscall.ENOMEM) {
			break
		}
	}
	return d, err
}

// stale says whether err of reach means that the directory is no more, or not on this file system.
func stale(err error) bool {
	return errors.Is(err, syscall.ESTALE) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EXDEV)
}

// openHandle opens the directory with that handle if it is in the tree.
func (t *directories) openHandle(h rooted.Handle, id change.ID) (*rooted.Dir, string, error) {
	d, err := reach(t.root, h)
	if stale(err) {
		return nil, "", scan.ErrGone
	}
	if errors.Is(err, syscall.ENOMEM) {
		return nil, "", errAstray
	}
	if err != nil {
		return nil, "", err
	}
	path, err := d.Path()
	if err == nil {
		var self change.Object
		if self, err = d.Self(); err == nil && self.ID != id {
			err = scan.ErrGone
		}
	}
	if errors.Is(err, rooted.ErrOutside) || errors.Is(err, rooted.ErrDeleted) {
		err = scan.ErrGone
	}
	if err != nil {
		d.Close()
		return nil, "", err
	}
	return d, path, nil
}

// path puts together the path of a directory from what step tells of each directory on the way up.
func (t *directories) path(id change.ID, step func(change.ID) (change.Place, bool)) (string, bool) {
	var names []string
	for id != t.rootID {
		at, ok := step(id)
		if !ok || at.Name == "" || len(names) >= deepest {
			return "", false
		}
		names = append(names, at.Name)
		id = at.Dir
	}
	var b strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		b.WriteString(names[i])
		if i > 0 {
			b.WriteByte('/')
		}
	}
	return b.String(), true
}

// remembered is the place of a directory as it was seen last, else as the index has it.
func (t *directories) remembered(id change.ID) (change.Place, bool) {
	if s, ok := t.seen.get(id); ok && s.name != "" {
		return change.Place{Dir: s.parent, Name: s.name}, true
	}
	return t.acknowledged(id)
}

// acknowledged is the place of a directory in the index.
func (t *directories) acknowledged(id change.ID) (change.Place, bool) {
	names, err := t.index.Names(id)
	if err != nil {
		return change.Place{}, false
	}
	for _, at := range names {
		if at.Dir != change.StashID {
			return at, true
		}
	}
	return change.Place{}, false
}

// forgot says whether the directory id may be in the tree although it was not found: what was remembered of it, or of one above it,
// may have been forgotten.
func (t *directories) forgot(id change.ID) bool {
	s, known := t.seen.get(id)
	return !t.seen.complete() && !(known && t.byHandle && len(s.handle.Bytes) > 0)
}

// place is where the directory at path stands: its parent's identity and its name.
func (t *directories) place(path string) (change.Place, error) {
	up, name := splitPath(path)
	if name == "" {
		return change.Place{}, nil
	}
	if up == "" {
		return change.Place{Dir: t.rootID, Name: name}, nil
	}
	parent, err := t.root.OpenDir(up)
	if err != nil {
		return change.Place{}, fmt.Errorf("open parent of %q: %w", path, err)
	}
	defer parent.Close()
	self, err := parent.Self()
	if err != nil {
		return change.Place{}, fmt.Errorf("read parent of %q: %w", path, err)
	}
	return change.Place{Dir: self.ID, Name: name}, nil
}

// splitPath cuts a path into the directory's path and the last component.
func splitPath(path string) (up, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// vanished says whether err means that there is no such directory at a path (any more), rather than that it cannot be read.
func vanished(err error) bool {
	return errors.Is(err, scan.ErrGone) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) ||
		errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.EXDEV)
}
