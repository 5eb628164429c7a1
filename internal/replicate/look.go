package replicate

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sort"

	"georep/internal/change"
	"georep/internal/wire"
)

// stashBatch is how many stashed objects are dropped at once.
const stashBatch = 4096

// surprisesMax is how often one directory may turn out different from the store before its entries count as failing.
const surprisesMax = 8

var errEnough = errors.New("enough")

// surprised1 counts the surprises in a directory. Called with mu held.
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
		clear(e.dirs)
		clear(e.suspect)
		e.mu.Unlock()
		for _, id := range dirs {
			if err := e.look(ctx, id); err != nil {
				return err
			}
		}
	}
}

// look compares one directory of the secondary with the store.
func (e *Engine) look(ctx context.Context, id change.ID) error {
	e.mu.Lock()
	w, ok, err := e.whereIs(id)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	if !ok {
		return e.o.Store.Reconciled(id) // it is not on the secondary any more
	}
	l := looker{e: e, id: id, seed: maphash.MakeSeed()}
	err = e.o.Peers[0].Look(ctx, wire.Dir{Path: w.path, Sec: w.sec}, l.entry)
	if gone := lookGone(err); gone {
		return e.lookFailed(id)
	}
	if err == nil {
		err = l.missing()
	}
	if err == nil {
		err = l.flush()
	}
	if err != nil {
		return fmt.Errorf("look at %q on the secondary: %w", w.path, err)
	}
	if id == change.StashID {
		return nil
	}
	e.asked.Add(1)
	e.o.Source.Rescan(id)
	return e.o.Store.Reconciled(id)
}

// lookGone says whether the directory itself is not what the store thinks.
func lookGone(err error) bool {
	var remote *wire.RemoteError
	return errors.Is(err, wire.ErrStale) || errors.As(err, &remote)
}

// lookFailed takes a directory that is not as the store thinks out of it, and puts its parent in doubt.
func (e *Engine) lookFailed(id change.ID) error {
	if id == change.StashID {
		return nil
	}
	e.mu.Lock()
	at, _, ok, err := e.placeOf(id)
	e.mu.Unlock()
	if err != nil || !ok {
		return err
	}
	if at.IsRoot() {
		return errors.New("the destination's directory was replaced while georep worked: start again")
	}
	if err := e.o.Store.Commit(nil, []Effect{{At: at, Tree: id}}); err != nil {
		return err
	}
	e.mu.Lock()
	e.suspect[at.Dir] = true
	clear(e.dirs)
	e.mu.Unlock()
	return nil
}

// looker corrects the store by one listing. It remembers names by a hash of 8 bytes, so that its memory stays small in the
// widest directory; a collision would leave one wrong entry to the next surprise.
type looker struct {
	e       *Engine
	id      change.ID
	seed    maphash.Seed
	listed  []uint64
	effects []Effect
}

func (l *looker) entry(w wire.Entry) error {
	if w.Name == reserved && l.isRoot() {
		return nil
	}
	l.listed = append(l.listed, maphash.String(l.seed, w.Name))
	at := change.Place{Dir: l.id, Name: w.Name}
	cur, ok, err := l.e.o.Store.Get(at)
	if err != nil || ok && cur.Sec == w.Object.ID {
		return err
	}
	if l.id == change.StashID {
		if _, err := change.ParseID(w.Name); err != nil {
			return nil // the agent's own
		}
	}
	unknown := &change.Entry{Object: w.Object, Sec: w.Object.ID}
	unknown.ID, unknown.Xattrs, unknown.Ctime = change.UnknownID(w.Object.ID), nil, change.Time{}
	f := Effect{At: at, Entry: unknown}
	if ok && cur.Kind == change.Dir {
		f.Tree = cur.ID
	}
	return l.add(f)
}

// reserved is the name at the root that is never mirrored.
const reserved = ".georep"

func (l *looker) isRoot() bool {
	root, ok, err := l.e.o.Store.Get(change.Place{})
	return err == nil && ok && root.ID == l.id
}

// missing removes from the store what the listing did not show.
func (l *looker) missing() error {
	sort.Slice(l.listed, func(i, j int) bool { return l.listed[i] < l.listed[j] })
	return l.e.o.Store.List(l.id, "", func(name string, entry change.Entry) error {
		h := maphash.String(l.seed, name)
		i := sort.Search(len(l.listed), func(i int) bool { return l.listed[i] >= h })
		if i < len(l.listed) && l.listed[i] == h {
			return nil
		}
		f := Effect{At: change.Place{Dir: l.id, Name: name}}
		if entry.Kind == change.Dir {
			f.Tree = entry.ID
		}
		return l.add(f)
	})
}

func (l *looker) add(f Effect) error {
	l.effects = append(l.effects, f)
	if len(l.effects) >= stashBatch {
		return l.flush()
	}
	return nil
}

func (l *looker) flush() error {
	if len(l.effects) == 0 {
		return nil
	}
	err := l.e.o.Store.Commit(nil, l.effects)
	l.effects = l.effects[:0]
	return err
}
