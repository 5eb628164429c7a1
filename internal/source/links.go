package source

import (
	"slices"

	"georep/internal/change"
)

// maxLinks bounds the names of one object that are remembered until the index has them. Of an object with more of them the rest
// is found by the pass.
const maxLinks = 256

// linked remembers that a place of an object with several names was handed out: until the index knows it, nobody else can
// tell which other names of the object are to be looked at when one is gone. Called by the goroutine of Next.
func (v *Volume) linked(at change.Place, o *change.Object) {
	if o.Kind == change.Dir || o.Nlink < 2 {
		return
	}
	v.linkAt.put(v.hash(at), o.ID)
	places, _ := v.links.get(o.ID)
	if len(places) < maxLinks && !slices.Contains(places, at) {
		v.links.put(o.ID, append(slices.Clone(places), at))
	}
}

// namesOf lists the places at which an object was last known to be.
func (v *Volume) namesOf(id change.ID) ([]change.Place, error) {
	names, err := v.o.Index.Names(id)
	if err != nil {
		return nil, err
	}
	recent, _ := v.links.get(id)
	for _, at := range recent {
		if !slices.Contains(names, at) {
			names = append(names, at)
		}
	}
	return slices.DeleteFunc(names, func(at change.Place) bool { return at.Dir == change.StashID }), nil
}

// lookElsewhere has the other names of what was at a place looked at: the object may have changed under the name that is gone.
func (v *Volume) lookElsewhere(at change.Place, content bool) {
	id, ok := v.linkAt.get(v.hash(at))
	if !ok {
		e, found, err := v.o.Index.Get(at)
		if err != nil || !found || e.Kind == change.Dir || e.Nlink < 2 {
			return
		}
		id = e.ID
	}
	names, err := v.namesOf(id)
	if err != nil {
		return // a pass will see it
	}
	for _, name := range names {
		if name != at {
			v.pending.add(name, look{content: content, follow: true})
		}
	}
}
