package brick

import (
	"context"
	"errors"
	"fmt"
	"time"

	"georep/internal/change"
)

// confirmMax is how many names are asked about between two questions whether the whole volume can be reached.
const confirmMax = 1024

// errParted means that a part of the volume cannot be reached, so that nobody can say what is gone.
var errParted = errors.New("a part of the volume cannot be reached")

// partedWait is how long deletions are put off then.
const partedWait = 2 * time.Second

// confirm hands out the names that are gone for certain. What this brick has not may be on another; only the mounted volume tells, and only
// when all of it could be reached before the question and after it.
func (s *Source) confirm(ctx context.Context, b *Batch) error {
	n := min(len(s.removals), confirmMax)
	asked := s.removals[:n:n]
	absent, err := s.absent(ctx, b, asked)
	if errors.Is(err, errParted) {
		if s.parted.IsZero() {
			s.note = "a part of the volume cannot be reached: deletions wait until it can"
		}
		s.parted = time.Now()
		return nil
	}
	if err != nil || len(b.Seen) > 0 { // directories above come first; the names are asked about again
		return err
	}
	s.parted = time.Time{}
	s.removals = s.removals[n:]
	for _, at := range asked {
		delete(s.removed, at)
	}
	b.Seen = absent
	b.AbsentMore = len(s.removals) > 0
	return nil
}

func (s *Source) absent(ctx context.Context, b *Batch, asked []change.Place) ([]change.Observation, error) {
	var absent []change.Observation
	whole := false
	for _, at := range asked {
		r, waiting := s.removed[at]
		if !waiting {
			continue // it was seen meanwhile
		}
		gone, sure, err := s.isGone(at, r)
		if err != nil || !gone {
			if err != nil {
				return nil, err
			}
			continue
		}
		if !sure {
			if !whole {
				if err := s.reachable(ctx); err != nil {
					return nil, err
				}
				whole = true
			}
			if gone, err = s.volumeLacks(ctx, at, r); err != nil {
				return nil, err
			}
		}
		if !gone {
			if err := s.movedOn(at, r); err != nil {
				return nil, err
			}
			continue
		}
		ok, err := s.known(ctx, b, at, r)
		if err != nil || !ok {
			if err != nil {
				return nil, err
			}
			continue
		}
		s.fresh++
		absent = append(absent, change.Observation{At: at, Absent: true, Fresh: s.fresh})
	}
	if whole {
		return absent, s.reachable(ctx)
	}
	return absent, nil
}

// reachable is nil if the whole volume can be reached.
func (s *Source) reachable(ctx context.Context) error {
	whole, err := s.o.Volume.Whole(ctx)
	if err != nil {
		return fmt.Errorf("ask whether the volume is whole: %w", err)
	}
	if !whole {
		return errParted
	}
	return nil
}

// isGone asks the brick. sure: it alone knows, because it has the object, and with that all its names.
func (s *Source) isGone(at change.Place, r removal) (gone, sure bool, err error) {
	id, err := gfidOf(s.tree.at(at), false)
	if err == nil && id == r.id {
		o, err := s.tree.readOnce(id)
		if err != nil {
			return false, false, err
		}
		if o.standing == here || o.standing == unclear {
			return false, false, nil // it is there; if it should be changing, it is told of again
		}
		return true, false, nil
	}
	if r.id.IsZero() {
		return true, false, nil
	}
	o, err := s.tree.readOnce(r.id)
	if err != nil {
		return false, false, err
	}
	return true, o.standing == here && o.Kind != change.Dir, nil
}

// volumeLacks asks the mounted volume whether a name no longer is an object's.
func (s *Source) volumeLacks(ctx context.Context, at change.Place, r removal) (bool, error) {
	id, found, err := s.o.Volume.Lookup(ctx, at)
	if err != nil {
		return false, fmt.Errorf("look for %s in the volume: %w", at.Name, err)
	}
	return !found || id != r.id, nil
}

// movedOn forgets a name that another brick has now.
func (s *Source) movedOn(at change.Place, r removal) error {
	e, known, err := s.o.Index.Get(at)
	if err != nil || !known || e.ID != r.id || e.Kind == change.Dir {
		return err
	}
	return s.o.Index.Forget(at)
}

// known sees to it that the index has the name that is gone, so that it is dropped. Not ok: nothing is to be dropped.
func (s *Source) known(ctx context.Context, b *Batch, at change.Place, r removal) (bool, error) {
	e, known, err := s.o.Index.Get(at)
	if err != nil {
		return false, err
	}
	if known {
		return e.ID == r.id || r.id.IsZero(), nil
	}
	if r.id.IsZero() {
		return false, nil
	}
	dir, err := s.o.Index.Names(at.Dir)
	if err != nil {
		return false, err
	}
	if len(dir) == 0 && !s.shown[at.Dir] {
		_, err := s.above(ctx, b, at.Dir) // where the directory is gone as well, the name goes with it
		return false, err
	}
	if has, err := s.isDir(r.id); err != nil || has {
		return false, err // it has one place, and has left this one
	}
	kind := r.kind
	if kind == 0 {
		kind = change.File
	}
	return true, s.o.Index.Assume(at, change.Entry{Object: change.Object{ID: r.id, Kind: kind}, Sec: r.id})
}

// isDir says whether the index, or the brick, has a directory of that identity.
func (s *Source) isDir(id change.ID) (bool, error) {
	names, err := s.o.Index.Names(id)
	if err != nil {
		return false, err
	}
	for _, at := range names {
		if e, known, err := s.o.Index.Get(at); err != nil || known && e.Kind == change.Dir {
			return err == nil, err
		}
	}
	o, err := s.tree.readOnce(id)
	return o.Kind == change.Dir, err
}

// idleEvery is how often it is said that all has been handed out while nothing happens.
const idleEvery = 3 * time.Second

// catchUp says that all has been handed out, if it was not said since something happened, or not for a while.
func (s *Source) catchUp(b *Batch) (doing, error) {
	switch {
	case s.barrier:
		s.barrier = false
	case s.current.IsZero():
		return nothing, nil
	case !s.history && time.Since(s.told) > idleEvery:
		s.current, s.news = time.Now(), true // the journal was looked at just now
	}
	if !s.news {
		return nothing, nil
	}
	s.news, s.told = false, time.Now()
	at := s.current
	if at.IsZero() || s.history {
		at = time.Unix(s.past.Closed, 0)
	}
	if s.past.Closed == 0 { // the crawl has ended, and no journal since
		s.past.Closed = s.began - crawlMargin
	}
	s.mu.Lock()
	if n := len(s.marks); n > 0 && !at.After(s.marks[n-1].at) {
		at = s.marks[n-1].at.Add(1) // each moment is its own
	}
	s.marks = append(s.marks, mark{at, s.past})
	s.mu.Unlock()
	clear(s.shown)
	b.CaughtUp, b.At = true, at
	return handOver, nil
}

// Concerns says whether something that was found on the secondary is this brick's to decide about: it has the object, or knows it there, or has
// another in its place, or nobody has it.
func (s *Source) Concerns(ctx context.Context, dir change.ID, name string, id change.ID) (bool, error) {
	at := change.Place{Dir: dir, Name: name}
	if _, known, err := s.o.Index.Get(at); err != nil || known {
		return known, err
	}
	if o, err := s.tree.readOnce(id); err != nil || o.standing == here || o.standing == unclear {
		return err == nil, err
	}
	if dir == change.StashID {
		return false, nil // whoever put it there knows
	}
	if there, err := gfidOf(s.tree.at(at), false); err == nil {
		if o, err := s.tree.readOnce(there); err != nil || o.standing != pointer {
			return err == nil, err
		}
	}
	_, found, err := s.o.Volume.Lookup(ctx, at)
	if err != nil || found {
		return false, err
	}
	whole, err := s.o.Volume.Whole(ctx)
	return whole, err
}
