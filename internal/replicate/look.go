package replicate

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"georep/internal/change"
	"georep/internal/status"
)

const (
	// stashBatch is how many stashed objects are dropped at once.
	stashBatch = 4096
	// surprisesMax is how often one place may turn out different from the store before its entry counts as failing.
	surprisesMax = 8
	// looksAtOnce is how many directories are looked at at the same time, and looksTogether how many before the store is corrected.
	looksAtOnce, looksTogether = 32, 512
)

var errEnough = errors.New("enough")

// surprised1 counts the surprises at a place. Called with mu held.
func (e *Engine) surprised1(at change.Place) int {
	if e.surprisesIn == nil || len(e.surprisesIn) > 1<<14 {
		e.surprisesIn = map[change.Place]int{}
	}
	e.surprisesIn[at]++
	return e.surprisesIn[at]
}

// lookAround looks at the directories whose state on the secondary is in doubt, corrects the store, and has them compared
// with the source again. Nothing else is in flight meanwhile.
func (e *Engine) lookAround(ctx context.Context) error {
	for {
		e.mu.Lock()
		n := len(e.suspect)
		e.mu.Unlock()
		if n == 0 || e.o.DryRun && e.o.Fresh {
			return nil
		}
		if err := e.drain(true); err != nil {
			return err
		}
		e.mu.Lock()
		dirs := make([]change.ID, 0, len(e.suspect))
		for id := range e.suspect {
			dirs = append(dirs, id)
		}
		hinted, again := e.hinted, e.putOff
		e.hinted, e.putOff = nil, nil
		clear(e.dirs)
		clear(e.suspect)
		e.mu.Unlock()
		if err := e.remind(hinted); err != nil {
			return err
		}
		levels, err := e.byDepth(dirs)
		if err != nil {
			return err
		}
		for _, level := range levels {
			for len(level) > 0 {
				n := min(len(level), looksTogether)
				if err := e.lookAt(ctx, level[:n]); err != nil {
					return err
				}
				level = level[n:]
			}
		}
		e.again(again...)
	}
}

// byDepth sorts directories by how deep they are on the secondary, those without a place first: what is found out about one may
// take away another below it, but none beside it.
func (e *Engine) byDepth(dirs []change.ID) ([][]change.ID, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var levels [][]change.ID
	for _, id := range dirs {
		w, ok, err := e.whereIs(id)
		if err != nil {
			return nil, err
		}
		depth := 0
		if ok && w.path != "" {
			depth = 1 + strings.Count(w.path, "/")
		}
		for len(levels) <= depth {
			levels = append(levels, nil)
		}
		levels[depth] = append(levels[depth], id)
	}
	return levels, nil
}

// lookAt looks at directories of one level, and corrects the store by what was found.
func (e *Engine) lookAt(ctx context.Context, dirs []change.ID) error {
	looks := make([]*looker, len(dirs))
	group, work := errgroup.WithContext(ctx)
	group.SetLimit(looksAtOnce)
	for i, id := range dirs {
		l := &looker{e: e, id: id, seed: maphash.MakeSeed()}
		looks[i] = l
		group.Go(func() error { return l.look(work, e.peer(uint64(i))) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var effects []Effect
	var done []change.ID
	for _, l := range looks {
		effects = append(effects, l.effects...)
		if l.blind == nil {
			done = append(done, l.id)
		}
	}
	if err := e.o.Store.Reconcile(effects, done); err != nil {
		return err
	}
	e.mu.Lock()
	clear(e.dirs)
	e.mu.Unlock()
	for _, l := range looks {
		if err := e.looked(l); err != nil {
			return err
		}
	}
	return nil
}

// looked sees to it that a directory which was looked at is compared with the source again.
func (e *Engine) looked(l *looker) error {
	for _, dir := range l.forgot {
		e.rescan(dir)
	}
	switch {
	case l.id == change.StashID:
		return nil
	case l.blind != nil:
		return e.lookBlind(l)
	case l.gone && l.placed && l.at.IsRoot():
		return errors.New("the destination's directory was replaced while georep worked: start again")
	}
	e.mu.Lock()
	if l.gone && l.placed {
		e.suspect[l.at.Dir] = true
	}
	left := e.notBlind(l.id)
	e.mu.Unlock()
	e.rescan(l.id)
	if l.placed && !l.gone && !slices.Contains(left, l.at) {
		left = append(left, l.at) // its own state as well, of which comparing its entries says nothing
	}
	e.again(left...)
	return nil
}

// lookBlind notes that a directory cannot be listed: nothing is sent there until it can.
func (e *Engine) lookBlind(l *looker) error {
	f := status.Failure{Op: "look", Call: "getdents64", Errno: int(l.blind.Errno), Error: l.blind.Detail, Side: status.Destination}
	f.Hint = status.Hint(f.Errno, f.Side, f.Call)
	e.mu.Lock()
	left := e.notBlind(l.id)
	left = slices.DeleteFunc(left, func(at change.Place) bool { return at == l.at })
	e.blind[l.at] = l.id
	f.Path = e.pathOf(l.at)
	e.fail(l.at, f)
	e.mu.Unlock()
	e.again(left...)
	return e.list()
}

// notBlind forgets that a directory could not be looked at, and gives the places under which the ledger has it: when these are
// observed again they heal, or fail for a reason of their own. Called with mu held.
func (e *Engine) notBlind(id change.ID) (left []change.Place) {
	for at, other := range e.blind {
		if other == id {
			delete(e.blind, at)
			left = append(left, at)
		}
	}
	return left
}

// stillBlind says whether a directory that could not be looked at is at a place. Where it was, and is no longer, it must not keep the
// place on the ledger; if it has another place now, it is looked at there. Called with mu held.
func (e *Engine) stillBlind(at change.Place) (bool, error) {
	id, blind := e.blind[at]
	if !blind {
		return false, nil
	}
	entry, ok, err := e.over.Get(at)
	if err != nil || ok && entry.ID == id {
		return true, err
	}
	delete(e.blind, at)
	e.suspect[id] = true
	e.nudge()
	return false, nil
}

// unseen says whether the state of a directory on the secondary is in doubt. Called with mu held.
func (e *Engine) unseen(dir change.ID) bool {
	if e.suspect[dir] {
		return true
	}
	for _, id := range e.blind {
		if id == dir {
			return true
		}
	}
	return false
}
