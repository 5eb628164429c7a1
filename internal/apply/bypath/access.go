package bypath

import (
	"sync"

	"georep/internal/change"
	"georep/internal/wire"
)

// access lets an account that is not root work in directories of its own that it may not write to, as they are on the
// primary: for the time of the work they get the permission.
type access struct {
	mu    sync.Mutex
	given map[change.ID]*gift
}

// gift is a permission in use.
type gift struct {
	users int
	attr  change.Attr // of the directory without it
}

// grant gives the permission for the directories of a request, where it is missing and ours to give. It returns what takes it
// away again, or nil when nothing was given.
func (a *Applier) grant(r *wire.Request) func() {
	if a.uid < 0 {
		return nil
	}
	var undo []func()
	for _, d := range dirsOf(r) {
		open, err := a.dir(d)
		if err != nil {
			continue
		}
		if a.access.open(open, uint32(a.uid)) {
			undo = append(undo, func() {
				if err := a.access.shut(open); err != nil {
					a.report(err)
				}
				open.release()
			})
			continue
		}
		open.release()
	}
	if undo == nil {
		return nil
	}
	return func() {
		for _, f := range undo {
			f()
		}
	}
}

// open gives the permission for d and says whether it is given.
func (x *access) open(d *openDir, uid uint32) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if g := x.given[d.id]; g != nil {
		g.users++
		return true
	}
	self, err := d.Self()
	const all = 0o700
	if err != nil || self.UID != uid || self.Mode&all == all {
		return false
	}
	wider := self.Attr
	wider.Mode |= all
	if err := d.SetSelf(wider, false, false); err != nil {
		return false
	}
	if x.given == nil {
		x.given = map[change.ID]*gift{}
	}
	x.given[d.id] = &gift{users: 1, attr: self.Attr}
	return true
}

// shut takes the permission away after its last user.
func (x *access) shut(d *openDir) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.given[d.id]
	if g.users--; g.users > 0 {
		return nil
	}
	delete(x.given, d.id)
	return d.SetSelf(g.attr, false, false)
}
