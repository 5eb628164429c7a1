package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"georep/internal/change"
)

// Attempts come after FirstDelay, then after twice as long each time, up to LongestDelay; each delay is shortened at random by
// up to a quarter, so that many entries that failed together do not all come back together.
const (
	FirstDelay   = time.Second
	LongestDelay = 10 * time.Minute
)

// Ledger lists the changes that failed, durably, until they are applied or a person waives them. Its methods may be called by
// many goroutines.
type Ledger struct {
	store  Store
	now    func() time.Time
	random func() float64
	count  atomic.Int64
}

// LedgerOptions replace what a ledger takes from outside. The zero value is right but for tests.
type LedgerOptions struct {
	Now    func() time.Time // the clock; nil: time.Now
	Random func() float64   // 0 to 1; nil: math/rand
}

// NewLedger opens the ledger in the store.
func NewLedger(store Store, o LedgerOptions) (*Ledger, error) {
	l := &Ledger{store: store, now: o.Now, random: o.Random}
	if l.now == nil {
		l.now = time.Now
	}
	if l.random == nil {
		l.random = rand.Float64
	}
	err := prepare(store, bucketFailures, bucketDue)
	if err == nil {
		err = l.countAll()
	}
	if err != nil {
		return nil, fmt.Errorf("open failure ledger: %w", err)
	}
	return l, nil
}

func (l *Ledger) countAll() error {
	return l.store.Read(func(tx *bbolt.Tx) error {
		count := int64(0)
		c := tx.Bucket(bucketFailures).Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			count++
		}
		l.count.Store(count)
		return nil
	})
}

// Count is how many places are listed.
func (l *Ledger) Count() int64 { return l.count.Load() }

// Fail lists failures in their order, or that one more attempt failed, in one durable transaction. Of each, Count and the times are not
// read: the ledger fills them in.
func (l *Ledger) Fail(items ...Item) error {
	if len(items) == 0 {
		return nil
	}
	now := l.now()
	added := int64(0)
	err := l.store.Write(func(tx *bbolt.Tx) error {
		added = 0
		for i := range items {
			fresh, err := l.fail(tx, items[i].At, &items[i].Failure, now)
			if err != nil {
				return err
			}
			if fresh {
				added++
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list failure: %w", err)
	}
	l.count.Add(added)
	return nil
}

func (l *Ledger) fail(tx *bbolt.Tx, at change.Place, f *Failure, now time.Time) (fresh bool, err error) {
	failures, due := tx.Bucket(bucketFailures), tx.Bucket(bucketDue)
	key := placeKey(at)
	before, fresh := Failure{First: now}, true
	if value := failures.Get(key); value != nil {
		if before, err = decodeFailure(value); err != nil {
			return false, err
		}
		fresh = false
		if err := due.Delete(dueKey(before.Next, key)); err != nil {
			return false, err
		}
	}
	f.First, f.Last = before.First, now
	f.Count = before.Count + min(1, math.MaxUint32-before.Count)
	f.Next = now.Add(l.delay(f.Count))
	if err := failures.Put(key, encodeFailure(f)); err != nil {
		return false, err
	}
	return fresh, due.Put(dueKey(f.Next, key), nil)
}

// PutOff moves the next attempt of listed places on, each time further, up to LongestDelay. It is for places that are attempted now,
// so that one of which nothing is heard any more is not attempted all the time. What fails again is put off by Fail.
func (l *Ledger) PutOff(places ...change.Place) error {
	if len(places) == 0 || l.Count() == 0 {
		return nil
	}
	now := l.now()
	err := l.store.Write(func(tx *bbolt.Tx) error {
		for _, at := range places {
			if err := l.putOff(tx, at, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("put off failing entries: %w", err)
	}
	return nil
}

func (l *Ledger) putOff(tx *bbolt.Tx, at change.Place, now time.Time) error {
	failures, due := tx.Bucket(bucketFailures), tx.Bucket(bucketDue)
	key := placeKey(at)
	value := failures.Get(key)
	if value == nil {
		return nil
	}
	f, err := decodeFailure(value)
	if err != nil {
		return err
	}
	if err := due.Delete(dueKey(f.Next, key)); err != nil {
		return err
	}
	f.Next = now.Add(min(LongestDelay, max(FirstDelay, 2*f.Next.Sub(f.Last))))
	if err := failures.Put(key, encodeFailure(&f)); err != nil {
		return err
	}
	return due.Put(dueKey(f.Next, key), nil)
}

// delay is the time until the attempt after count failed ones.
func (l *Ledger) delay(count uint32) time.Duration {
	nominal := LongestDelay
	if count < 20 { // far below an overflow
		nominal = min(LongestDelay, FirstDelay<<(count-1))
	}
	return nominal - time.Duration(l.random()*float64(nominal)/4)
}

// Healed takes places off the list whose changes were applied, in one durable transaction, and gives their lines. Places that are not
// listed cost no write.
func (l *Ledger) Healed(places ...change.Place) ([]Item, error) {
	removed, err := l.remove(places)
	if err != nil {
		return nil, fmt.Errorf("take healed entries off the ledger: %w", err)
	}
	return removed, nil
}

// Waive takes a place off the list because a person says so; false when it was not listed.
func (l *Ledger) Waive(at change.Place) (bool, error) {
	removed, err := l.remove([]change.Place{at})
	if err != nil {
		return false, fmt.Errorf("waive failure: %w", err)
	}
	return len(removed) > 0, nil
}

func (l *Ledger) remove(places []change.Place) (removed []Item, err error) {
	if l.Count() == 0 {
		return nil, nil
	}
	var listed []change.Place
	err = l.store.Read(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketFailures)
		for _, at := range places {
			if b.Get(placeKey(at)) != nil {
				listed = append(listed, at)
			}
		}
		return nil
	})
	if err != nil || len(listed) == 0 {
		return nil, err
	}
	err = l.store.Write(func(tx *bbolt.Tx) error {
		removed = removed[:0]
		for _, at := range listed {
			f, found, err := removeFailure(tx, placeKey(at))
			if err != nil {
				return err
			}
			if found {
				removed = append(removed, Item{At: at, Failure: f})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	l.count.Add(-int64(len(removed)))
	return removed, nil
}

func removeFailure(tx *bbolt.Tx, key []byte) (f Failure, found bool, err error) {
	b := tx.Bucket(bucketFailures)
	value := b.Get(key)
	if value == nil {
		return f, false, nil
	}
	if f, err = decodeFailure(value); err != nil {
		return f, false, err
	}
	return f, true, errors.Join(b.Delete(key), tx.Bucket(bucketDue).Delete(dueKey(f.Next, key)))
}

// listChunk is how many lines one transaction of List reads.
const listChunk = 256

// List calls fn with all lines, ordered by directory and name. No transaction is open while fn runs. An error of fn ends it
// and is returned as it is.
func (l *Ledger) List(fn func(Item) error) error {
	var from []byte
	for {
		items, last, err := l.chunk(from)
		if err != nil {
			return fmt.Errorf("list failures: %w", err)
		}
		for _, item := range items {
			if err := fn(item); err != nil {
				return err
			}
		}
		if len(items) < listChunk {
			return nil
		}
		from = append(last, 0)
	}
}

func (l *Ledger) chunk(from []byte) (items []Item, last []byte, err error) {
	err = l.store.Read(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketFailures).Cursor()
		for k, v := c.Seek(from); k != nil && len(items) < listChunk; k, v = c.Next() {
			item, err := decodeItem(k, v)
			if err != nil {
				return err
			}
			items = append(items, item)
			last = append(last[:0], k...)
		}
		return nil
	})
	return items, last, err
}

func decodeItem(key, value []byte) (Item, error) {
	at, err := placeOf(key)
	if err != nil {
		return Item{}, err
	}
	f, err := decodeFailure(value)
	return Item{At: at, Failure: f}, err
}

// placeKey is a directory ID and a name.
func placeKey(at change.Place) []byte {
	return append(append(make([]byte, 0, len(at.Dir)+len(at.Name)), at.Dir[:]...), at.Name...)
}

func placeOf(key []byte) (change.Place, error) {
	var dir change.ID
	if len(key) < len(dir) {
		return change.Place{}, fmt.Errorf("%w (a key of %d bytes)", ErrCorrupt, len(key))
	}
	return change.Place{Dir: change.ID(key[:len(dir)]), Name: string(bytes.Clone(key[len(dir):]))}, nil
}
