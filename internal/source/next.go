package source

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"georep/internal/change"
	"georep/internal/source/scan"
)

const (
	// restPeriod is the shortest time between two batches that say CaughtUp.
	restPeriod = 100 * time.Millisecond
	// heartbeat is the time after which a quiet source says again that all is handed out, and looks after its root.
	heartbeat = 5 * time.Second
	// progressPeriod is the time after which the progress of a pass is told that finds nothing.
	progressPeriod = time.Second
)

// nextState is what Next keeps from call to call.
type nextState struct {
	asked   atomic.Bool  // somebody asked for looks since the last CaughtUp
	out     []scan.Chunk // handed out with the last batch
	told    *sweep       // names found missing by looks and jobs: events explain what became of their objects
	swept   *sweep       // names found missing by a pass
	open    *sweep       // the one of which the last batch handed out a part, with more to come
	empty   bool         // Batch.Empty of that
	pass    *scan.Job    // running, or ended and not yet dealt with
	number  int          // of the pass
	begun   time.Time    // when that began
	whole   time.Time    // when the last pass that has ended began
	ended   time.Time    // of the last pass
	quiet   bool         // the last batch said CaughtUp
	rested  time.Time    // when the last CaughtUp was said
	shown   time.Time    // when the progress was told
	rootDue bool         // the root is to be handed out before anything else
	dropped uint64       // when the absence of a directory was handed out last, as Observation.Fresh counts
}

func (n *nextState) init(dir string) { n.told, n.swept = newSweep(dir), newSweep(dir) }

func (n *nextState) close() {
	n.told.close()
	n.swept.close()
}

// Begin starts the first pass. Without it the first call of Next does; that, or anything that it excludes, must not be under way. What is found
// waits for Next, in bounded memory.
func (v *Volume) Begin() error { return v.beginScans() }

// Next waits until there is something to hand over. Its errors are final: ErrSourceReplaced, that of ctx, that of the index, or of
// a temporary file.
func (v *Volume) Next(ctx context.Context) (Batch, error) {
	for {
		v.release()
		if err := ctx.Err(); err != nil {
			return Batch{}, err
		}
		select {
		case err := <-v.failure:
			return Batch{}, err
		default:
		}
		b, ready, wait, err := v.step()
		if err != nil {
			return Batch{}, err
		}
		if ready {
			return b, nil
		}
		if len(v.next.out) > 0 {
			continue // chunks that gave nothing to hand over are to be counted as done with: that alone may end a job
		}
		if err := v.await(ctx, wait); err != nil {
			return Batch{}, err
		}
	}
}

// release counts the chunks of the last batch, or of none, as handed over.
func (v *Volume) release() {
	n := &v.next
	for _, c := range n.out {
		v.walker.Done(c)
	}
	clear(n.out)
	n.out = n.out[:0]
}

// await waits for a nudge, or for a time; 0 means for ever.
func (v *Volume) await(ctx context.Context, wait time.Duration) error {
	var alarm <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		alarm = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-v.stopped:
		return fmt.Errorf("observe source: %w", context.Canceled)
	case <-v.wake:
	case <-alarm:
	}
	return nil
}

// step does what can be done now: ready is true when there is a batch, else wait says how long to wait at most.
func (v *Volume) step() (b Batch, ready bool, wait time.Duration, err error) {
	n := &v.next
	if n.open != nil {
		b, err = v.absences(n.open)
		return b, true, 0, err
	}
	now := time.Now()
	asked := n.asked.Swap(false)
	if asked {
		n.quiet = false
	}
	ended := n.pass != nil && v.walker.Running() != n.pass
	if err := v.drainEvents(); err != nil {
		return b, false, 0, fmt.Errorf("watch source: %w", err)
	}
	if ended {
		// Events of directories that moved during the pass have been read by now, and noted as such.
		b.Scan = v.scanState()
		b.Scan.Running, b.Scan.Done = false, true
		n.pass, n.ended, n.whole = nil, now, n.begun
		v.blind.Store(v.blinded.Load())
		v.passing.Store(false)
		v.away.clear()
		ready = true
	}
	if err := v.beginScans(); err != nil {
		return b, false, 0, err
	}
	wait, err = v.gather(&b, now)
	if err != nil {
		return b, false, 0, err
	}
	if !b.Scan.Done {
		b.Scan = v.scanState()
	}
	ready = ready || b.holds()
	if !ready {
		if s := v.ripe(); s != nil {
			b, err = v.absences(s)
			return b, true, 0, err
		}
	}
	return v.finish(b, ready, wait, now)
}

// holds says whether the batch has anything to tell.
func (b *Batch) holds() bool {
	return len(b.Seen)+len(b.Problems)+len(b.Gone) > 0 || b.Note != ""
}

// finish adds to a batch whether all is handed out now, and decides whether an empty one is worth handing over.
func (v *Volume) finish(b Batch, ready bool, wait time.Duration, now time.Time) (Batch, bool, time.Duration, error) {
	n := &v.next
	if caught, at := v.caughtUp(now); caught {
		pause := restPeriod - now.Sub(n.rested)
		if n.quiet && !ready {
			pause = heartbeat - now.Sub(n.rested)
		}
		if pause <= 0 {
			b.CaughtUp, b.At = true, at
			if n.quiet && !ready {
				if err := v.checkRoot(); err != nil {
					return b, false, 0, err
				}
			}
			v.away.prune(func(id change.ID) bool { _, ok := v.dirs.acknowledged(id); return ok })
			v.opened.clear()
			n.quiet, n.rested, ready = true, now, true
			return b, true, 0, nil
		}
		wait = sooner(wait, pause)
	}
	if ready {
		n.quiet = false
		n.shown = now
		return b, true, 0, nil
	}
	if n.pass != nil {
		if left := progressPeriod - now.Sub(n.shown); left > 0 {
			return b, false, sooner(wait, left), nil
		}
		n.shown = now
		return b, true, 0, nil
	}
	if v.o.ScanInterval > 0 {
		wait = sooner(wait, max(v.o.ScanInterval-now.Sub(n.ended), time.Millisecond))
	}
	return b, false, wait, nil
}

// sooner is the smaller of two waiting times, of which 0 is for ever.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// scanState tells the progress of the pass.
func (v *Volume) scanState() ScanState {
	n := &v.next
	s := ScanState{Pass: n.number}
	if n.pass != nil {
		// Equal first: so that it never seems to be more than was compared.
		s.Equal, s.EqualBytes = n.pass.Equal.Load(), n.pass.EqualBytes.Load()
		s.Running, s.Entries, s.Bytes = true, n.pass.Entries.Load(), n.pass.Bytes.Load()
	}
	return s
}

// beginScans starts the passes and jobs that are due.
func (v *Volume) beginScans() error {
	n := &v.next
	for _, id := range v.pending.takeScans() {
		if err := v.walker.Add(scan.Dir{ID: id}, v.pending.ticket(), scan.Manner{Shallow: true}); err != nil {
			return fmt.Errorf("scan directory: %w", err)
		}
	}
	if v.pending.takeLost() {
		v.lose()
	}
	if n.pass != nil {
		return nil
	}
	want := v.want.Swap(wantNone)
	if want == wantNone && v.o.ScanInterval > 0 && n.number > 0 && time.Since(n.ended) >= v.o.ScanInterval {
		want = wantPass
	}
	if want == wantNone {
		return nil
	}
	if err := v.checkRoot(); err != nil {
		return err
	}
	n.number++
	first := n.number == 1
	var limit *rate.Limiter
	if !first && want != wantDoubt {
		limit = v.limiter
	}
	v.passing.Store(true)
	v.blinded.Store(false)
	n.begun = time.Now()
	v.troubled.clear()
	job, err := v.walker.Pass(scan.Dir{ID: v.rootID}, scan.Manner{Doubt: want == wantDoubt, Checksum: first && v.o.Checksum, Limit: limit})
	if err != nil {
		return fmt.Errorf("scan source: %w", err)
	}
	n.pass, n.shown, n.quiet, n.rootDue = job, time.Now(), false, true
	return nil
}

// gather fills a batch with what was looked at, what jobs found, and what the pass found, in this order.
func (v *Volume) gather(b *Batch, now time.Time) (wait time.Duration, err error) {
	items, wait := v.pending.take(batchSize/2, now, v.o.Coalesce)
	if v.next.rootDue {
		v.next.rootDue = false
		items = append([]*item{{}}, items...)
	}
	if len(items) > 0 {
		wait = time.Millisecond // looks may lead to others
		k := v.observe(items)
		b.Seen, b.Gone, b.Problems = k.Seen, k.Gone, k.Problems
		if err := v.next.told.add(k.absent); err != nil {
			return 0, err
		}
		for _, j := range k.jobs {
			if err := v.walker.Add(j.dir, j.seq, scan.Manner{}); err != nil {
				return 0, fmt.Errorf("scan directory: %w", err)
			}
		}
	}
	for len(b.Seen) < batchSize {
		var c scan.Chunk
		select {
		case c = <-v.walker.Live():
		default:
			select {
			case c = <-v.walker.Live():
			case c = <-v.walker.Bulk():
			default:
				v.takeNote(b)
				return wait, nil
			}
		}
		if err := v.takeChunk(b, c); err != nil {
			return 0, err
		}
	}
	v.takeNote(b)
	return wait, nil
}

func (v *Volume) takeNote(b *Batch) {
	select {
	case b.Note = <-v.notes:
	default:
	}
}

// takeChunk adds to a batch what the walker found.
func (v *Volume) takeChunk(b *Batch, c scan.Chunk) error {
	v.next.out = append(v.next.out, c)
	for i := range c.Seen {
		o := &c.Seen[i]
		if v.overtaken(o) {
			continue
		}
		v.handOut(o.At)
		v.linked(o.At, &o.Object)
		if o.Object.Kind == change.Dir {
			v.dirs.saw(o.Object.ID, o.At.Dir, o.At.Name)
			v.known.put(o.Object.ID, struct{}{})
			v.placed.put(o.Object.ID, o.Fresh)
			if v.takeUnread(o.At) {
				v.pending.add(o.At, look{deep: true}) // this job need not compare what is below
			}
			if o.Fresh < v.next.dropped {
				// It may be what was dropped, found at another place; then its entries were compared with what the index had until then.
				v.pending.add(o.At, look{deep: true})
			}
		} else {
			v.relink(o.At, &o.Object)
			if doubt, doubted := v.hasDoubt(o.Object.ID); doubted {
				v.pending.add(o.At, look{content: doubt.content, follow: true}) // it may have changed since the walker saw it
			}
		}
		b.Seen = append(b.Seen, *o)
	}
	for _, p := range c.Problems {
		v.report(b, p)
	}
	s := v.next.told
	if c.Job.Full {
		s = v.next.swept
	}
	return s.add(c.Absent)
}

// overtaken says whether an observation that waited in the walker's queue is older than what was handed out since. Were it handed
// out after that, it would bring back a name that a look has found missing, or a directory to a place that it has left; its
// absence there, which is noticed in the end, would then take the directory away from where it is.
func (v *Volume) overtaken(o *change.Observation) bool {
	if fresh, ok := v.looked.get(v.hash(o.At)); ok && fresh > o.Fresh {
		if o.Content {
			v.pending.add(o.At, look{content: true, follow: true}) // the look need not have known of that doubt
		}
		return true
	}
	if o.Object.Kind != change.Dir {
		return false
	}
	fresh, ok := v.placed.get(o.Object.ID)
	if !ok || fresh < o.Fresh {
		return false
	}
	v.pending.add(o.At, look{})
	return true
}

// ripe gives a heap of absences whose time has come.
func (v *Volume) ripe() *sweep {
	n := &v.next
	blind := n.pass != nil && (n.number == 1 || n.pass.Doubt || v.watch == nil) || v.want.Load() != wantNone
	for _, s := range []*sweep{n.told, n.swept} {
		if blind || s == n.swept && n.pass != nil {
			continue
		}
		s.ripen(v.pending.ticket)
		if s.ripe.Len() == 0 || !v.pending.behind(s.ticket) {
			continue
		}
		if oldest, ok := v.walker.Oldest(); ok && oldest < s.ticket {
			continue
		}
		return s
	}
	return nil
}

// absences makes a batch of the ripe part of a heap.
func (v *Volume) absences(s *sweep) (Batch, error) {
	n := &v.next
	var b Batch
	if err := v.checkRoot(); err != nil {
		return b, err
	}
	if n.open == nil {
		empty, err := v.rootEmpty()
		if err != nil {
			return b, err
		}
		n.empty = empty
	}
	places, err := s.take(batchSize)
	if err != nil {
		return b, err
	}
	v.confirm(places, &b)
	n.open = nil
	if s.ripe.Len() > 0 {
		n.open, b.AbsentMore = s, true
	}
	b.Empty, b.Scan, n.quiet = n.empty, v.scanState(), false
	return b, nil
}

// caughtUp says whether all that happened before a time has been handed out, together with what is being handed out now.
func (v *Volume) caughtUp(now time.Time) (bool, time.Time) {
	n := &v.next
	if v.want.Load() != wantNone || !n.told.empty() || n.pass == nil && !n.swept.empty() {
		return false, time.Time{}
	}
	if n.pass != nil && (n.number == 1 || n.pass.Doubt || v.watch == nil) {
		return false, time.Time{}
	}
	ticket := v.pending.ticket()
	idle, since := v.pending.idle()
	if !idle {
		return false, time.Time{}
	}
	for _, c := range n.out {
		if !c.Job.Full {
			return false, time.Time{} // it is only over when these are done with
		}
	}
	if _, jobs := v.walker.Oldest(); jobs {
		return false, time.Time{}
	}
	settled, changed := v.pursue(ticket, now, !since.IsZero())
	if !settled {
		return false, time.Time{}
	}
	for _, bound := range []time.Time{since, changed, v.unseenSince()} {
		if !bound.IsZero() && bound.Before(now) {
			now = bound
		}
	}
	return true, now
}

// unseenSince is since when something may have happened that no event tells; zero: never.
func (v *Volume) unseenSince() time.Time {
	if v.watch == nil || v.blind.Load() {
		return v.next.whole
	}
	return time.Time{}
}
