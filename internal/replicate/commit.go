package replicate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"georep/internal/change"
)

// commitLoop makes finished batches safe, as many at once as there are.
func (e *Engine) commitLoop(ctx context.Context) error {
	for {
		var group []*batch
		select {
		case <-ctx.Done():
			return nil
		case b := <-e.finished:
			group = append(group, b)
		}
		for more := true; more; {
			select {
			case b := <-e.finished:
				group = append(group, b)
			default:
				more = false
			}
		}
		if err := e.commit(ctx, group); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// commit syncs the secondary and then tells the store: only now are the batches acknowledged.
func (e *Engine) commit(ctx context.Context, group []*batch) error {
	var gens []uint64
	var effects []Effect
	mark := ""
	for _, b := range group {
		if !b.uncertain {
			gens = append(gens, b.gen)
		}
		effects = append(effects, b.effects...)
	}
	if len(effects) > 0 {
		mark = e.o.Store.Mark()
		if err := e.o.Peers[0].Commit(ctx, mark, false); err != nil {
			return &PeerError{"sync the destination", err}
		}
	}
	if err := e.list(); err != nil { // what failed of the batches is not passed over
		return err
	}
	if err := e.o.Store.Commit(gens, effects, mark); err != nil {
		return fmt.Errorf("note what was acknowledged: %w", err)
	}
	e.mu.Lock()
	for _, b := range group {
		e.over.forget(b.gen, b.effects)
		e.stats.committed(b)
	}
	e.kept -= len(group)
	e.mu.Unlock()
	e.cond.Broadcast()
	return nil
}

// purgeEvery is how often, at most, the secondary is told to forget what it kept.
const purgeEvery = time.Minute

// purge lets the secondary forget what it kept because something might still be made of it: unknown objects that were
// replaced, and parts of large files. Called when all is acknowledged and nothing is in flight.
func (e *Engine) purge(ctx context.Context) error {
	e.mu.Lock()
	due := e.gen != e.purged && (e.o.Once || time.Since(e.purgedAt) >= purgeEvery) && e.halted == "" && !e.o.DryRun && e.o.Ledger.Count() == 0 &&
		len(e.detached) == 0 // its parts would go
	e.mu.Unlock()
	if !due {
		return nil
	}
	if err := e.o.Peers[0].Commit(ctx, "", true); err != nil {
		return &PeerError{"tidy the destination", err}
	}
	e.mu.Lock()
	e.purged, e.purgedAt = e.gen, time.Now()
	e.mu.Unlock()
	return nil
}

// emptyStash drops what waits in the stash: all that happened before was handed out, so nothing there is needed any more.
// These are deletions like others, and judged like them.
func (e *Engine) emptyStash() error {
	for {
		e.mu.Lock()
		halted := e.halted != ""
		e.mu.Unlock()
		if halted || e.o.DryRun {
			return nil
		}
		s := &sweep{}
		err := e.o.Store.List(change.StashID, "", func(name string, _ change.Entry) error {
			if len(s.seen) == stashBatch {
				return errEnough
			}
			s.seen = append(s.seen, change.Observation{At: change.Place{Dir: change.StashID, Name: name}, Absent: true})
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
		before := int64(len(s.seen))
		if s.seen, err = e.spared(s.seen); err != nil || len(s.seen) == 0 {
			return err
		}
		for _, o := range s.seen {
			n, err := e.weigh(o.At)
			if err != nil {
				return err
			}
			s.entries += n
		}
		if err := e.carryOut(Batch{}, s); err != nil {
			return err
		}
		left, err := e.o.Store.Count(change.StashID, stashBatch+1)
		if err != nil || left >= before {
			return err // nothing could be dropped now: the ledger has it
		}
	}
}
