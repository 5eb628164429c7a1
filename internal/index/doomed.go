package index

import (
	"fmt"

	"go.etcd.io/bbolt"

	"georep/internal/change"
)

// deleteDoomed removes the next places below trees whose deletion has begun, in one transaction of bounded size, and says whether there
// may be more. What is below a directory goes before the directory itself, so that a crash in between leaves no place that a
// later walk would not find. The caller holds x.writer, or has the index alone.
func (x *Index) deleteDoomed() (left bool, err error) {
	t := x.newTx()
	err = x.withReader(func(r *reader) error {
		dirs, err := doomedTrees(r.tx)
		for _, dir := range dirs {
			if err != nil || len(t.edits) >= walkStep {
				break
			}
			err = t.removeBelow(r, dir)
		}
		left = len(dirs) > 0
		return err
	})
	if err != nil || !left {
		return false, err
	}
	return true, t.commit()
}

// removeBelow removes the next places below a directory, and the note about it when these were the last.
func (t *Tx) removeBelow(r *reader, dir change.ID) error {
	w := newWalk(dir)
	w.visit = func(key []byte) {
		t.remove(t.arena.keep(len(key), func(b []byte) []byte { return append(b, key...) }))
	}
	if err := w.step(r, 0); err != nil {
		return err
	}
	if w.done {
		t.undoom = append(t.undoom, dir)
	}
	return nil
}

// doomedTrees lists some of the trees whose deletion has begun.
func doomedTrees(tx *bbolt.Tx) ([]change.ID, error) {
	b := tx.Bucket(bucketDoomed)
	if b == nil {
		return nil, fmt.Errorf("%w (a part is missing)", ErrCorrupt)
	}
	var dirs []change.ID
	c := b.Cursor()
	for k, _ := c.First(); k != nil && len(dirs) < walkStep; k, _ = c.Next() {
		if len(k) != idSize {
			return nil, fmt.Errorf("%w (a key of %d bytes)", ErrCorrupt, len(k))
		}
		dirs = append(dirs, change.ID(k))
	}
	return dirs, nil
}

// applyDoomed notes the trees that the transaction dooms, and forgets those that are gone.
func (t *Tx) applyDoomed(tx *bbolt.Tx) error {
	b := tx.Bucket(bucketDoomed)
	for _, dir := range t.doomed {
		if err := b.Put(dir[:], nil); err != nil {
			return fmt.Errorf("note tree to delete: %w", err)
		}
	}
	for _, dir := range t.undoom {
		if err := b.Delete(dir[:]); err != nil {
			return fmt.Errorf("forget deleted tree: %w", err)
		}
	}
	return nil
}
