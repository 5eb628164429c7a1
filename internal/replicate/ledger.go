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
	retries int       // in this run
	next    time.Time // when the next is due; zero: nothing was heard since the last
}

// healed clears a place from the ledger.
func (e *Engine) healed(at change.Place) error {
	e.mu.Lock()
	if _, blind := e.blind[at]; blind {
		e.mu.Unlock()
		return nil
	}
	is := e.failing[at] != nil || len(e.failing) >= failingMax
	delete(e.failing, at)
	e.mu.Unlock()
	if !is {
		return nil
	}
	f, was, err := e.o.Ledger.Healed(at)
	if err == nil && was {
		e.report(status.Event{Kind: status.EntryHealed, Failure: &f})
	}
	return err
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

// pretend reports a plan instead of carrying it out, and goes on as if it had been.
func (e *Engine) pretend(p *plan.Plan) error {
	for _, stage := range [][]change.Declaration{p.Build, p.Drop, p.Settle} {
		for i := range stage {
			d := &stage[i]
			if d.Op == change.Times {
				continue
			}
			line, err := e.planned(d)
			if err != nil {
				return err
			}
			e.report(status.Event{Kind: status.Planned, Planned: line})
		}
	}
	return nil
}

// planned describes a declaration, and lays what later paths depend on: where directories will be, and what is gone.
func (e *Engine) planned(d *change.Declaration) (*status.PlannedChange, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	line := &status.PlannedChange{Op: d.Op.String(), Path: e.pathOf(d.At), Kind: d.Object.Kind.String(), Bytes: d.Object.Size}
	switch d.Op {
	case change.Make, change.Adopt:
		if d.Object.Kind == change.Dir {
			e.over.put(0, Effect{At: d.At, Entry: entryOf(d.Object, change.ID{})})
		}
	case change.Drop:
		e.over.put(0, Effect{At: d.At})
	case change.Link, change.Move:
		entry, ok, err := e.over.Get(d.From)
		if err != nil {
			return nil, err
		}
		if d.From.Dir == change.StashID {
			line.From = "(another place)"
		} else {
			line.From = e.pathOf(d.From)
		}
		if ok {
			e.over.put(0, Effect{At: d.At, Entry: &entry})
		}
		if d.Op == change.Move {
			e.over.put(0, Effect{At: d.From})
			clear(e.dirs)
		}
	}
	return line, nil
}
