package replicate

import (
	"maps"
	"slices"

	"georep/internal/change"
	"georep/internal/plan"
)

// task is one declaration on its way.
type task struct {
	d      change.Declaration
	b      *batch
	waits  int     // tasks that must end before this one is sent
	next   []*task // tasks that wait for this one
	armed  bool    // its stage has begun
	ended  bool
	failed bool // what it depends on failed, or it did itself
	// compare asks for the contents to be compared before anything is sent.
	compare bool
	flowed  int64 // bytes of its content that were brought over
	inline  bool  // its content travels within its request
	young   bool  // its content was read so soon after its last change that an equal ctime does not prove equal content

	detached *detached // it has ended for its batch, while its content goes on
	parked   bool      // its content has arrived and waited for a claim, while another goroutine streamed in its place
}

// batch is one plan on its way. Guarded by Engine.mu.
type batch struct {
	gen     uint64
	stages  [][]*task
	stage   int  // the stage under way
	left    int  // of the stage under way
	busy    bool // advance is at work
	effects []Effect
	places  []change.Place
	ids     []change.ID
	touched []change.ID // directories whose entries come, go or change
	intents []change.ID // directories to be looked at if the batch ends halfway
	settles []change.ID // directories whose attributes are set

	uncertain bool // the secondary may have carried out what was not acknowledged

	// For the counters: what was observed, and how much of it counts as done.
	entries, bytes      int64
	done, doneBytes     int64
	flowed              int64
	tasksAll, tasksLeft int
}

// take plans a batch and sends it on its way.
func (e *Engine) take(b Batch) error {
	if err := e.problems(b.Problems); err != nil {
		return err
	}
	if err := e.settleDone(b.Gone); err != nil {
		return err
	}
	e.counts(b)
	e.traceSeen(b)
	e.vanished(&b)
	var present, absent []change.Observation
	for _, o := range b.Seen {
		if o.Absent {
			absent = append(absent, o)
		} else {
			present = append(present, o)
		}
	}
	for _, part := range e.levels(present) {
		if err := e.schedule(part); err != nil {
			return err
		}
	}
	if err := e.absences(b, absent); err != nil {
		return err
	}
	e.mu.Lock()
	e.stats.taking, e.stats.takingBytes = 0, 0
	e.mu.Unlock()
	return nil
}

// schedule plans observations of things that are there (or absences that may be carried out) and starts the batch.
func (e *Engine) schedule(seen []change.Observation) error {
	for e.clashes(seen) {
		if err := e.drain(false); err != nil {
			return err
		}
	}
	p, err := e.plan(seen)
	if err != nil {
		return err
	}
	exclusive := p.Moves() || len(p.Drop) > 0 || len(p.Vacate) > 0
	if exclusive {
		if err := e.drain(true); err != nil {
			return err
		}
		if p, err = e.plan(seen); err != nil {
			return err
		}
	}
	e.again(p.Again...)
	if err := e.settleDone(p.Done); err != nil {
		return err
	}
	if e.o.DryRun || p.Len() == 0 && len(p.Refresh) == 0 {
		e.mu.Lock()
		e.stats.settled(seen)
		e.mu.Unlock()
		if e.o.DryRun {
			return e.pretend(p)
		}
		return nil
	}
	if err := e.start(p, seen); err != nil {
		return err
	}
	if exclusive {
		return e.drain(true)
	}
	return nil
}

func (e *Engine) plan(seen []change.Observation) (*plan.Plan, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	usable := make([]change.Observation, 0, len(seen))
	for _, o := range seen {
		switch {
		case e.beyond(o.At):
		case !e.unseen(o.At.Dir):
			usable = append(usable, o)
		case o.Content:
			e.hinted = append(e.hinted, o.At) // comparing its directory again, as for the others, would not tell
		}
		if e.unseen(o.At.Dir) && e.failing[o.At] != nil {
			e.putOff = append(e.putOff, o.At) // nor that there is nothing to do for it any more
		}
	}
	return plan.Make(view{e}, usable)
}

// clashes says whether a batch under way speaks of the same places or objects.
func (e *Engine) clashes(seen []change.Observation) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open == 0 {
		return false
	}
	for i := range seen {
		o := &seen[i]
		if e.places[o.At] > 0 || e.settles[o.At.Dir] > 0 || !o.Absent && (e.ids[o.Object.ID] > 0 || e.touched[o.Object.ID] > 0) {
			return true
		}
	}
	return false
}

// start registers a batch, notes its intents, and sends its first stage.
func (e *Engine) start(p *plan.Plan, seen []change.Observation) error {
	b := e.newBatch(p)
	for i := range seen {
		b.places = append(b.places, seen[i].At)
		if !seen[i].Absent {
			b.ids = append(b.ids, seen[i].Object.ID)
		}
	}
	e.mu.Lock()
	if err := e.await(func() bool { return e.kept < maxOpen }); err != nil {
		e.mu.Unlock()
		return err
	}
	e.gen++
	b.gen = e.gen
	e.mu.Unlock()
	if err := e.o.Store.Begin(b.gen, b.intents); err != nil {
		return err
	}
	if err := e.remindOf(p); err != nil {
		return err
	}
	if err := e.forgetBelow(p.Drop); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open++
	e.kept++
	e.hold(b, 1)
	e.stats.begin(b, seen)
	for _, r := range p.Refresh {
		entry := r.Entry
		e.lay(b, Effect{At: r.At, Entry: &entry})
	}
	b.stage = -1
	e.advance(b)
	e.again(places(e.takeBehind())...)
	return nil
}

// forgetBelow makes the store forget, durably, what directories are that are about to be removed, and what is in them: a removal may end
// halfway, and the source may bring the directory back. Then it is something unknown that stands there, and is looked at.
func (e *Engine) forgetBelow(drops []change.Declaration) error {
	var effects []Effect
	var elsewhere []change.ID // with another place, below which the same is forgotten
	for i := range drops {
		d := &drops[i]
		if d.Object.Kind != change.Dir || d.Object.ID.IsUnknown() {
			continue
		}
		entry, ok, err := e.o.Store.Get(d.At) // nothing else is under way
		if err != nil {
			return err
		}
		if ok && entry.ID == d.Object.ID {
			tree := entry.ID
			names, err := e.o.Store.Names(tree)
			if err != nil {
				return err
			}
			if len(names) > 1 {
				elsewhere = append(elsewhere, tree)
			}
			entry.ID = change.UnknownID(entry.Sec)
			effects = append(effects, Effect{At: d.At, Entry: &entry, Tree: tree})
		}
	}
	if len(effects) == 0 {
		return nil
	}
	e.mu.Lock()
	clear(e.dirs)
	e.treesGone = true
	e.mu.Unlock()
	if err := e.o.Store.Commit(nil, effects, ""); err != nil {
		return err
	}
	for _, id := range elsewhere {
		e.rescan(id)
	}
	return nil
}

// remindOf notes durably which files' content is in doubt although size and times are equal: should they not be
// compared now for whatever reason, nothing else would tell later.
func (e *Engine) remindOf(p *plan.Plan) error {
	var places []change.Place
	for i := range p.Build {
		if d := &p.Build[i]; d.Op == change.Write && d.Checksum {
			places = append(append(places, d.At), d.Names...)
		}
	}
	if len(places) == 0 {
		return nil
	}
	if err := e.drain(true); err != nil { // what is being committed would be older, or speak of names that are gone
		return err
	}
	return e.remind(places)
}

// remind marks the files that are at places in the store as ones whose content is to be compared, under all their names.
func (e *Engine) remind(places []change.Place) error {
	var effects []Effect
	for _, at := range places {
		entry, ok, err := e.o.Store.Get(at)
		if err != nil {
			return err
		}
		if !ok || entry.Kind != change.File || entry.Racy {
			continue
		}
		names, err := e.o.Store.Names(entry.ID)
		if err != nil {
			return err
		}
		for _, name := range names {
			named, ok, err := e.o.Store.Get(name)
			if err != nil {
				return err
			}
			if ok && named.Sec == entry.Sec {
				named.Racy = true
				effects = append(effects, Effect{At: name, Entry: &named})
			}
		}
	}
	if len(effects) == 0 {
		return nil
	}
	return e.o.Store.Commit(nil, effects, "")
}

func (e *Engine) newBatch(p *plan.Plan) *batch {
	b := &batch{}
	build := b.tasks(p.Build)
	for i, t := range build {
		for _, k := range p.Build[i].After {
			t.waits++
			build[k].next = append(build[k].next, t)
		}
	}
	b.stages = [][]*task{b.tasks(p.Keep), b.tasks(p.Vacate), build, b.tasks(p.Drop), b.tasks(p.Settle)}
	if p.Moves() {
		b.stages = [][]*task{b.stages[0], b.stages[1], build[:p.Dirs], build[p.Dirs:], b.stages[3], b.stages[4]}
	}
	b.announce()
	return b
}

// announce gathers the directories that a batch changes: those whose entries change or come and go (touched), and all that
// are to be looked at should the batch end halfway (intents).
func (b *batch) announce() {
	touched, intents := map[change.ID]bool{}, map[change.ID]bool{}
	for _, stage := range b.stages {
		for _, t := range stage {
			d := &t.d
			if d.Op == change.Set && d.Object.Kind == change.Dir {
				b.settles = append(b.settles, d.Object.ID)
			}
			switch {
			case d.Op == change.Times, d.Op == change.Set && d.Object.Kind == change.Dir:
				intents[d.Object.ID] = true
				continue
			case d.Op == change.Set:
				for _, at := range append([]change.Place{d.At}, d.Names...) {
					intents[at.Dir] = true
				}
				continue
			}
			for _, at := range append([]change.Place{d.At, d.From}, d.Names...) {
				if !at.Dir.IsZero() {
					intents[at.Dir] = true
				}
				if !at.Dir.IsZero() && at.Dir != change.StashID {
					touched[at.Dir] = true
				}
			}
		}
	}
	b.touched, b.intents = slices.Collect(maps.Keys(touched)), slices.Collect(maps.Keys(intents))
}

func (b *batch) tasks(ds []change.Declaration) []*task {
	ts := make([]*task, len(ds))
	all := make([]task, len(ds))
	for i := range ds {
		all[i] = task{d: ds[i], b: b, compare: ds[i].Checksum}
		ts[i] = &all[i]
	}
	return ts
}

// hold counts (n = 1) or releases (n = -1) what a batch speaks of.
func (e *Engine) hold(b *batch, n int) {
	count(e.places, b.places, n)
	count(e.ids, b.ids, n)
	count(e.touched, b.touched, n)
	count(e.settles, b.settles, n)
}

func count[K comparable](m map[K]int, keys []K, n int) {
	for _, k := range keys {
		if m[k] += n; m[k] <= 0 {
			delete(m, k)
		}
	}
}

// advance starts the next stage that has anything to do, or ends the batch. Called with mu held.
func (e *Engine) advance(b *batch) {
	if b.busy {
		return // a task of the stage that is being started ended at once
	}
	b.busy = true
	for b.left == 0 {
		b.stage++
		if b.stage == len(b.stages) {
			e.open--
			e.hold(b, -1)
			e.finished <- b // has room for all that may be kept
			e.cond.Broadcast()
			return
		}
		e.arm(b)
	}
	b.busy = false
}

// arm sends what of a stage waits for nothing.
func (e *Engine) arm(b *batch) {
	stage := b.stages[b.stage]
	b.left = len(stage)
	var send, skip []*task
	for _, t := range stage {
		t.armed = true
		if t.d.Object.Kind == change.Dir && (t.d.Op == change.Make || t.d.Op == change.Adopt) {
			e.making[t.d.Object.ID] = t
			e.makingAt[t.d.At] = t
		}
		if up := e.making[t.d.At.Dir]; up != nil && up.b != b {
			t.waits++
			up.next = append(up.next, t)
		}
		switch {
		case t.failed:
			skip = append(skip, t)
		case t.waits == 0:
			send = append(send, t)
		}
	}
	for _, t := range skip {
		e.over1(t, true)
	}
	e.ready.push(send...)
}

// lay records an effect in the overlay and for the commit. Called with mu held.
func (e *Engine) lay(b *batch, f Effect) {
	b.effects = append(b.effects, f)
	e.over.put(b.gen, f)
}

// problems notes what the source could not read.
func (e *Engine) problems(ps []Problem) error {
	if len(ps) == 0 {
		return nil
	}
	e.mu.Lock()
	for _, p := range ps {
		e.fail(p.At, p.Failure)
	}
	e.mu.Unlock()
	return e.list()
}

// settleDone clears what needs nothing from the ledger.
func (e *Engine) settleDone(places []change.Place) error {
	if len(places) == 0 {
		return nil
	}
	e.mu.Lock()
	for _, at := range places {
		e.unexplained(at)
		if err := e.healed(at); err != nil {
			e.mu.Unlock()
			return err
		}
	}
	some := len(e.unlisted) > 0
	e.mu.Unlock()
	if !some {
		return nil
	}
	return e.list()
}
