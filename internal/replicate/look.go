package replicate

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sort"

	"georep/internal/change"
	"georep/internal/plan"
	"georep/internal/status"
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
		hinted := e.hinted
		e.hinted = nil
		clear(e.dirs)
		clear(e.suspect)
		e.mu.Unlock()
		if err := e.remind(hinted); err != nil {
			return err
		}
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
	err = e.o.Peers[0].Look(ctx, wire.Dir{Path: w.path, Sec: w.sec}, func(w wire.Entry) error {
		l.failed = l.entry(w)
		return l.failed
	})
	var remote *wire.RemoteError
	switch {
	case l.failed != nil:
		return l.failed
	case errors.Is(err, wire.ErrStale):
		return e.lookFailed(id)
	case errors.As(err, &remote) && id != change.StashID:
		return e.lookBlind(id, w.path, remote)
	case err != nil:
		return &PeerError{fmt.Sprintf("look at %q on the destination", w.path), err}
	}
	for _, step := range []func() error{l.missing, l.self, l.flush} {
		if err := step(); err != nil {
			return err
		}
	}
	for _, dir := range l.forgot {
		e.rescan(dir)
	}
	if id == change.StashID {
		return nil
	}
	e.mu.Lock()
	delete(e.blind, l.at)
	e.mu.Unlock()
	e.rescan(id)
	e.again(l.at) // its own state as well, of which comparing its entries says nothing
	return e.o.Store.Reconciled(id)
}

// lookBlind notes that a directory cannot be listed: nothing is sent there until it can.
func (e *Engine) lookBlind(id change.ID, path string, why *wire.RemoteError) error {
	e.mu.Lock()
	at, _, ok, err := e.placeOf(id)
	if ok && err == nil {
		e.blind[at] = id
	}
	e.mu.Unlock()
	if err != nil || !ok {
		return err
	}
	f := status.Failure{Path: path, Op: "look", Call: "getdents64", Errno: int(why.Errno), Error: why.Detail, Side: status.Destination}
	if f.Path == "" {
		f.Path = "."
	}
	f.Hint = status.Hint(f.Errno, f.Side, f.Call)
	return e.fail(at, f)
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
	if err := e.o.Store.Reconciled(id); err != nil {
		return err
	}
	e.mu.Lock()
	e.suspect[at.Dir] = true
	clear(e.dirs)
	e.mu.Unlock()
	e.rescan(id)
	return nil
}

// looker corrects the store by one listing. It remembers names by a hash of 8 bytes, so that its memory stays small in the
// widest directory; a collision would leave one wrong entry to the next surprise.
type looker struct {
	e       *Engine
	id      change.ID
	at      change.Place // of the directory itself
	seed    maphash.Seed
	listed  []uint64
	effects []Effect
	forgot  []change.ID // directories of which the store forgot what is below: the source may have compared with that already
	failed  error       // of the store
}

func (l *looker) entry(w wire.Entry) error {
	if w.Name == reserved && l.isRoot() {
		return nil
	}
	l.listed = append(l.listed, maphash.String(l.seed, w.Name))
	at := change.Place{Dir: l.id, Name: w.Name}
	cur, ok, err := l.e.o.Store.Get(at)
	if err != nil {
		return err
	}
	if ok && (cur.Sec == w.Object.ID || w.Object.ID.IsZero()) {
		return l.known(at, cur, &w.Object)
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

// known corrects what the store says of an object that is where it should be: its attributes may have been set by a
// declaration that was never acknowledged, or by somebody else.
func (l *looker) known(at change.Place, cur change.Entry, o *change.Object) error {
	sum := plan.XattrSum(o.Xattrs)
	if !o.HasXattrs {
		sum = cur.XattrSum
	}
	if o.ID.IsZero() || l.id == change.StashID {
		return nil // it could not be read, so that nothing better is known; or is of no interest
	}
	if cur.Mode == o.Mode && cur.UID == o.UID && cur.GID == o.GID && cur.Mtime == o.Mtime && cur.Size == o.Size && cur.XattrSum == sum {
		return nil
	}
	cur.Mode, cur.UID, cur.GID, cur.Mtime, cur.Size, cur.XattrSum = o.Mode, o.UID, o.GID, o.Mtime, o.Size, sum
	return l.add(Effect{At: at, Entry: &cur})
}

// self makes the store doubt the times of the directory itself, which a declaration that was never acknowledged may have changed.
func (l *looker) self() error {
	l.e.mu.Lock()
	at, _, ok, err := l.e.placeOf(l.id)
	l.e.mu.Unlock()
	if err != nil || !ok || l.id == change.StashID {
		return err
	}
	l.at = at
	entry, ok, err := l.e.o.Store.Get(at)
	if err != nil || !ok || entry.Kind != change.Dir {
		return err
	}
	entry.Mtime = change.Time{}
	return l.add(Effect{At: at, Entry: &entry})
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
	if !f.Tree.IsZero() && !f.Tree.IsUnknown() {
		l.forgot = append(l.forgot, f.Tree)
	}
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
