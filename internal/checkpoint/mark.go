package checkpoint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// Mark is a position from which replication resumes.
type Mark struct {
	// At orders marks: the moment, by the primary's clock and to the nanosecond, up to which everything is on the secondary or in the
	// ledger.
	At time.Time
	// Position is what the source needs to resume; it is kept as it is. At most 1 MiB.
	Position []byte
}

const maxPosition = 1 << 20

// Marks keeps one mark. It is used by one goroutine at a time.
type Marks struct {
	store Store
	key   []byte
}

// NewMarks gives the mark of that name in the store.
func NewMarks(store Store, name string) (*Marks, error) {
	if err := prepare(store, bucketMarks); err != nil {
		return nil, fmt.Errorf("open mark %q: %w", name, err)
	}
	return &Marks{store: store, key: []byte(name)}, nil
}

// Load gives the mark that was saved last; false when there is none.
func (m *Marks) Load() (mark Mark, found bool, err error) {
	err = m.store.Read(func(tx *bbolt.Tx) (err error) {
		value := tx.Bucket(bucketMarks).Get(m.key)
		if value == nil {
			return nil
		}
		found = true
		mark, err = decodeMark(value)
		return err
	})
	if err != nil {
		return Mark{}, false, fmt.Errorf("load mark %q: %w", m.key, err)
	}
	return mark, found, nil
}

// Save makes the mark durable. One whose At is before that of the mark that is kept changes nothing: ErrBack.
func (m *Marks) Save(mark Mark) error {
	return m.save(mark, func(kept Mark) error {
		if mark.At.Before(kept.At) {
			return fmt.Errorf("%w from %s to %s", ErrBack, kept.At.UTC().Format(time.RFC3339Nano), mark.At.UTC().Format(time.RFC3339Nano))
		}
		return nil
	})
}

// Restart makes a mark durable that may be older: everything since will be compared anew, or the primary's clock was set back.
func (m *Marks) Restart(mark Mark) error {
	return m.save(mark, func(Mark) error { return nil })
}

func (m *Marks) save(mark Mark, check func(kept Mark) error) error {
	if len(mark.Position) > maxPosition {
		return fmt.Errorf("save mark %q: a position of %d bytes is too long", m.key, len(mark.Position))
	}
	err := m.store.Write(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketMarks)
		if value := b.Get(m.key); value != nil {
			kept, err := decodeMark(value)
			if err != nil {
				return err
			}
			if err := check(kept); err != nil {
				return err
			}
		}
		return b.Put(m.key, encodeMark(mark))
	})
	if err != nil {
		return fmt.Errorf("save mark %q: %w", m.key, err)
	}
	return nil
}

// A mark is kept as a version byte, seconds (eight bytes, big endian), nanoseconds (four), and the position.
const (
	markVersion = 1
	markFixed   = 1 + 8 + 4
)

func encodeMark(mark Mark) []byte {
	b := binary.BigEndian.AppendUint64([]byte{markVersion}, uint64(mark.At.Unix()))
	b = binary.BigEndian.AppendUint32(b, uint32(mark.At.Nanosecond()))
	return append(b, mark.Position...)
}

func decodeMark(b []byte) (Mark, error) {
	if len(b) < markFixed || b[0] != markVersion {
		return Mark{}, fmt.Errorf("%w (a mark of %d bytes)", ErrCorrupt, len(b))
	}
	nanoseconds := binary.BigEndian.Uint32(b[9:])
	if nanoseconds > 999_999_999 {
		return Mark{}, fmt.Errorf("%w (a mark's time)", ErrCorrupt)
	}
	at := time.Unix(int64(binary.BigEndian.Uint64(b[1:])), int64(nanoseconds))
	return Mark{At: at, Position: bytes.Clone(b[markFixed:])}, nil
}
