package replicate

import (
	"fmt"
	"time"

	"georep/internal/change"
	"georep/internal/status"
)

// guardWindow is how long deletions count together: a mass deletion does not come in one batch.
const guardWindow = 10 * time.Minute

// sweepMax is how many absences wait in memory for a sweep's end. Beyond it their share is what decides, and the rest of
// the sweep is asked for again if it may go on.
const sweepMax = 100_000

type deletion struct {
	at time.Time
	n  int64
}

// sweep gathers the absences that belong together.
type sweep struct {
	seen    []change.Observation
	entries int64 // with all that is below
	missed  []change.ID
}

// absences judges deletions, and carries them out when they may be.
func (e *Engine) absences(b Batch, absent []change.Observation) error {
	if len(absent) == 0 && e.sweep == nil {
		return nil
	}
	if e.sweep == nil {
		e.sweep = &sweep{}
	}
	s := e.sweep
	if err := e.drain(true); err != nil {
		return err
	}
	absent, err := e.spared(absent)
	if err != nil {
		return err
	}
	for _, o := range absent {
		n, err := e.weigh(o.At)
		if err != nil {
			return err
		}
		s.entries += n
		e.sweeping(o.At, n, s)
		if len(s.seen) < sweepMax {
			s.seen = append(s.seen, o)
		} else if k := len(s.missed); k == 0 || s.missed[k-1] != o.At.Dir {
			s.missed = append(s.missed, o.At.Dir)
		}
	}
	if b.AbsentMore {
		return nil
	}
	e.sweep = nil
	e.mu.Lock()
	e.stats.sweeping = 0
	e.mu.Unlock()
	return e.carryOut(b, s)
}

// sweeping tells the counters of an absence and what goes with it.
func (e *Engine) sweeping(at change.Place, entries int64, s *sweep) {
	e.mu.Lock()
	e.stats.weighs(at, entries)
	e.stats.sweeping = s.entries
	e.stats.taken(1, 0)
	e.mu.Unlock()
}

func (e *Engine) carryOut(b Batch, s *sweep) error {
	if err := e.judge(b, s); err != nil {
		return err
	}
	e.mu.Lock()
	halted := e.halted != ""
	if halted {
		e.stats.held += s.entries
	}
	e.mu.Unlock()
	if halted {
		return nil
	}
	for len(s.seen) > 0 {
		n := min(len(s.seen), stashBatch)
		if err := e.schedule(s.seen[:n]); err != nil {
			return err
		}
		s.seen = s.seen[n:]
	}
	for _, dir := range s.missed {
		e.rescan(dir)
	}
	e.recent = append(e.recent, deletion{time.Now(), s.entries})
	return nil
}

// weigh counts the entries that a name's removal takes with it.
func (e *Engine) weigh(at change.Place) (int64, error) {
	entry, ok, err := e.o.Store.Get(at)
	if err != nil || !ok {
		return 0, err
	}
	if names, err := e.o.Store.Names(entry.ID); err == nil && len(names) > 1 {
		return 0, nil // another name keeps it: it was renamed or was one of several links
	}
	if entry.Kind != change.Dir || entry.ID.IsUnknown() {
		return 1, nil
	}
	n, err := e.o.Store.Count(entry.ID, 1<<40)
	return n + 1, err
}

// judge halts deletions when there are too many.
func (e *Engine) judge(b Batch, s *sweep) error {
	if e.o.Guard.Allow || s.entries == 0 {
		return nil
	}
	total, _, err := e.o.Store.Total()
	if err != nil {
		return err
	}
	n := s.entries
	keep := e.recent[:0]
	for _, d := range e.recent {
		if time.Since(d.at) < guardWindow {
			keep = append(keep, d)
			n += d.n
		}
	}
	e.recent = keep
	share := float64(n) * 100 / float64(max(total+n-s.entries, 1))
	switch {
	case b.Empty:
		e.halt(fmt.Sprintf("the source is empty, and the destination holds %d entries: is everything mounted? Deletions are held back; if it is meant so, start with --allow-delete", total))
	case n > e.o.Guard.Entries && share > e.o.Guard.Percent:
		e.halt(fmt.Sprintf("%d of %d entries (%.0f %%) are gone from the source within %s. Deletions are held back; if it is meant so, start with --allow-delete (or raise --delete-limit)", n, total, share, guardWindow))
	}
	return nil
}

func (e *Engine) halt(why string) {
	e.mu.Lock()
	first := e.halted == ""
	if first {
		e.halted = why
	}
	e.mu.Unlock()
	if first {
		e.report(status.Event{Kind: status.Halted, Text: why})
	}
}
