package bypath

import (
	"syscall"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/rooted"
	"georep/internal/wire"
)

// newcomer is an object on its way to a name. It is made when a name is first asked for it.
type newcomer interface {
	// take gives it the name, which must be free: else EEXIST.
	take(at place) error
	// over gives it the name in one step in place of what is there, which is no directory.
	over(at place) error
}

// occupancy says what may happen to an object that is found where a newcomer belongs.
type occupancy struct {
	request *wire.Request
	// occupied spares the attempt to take the name when it is known to be taken.
	occupied bool
	// expected says whether the declaration knows the occupant and gives it up.
	expected func(o *change.Object) bool
	// same says whether the occupant is as good as the newcomer already. It is asked first, and may be nil.
	same func(o *change.Object, expected bool) (bool, error)
}

// putTries bounds how often a name may change hands while it is being taken.
const putTries = 8

// put brings a newcomer to its name. If the occupant is the same already it is left there and given.
func (a *Applier) put(at place, n newcomer, by occupancy) (*change.Object, error) {
	for range putTries {
		if !by.occupied {
			if err := n.take(at); !is(err, syscall.EEXIST) {
				return nil, err
			}
		}
		o, ok, err := at.stat()
		if err != nil {
			return nil, err
		}
		if !ok {
			by.occupied = false
			continue
		}
		done, err := a.displace(at, &o, by)
		switch {
		case err != nil:
			return nil, err
		case done == sameThere:
			return &o, nil
		case done == mayReplace:
			return nil, n.over(at)
		}
		by.occupied = false
	}
	return nil, &apply.Refusal{Errno: syscall.EBUSY, Detail: "the name keeps changing hands: something else writes to the destination"}
}

// verdict is what became of an occupant.
type verdict int

const (
	sameThere  verdict = iota // it is as good as the newcomer
	mayReplace                // it may be replaced in one step
	movedAway                 // its name is free now
)

// displace decides what to do with an occupant, and keeps it when the declaration did not know it.
func (a *Applier) displace(at place, o *change.Object, by occupancy) (verdict, error) {
	expected := by.expected != nil && by.expected(o)
	if by.same != nil {
		same, err := by.same(o, expected)
		if err != nil || same {
			return sameThere, err
		}
	}
	r := by.request
	if !expected && !r.Replace {
		return 0, errExists
	}
	if o.Kind == change.Dir && !r.MayRemove {
		return 0, errDirInTheWay()
	}
	if expected && o.Kind != change.Dir {
		return mayReplace, nil
	}
	left, err := a.keep(at, o)
	if err != nil {
		return 0, err
	}
	if left {
		return mayReplace, nil
	}
	return movedAway, nil
}

func errDirInTheWay() error {
	return &apply.Refusal{Errno: syscall.EISDIR, Detail: "a directory is in the way, and nothing may be deleted now"}
}

// fresh is a new file, at first without a name.
type fresh struct {
	a     *Applier
	build func(*rooted.File) error // gives it its content and attributes
	mode  uint32                   // that build will give it, as far as that is known
	file  *rooted.File
	// temp is its name in hold while it has one. A file that had a name and lost it could get no other.
	temp string
	hold *openDir
}

func (f *fresh) make(at place) error {
	if f.file != nil {
		return nil
	}
	file, err := at.OpenTemp(f.mode)
	if is(err, syscall.ENOENT) { // the directory for files that must have a name may be missing
		hold, other := f.a.hold()
		if other != nil {
			return other
		}
		hold.release()
		file, err = at.OpenTemp(f.mode)
	}
	if err != nil {
		return err
	}
	if err := f.build(file); err != nil {
		_ = file.Close()
		return err
	}
	f.file = file
	return nil
}

func (f *fresh) take(at place) error {
	if err := f.make(at); err != nil {
		return err
	}
	if f.temp != "" {
		return f.named(rename(f.hold.Dir, f.temp, at.Dir, at.name))
	}
	return f.file.LinkTo(at.Dir, at.name)
}

func (f *fresh) over(at place) error {
	if err := f.make(at); err != nil {
		return err
	}
	if f.temp == "" {
		hold, err := f.a.hold()
		if err != nil {
			return err
		}
		temp := f.a.tempName()
		if err := f.file.LinkTo(hold.Dir, temp); err != nil {
			hold.release()
			return err
		}
		f.hold, f.temp = hold, temp
	}
	return f.named(f.hold.Rename(f.temp, at.Dir, at.name, 0))
}

// named notes that the temporary name is the name now, if err is nil.
func (f *fresh) named(err error) error {
	if err == nil {
		f.hold.release()
		f.hold, f.temp = nil, ""
	}
	return err
}

func (f *fresh) close() {
	if f.hold != nil {
		f.a.unlink(f.hold.Dir, f.temp)
		f.hold.release()
	}
	if f.file != nil {
		_ = f.file.Close()
	}
}

// viaHold replaces what is at a name in one step by what give brings to a temporary name in the stash.
func (a *Applier) viaHold(at place, give func(hold *rooted.Dir, name string) error) error {
	hold, err := a.hold()
	if err != nil {
		return err
	}
	defer hold.release()
	name := a.tempName()
	if err := give(hold.Dir, name); err != nil {
		return err
	}
	if err := hold.Rename(name, at.Dir, at.name, 0); err != nil {
		a.unlink(hold.Dir, name)
		return err
	}
	return nil
}

// unlink removes a temporary name; what cannot be removed now is swept when the next process starts.
func (a *Applier) unlink(d *rooted.Dir, name string) {
	if err := d.Unlink(name); err != nil && !is(err, syscall.ENOENT) {
		a.report(err)
	}
}

// node is a new symlink, FIFO, socket or device. It gets its attributes in the stash, so that it is never seen without.
type node struct {
	a    *Applier
	want *change.Object
	hold *openDir
	name string
	id   change.ID
}

func (n *node) make() (err error) {
	if n.hold != nil {
		return nil
	}
	hold, err := n.a.hold()
	if err != nil {
		return err
	}
	name := n.a.tempName()
	if n.want.Kind == change.Symlink {
		err = hold.Symlink(n.want.Target, name)
	} else {
		err = hold.Mknod(name, n.want.Kind, 0o600, n.want.Rdev)
	}
	if err != nil {
		hold.release()
		return err
	}
	n.hold, n.name = hold, name
	if err := hold.SetAttr(name, n.want.Kind, n.want.Attr, n.want.HasXattrs, true); err != nil {
		return err
	}
	o, err := hold.Stat(name)
	n.id = o.ID
	return err
}

func (n *node) take(at place) error {
	if err := n.make(); err != nil {
		return err
	}
	return n.moved(rename(n.hold.Dir, n.name, at.Dir, at.name))
}

func (n *node) over(at place) error {
	if err := n.make(); err != nil {
		return err
	}
	return n.moved(n.hold.Rename(n.name, at.Dir, at.name, 0))
}

func (n *node) moved(err error) error {
	if err == nil {
		n.name = ""
	}
	return err
}

func (n *node) close() {
	if n.hold == nil {
		return
	}
	if n.name != "" {
		n.a.unlink(n.hold.Dir, n.name)
	}
	n.hold.release()
}

// another is a further name of an object that has one.
type another struct {
	a    *Applier
	from place
}

func (l another) take(at place) error { return l.from.Link(l.from.name, at.Dir, at.name) }

func (l another) over(at place) error {
	var temp string
	err := l.a.viaHold(at, func(hold *rooted.Dir, name string) error {
		temp = name
		return l.from.Link(l.from.name, hold, name)
	})
	if err != nil {
		return err
	}
	// When the name had become the same object meanwhile, rename(2) has done nothing and left the temporary name.
	hold, err := l.a.hold()
	if err != nil {
		return err
	}
	l.a.unlink(hold.Dir, temp)
	hold.release()
	return nil
}

// mover is an object that gives up its old name for the new.
type mover struct{ from place }

func (m mover) take(at place) error { return rename(m.from.Dir, m.from.name, at.Dir, at.name) }
func (m mover) over(at place) error {
	err := m.from.Rename(m.from.name, at.Dir, at.name, 0)
	if !is(err, syscall.ENOTDIR) {
		return err
	}
	// A directory comes in the place of something else, which is kept under another name: rename(2) does not do that in one step.
	if err := at.Unlink(at.name); err != nil && !is(err, syscall.ENOENT) {
		return err
	}
	return m.take(at)
}
