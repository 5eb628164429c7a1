package replicate

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"time"

	"georep/internal/change"
	"georep/internal/plan"
	"georep/internal/status"
)

// end takes the answer to a task.
func (e *Engine) end(t *task, res change.Result) error {
	e.trace(t, res)
	switch res.Status {
	case change.Applied:
		return e.applied(t, res)
	case change.Exists, change.Stale:
		return e.surprised(t)
	}
	return e.failed(t, failureOf(t, &res))
}

// failureOf describes an answer for the ledger.
func failureOf(t *task, res *change.Result) status.Failure {
	f := status.Failure{Op: t.d.Op.String(), Call: res.Call, Errno: int(res.Errno), Error: res.Detail, Side: status.Destination}
	if res.Errno != 0 {
		f.Error = res.Errno.Error()
		if res.Detail != "" {
			f.Error += " (" + res.Detail + ")"
		}
	}
	if res.Local {
		f.Side = status.Source
	}
	f.Hint = status.Hint(f.Errno, f.Side, f.Call)
	return f
}

// failed ends a task that the ledger shall keep. What depends on the same object fails with it; the rest is observed again.
func (e *Engine) failed(t *task, f status.Failure) error {
	e.mu.Lock()
	defer e.release()
	at, listed := onLedger(&t.d)
	f.Path = e.pathOf(at)
	if f.Side == status.Destination {
		e.half(t)
	}
	var again []change.Place
	for _, n := range e.conclude(t, true) {
		if listed && n.d.Observed() == at {
			continue // it is listed below
		}
		if n.d.Object.ID != t.d.Object.ID {
			again = append(again, n.d.Observed())
			continue
		}
		g := f
		g.Op, g.Path = n.d.Op.String(), e.pathOf(n.d.Observed())
		e.fail(n.d.Observed(), g)
	}
	if listed {
		e.fail(at, f)
	}
	e.mu.Unlock()
	e.again(again...)
	return nil
}

// conclude ends a task and gives those that were skipped for it or others. Until release is called no batch counts as ended,
// so that nobody who waits for them misses what is asked of the source because of this. Called with mu held.
func (e *Engine) conclude(t *task, failed bool) []*task {
	e.open++
	if d := t.detached; d != nil {
		e.o.Source.Again(d.places...) // or at least it says once more that it has caught up
		e.asked.Add(int64(len(d.places)))
		behind := d.behind
		d.behind, d.places = nil, nil
		delete(e.detached, t.d.Object.ID)
		e.nudge()
		return behind
	}
	if failed {
		e.doubt(t)
	}
	e.over1(t, failed)
	return e.takeBehind()
}

// release ends what conclude has begun.
func (e *Engine) release() {
	e.mu.Lock()
	e.open--
	e.mu.Unlock()
	e.cond.Broadcast()
}

// takeBehind gives the tasks that were skipped for others. Called with mu held.
func (e *Engine) takeBehind() []*task {
	b := e.behind
	e.behind = nil
	return b
}

func places(ts []*task) []change.Place {
	out := make([]change.Place, len(ts))
	for i, t := range ts {
		out[i] = t.d.Observed()
	}
	return out
}

// pathOf names a place for a person. Called with mu held.
func (e *Engine) pathOf(at change.Place) string {
	if at.IsRoot() {
		return "."
	}
	w, ok, err := e.whereIs(at.Dir)
	if err != nil || !ok {
		return "?/" + at.Name
	}
	return change.Join(w.path, at.Name)
}

// hindrance is why a task cannot be sent now.
type hindrance int

const (
	hindNone      hindrance = iota
	hindUnknown             // its directory is not on the secondary: when that is made, it is compared
	hindSuspect             // its directory is to be looked at first, and compared then
	hindElsewhere           // something else that it needs is not where it should be: it is observed again
	hindVanished            // it is not there any more, or not the same: it is observed again
	hindMissing             // the directory whose times were to be set could not be made, or has left: who found that sees to it
)

// elusive is the failure of an entry that is observed again and again, and each time cannot be sent.
func elusive(op change.Op, why hindrance, cause error) status.Failure {
	if why == hindVanished {
		f := unreadable(op, cause)
		f.Error = "whenever it is to be read, it is not what it was (" + f.Error + ")"
		return f
	}
	return status.Failure{
		Op: op.String(), Side: status.Destination, Error: "what it is to be made from cannot be found on the destination",
		Hint: "it is tried again; if that does not help, stop georep and start it again",
	}
}

// skip ends a task that cannot be sent, and sees to it that its place is observed again, by itself or with its directory. cause may be nil.
func (e *Engine) skip(t *task, why hindrance, cause error) error {
	e.traceLocal(t, why.String(), cause)
	e.mu.Lock()
	alone := why == hindElsewhere || why == hindVanished || t.d.Observed() != t.d.At
	if alone && e.surprised1(t.d.Observed()) > surprisesMax {
		e.mu.Unlock()
		return e.failed(t, elusive(t.d.Op, why, cause))
	}
	defer e.release()
	if why == hindUnknown {
		e.lost[t.d.At.Dir] = true
	}
	behind := e.conclude(t, true)
	e.mu.Unlock()
	var again []change.Place
	for _, n := range behind {
		if alone || why == hindMissing || n.d.At.Dir != t.d.At.Dir {
			again = append(again, n.d.Observed())
		}
	}
	if alone {
		again = append(again, t.d.Observed())
	}
	e.again(again...)
	return nil
}

// over1 ends one task: those behind it are sent or skipped, and its stage may be complete. Called with mu held.
func (e *Engine) over1(t *task, failed bool) {
	if t.ended {
		return
	}
	t.ended, t.failed = true, failed
	delete(e.streaming, t)
	e.stats.ended(t)
	if e.making[t.d.Object.ID] == t {
		delete(e.making, t.d.Object.ID)
		delete(e.makingAt, t.d.At)
	}
	var send []*task
	for _, n := range t.next {
		n.waits--
		if failed && !n.failed && needs(n, t) {
			n.failed = true
			if n.d.At.Dir == t.d.Object.ID && (t.d.Op == change.Make || t.d.Op == change.Adopt) {
				e.lost[n.d.At.Dir] = true
			} else {
				e.behind = append(e.behind, n)
			}
		}
		if n.waits > 0 || n.ended || !n.armed {
			continue
		}
		if n.failed {
			e.over1(n, true)
			continue
		}
		send = append(send, n)
	}
	t.next = nil
	e.ready.push(send...)
	t.b.left--
	if t.b.left == 0 {
		e.advance(t.b)
	}
}

// needs says whether n makes no sense without t: t would have brought its directory, or the object itself.
func needs(n, t *task) bool {
	return n.d.At.Dir == t.d.Object.ID || n.d.Object.ID == t.d.Object.ID
}

// surprised handles that the secondary is not as the store says: the directories concerned are looked at.
func (e *Engine) surprised(t *task) error {
	if t.d.Op == change.Times {
		return e.skip(t, hindMissing, nil) // another object is in its place still: who could not change that has said so
	}
	e.mu.Lock()
	again := e.surprised1(t.d.Observed())
	if again > surprisesMax {
		e.mu.Unlock()
		return e.failed(t, status.Failure{
			Op: t.d.Op.String(), Call: "apply", Errno: int(syscall.EBUSY), Side: status.Destination, Error: "the destination keeps changing under our hands",
			Hint: "make sure that nothing but georep writes to the destination",
		})
	}
	defer e.release()
	e.suspectDirs(t)
	behind := e.conclude(t, true)
	e.mu.Unlock()
	e.nudge()
	if t.d.Observed() != t.d.At {
		behind = append(behind, t) // comparing the directories that are looked at would not show it
	}
	e.again(places(behind)...)
	return nil
}

func (e *Engine) suspectDirs(t *task) {
	for _, at := range append([]change.Place{t.d.At, t.d.From}, t.d.Names...) {
		switch {
		case at.Dir == change.StashID:
			e.suspect[change.StashID] = true
		case !at.Dir.IsZero():
			e.suspect[at.Dir] = true
		}
	}
}

// applied records what the secondary has now.
func (e *Engine) applied(t *task, res change.Result) error {
	if res.Errno != 0 {
		t.d.Object.UID = ownerUnset
	}
	e.mu.Lock()
	if err := e.record(t, res); err != nil {
		e.mu.Unlock()
		return err
	}
	defer e.release()
	if t.inline {
		e.stats.sent += t.d.Object.Size // the content travelled within the request
	}
	delete(e.surprisesIn, t.d.Observed())
	delete(e.lacking, t.d.Object.ID)
	if made := t.d.Object.Kind == change.Dir && (t.d.Op == change.Make || t.d.Op == change.Adopt); e.lost[t.d.Object.ID] || made && e.treesGone {
		delete(e.lost, t.d.Object.ID)
		e.rescan(t.d.Object.ID)
	}
	behind := e.conclude(t, false)
	part, err := e.partial(t, &res)
	// A directory's times may be those of the store, which has not what failed.
	if stashed := t.d.Op == change.Link && t.d.At.Dir == change.StashID; err == nil && !stashed && !part && t.d.Op != change.Times {
		err = e.healed(t.d.Observed())
	}
	e.mu.Unlock()
	if err != nil {
		return err
	}
	e.again(places(behind)...)
	return nil
}

// partial says whether what is at a task's place lacks its owner or attributes, and notes the failure if that is this answer's
// news. Called with mu held.
func (e *Engine) partial(t *task, res *change.Result) (bool, error) {
	if res.Errno != 0 {
		f := failureOf(t, res)
		f.Op, f.Path = change.Set.String(), e.pathOf(t.d.At)
		e.fail(t.d.Observed(), f)
		return true, nil
	}
	if len(e.failing) == 0 {
		return false, nil
	}
	now, ok, err := e.over.Get(t.d.At)
	return ok && now.UID == ownerUnset, err
}

// ownerUnset is the owner that the store notes for an object whose owner or attributes the secondary could not set: no object
// has it, so that it differs from the source until that is mended.
const ownerUnset = ^uint32(0)

func (e *Engine) record(t *task, res change.Result) error {
	d := &t.d
	switch d.Op {
	case change.Make, change.Adopt:
		f := Effect{At: d.At, Entry: entryOf(d.Object, res.Sec)}
		f.Entry.Racy = f.Entry.Racy || t.young
		if d.Object.Kind == change.Dir && !res.Created && !(d.At.IsRoot() && e.o.Fresh) {
			e.suspect[d.Object.ID] = true // it was there: what is in it is not known
			f.Doubt = d.Object.ID
			e.nudge()
		}
		e.lay(t.b, f)
	case change.Write:
		entry := entryOf(d.Object, res.Sec)
		entry.Racy = entry.Racy || t.young
		for _, at := range append([]change.Place{d.At}, d.Names...) {
			e.lay(t.b, Effect{At: at, Entry: entry})
		}
	case change.Set:
		return e.recordSet(t, res)
	case change.Link, change.Move:
		return e.recordName(t, res)
	case change.Drop:
		f := Effect{At: d.At}
		if d.Object.Kind == change.Dir {
			f.Tree, e.treesGone = d.Object.ID, true
			clear(e.dirs)
		}
		e.lay(t.b, f)
		return e.dropped(d)
	}
	return nil
}

// recordSet notes new attributes at all names of an object that are the same object on the secondary.
func (e *Engine) recordSet(t *task, res change.Result) error {
	names, err := e.over.Names(t.d.Object.ID)
	if err != nil {
		return err
	}
	entry := entryOf(t.d.Object, res.Sec)
	for _, at := range names {
		cur, ok, err := e.over.Get(at)
		if err != nil {
			return err
		}
		if ok && (cur.Sec == res.Sec || at == t.d.At) {
			e.lay(t.b, Effect{At: at, Entry: entry})
		}
	}
	return nil
}

// recordName notes that an object has another name: with the state that it has, which a later declaration may change.
func (e *Engine) recordName(t *task, res change.Result) error {
	d := &t.d
	entry, ok, err := e.over.Get(d.From)
	if err != nil {
		return err
	}
	if !ok {
		entry = *entryOf(d.Object, res.Sec)
	}
	entry.Sec = res.Sec
	if sameState(entry.Object, d.Object) {
		entry.Ctime, entry.Nlink = d.Object.Ctime, d.Object.Nlink
	}
	e.lay(t.b, Effect{At: d.At, Entry: &entry})
	if d.Op == change.Link && d.At.Dir != change.StashID && d.From.Dir != change.StashID {
		e.stats.named(d.Object.ID)
	}
	if d.Op == change.Move {
		e.lay(t.b, Effect{At: d.From})
		clear(e.dirs)
	}
	return nil
}

func sameState(a, b change.Object) bool {
	return a.Size == b.Size && a.Mtime == b.Mtime && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && !b.HasXattrs
}

func entryOf(o change.Object, sec change.ID) *change.Entry {
	e := &change.Entry{Object: o, Sec: sec}
	if o.HasXattrs {
		e.XattrSum = plan.XattrSum(o.Xattrs)
	}
	e.Xattrs, e.HasXattrs = nil, false
	e.Racy = o.Kind == change.File && time.Since(o.Ctime.Std()) < 0
	return e
}

// unread ends a task whose content could not be read. A file that is gone is seen again; anything else waits in the ledger.
func (e *Engine) unread(ctx context.Context, t *task, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESTALE) {
		return e.skip(t, hindVanished, err)
	}
	e.traceLocal(t, "unreadable", err)
	return e.failed(t, unreadable(t.d.Op, err))
}

// unreadable is the failure of an entry of the source that could not be read.
func unreadable(op change.Op, err error) status.Failure {
	f := status.Failure{Op: op.String(), Call: "read", Side: status.Source, Error: err.Error(), Hint: "it is tried again when it is left alone for a moment"}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		f.Errno, f.Error = int(errno), errno.Error()
		f.Hint = status.Hint(int(errno), f.Side, f.Call)
	}
	return f
}
