package worker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"georep/internal/change"
	"georep/internal/index"
	"georep/internal/wire"
)

// The keys of the marks among the index's values.
const (
	keyMark = "mark" // of the last commit that is known to have ended
	keyNext = "next" // of the one after it, which may have reached the destination before the end was noted
)

// marks tell whether destination and index belong together. With each commit the destination keeps a new mark, and the index the same.
// One of them that was brought back from a backup, or exchanged, has another.
type marks struct {
	next string
	note func() string // what follows a mark, of at most 100 bytes; nil: nothing
}

// after makes the mark that follows.
func (m *marks) after() string {
	if m.note == nil {
		return newMark()
	}
	return newMark() + m.note()
}

func newMark() string { return rand.Text() }

func setMarks(tx *index.Tx, mark, next string) {
	tx.SetValue(keyMark, []byte(mark))
	tx.SetValue(keyNext, []byte(next))
}

// checkMark compares the mark that was found at the destination with the index's. If they do not belong together, all that the index
// says is to be looked at; if even the directory is another, it says nothing.
func (w *worker) checkMark(ctx context.Context, found string) error {
	root, known, err := w.index.Get(change.Place{})
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	ours, err := w.ours(found)
	if err != nil {
		return err
	}
	if known {
		err = w.compareRoots(ctx, &root, ours)
	}
	if err != nil {
		return err
	}
	w.marks.next = newMark()
	err = w.index.Update(func(tx *index.Tx) error {
		setMarks(tx, found, w.marks.next)
		return nil
	})
	if err != nil {
		return fmt.Errorf("note the mark of the destination: %w", err)
	}
	return nil
}

// compareRoots makes the index right about the destination's root, which it knows as that of another object or in another state.
func (w *worker) compareRoots(ctx context.Context, root *change.Entry, ours bool) error {
	enough := errors.New("enough")
	err := w.links[0].client.Look(ctx, wire.Dir{Sec: root.Sec}, func(wire.Entry) error { return enough })
	var remote *wire.RemoteError
	switch {
	case errors.Is(err, wire.ErrStale):
		w.notice("the destination is another directory than before: all of it is compared")
		w.bound.fresh = false
		return w.forget()
	case err != nil && !errors.Is(err, enough) && !errors.As(err, &remote):
		return &LinkError{Err: w.links[0].explain(err), Transient: true}
	case ours:
		return nil
	}
	w.notice("the destination is not as this mirror left it (it was restored or exchanged, or the state directory was): all of it is looked at again")
	return w.doubtAll(root.ID)
}

// ours says whether a mark is that of the last commit, or of the one during which this mirror ended: then it left intents.
func (w *worker) ours(found string) (bool, error) {
	last, _, err := w.index.Value(keyMark)
	if err != nil {
		return false, fmt.Errorf("read the last mark: %w", err)
	}
	next, _, err := w.index.Value(keyNext)
	if err != nil {
		return false, fmt.Errorf("read the next mark: %w", err)
	}
	switch {
	case found == "":
		return false, nil
	case found == string(last):
		return true, nil
	case found != string(next):
		return false, nil
	}
	left, err := w.index.Intents()
	if err != nil {
		return false, fmt.Errorf("read what was in flight: %w", err)
	}
	return len(left) > 0, nil
}

// doubtBatch is how many directories are noted at once as to be looked at.
const doubtBatch = 4096

// doubtAll notes durably that each directory of the index is to be looked at, and the stash.
func (w *worker) doubtAll(root change.ID) error {
	dirs := []change.ID{root, change.StashID}
	below := []change.ID{root, change.StashID}
	for len(below) > 0 {
		dir := below[len(below)-1]
		below = below[:len(below)-1]
		err := w.index.List(dir, "", func(_ string, e change.Entry) error {
			if e.Kind == change.Dir && !e.ID.IsUnknown() {
				below, dirs = append(below, e.ID), append(dirs, e.ID)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("list the index: %w", err)
		}
		if len(dirs) >= doubtBatch || len(below) == 0 {
			if err := w.index.Doubt(dirs); err != nil {
				return err
			}
			dirs = dirs[:0]
		}
	}
	return nil
}
