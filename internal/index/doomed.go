package index

import (
	"fmt"

	"go.etcd.io/bbolt"

	"georep/internal/change"
)

// deleteDoomed removes the next places below a tree whose deletion has begun, in one transaction of bounded size, and says whether there
// may be more. What is below a directory goes before the directory itself, so that a crash in between leaves no place that a
// later walk would not find. The caller holds x.writer, or has the index alone.
func (x *Index) deleteDoomed() (left bool, err error) {
	dir, found, err := x.firstDoomed()
	if err != nil || !found {
		return false, err
	}
	t := x.newTx()
	w := newWalk(dir)
	w.visit = func(key []byte) {
		t.remove(t.arena.keep(len(key), func(b []byte) []byte { return append(b, key...) }))
	}
	if err := x.withReader(func(r *reader) error { return w.step(r, 0) }); err != nil {
		return false, err
	}
	if w.done {
		t.undoom = append(t.undoom, dir)
	}
	return true, t.commit()
}

func (x *Index) firstDoomed() (dir change.ID, found bool, err error) {
	err = x.withReader(func(r *reader) error {
		b := r.tx.Bucket(bucketDoomed)
		if b == nil {
			return fmt.Errorf("%w (a part is missing)", ErrCorrupt)
		}
		k, _ := b.Cursor().First()
		if k == nil {
			return nil
		}
		if len(k) != idSize {
			return fmt.Errorf("%w (a key of %d bytes)", ErrCorrupt, len(k))
		}
		dir, found = change.ID(k), true
		return nil
	})
	return dir, found, err
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
