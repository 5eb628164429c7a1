package plan

import "georep/internal/change"

// declare appends to a stage and gives the position there.
func declare(stage *[]change.Declaration, d change.Declaration) int {
	*stage = append(*stage, d)
	return len(*stage) - 1
}

// touch notes that entries of a directory change, so that its times must be set again.
func (p *planner) touch(at change.Place) {
	if !at.IsRoot() && at.Dir != change.StashID {
		p.touched[at.Dir] = true
	}
}

// keep gives every file that would lose its last safe name a name in the stash, and chooses from where things are linked.
func (p *planner) keep() error {
	for _, id := range p.ids {
		t := p.things[id]
		if t.seen.Object.Kind == change.Dir || len(t.acked) == 0 {
			continue
		}
		p.chooseFrom(id, t)
	}
	for _, at := range p.order {
		o, ok := p.seen[at]
		if !ok || o.Absent {
			continue
		}
		e, ok, err := p.occupant(at, p.things[o.Object.ID])
		if err != nil {
			return err
		}
		if !ok || e.Kind == change.Dir || e.ID.IsUnknown() || p.things[e.ID] != nil || p.adoptable(o, e) {
			continue
		}
		if err := p.keepStranger(at, e); err != nil {
			return err
		}
	}
	return nil
}

func (p *planner) chooseFrom(id change.ID, t *thing) {
	for _, at := range t.acked {
		if !p.taken(at, id) {
			t.from = at
			return
		}
	}
	t.from = change.Stashed(id)
	declare(&p.plan.Keep, change.Declaration{Op: change.Link, At: t.from, From: t.acked[0], Sec: t.entry.Sec, Over: t.entry.Sec, Unknown: true, Object: t.entry.Object})
}

// keepStranger saves an object of which the batch says nothing but that its name is now another's: it may have been
// renamed, and its new name not been seen yet.
func (p *planner) keepStranger(at change.Place, e change.Entry) error {
	names, err := p.view.Names(e.ID)
	if err != nil {
		return err
	}
	for _, n := range names {
		if !p.taken(n, e.ID) {
			return nil
		}
	}
	if len(names) > 0 && names[0] != at && has(names, at) && p.keptAlready(e.ID) {
		return nil
	}
	declare(&p.plan.Keep, change.Declaration{Op: change.Link, At: change.Stashed(e.ID), From: at, Sec: e.Sec, Over: e.Sec, Unknown: true, Object: e.Object})
	return nil
}

func (p *planner) keptAlready(id change.ID) bool {
	for i := range p.plan.Keep {
		if p.plan.Keep[i].At == change.Stashed(id) {
			return true
		}
	}
	return false
}

// adoptable says whether a file that takes the place of another is likely to be the same content under a new identity, as
// after the primary was restored: then the contents are compared before anything is sent.
func (p *planner) adoptable(o *change.Observation, e change.Entry) bool {
	return o.Object.Kind == change.File && e.Kind == change.File && o.Object.Size == e.Size && o.Object.Mtime == e.Mtime &&
		e.Nlink <= 1 && o.Object.Nlink <= 1 && len(p.things[o.Object.ID].acked) == 0
}

// buildRest makes, links and writes what is no directory.
func (p *planner) buildRest() error {
	for _, id := range p.ids {
		t := p.things[id]
		if t.seen.Object.Kind == change.Dir {
			continue
		}
		if err := p.buildOne(id, t); err != nil {
			return err
		}
		p.recheckNames(t)
	}
	return nil
}

func (p *planner) buildOne(id change.ID, t *thing) error {
	links := []int{}
	written := p.writeFirst(id, t)
	for _, at := range t.at {
		if has(t.acked, at) {
			continue
		}
		e, occupied, err := p.occupant(at, t)
		if err != nil {
			return err
		}
		p.touch(at)
		d := change.Declaration{Op: change.Link, At: at, Object: t.seen.Object, After: p.parents(at)}
		if occupied && !p.vacated[at] {
			d.Over, d.Unknown = e.Sec, e.ID.IsUnknown()
		}
		switch {
		case len(t.acked) > 0:
			d.From, d.Sec = t.from, t.entry.Sec
			if written >= 0 {
				d.Sec = change.ID{} // that of the new file, which is not known yet
				d.After = append(d.After, written)
			}
			links = append(links, declare(&p.plan.Build, d))
		case t.build >= 0:
			d.From = t.at[0]
			d.After = append(d.After, t.build)
			declare(&p.plan.Build, d)
		default:
			d.Op = change.Make
			if occupied && !p.vacated[at] && (e.ID.IsUnknown() || p.adoptable(p.seen[at], e)) {
				d.Op, d.Sec = change.Adopt, e.Sec
			}
			t.build = declare(&p.plan.Build, d)
		}
	}
	if len(t.acked) > 0 && written < 0 {
		p.update(id, t, links)
	}
	return nil
}

// contentDiffers says whether the secondary's content of an acknowledged file is, or may be, another.
func contentDiffers(t *thing) bool {
	o, e := t.seen.Object, t.entry
	return o.Kind == change.File && (o.Size != e.Size || o.Mtime != e.Mtime || t.seen.Content || e.Racy)
}

// writeFirst writes a file that is to get further names under one that it has, and gives the position of that: a reader of the
// new names must not see what the file held when it had another. -1: nothing is to be written, or nothing linked.
func (p *planner) writeFirst(id change.ID, t *thing) int {
	if len(t.acked) == 0 || !contentDiffers(t) {
		return -1
	}
	further := false
	for _, at := range t.at {
		further = further || !has(t.acked, at)
	}
	if !further {
		return -1
	}
	return p.write(id, t, t.from, t.acked)
}

// write declares the content of a file, at one place and for all the others that are still its own.
func (p *planner) write(id change.ID, t *thing, at change.Place, others []change.Place) int {
	o, e := t.seen.Object, t.entry
	d := change.Declaration{Op: change.Write, At: at, Sec: e.Sec, Object: o, After: p.parents(at), Checksum: o.Size == e.Size && o.Mtime == e.Mtime}
	if !has(t.at, at) {
		d.Seen = t.at[0]
	}
	for _, n := range others {
		_, gone := p.absent[n]
		if n != at && n.Dir != change.StashID && !gone && !p.taken(n, id) && !has(d.Names, n) {
			d.Names = append(d.Names, n)
			p.touch(n)
		}
	}
	p.touch(at)
	return declare(&p.plan.Build, d)
}

// update brings content and attributes of an acknowledged object up to date, once for all its names.
func (p *planner) update(id change.ID, t *thing, links []int) {
	o, e := t.seen.Object, t.entry
	at := t.at[0]
	d := change.Declaration{At: at, Sec: e.Sec, Object: o, After: append(links, p.parents(at)...)}
	switch {
	case contentDiffers(t):
		p.write(id, t, at, t.acked) // no name is new: see writeFirst
		return
	case attrsDiffer(o, e):
		d.Op = change.Set
		for _, n := range t.acked {
			if n != at && n.Dir != change.StashID {
				d.Names = append(d.Names, n)
			}
		}
	default:
		p.refresh(t, links)
		return
	}
	declare(&p.plan.Build, d)
}

// refresh notes a state that differs only in what the primary alone keeps, such as ctime.
func (p *planner) refresh(t *thing, links []int) {
	o, e := t.seen.Object, t.entry
	if o.Ctime != e.Ctime || o.Nlink != e.Nlink {
		e.Ctime, e.Nlink, e.Blocks = o.Ctime, o.Nlink, o.Blocks
		for _, at := range t.acked {
			if !p.taken(at, o.ID) {
				p.plan.Refresh = append(p.plan.Refresh, Refresh{At: at, Entry: e})
			}
		}
	}
	if len(links) > 0 {
		return
	}
	for _, at := range t.at {
		if has(t.acked, at) { // what is being moved there is not there yet
			p.plan.Done = append(p.plan.Done, at)
		}
	}
}

func attrsDiffer(o change.Object, e change.Entry) bool {
	return o.Mode != e.Mode || o.UID != e.UID || o.GID != e.GID || o.Mtime != e.Mtime || o.HasXattrs && XattrSum(o.Xattrs) != e.XattrSum
}

// recheckNames asks for the other names of an object that has fewer than the secondary knows.
func (p *planner) recheckNames(t *thing) {
	names := len(t.at)
	var others []change.Place
	for _, at := range t.acked {
		_, gone := p.absent[at]
		if at.Dir != change.StashID && !gone && !has(t.at, at) && !p.taken(at, t.seen.Object.ID) {
			names++
			others = append(others, at)
		}
	}
	// Once a state: the source was asked then, and answers in its own time.
	if n := t.seen.Object.Nlink; n > 0 && names > int(n) && n != t.entry.Nlink {
		p.plan.Again = append(p.plan.Again, others...)
	}
}

// parents gives the position in Build of what brings the directory of a place, as a list for After.
func (p *planner) parents(at change.Place) []int {
	if t := p.things[at.Dir]; t != nil && t.build >= 0 {
		return []int{t.build}
	}
	return nil
}

// drop removes the names that are no more. A name below a directory that is dropped as well goes with it.
func (p *planner) drop() error {
	for at, e := range p.absent {
		if e.Kind == change.Dir && !p.movedAway(at, e) {
			p.gone[e.ID] = true
		}
	}
	for _, at := range p.order {
		e, ok := p.absent[at]
		if !ok || p.movedAway(at, e) {
			continue
		}
		below, err := p.below(at.Dir)
		if err != nil {
			return err
		}
		if below {
			continue
		}
		p.touch(at)
		declare(&p.plan.Drop, change.Declaration{Op: change.Drop, At: at, Sec: e.Sec, Object: change.Object{ID: e.ID, Kind: e.Kind}})
	}
	return nil
}

func (p *planner) movedAway(at change.Place, e change.Entry) bool {
	t := p.things[e.ID]
	return t != nil && e.Kind == change.Dir && has(t.acked, at)
}

// below says whether a directory lies in one of those that are dropped.
func (p *planner) below(dir change.ID) (bool, error) {
	if len(p.gone) == 0 {
		return false, nil
	}
	for range maxDepth {
		if p.gone[dir] {
			return true, nil
		}
		at, ok, err := p.newPlace(dir)
		if err != nil || !ok || at.IsRoot() {
			return false, err
		}
		dir = at.Dir
	}
	return false, nil
}

// settle sets attributes and times of directories: those seen changed, and those whose entries were changed.
func (p *planner) settle() error {
	for _, id := range p.ids {
		t := p.things[id]
		o := t.seen.Object
		if o.Kind != change.Dir {
			continue
		}
		switch {
		case len(t.acked) == 0:
			p.touched[id] = true // made in this plan; its entries may have come after it
		case attrsDiffer(o, t.entry):
			declare(&p.plan.Settle, change.Declaration{Op: change.Set, At: t.at[0], Object: o})
			delete(p.touched, id)
		default:
			p.refresh(t, nil)
		}
	}
	for id := range p.touched {
		if gone, err := p.below(id); gone || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		at, o, ok, err := p.latest(id)
		if err != nil {
			return err
		}
		if ok {
			declare(&p.plan.Settle, change.Declaration{Op: change.Times, At: at, Object: o})
		}
	}
	return nil
}

// latest is the newest known state of a directory and where it will be.
func (p *planner) latest(id change.ID) (change.Place, change.Object, bool, error) {
	if t := p.things[id]; t != nil {
		return t.at[0], t.seen.Object, true, nil
	}
	names, err := p.view.Names(id)
	if err != nil || len(names) == 0 {
		return change.Place{}, change.Object{}, false, err
	}
	e, ok, err := p.view.Get(names[0])
	if p.stashed[id] {
		return change.Stashed(id), e.Object, ok, err
	}
	return names[0], e.Object, ok, err
}
