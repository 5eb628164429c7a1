package replicate

import (
	"time"

	"georep/internal/change"
	"georep/internal/plan"
	"georep/internal/status"
)

// failingMax bounds the failing places that are kept in memory to notice quickly that one has healed. Those beyond heal
// when their turn to be tried comes.
const failingMax = 1 << 16

// idleWait is how long the loop waits when nothing is due.
const idleWait = time.Minute

// attempts is what a loop knows of a failing entry.
type attempts struct {
	retries int            // in this run
	next    time.Time      // when the next is due; zero: nothing was heard since the last
	why     status.Failure // the last that had an errno
}

// fail notes a failing entry. It is in the ledger with the next call of list: before the batch that it is of is noted as done, if mu
// was not released since the task ended. So many failures make one transaction. Called with mu held.
func (e *Engine) fail(at change.Place, f status.Failure) {
	a := e.failing[at]
	if a == nil && len(e.failing) < failingMax {
		a = &attempts{}
		e.failing[at] = a
	}
	switch {
	case a == nil:
	case f.Errno != 0:
		a.why = f
	case a.why.Errno != 0:
		f = a.why // that it does not get better says less than what began it
	}
	e.unlisted = append(e.unlisted, news{Failing: Failing{at, f}})
}

// news is what the ledger is to be told of a place: that it fails, or that it does not any more.
type news struct {
	Failing
	healed bool
}

// list brings what was noted into the ledger, durably, and tells the operator. What another goroutine is writing is in the ledger as well
// when it returns.
func (e *Engine) list() error {
	e.lister.Lock()
	defer e.lister.Unlock()
	e.mu.Lock()
	all := e.unlisted
	e.unlisted = nil
	e.mu.Unlock()
	for len(all) > 0 {
		n := together(all)
		if err := e.listSome(all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// together is how many of the first news say but one thing of each place, so that their order does not matter.
func together(all []news) int {
	healed := make(map[change.Place]bool, len(all))
	for i := range all {
		if before, there := healed[all[i].At]; there && before != all[i].healed {
			return i
		}
		healed[all[i].At] = all[i].healed
	}
	return len(all)
}

// listSome takes at most two transactions.
func (e *Engine) listSome(some []news) error {
	var items []Failing
	var healed []change.Place
	for i := range some {
		if some[i].healed {
			healed = append(healed, some[i].At)
		} else {
			items = append(items, some[i].Failing)
		}
	}
	if len(items) > 0 {
		if err := e.o.Ledger.Fail(items); err != nil {
			return err
		}
		e.mu.Lock()
		for i := range items {
			if a := e.failing[items[i].At]; a != nil {
				a.next = items[i].Next
			}
		}
		e.mu.Unlock()
	}
	for i := range items {
		e.report(status.Event{Kind: status.EntryFailed, Failure: &items[i].Failure})
	}
	if len(healed) > 0 {
		was, err := e.o.Ledger.Healed(healed)
		if err != nil {
			return err
		}
		for i := range was {
			e.report(status.Event{Kind: status.EntryHealed, Failure: &was[i].Failure})
		}
	}
	e.nudge()
	return nil
}

// healed notes that a place is to be cleared from the ledger, as fail does that it is to be in it. Called with mu held.
func (e *Engine) healed(at change.Place) error {
	blind, err := e.stillBlind(at)
	if blind || err != nil {
		return err
	}
	if e.failing[at] != nil || len(e.failing) >= failingMax {
		delete(e.failing, at)
		e.unlisted = append(e.unlisted, news{Failing: Failing{At: at}, healed: true})
	}
	return nil
}

// retryPause is the shortest time between two rounds of retries, which gathers those that become due one after the other.
const retryPause = time.Second

// retry has the entries observed again whose time has come, and says how long to wait for the next.
func (e *Engine) retry() (time.Duration, error) {
	now := time.Now()
	if pause := e.retried.Add(retryPause).Sub(now); pause > 0 {
		return pause, nil
	}
	due, next, err := e.o.Ledger.Due(now, stashBatch)
	if err != nil {
		return 0, err
	}
	if len(due) > 0 {
		e.retried = now
		return retryPause, e.retryAll(due)
	}
	if next.IsZero() {
		return idleWait, nil
	}
	return min(idleWait, max(next.Sub(now), time.Millisecond)), nil
}

// retryAll has failing entries observed again. Their next try is put off first: of some an observation leads to nothing that
// could fail or be applied under the same name.
func (e *Engine) retryAll(failing []change.Place) error {
	if err := e.o.Ledger.PutOff(failing...); err != nil {
		return err
	}
	e.mu.Lock()
	for _, at := range failing {
		if a := e.failing[at]; a != nil {
			a.retries++
			a.next = time.Time{}
		}
		if id, blind := e.blind[at]; blind {
			e.suspect[id] = true
			e.nudge()
		}
	}
	e.mu.Unlock()
	e.again(failing...)
	return nil
}

// retryOnce says whether a run that shall end waits for further tries of failing entries.
func (e *Engine) retryOnce() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range e.failing {
		if a.retries < onceTries && !a.next.IsZero() && time.Until(a.next) < onceWait {
			return true
		}
	}
	return false
}

// levels splits observations so that a directory comes in an earlier part than what is in it, for a dry run on a destination that
// is filled: only when it is known what is in a directory there can anything below be planned.
func (e *Engine) levels(seen []change.Observation) [][]change.Observation {
	if len(seen) == 0 {
		return nil
	}
	if !e.o.DryRun || e.o.Fresh {
		return [][]change.Observation{seen}
	}
	var parts [][]change.Observation
	begin, dirs := 0, map[change.ID]bool{}
	for i := range seen {
		if dirs[seen[i].At.Dir] {
			parts, begin = append(parts, seen[begin:i]), i
			clear(dirs)
		}
		if seen[i].Object.Kind == change.Dir {
			dirs[seen[i].Object.ID] = true
		}
	}
	return append(parts, seen[begin:])
}

// beyond says whether a dry run put off the directory of a place: it is compared again when the one above has been looked at. Called
// with mu held.
func (e *Engine) beyond(at change.Place) bool {
	if !e.o.DryRun || e.o.Fresh || at.IsRoot() {
		return false
	}
	_, _, ok, err := e.placeOf(at.Dir)
	return err == nil && !ok
}

// pretend reports a plan instead of carrying it out, and goes on as if it had been: the store of a dry run is a copy.
func (e *Engine) pretend(p *plan.Plan) error {
	var effects []Effect
	for _, stage := range [][]change.Declaration{p.Keep, p.Vacate, p.Build, p.Drop, p.Settle} {
		for i := range stage {
			d := &stage[i]
			if d.Op == change.Times {
				continue
			}
			line, laid, err := e.planned(d)
			if err != nil {
				return err
			}
			effects = append(effects, laid...)
			if d.At.Dir != change.StashID {
				e.report(status.Event{Kind: status.Planned, Planned: line})
			}
		}
	}
	if err := e.o.Store.Commit(nil, effects, ""); err != nil {
		return err
	}
	e.mu.Lock()
	e.over.forget(0, effects)
	e.mu.Unlock()
	return nil
}

// planned describes a declaration, and lays what it would leave: what comes later is planned and named by it.
func (e *Engine) planned(d *change.Declaration) (*status.PlannedChange, []Effect, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	line := &status.PlannedChange{Op: d.Op.String(), Path: e.pathOf(d.At), Kind: d.Object.Kind.String(), Bytes: d.Object.Size}
	var laid []Effect
	switch d.Op {
	case change.Make, change.Adopt, change.Set, change.Write:
		cur, there, err := e.over.Get(d.At)
		if err != nil {
			return nil, nil, err
		}
		if d.Object.Kind == change.Dir && d.Op != change.Set && (there && cur.Kind == change.Dir || d.At.IsRoot()) && !e.o.Fresh {
			e.suspect[d.Object.ID] = true // what is in it is looked at
		}
		laid = []Effect{{At: d.At, Entry: entryOf(d.Object, cur.Sec)}}
	case change.Drop:
		laid = []Effect{{At: d.At}}
		if d.Object.Kind == change.Dir {
			laid[0].Tree = d.Object.ID
		}
	case change.Link, change.Move:
		entry, ok, err := e.over.Get(d.From)
		if err != nil {
			return nil, nil, err
		}
		line.From = "(another place)"
		if d.From.Dir != change.StashID {
			line.From = e.pathOf(d.From)
		}
		if ok {
			laid = append(laid, Effect{At: d.At, Entry: &entry})
		}
		if d.Op == change.Move {
			laid = append(laid, Effect{At: d.From})
			clear(e.dirs)
		}
	}
	for _, f := range laid {
		e.over.put(0, f)
	}
	return line, laid, nil
}

// onLedger is the place under which the ledger has a declaration that failed. Of what could not be put into the stash it is the
// place where that is: nobody would ever observe the stash again, but whatever wants the place is tried again. Not ok: what it was
// needed for fails by itself.
func onLedger(d *change.Declaration) (at change.Place, ok bool) {
	if d.At.Dir != change.StashID || d.Op == change.Drop {
		return d.Observed(), true
	}
	if !d.Seen.IsRoot() {
		return d.Seen, true
	}
	return d.From, d.From.Dir != change.StashID
}
