package replicate

import (
	"slices"
	"strings"

	"georep/internal/change"
)

// overlay is the store as it will be when everything that the secondary has applied is committed. Guarded by Engine.mu.
type overlay struct {
	store  Store
	places map[change.Place]laid
	names  map[change.ID]naming
}

// naming are the places of an object. Nearly all objects have one.
type naming struct {
	one  change.Place
	more map[change.Place]bool // nil: there is one; else all
}

type laid struct {
	entry *change.Entry // nil: deleted
	gen   uint64        // the batch that put it here; with its commit it goes
}

func newOverlay(s Store) *overlay {
	return &overlay{store: s, places: map[change.Place]laid{}, names: map[change.ID]naming{}}
}

func (o *overlay) put(gen uint64, f Effect) {
	if old, ok := o.places[f.At]; ok && old.entry != nil {
		o.unname(old.entry.ID, f.At)
	}
	o.places[f.At] = laid{f.Entry, gen}
	if f.Entry != nil && !f.Entry.ID.IsZero() {
		o.name(f.Entry.ID, f.At)
	}
}

func (o *overlay) name(id change.ID, at change.Place) {
	n, ok := o.names[id]
	switch {
	case !ok:
		o.names[id] = naming{one: at}
	case n.more != nil:
		n.more[at] = true
	case n.one != at:
		o.names[id] = naming{more: map[change.Place]bool{n.one: true, at: true}}
	}
}

func (o *overlay) unname(id change.ID, at change.Place) {
	n, ok := o.names[id]
	if !ok || n.more == nil && n.one != at {
		return
	}
	delete(n.more, at)
	if len(n.more) == 0 {
		delete(o.names, id)
	}
}

// forget drops what a committed batch laid, unless a later one laid something else there.
func (o *overlay) forget(gen uint64, effects []Effect) {
	for _, f := range effects {
		if l, ok := o.places[f.At]; ok && l.gen == gen {
			if l.entry != nil {
				o.unname(l.entry.ID, f.At)
			}
			delete(o.places, f.At)
		}
	}
}

// Get implements plan.View.
func (o *overlay) Get(at change.Place) (change.Entry, bool, error) {
	if l, ok := o.places[at]; ok {
		if l.entry == nil {
			return change.Entry{}, false, nil
		}
		return *l.entry, true, nil
	}
	return o.store.Get(at)
}

// Names implements plan.View.
func (o *overlay) Names(id change.ID) ([]change.Place, error) {
	stored, err := o.store.Names(id)
	if err != nil {
		return nil, err
	}
	if len(o.places) == 0 {
		return stored, nil
	}
	out := make([]change.Place, 0, len(stored))
	for _, at := range stored {
		if _, ok := o.places[at]; !ok {
			out = append(out, at)
		}
	}
	n := len(out)
	switch laid, ok := o.names[id]; {
	case !ok:
	case laid.more == nil:
		out = append(out, laid.one)
	default:
		for at := range laid.more {
			out = append(out, at)
		}
	}
	slices.SortFunc(out[n:], func(a, b change.Place) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// view is the overlay together with the directories that are on their way: what the planner sees. Used with Engine.mu held.
type view struct{ e *Engine }

// Get implements plan.View.
func (v view) Get(at change.Place) (change.Entry, bool, error) {
	entry, ok, err := v.e.over.Get(at)
	if t := v.e.makingAt[at]; t != nil && err == nil && (!ok || entry.ID != t.d.Object.ID && !v.e.o.SameIDs) { // what it replaces is as good as gone
		return change.Entry{Object: t.d.Object}, true, nil
	}
	return entry, ok, err
}

// Names implements plan.View.
func (v view) Names(id change.ID) ([]change.Place, error) {
	names, err := v.e.over.Names(id)
	if t := v.e.making[id]; t != nil && len(names) == 0 && err == nil {
		return []change.Place{t.d.At}, nil
	}
	return names, err
}
