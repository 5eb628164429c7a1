package checkpoint

import (
	"encoding/binary"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// Due gives up to limit lines whose next attempt is due at now, those that wait longest first. Lines whose attempt lies further ahead
// than any delay reaches are due as well: the clock was set back since.
func (l *Ledger) Due(now time.Time, limit int) ([]Item, error) {
	if l.Count() == 0 {
		return nil, nil
	}
	var items []Item
	err := l.store.Read(func(tx *bbolt.Tx) error {
		if err := collectDue(tx, nil, dueTime(now)+1, limit, &items); err != nil {
			return err
		}
		return collectDue(tx, binary.BigEndian.AppendUint64(nil, dueTime(now.Add(LongestDelay))+1), 1<<64-1, limit, &items)
	})
	if err != nil {
		return nil, fmt.Errorf("list due failures: %w", err)
	}
	return items, nil
}

// NextDue is when the earliest attempt of all lines is due; false when nothing is listed.
func (l *Ledger) NextDue() (next time.Time, found bool, err error) {
	if l.Count() == 0 {
		return time.Time{}, false, nil
	}
	err = l.store.Read(func(tx *bbolt.Tx) error {
		var items []Item
		if err := collectDue(tx, nil, 1<<64-1, 1, &items); err != nil || len(items) == 0 {
			return err
		}
		next, found = items[0].Next, true
		return nil
	})
	if err != nil {
		return time.Time{}, false, fmt.Errorf("find next due failure: %w", err)
	}
	return next, found, nil
}

// collectDue appends lines, from a key on and before a time, until there are limit.
func collectDue(tx *bbolt.Tx, from []byte, before uint64, limit int, items *[]Item) error {
	failures := tx.Bucket(bucketFailures)
	c := tx.Bucket(bucketDue).Cursor()
	for k, _ := c.Seek(from); k != nil && len(*items) < limit; k, _ = c.Next() {
		if len(k) < 8 {
			return fmt.Errorf("%w (a key of %d bytes)", ErrCorrupt, len(k))
		}
		if binary.BigEndian.Uint64(k) >= before {
			return nil
		}
		value := failures.Get(k[8:])
		if value == nil {
			return fmt.Errorf("%w (a time without a failure)", ErrCorrupt)
		}
		item, err := decodeItem(k[8:], value)
		if err != nil {
			return err
		}
		*items = append(*items, item)
	}
	return nil
}

// dueTime orders moments from 1970 on, to the nanosecond; earlier ones are 0.
func dueTime(t time.Time) uint64 { return uint64(max(0, t.UnixNano())) }

func dueKey(next time.Time, place []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(place)), dueTime(next)), place...)
}
