package index

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"georep/internal/change"
)

// leftover is the generation of the intents that a crash left behind.
const leftover = 0

// BeginIntents notes durably, before a batch is sent, the directories that it touches. gen names the batch; it is not 0. After a
// crash, Intents lists the directories of all batches that had not ended, whatever their generations were.
func (x *Index) BeginIntents(gen uint64, dirs []change.ID) error {
	if gen == leftover {
		return errors.New("begin intents: generation 0 is reserved")
	}
	err := x.Write(func(tx *bbolt.Tx) error {
		for _, dir := range dirs {
			if err := tx.Bucket(bucketIntents).Put(intentKey(gen, dir), nil); err != nil {
				return fmt.Errorf("note directory %s: %w", dir, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("begin intents: %w", err)
	}
	return nil
}

// EndIntents forgets the intents of a generation, together with the acknowledgements that the same Tx keeps.
func (t *Tx) EndIntents(gen uint64) { t.ended = append(t.ended, gen) }

// Doubt adds a directory to those that Intents gives, until Reconciled: what the index says of it is not known to be right.
func (t *Tx) Doubt(dir change.ID) { t.doubted = append(t.doubted, dir) }

// Reconciled forgets one directory of those that Intents gave: it was looked at, and the index is right about it.
func (t *Tx) Reconciled(dir change.ID) { t.looked = append(t.looked, dir) }

// Doubt adds directories, durably, to those that Intents gives: for a reason of the caller's they are to be looked at.
func (x *Index) Doubt(dirs []change.ID) error {
	err := x.Write(func(tx *bbolt.Tx) error {
		for _, dir := range dirs {
			if err := tx.Bucket(bucketIntents).Put(intentKey(leftover, dir), nil); err != nil {
				return fmt.Errorf("note directory %s: %w", dir, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("doubt directories: %w", err)
	}
	return nil
}

// Intents lists the directories that were being changed when the index was last closed without an end of their generation, each
// once. They stay listed, also over further crashes, until Reconciled.
func (x *Index) Intents() ([]change.ID, error) {
	var dirs []change.ID
	err := x.Read(func(tx *bbolt.Tx) error {
		return eachIntent(tx, func(gen uint64, dir change.ID) error {
			if gen == leftover {
				dirs = append(dirs, dir)
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list intents: %w", err)
	}
	return dirs, nil
}

func intentKey(gen uint64, dir change.ID) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+idSize), gen), dir[:]...)
}

func eachIntent(tx *bbolt.Tx, fn func(gen uint64, dir change.ID) error) error {
	b := tx.Bucket(bucketIntents)
	if b == nil {
		return fmt.Errorf("%w (a part is missing)", ErrCorrupt)
	}
	return b.ForEach(func(k, _ []byte) error {
		if len(k) != 8+idSize {
			return fmt.Errorf("%w (a key of %d bytes)", ErrCorrupt, len(k))
		}
		return fn(binary.BigEndian.Uint64(k), change.ID(k[8:]))
	})
}

// endIntents removes what EndIntents and Reconciled named, and adds what Doubt did.
func (t *Tx) endIntents(tx *bbolt.Tx) error {
	if len(t.ended) == 0 && len(t.looked) == 0 && len(t.doubted) == 0 {
		return nil
	}
	var gone [][]byte
	for _, dir := range t.looked {
		gone = append(gone, intentKey(leftover, dir))
	}
	for _, gen := range t.ended {
		prefix := binary.BigEndian.AppendUint64(nil, gen)
		c := tx.Bucket(bucketIntents).Cursor()
		for k, _ := c.Seek(prefix); len(k) == 8+idSize && binary.BigEndian.Uint64(k) == gen; k, _ = c.Next() {
			gone = append(gone, append([]byte(nil), k...))
		}
	}
	for _, key := range gone {
		if err := tx.Bucket(bucketIntents).Delete(key); err != nil {
			return fmt.Errorf("end intent: %w", err)
		}
	}
	for _, dir := range t.doubted {
		if err := tx.Bucket(bucketIntents).Put(intentKey(leftover, dir), nil); err != nil {
			return fmt.Errorf("note doubt: %w", err)
		}
	}
	return nil
}

// inheritIntents makes leftovers of the intents of an earlier run, so that the generations of this one cannot meet them.
func inheritIntents(tx *bbolt.Tx) error {
	var old []uint64
	var dirs []change.ID
	err := eachIntent(tx, func(gen uint64, dir change.ID) error {
		if gen != leftover {
			old, dirs = append(old, gen), append(dirs, dir)
		}
		return nil
	})
	if err != nil {
		return err
	}
	b := tx.Bucket(bucketIntents)
	for i, dir := range dirs {
		if err := errors.Join(b.Delete(intentKey(old[i], dir)), b.Put(intentKey(leftover, dir), nil)); err != nil {
			return fmt.Errorf("keep intent: %w", err)
		}
	}
	return nil
}
