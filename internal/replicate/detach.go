package replicate

import (
	"cmp"
	"context"
	"errors"
	"time"

	"georep/internal/change"
	"georep/internal/status"
	"georep/internal/wire"
)

// Content that takes long is detached from its batch when others wait for that: the batch ends without the file, and its content
// goes on. When it has arrived, the file is observed again, and what is planned for it then says how it is made. If the file is not
// what was sent any more, the content is given up; what has arrived of a large one the secondary keeps, so that it need not come again.

// defaultPatience is how long the loop waits for content before it goes on without.
const defaultPatience = 200 * time.Millisecond

// detachedMax bounds the files whose content is detached. Beyond, the loop waits. Each takes one of the writes that a connection allows.
const detachedMax = 32

// detached is content on its way, or that waits for its turn, for which no batch waits. Guarded by Engine.mu.
type detached struct {
	t      *task
	filled bool // it has arrived, and a task is to be planned that it is placed by
	claims chan claim
	cancel context.CancelFunc
	given  error          // why it is given up, if it is
	behind []*task        // to be observed again when it has arrived, or is given up
	places []change.Place // these too
}

// claim is how content is placed: by a task of another batch than it was sent for.
type claim struct {
	t *task
	r *wire.Request
}

// Why content is given up.
var (
	errUnwanted = errors.New("nothing is to be made of the content any more")
	errOutdated = errors.New("the file changed while it was read")
)

// await waits until holds, which is called with mu held, and detaches content meanwhile. It gives the reason when the loop
// ends. Called with mu held.
func (e *Engine) await(holds func() bool) error {
	if e.dead != nil || holds() {
		return e.dead
	}
	patience := cmp.Or(e.o.Patience, defaultPatience)
	next := time.Now().Add(patience)
	wake := time.AfterFunc(max(0, patience), e.cond.Broadcast)
	defer wake.Stop()
	for e.dead == nil && !holds() {
		e.cond.Wait()
		if patience < 0 || time.Now().Before(next) {
			continue
		}
		for t := range e.streaming {
			if len(e.detached) < detachedMax {
				e.detach(t)
			}
		}
		next = time.Now().Add(patience)
		wake.Reset(patience)
	}
	return e.dead
}

// detach ends a task for its batch while its content goes on. Called with mu held.
func (e *Engine) detach(t *task) {
	id := t.d.Object.ID
	if e.tracing() {
		e.o.Log.Debug("detached", status.LogPath, e.pathOf(t.d.At), "id", id.String(), "batch", t.b.gen)
	}
	d := &detached{t: t, claims: make(chan claim, 1), cancel: e.streaming[t]}
	e.detached[id] = d
	if _, known := e.lacking[id]; !known {
		e.lacking[id] = e.settledAt
	}
	e.putBehind(d, t)
	t.detached = d
}

// putBehind ends a task, and what depends on it, as not carried out: it is observed again later. Called with mu held.
func (e *Engine) putBehind(d *detached, t *task) {
	e.open++ // the batch ends with this and not before
	e.doubt(t)
	e.over1(t, true)
	d.behind = append(append(d.behind, t), e.takeBehind()...)
	e.open--
	e.cond.Broadcast()
}

// overtaken says whether the content of a task's file is detached. Then the task is what that is placed by, or is observed again
// when it is over with that.
func (e *Engine) overtaken(t *task, r *wire.Request) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.detached[t.d.Object.ID]
	switch {
	case d == nil:
		return false
	case d.given != nil:
	case !sameContent(&d.t.d.Object, &t.d.Object):
		e.giveUp(d, errOutdated)
	case d.filled:
		delete(e.detached, t.d.Object.ID)
		e.nudge()
		d.claims <- claim{t, r}
		return true
	}
	e.putBehind(d, t)
	return true
}

// sameContent says whether what was read of a file in one state is what it holds in another.
func sameContent(a, b *change.Object) bool {
	return a.Size == b.Size && a.Mtime == b.Mtime && a.Ctime == b.Ctime
}

// giveUp breaks detached content off. Called with mu held.
func (e *Engine) giveUp(d *detached, why error) {
	if d.given != nil {
		return
	}
	d.given = why
	if d.cancel != nil {
		d.cancel()
	}
}

// anyDetached says whether content is detached.
func (e *Engine) anyDetached() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.detached) > 0
}

// giveUpAll breaks all detached content off.
func (e *Engine) giveUpAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range e.detached {
		e.giveUp(d, errUnwanted)
	}
}

// unclaimed gives up content that has arrived and that no task was planned for. Called by the driving goroutine when all that was
// asked for was handed out and carried out.
func (e *Engine) unclaimed() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range e.detached {
		if d.filled {
			e.giveUp(d, errUnwanted)
		}
	}
}

// vanished gives up content of files that are not any more where they were observed.
func (e *Engine) vanished(b *Batch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.detached) == 0 {
		return
	}
	at := map[change.Place]*detached{}
	for _, d := range e.detached {
		at[d.t.d.Observed()] = d
	}
	gone := func(p change.Place) {
		if d := at[p]; d != nil {
			e.giveUp(d, errUnwanted)
		}
	}
	for _, p := range b.Gone {
		gone(p)
	}
	for i := range b.Seen {
		if b.Seen[i].Absent {
			gone(b.Seen[i].At)
		}
	}
}

// detachable says that a task waits to be streamed, or is (then cancel breaks it off), or (on is false) is not any more: it may be
// detached while it is. It says false of a task that is detached already.
func (e *Engine) detachable(t *task, on bool, cancel context.CancelFunc) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if d := t.detached; d != nil {
		if cancel == nil {
			return false
		}
		if d.cancel = cancel; d.given != nil {
			cancel()
		}
		return false
	}
	if delete(e.streaming, t); on {
		e.streaming[t] = cancel
	}
	return true
}

// placed is asked when all content of a task has been sent, and gives what it is placed by; nil: by the task itself.
func (e *Engine) placed(ctx context.Context, t *task) (*claim, error) {
	if e.detachable(t, false, nil) {
		return nil, nil
	}
	e.mu.Lock()
	d := t.detached
	if d.given != nil {
		e.mu.Unlock()
		return nil, d.given
	}
	again := append(places(d.behind), d.places...)
	d.behind, d.places, d.filled = nil, nil, true
	e.open++
	e.mu.Unlock()
	e.again(again...)
	e.release()
	t.parked = true
	e.moreStreams()
	select {
	case c := <-d.claims:
		return &c, nil
	case <-ctx.Done():
	}
	select {
	case c := <-d.claims:
		return &c, nil // Write ends with ctx: and so does that task
	default:
		return nil, context.Cause(ctx)
	}
}

// spared takes from absences those by which the secondary would lose what it has of a file whose new content is detached: until that
// has arrived it is the only copy. They are observed again then, or when it turns out that the file is gone as well.
func (e *Engine) spared(absent []change.Observation) ([]change.Observation, error) {
	e.mu.Lock()
	above := map[change.Place][]*detached{}
	for _, d := range e.detached {
		if d.given != nil || d.t.d.Op != change.Write {
			continue
		}
		if err := e.above(d, above); err != nil {
			e.mu.Unlock()
			return nil, err
		}
	}
	var again []change.Place
	keep := absent[:0:0]
	for _, o := range absent {
		for _, d := range above[o.At] {
			if o.At.Dir != change.StashID {
				d.places = append(d.places, o.At)
			}
			again = append(again, d.t.d.Observed())
		}
		if len(above[o.At]) == 0 {
			keep = append(keep, o)
		}
	}
	e.mu.Unlock()
	e.again(again...)
	return keep, nil
}

// above adds what the secondary has of a detached file to places: its names, and the directories above. Called with mu held.
func (e *Engine) above(d *detached, places map[change.Place][]*detached) error {
	names, err := e.over.Names(d.t.d.Object.ID)
	for _, at := range names {
		for ok := true; ok && err == nil && !at.IsRoot(); {
			places[at] = append(places[at], d)
			if at.Dir == change.StashID {
				break
			}
			at, _, ok, err = e.placeOf(at.Dir)
		}
	}
	return err
}

// landed ends content that was given up. It says false of content that was not.
func (e *Engine) landed(t *task) (bool, error) {
	e.mu.Lock()
	d := t.detached
	if d == nil || d.given == nil || e.detached[t.d.Object.ID] != d {
		e.mu.Unlock()
		return false, nil
	}
	if d.given == errOutdated {
		e.mu.Unlock()
		return true, e.failed(t, unreadable(t.d.Op, errOutdated))
	}
	behind := e.conclude(t, true)
	e.mu.Unlock()
	e.again(places(behind)...)
	e.release()
	return true, nil
}

// underWay is how much is still to come of detached content. Called with mu held.
func (e *Engine) underWay() (entries, bytes int64) {
	for _, d := range e.detached {
		bytes += max(0, d.t.d.Object.Size-d.t.flowed)
	}
	return int64(len(e.detached)), bytes
}

// oldestLacking is since when the secondary may lack something of what is detached, or now. Called with mu held.
func (e *Engine) oldestLacking(now time.Time) time.Time {
	for _, since := range e.lacking {
		if since.Before(now) {
			now = since
		}
	}
	return now
}
