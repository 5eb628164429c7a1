package replicate

import (
	"context"
	"time"

	"georep/internal/change"
	"georep/internal/status"
)

// settled is how long after its last change a file is read at the earliest. File systems stamp changes with the kernel's tick,
// 10 ms at the most: a change after the reading then has another ctime, so that an equal one proves equal content.
const settled = 12 * time.Millisecond

// coarse is the longest step, and something for the tick, in which file systems stamp changes that do not know parts of a second. What was read
// sooner after its last change may have changed again without another ctime: it is compared again.
const coarse = 2*time.Second + settled

// settle waits until a file was left alone for long enough. Where its ctime lies in the future nothing proves anything: see entryOf.
func settle(ctx context.Context, t *task) error {
	ctime := t.d.Object.Ctime
	t.young = ctime.Nsec == 0 && time.Since(ctime.Std()) < coarse
	wait := settled - time.Since(ctime.Std())
	if wait <= 0 || wait > settled {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// doubt makes the store remember what only this task knew: that the times of a directory, which its entries have changed,
// are wrong, or that the content of a file with equal size and times may be. Called with mu held.
func (e *Engine) doubt(t *task) {
	times, content := t.d.Op == change.Times, t.d.Op == change.Write && t.d.Checksum
	if !times && !content {
		return // the store differs from the source until it is done
	}
	places, err := append([]change.Place{t.d.At}, t.d.Names...), error(nil)
	if times { // the directory need not be where this batch was to bring it
		if places, err = e.over.Names(t.d.Object.ID); err != nil {
			return // a broken store ends the loop elsewhere
		}
	}
	for _, at := range places {
		entry, ok, err := e.over.Get(at)
		if err != nil || !ok {
			continue // what is not there will be made whole
		}
		switch {
		case times && entry.Kind == change.Dir:
			entry.Mtime = change.Time{}
		case content && entry.Kind == change.File:
			entry.Racy = true
		default:
			continue
		}
		e.lay(t.b, Effect{At: at, Entry: &entry})
	}
}

// half makes the store doubt the attributes of an object, and the content of a file, of which a declaration that failed may have brought
// some over: should the source go back to what the store says, nothing else would tell. Called with mu held.
func (e *Engine) half(t *task) {
	if t.d.Op != change.Set && t.d.Op != change.Write {
		return
	}
	places, err := e.over.Names(t.d.Object.ID)
	if err != nil {
		return // a broken store ends the loop elsewhere
	}
	for _, at := range places {
		entry, ok, err := e.over.Get(at)
		if err != nil || !ok {
			continue
		}
		entry.UID = ownerUnset
		entry.Racy = entry.Racy || t.d.Op == change.Write && entry.Kind == change.File
		e.lay(t.b, Effect{At: at, Entry: &entry})
	}
}

// unexplained has the directory of a failing entry looked at that needs nothing any more, although nothing was carried out: what failed on the
// secondary may have been done all the same, or by half, and it is the source that has gone back. Called with mu held.
func (e *Engine) unexplained(at change.Place) {
	a := e.failing[at]
	if a == nil || a.why.Side == status.Source || at.IsRoot() || at.Dir == change.StashID || e.o.DryRun {
		return
	}
	e.suspect[at.Dir] = true
	e.nudge()
}
