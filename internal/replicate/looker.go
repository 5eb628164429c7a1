package replicate

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sort"
	"syscall"

	"georep/internal/change"
	"georep/internal/plan"
	"georep/internal/wire"
)

// looker corrects the store by one listing. It remembers names by a hash of 8 bytes, so that its memory stays small in the
// widest directory; a collision would leave one wrong entry to the next surprise.
type looker struct {
	e       *Engine
	id      change.ID
	at      change.Place // of the directory, when placed
	placed  bool
	seed    maphash.Seed
	listed  []uint64
	effects []Effect
	forgot  []change.ID       // directories of which the store forgot what is below: the source may have compared with that already
	failed  error             // of the store
	blind   *wire.RemoteError // why it could not be listed
	gone    bool              // the store was wrong: it is not there
}

// look compares the directory with the store, as far as that has a place for it.
func (l *looker) look(ctx context.Context, p Peer) error {
	l.e.mu.Lock()
	w, ok, err := l.e.whereIs(l.id)
	if ok && err == nil && l.id != change.StashID {
		l.at, _, l.placed, err = l.e.placeOf(l.id)
	}
	l.e.mu.Unlock()
	if err != nil || !ok {
		return err
	}
	err = p.Look(ctx, wire.Dir{Path: w.path, Sec: w.sec}, func(entry wire.Entry) error {
		l.failed = l.entry(entry)
		return l.failed
	})
	stash := l.id == change.StashID
	switch {
	case l.failed != nil:
		return l.failed
	case errors.Is(err, wire.ErrStale) && !stash: // an empty stash may not have been made
		if l.e.strays(l.id) > surprisesMax { // whatever is done, the secondary says so again: it has a reason of its own
			l.blind = &wire.RemoteError{Errno: syscall.ESTALE, Detail: "it is listed in the directory above, but cannot be entered"}
			return nil
		}
		l.gone = true
		return l.add(Effect{At: l.at, Tree: l.id, Doubt: l.at.Dir})
	case errors.As(err, &l.blind) && !stash:
		return nil
	case err != nil && !errors.Is(err, wire.ErrStale):
		return &PeerError{fmt.Sprintf("look at %q on the destination", w.path), err}
	}
	if err := l.missing(); err != nil || stash {
		return err
	}
	l.e.mu.Lock()
	delete(l.e.strayed, l.id)
	l.e.mu.Unlock()
	return l.self()
}

// strays counts how often a directory was not where it should be.
func (e *Engine) strays(id change.ID) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.strayed[id]++
	return e.strayed[id]
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
	unknown.XattrSum = plan.XattrSum(w.Object.Xattrs)
	unknown.ID, unknown.Xattrs, unknown.HasXattrs, unknown.Ctime = change.UnknownID(w.Object.ID), nil, false, change.Time{}
	if l.e.o.SameIDs {
		unknown.ID = w.Object.ID
	}
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
	if cur.Mode == o.Mode && cur.UID == o.UID && cur.GID == o.GID && cur.Mtime.Cut(l.e.o.TimeStep) == o.Mtime && cur.Size == o.Size && cur.XattrSum == sum {
		return nil
	}
	cur.Mode, cur.UID, cur.GID, cur.Mtime, cur.Size, cur.XattrSum = o.Mode, o.UID, o.GID, o.Mtime, o.Size, sum
	return l.add(Effect{At: at, Entry: &cur})
}

// self makes the store doubt the times of the directory itself, which a declaration that was never acknowledged may have changed.
func (l *looker) self() error {
	entry, ok, err := l.e.o.Store.Get(l.at)
	if err != nil || !ok || entry.Kind != change.Dir {
		return err
	}
	entry.Mtime = change.Time{}
	return l.add(Effect{At: l.at, Entry: &entry})
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
	if len(l.effects) < stashBatch {
		return nil
	}
	err := l.e.o.Store.Reconcile(l.effects, nil)
	l.effects = nil
	return err
}
