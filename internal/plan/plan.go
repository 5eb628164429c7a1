// Package plan turns what a source saw into ordered declarations: a pure function of the observations and of what the
// secondary has acknowledged.
//
// The order is made of stages; a stage is sent only when the one before it was answered:
//
//	Keep    files that are about to lose their last name on the secondary get one in the stash
//	Vacate  places that hold something of the wrong sort become free; directories that change place leave it
//	Build   directories arrive, objects are made, linked and written (parents first, by Declaration.After)
//	Drop    names that are no more
//	Settle  attributes and times of directories, after their entries are done with
//
// Nothing here replays history: an object that the secondary holds is linked or moved to where the primary has it now, and
// whatever stands in the way is put aside first, so that swaps, chains and cycles of names need no special case.
package plan

import (
	"sort"

	"georep/internal/change"
)

// View is what the secondary has acknowledged. It is called from one goroutine during a call of Make.
type View interface {
	// Get tells what is at a place.
	Get(at change.Place) (change.Entry, bool, error)
	// Names lists the places of an object, in no particular order; those in the stash too.
	Names(id change.ID) ([]change.Place, error)
}

// Refresh is an entry of the index that needs no work on the secondary but another note of the primary's state.
type Refresh struct {
	At    change.Place
	Entry change.Entry
}

// Plan is what is to be done for one batch.
type Plan struct {
	Keep, Vacate, Build, Drop, Settle []change.Declaration
	// Dirs is how many declarations at the head of Build bring directories to their places.
	Dirs    int
	Refresh []Refresh
	// Again lists places whose observation contradicts another one: they are to be observed once more.
	Again []change.Place
	// Done lists observed places for which nothing is to be declared.
	Done []change.Place

	moves bool
}

// Moves says whether directories change their place, so that paths made before the plan are wrong after it.
func (p *Plan) Moves() bool { return p.moves }

// Len is the number of declarations.
func (p *Plan) Len() int {
	return len(p.Keep) + len(p.Vacate) + len(p.Build) + len(p.Drop) + len(p.Settle)
}

// thing is all that one batch says of one object.
type thing struct {
	seen   change.Observation // the latest observation
	at     []change.Place     // places where the batch saw it, in order
	acked  []change.Place     // places where the secondary has it
	entry  change.Entry       // what was acknowledged, when acked is not empty
	from   change.Place       // a name on the secondary that stays valid until it is linked or moved from there
	build  int                // position in Build of the declaration that brings it to at[0], or -1
	closed bool               // directories: planned already
}

type planner struct {
	view    View
	plan    Plan
	seen    map[change.Place]*change.Observation
	order   []change.Place
	things  map[change.ID]*thing
	ids     []change.ID
	absent  map[change.Place]change.Entry
	touched map[change.ID]bool
	vacated map[change.Place]bool
	stashed map[change.ID]bool // directories that have no place but the stash for now
	gone    map[change.ID]bool // directories that are dropped; not those that wait in the stash, which may come back
}

// Make plans one batch. Errors are the view's.
func Make(v View, seen []change.Observation) (*Plan, error) {
	p := &planner{
		view: v, seen: map[change.Place]*change.Observation{}, things: map[change.ID]*thing{},
		absent: map[change.Place]change.Entry{}, touched: map[change.ID]bool{}, vacated: map[change.Place]bool{},
		gone: map[change.ID]bool{}, stashed: map[change.ID]bool{},
	}
	p.gather(seen)
	for _, step := range []func() error{p.load, p.breakCycles, p.keep, p.vacate, p.buildDirs, p.buildRest, p.drop, p.settle} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return &p.plan, nil
}

// gather keeps the latest observation of each place, and of each directory (which has one place only).
func (p *planner) gather(seen []change.Observation) {
	for i := range seen {
		o := &seen[i]
		old, ok := p.seen[o.At]
		if !ok {
			p.order = append(p.order, o.At)
		} else if old.Fresh > o.Fresh {
			continue
		} else if old.Content && !o.Absent && old.Object.ID == o.Object.ID {
			o.Content = true
		}
		p.seen[o.At] = o
	}
	dirs := map[change.ID]*change.Observation{}
	for _, at := range p.order {
		o := p.seen[at]
		if o.Absent || o.Object.Kind != change.Dir {
			continue
		}
		if old := dirs[o.Object.ID]; old != nil {
			loser := old
			if old.Fresh > o.Fresh {
				loser = o
			}
			p.plan.Again = append(p.plan.Again, loser.At)
			delete(p.seen, loser.At)
			if loser == o {
				continue
			}
		}
		dirs[o.Object.ID] = o
	}
}

// load gathers the things that were seen, with what the secondary has of them.
func (p *planner) load() error {
	for _, at := range p.order {
		o, ok := p.seen[at]
		if !ok {
			continue
		}
		if o.Absent {
			if err := p.loadAbsent(at); err != nil {
				return err
			}
			continue
		}
		t := p.things[o.Object.ID]
		if t == nil {
			t = &thing{seen: *o, build: -1}
			p.things[o.Object.ID] = t
			p.ids = append(p.ids, o.Object.ID)
		} else {
			content := t.seen.Content || o.Content
			if o.Fresh >= t.seen.Fresh {
				t.seen = *o
			}
			t.seen.Content = content
		}
		t.at = append(t.at, at)
	}
	for _, id := range p.ids {
		if err := p.loadAcked(id, p.things[id]); err != nil {
			return err
		}
	}
	return nil
}

func (p *planner) loadAbsent(at change.Place) error {
	e, ok, err := p.view.Get(at)
	if err != nil {
		return err
	}
	if ok {
		p.absent[at] = e
	} else {
		p.plan.Done = append(p.plan.Done, at)
	}
	return nil
}

func (p *planner) loadAcked(id change.ID, t *thing) error {
	names, err := p.view.Names(id)
	if err != nil {
		return err
	}
	sort.Slice(names, func(i, j int) bool { return before(names[i], names[j]) })
	var acked []change.Place
	var entries []change.Entry
	for _, at := range names {
		e, ok, err := p.view.Get(at)
		if err != nil {
			return err
		}
		if !ok || e.ID != id {
			continue
		}
		if !sameSort(e.Object, t.seen.Object) {
			continue // another object under the same identity: it is replaced where it stands
		}
		acked = append(acked, at)
		entries = append(entries, e)
	}
	if len(acked) == 0 {
		return nil
	}
	// All names of an object should be one object on the secondary. Where they are not (a write reached some of them only),
	// one is taken as the object, and the others are replaced like any other occupant: those that were not seen now, as soon as they are.
	t.entry = entries[p.object(id, acked, entries)]
	for i, at := range acked {
		_, gone := p.absent[at]
		switch {
		case entries[i].Sec == t.entry.Sec:
			t.acked = append(t.acked, at)
		case at.Dir != change.StashID && !gone && !has(t.at, at) && !p.taken(at, id):
			p.plan.Again = append(p.plan.Again, at)
		}
	}
	return nil
}

// object chooses which of the objects that the secondary has under the names of one is to be all of them: that with the most names which
// stay, and the first of several, so that each batch chooses the same.
func (p *planner) object(id change.ID, acked []change.Place, entries []change.Entry) int {
	names := map[change.ID]int{}
	for i, at := range acked {
		stays := 0
		if _, gone := p.absent[at]; at.Dir != change.StashID && !gone && !p.taken(at, id) {
			stays = 1
		}
		names[entries[i].Sec] += stays
	}
	best := 0
	for i := range entries {
		if len(names) > 1 && names[entries[i].Sec] > names[entries[best].Sec] {
			best = i
		}
	}
	return best
}

// sameSort says whether an object can become the other by attributes and content alone.
func sameSort(a, b change.Object) bool {
	return a.Kind == b.Kind && a.Target == b.Target && (a.Rdev == b.Rdev || a.Kind != change.CharDev && a.Kind != change.BlockDev)
}

func before(a, b change.Place) bool {
	if (a.Dir == change.StashID) != (b.Dir == change.StashID) {
		return b.Dir == change.StashID
	}
	if a.Dir != b.Dir {
		return string(a.Dir[:]) < string(b.Dir[:])
	}
	return a.Name < b.Name
}

// occupant is what the secondary has at a place where the batch wants t, unless that is t itself.
func (p *planner) occupant(at change.Place, t *thing) (change.Entry, bool, error) {
	e, ok, err := p.view.Get(at)
	if err != nil || !ok {
		return change.Entry{}, false, err
	}
	return e, !has(t.acked, at), nil
}

func has(places []change.Place, at change.Place) bool {
	for _, p := range places {
		if p == at {
			return true
		}
	}
	return false
}

// taken says whether the batch puts another object than id at a place.
func (p *planner) taken(at change.Place, id change.ID) bool {
	o, ok := p.seen[at]
	return ok && !o.Absent && o.Object.ID != id
}

// XattrSum condenses the extended attributes of an object for the index; 0 when there are none.
func XattrSum(xattrs []change.Xattr) uint64 {
	if len(xattrs) == 0 {
		return 0
	}
	h := uint64(14695981039346656037) // FNV-1a, 64 bit: stable over restarts, which maphash is not
	add := func(s string) {
		for i := 0; i < len(s); i++ {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211
	}
	for _, x := range xattrs {
		add(x.Name)
		for n := len(x.Value); ; n >>= 8 {
			h = (h ^ uint64(n&0xff)) * 1099511628211
			if n == 0 {
				break
			}
		}
		add(string(x.Value))
	}
	if h == 0 {
		h = 1
	}
	return h
}
