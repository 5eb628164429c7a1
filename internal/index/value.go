package index

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"
)

// SetValue keeps a value under a key of the caller's choice, durably; nil removes it.
func (x *Index) SetValue(key string, value []byte) error {
	return x.Update(func(t *Tx) error {
		t.SetValue(key, value)
		return nil
	})
}

// Value gives what SetValue kept; false when there is none.
func (x *Index) Value(key string) (value []byte, found bool, err error) {
	err = x.Read(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketValues)
		if b == nil {
			return fmt.Errorf("%w (a part is missing)", ErrCorrupt)
		}
		if v := b.Get([]byte(key)); v != nil {
			value, found = bytes.Clone(v), true
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("get value %q: %w", key, err)
	}
	return value, found, nil
}

// applyValues writes what SetValue collected.
func (t *Tx) applyValues(tx *bbolt.Tx) error {
	for key, value := range t.values {
		var err error
		if value == nil {
			err = tx.Bucket(bucketValues).Delete([]byte(key))
		} else {
			err = tx.Bucket(bucketValues).Put([]byte(key), value)
		}
		if err != nil {
			return fmt.Errorf("write value %q: %w", key, err)
		}
	}
	return nil
}
