package plan

import "georep/internal/change"

// maxDepth ends walks towards the root in a damaged index: deeper trees than this cannot be made by path, and no file
// system of today has inodes for them.
const maxDepth = 1 << 20

// newPlace is where a directory will be when the plan is done.
func (p *planner) newPlace(dir change.ID) (change.Place, bool, error) {
	if t := p.things[dir]; t != nil && t.seen.Object.Kind == change.Dir {
		return t.at[0], true, nil
	}
	if p.stashed[dir] {
		return change.Stashed(dir), true, nil
	}
	names, err := p.view.Names(dir)
	if err != nil || len(names) == 0 {
		return change.Place{}, false, err
	}
	return names[0], true, nil
}

// breakCycles takes directories out of the batch that were seen below themselves (they moved between two readings) until
// they are seen again.
func (p *planner) breakCycles() error {
	for _, id := range append([]change.ID{}, p.ids...) {
		t := p.things[id]
		if t == nil || t.seen.Object.Kind != change.Dir || t.at[0].IsRoot() {
			continue
		}
		cyclic, err := p.cyclic(id)
		if err != nil {
			return err
		}
		if cyclic {
			p.plan.Again = append(p.plan.Again, t.at...)
			p.forget(id)
		}
	}
	return nil
}

func (p *planner) cyclic(id change.ID) (bool, error) {
	dir := p.things[id].at[0].Dir
	for range maxDepth {
		if dir == id {
			return true, nil
		}
		at, ok, err := p.newPlace(dir)
		if err != nil || !ok || at.IsRoot() {
			return false, err
		}
		if at.Dir == dir {
			return false, nil
		}
		dir = at.Dir
	}
	return true, nil
}

func (p *planner) forget(id change.ID) {
	for _, at := range p.things[id].at {
		delete(p.seen, at)
	}
	delete(p.things, id)
	for i, other := range p.ids {
		if other == id {
			p.ids = append(p.ids[:i], p.ids[i+1:]...)
			return
		}
	}
}

// vacate frees the places that are needed. A single directory that moves to a free place needs no detour; otherwise all
// that move, and all that stand in the way, go to the stash first, from where Build takes them to their places.
func (p *planner) vacate() error {
	var movers []change.ID
	for _, id := range p.ids {
		t := p.things[id]
		if t.seen.Object.Kind == change.Dir && len(t.acked) > 0 && !has(t.acked, t.at[0]) {
			movers = append(movers, id)
		}
	}
	strangers, err := p.inTheWay()
	if err != nil {
		return err
	}
	p.plan.moves = len(movers)+len(strangers) > 0
	if len(movers) == 1 && len(strangers) == 0 {
		t := p.things[movers[0]]
		t.from = t.acked[0]
		return p.freeTarget(t)
	}
	for _, id := range movers {
		t := p.things[id]
		t.from = change.Stashed(id)
		if t.acked[0].Dir != change.StashID {
			p.stash(t.acked[0], t.entry)
		}
	}
	for _, s := range strangers {
		p.stashed[s.Entry.ID] = true
		p.stash(s.At, s.Entry)
	}
	return nil
}

// freeTarget makes the one directory that moves go by the stash after all, when something known stands at its new place or
// something else wants its old one.
func (p *planner) freeTarget(t *thing) error {
	_, occupied, err := p.occupant(t.at[0], t)
	wanted := p.taken(t.from, t.seen.Object.ID)
	if err != nil || !occupied && !wanted || t.from.Dir == change.StashID {
		return err
	}
	p.stash(t.from, t.entry)
	t.from = change.Stashed(t.seen.Object.ID)
	return nil
}

func (p *planner) stash(from change.Place, e change.Entry) {
	p.touch(from)
	p.vacated[from] = true
	declare(&p.plan.Vacate, change.Declaration{Op: change.Move, At: change.Stashed(e.ID), From: from, Sec: e.Sec, Unknown: true, Object: e.Object})
}

// inTheWay finds what occupies places that are wanted and cannot be replaced atomically: directories that the batch does
// not move itself, and anything where a directory is wanted.
func (p *planner) inTheWay() ([]Refresh, error) {
	var found []Refresh
	for _, at := range p.order {
		o, ok := p.seen[at]
		if !ok || o.Absent {
			continue
		}
		e, occupied, err := p.occupant(at, p.things[o.Object.ID])
		if err != nil {
			return nil, err
		}
		if !occupied || e.ID.IsUnknown() {
			continue // nothing there, or something unknown, which is adopted or replaced as a whole
		}
		if e.Kind == change.Dir {
			if t := p.things[e.ID]; t == nil || len(t.acked) == 0 {
				found = append(found, Refresh{At: at, Entry: e})
			}
			continue
		}
		if o.Object.Kind == change.Dir {
			// A file in the place of a directory: its content is safe (see keep), so the name can go.
			p.touch(at)
			p.vacated[at] = true
			declare(&p.plan.Vacate, change.Declaration{Op: change.Drop, At: at, Sec: e.Sec, Object: change.Object{ID: e.ID, Kind: e.Kind}})
		}
	}
	return found, nil
}

// buildDirs brings directories to their places, parents first.
func (p *planner) buildDirs() error {
	for _, id := range p.ids {
		if err := p.buildDir(id); err != nil {
			return err
		}
	}
	p.plan.Dirs = len(p.plan.Build)
	return nil
}

func (p *planner) buildDir(id change.ID) error {
	for chain := []change.ID{id}; len(chain) > 0; {
		id := chain[len(chain)-1]
		t := p.things[id]
		if t == nil || t.closed || t.seen.Object.Kind != change.Dir {
			chain = chain[:len(chain)-1]
			continue
		}
		if up := p.things[t.at[0].Dir]; up != nil && !up.closed && up != t && up.seen.Object.Kind == change.Dir {
			chain = append(chain, t.at[0].Dir)
			continue
		}
		t.closed = true
		chain = chain[:len(chain)-1]
		if err := p.placeDir(t); err != nil {
			return err
		}
	}
	return nil
}

func (p *planner) placeDir(t *thing) error {
	at := t.at[0]
	e, occupied, err := p.occupant(at, t)
	if err != nil {
		return err
	}
	unknown := occupied && !p.vacated[at] && e.ID.IsUnknown()
	if t.from != (change.Place{}) {
		p.touch(at)
		p.touch(t.from)
		t.build = declare(&p.plan.Build, change.Declaration{Op: change.Move, At: at, From: t.from, Sec: t.entry.Sec, Object: t.entry.Object, Unknown: unknown, After: p.parents(at)})
		return nil
	}
	if len(t.acked) > 0 {
		return nil
	}
	d := change.Declaration{Op: change.Make, At: at, Object: t.seen.Object, Unknown: unknown, After: p.parents(at)}
	if at.IsRoot() {
		d.Op = change.Adopt // it is there, in whatever state
	}
	if unknown {
		d.Op, d.Sec = change.Adopt, e.Sec
	}
	p.touch(at)
	t.build = declare(&p.plan.Build, d)
	return nil
}
