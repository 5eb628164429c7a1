// Package index keeps what the secondary has acknowledged: for every place on the primary the object that is there, and its identity
// on the secondary.
//
// It is one bbolt file. Keys are ordered by directory and name, so that a batch from one directory touches neighbouring pages; a
// second bucket leads from an object's identity to its names. The file can always be rebuilt by comparing the two sides, so
// a damaged one is reported, not repaired.
package index

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"

	"georep/internal/change"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrLocked: another process holds the index open.
	ErrLocked = errors.New("another process has the index open: stop the other georep of this session first")
	// ErrCorrupt: the file is damaged and must go.
	ErrCorrupt = errors.New("the index file is damaged: remove it, it is rebuilt by comparing both sides")
	// ErrNewer: the file was written by a later version.
	ErrNewer = errors.New("the index file was written by a newer georep: update this one, or remove the file, it is rebuilt by comparing both sides")
	// ErrClosed: the index was closed.
	ErrClosed = errors.New("the index is closed")
)

// Options tune an index. The zero value is right for a worker.
type Options struct {
	// LockWait is how long Open waits for another process to let go of the file; 0 means 5 s.
	LockWait time.Duration
	// Resident is how many bytes of the mapped file may stay in the process's resident memory before they are given back (they
	// remain in the page cache); 0 means 96 MiB, negative means no limit.
	Resident int64
	// Directories is how many directories are remembered for Path; 0 means 32,768 (about 10 MiB).
	Directories int
}

// Index is an open index file. Its methods may be called by many goroutines; updates run one after the other.
type Index struct {
	path    string
	db      *bbolt.DB
	file    *os.File // that db has open, and that carries the lock
	readers *readers
	chunks  sync.Pool // of *chunk, for List
	cache   *directoryCache
	written *residency

	writer sync.Mutex // held by the one update that runs, over the next two
	batch  *batch     // memory for the next update
	broken bool       // the store panicked while it wrote

	totals struct {
		sync.Mutex
		entries, bytes int64
	}
	closeOnce sync.Once
	closeErr  error
}

// The buckets.
var (
	bucketTree    = []byte("tree")    // directory ID, name -> record
	bucketNames   = []byte("names")   // object ID, directory ID, name -> nothing
	bucketValues  = []byte("values")  // key -> value of SetValue
	bucketIntents = []byte("intents") // generation, directory ID -> nothing
	bucketDoomed  = []byte("doomed")  // directory ID -> nothing: trees whose deletion has begun
	bucketMeta    = []byte("meta")    // the index about itself
)

// Open opens the index at path, and creates it when there is none. It takes the file for this process alone (ErrLocked). A damaged
// file is ErrCorrupt, here or when the damage is met. A file that is mostly free space is rewritten smaller.
func Open(path string, o Options) (*Index, error) {
	if o.LockWait == 0 {
		o.LockWait = 5 * time.Second
	}
	if o.Resident == 0 {
		o.Resident = 96 << 20
	}
	if o.Directories <= 0 {
		o.Directories = 32768
	}
	db, file, err := openChecked(path, o.LockWait)
	if err != nil {
		return nil, fmt.Errorf("open index %s: %w", path, err)
	}
	x := &Index{path: path, db: db, file: file, cache: newDirectoryCache(o.Directories)}
	x.chunks.New = func() any { return new(chunk) }
	x.written = newResidency(db, o.Resident)
	x.readers = &readers{db: db, residency: x.written}
	if err := x.begin(); err != nil {
		_ = x.abandon()
		return nil, fmt.Errorf("open index %s: %w", path, err)
	}
	return x, nil
}

// begin makes a fresh file ready, reads the counters, and finishes what a crash interrupted.
func (x *Index) begin() error {
	if err := x.write(x.prepare); err != nil {
		return err
	}
	for {
		left, err := x.deleteDoomed()
		if err != nil || !left {
			return err
		}
	}
}

// abandon closes the file as it is.
func (x *Index) abandon() error {
	x.readers.end(ErrClosed)
	x.written.close()
	if x.broken {
		// The store's Close could wait for ever for a lock that it holds itself. Its mapping stays, which would hold the lock on
		// the file, too.
		return errors.Join(syscall.Flock(int(x.file.Fd()), syscall.LOCK_UN), x.file.Close())
	}
	return x.db.Close()
}

// Close ends the use of the file. Calls that are still running end first.
func (x *Index) Close() error {
	x.closeOnce.Do(func() {
		x.writer.Lock()
		defer x.writer.Unlock()
		x.readers.end(ErrClosed)
		var listed error
		if !x.broken && x.db.NoFreelistSync {
			x.db.NoFreelistSync = false
			listed = x.db.Update(x.noteFree)
		}
		if x.closeErr = errors.Join(listed, x.abandon()); x.closeErr != nil {
			x.closeErr = fmt.Errorf("close index %s: %w", x.path, x.closeErr)
		}
	})
	return x.closeErr
}

// recovered turns the panics with which the store reacts to damage into ErrCorrupt.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w (%v)", ErrCorrupt, r)
	}
}

// write runs one durable transaction of the store. The caller holds x.writer, or has the index alone.
func (x *Index) write(f func(*bbolt.Tx) error) error {
	if err := x.readers.pause(); err != nil {
		return err
	}
	defer x.readers.resume()
	return x.store(f)
}

// store is write without its care for readers. When the store panics, its locks are in an unknown state, and it is not used again.
func (x *Index) store(f func(*bbolt.Tx) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w (%v)", ErrCorrupt, r)
			x.broken = true
			x.readers.end(err)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a page that cannot be read
	x.listFree()
	return x.db.Update(func(tx *bbolt.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		return x.noteFree(tx)
	})
}

// Write runs one durable transaction over the whole store, for rooms that keep buckets of their own in the same file. f
// must not call methods of the index.
func (x *Index) Write(f func(*bbolt.Tx) error) error {
	x.writer.Lock()
	defer x.writer.Unlock()
	if err := x.write(f); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	return nil
}

// Read runs f on one consistent state of the store. It should be short, since pages that it sees cannot be used again
// meanwhile, and must not call Write or Update.
func (x *Index) Read(f func(*bbolt.Tx) error) error {
	err := x.withReader(func(r *reader) error { return f(r.tx) })
	if err != nil {
		return fmt.Errorf("read index: %w", err)
	}
	return nil
}

// Size is how many bytes the file has.
func (x *Index) Size() (int64, error) {
	info, err := os.Stat(x.path)
	if err != nil {
		return 0, fmt.Errorf("measure index: %w", err)
	}
	return info.Size(), nil
}

// Forget empties the index of all places and intents, but keeps the values: nothing is known of the secondary any more.
func (x *Index) Forget() error {
	err := x.Write(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketTree, bucketNames, bucketIntents, bucketDoomed} {
			if err := tx.DeleteBucket(name); err != nil {
				return fmt.Errorf("empty %s: %w", name, err)
			}
			if _, err := tx.CreateBucket(name); err != nil {
				return fmt.Errorf("create %s: %w", name, err)
			}
		}
		return tx.Bucket(bucketMeta).Delete(keyTotals)
	})
	if err != nil {
		return fmt.Errorf("forget what is known: %w", err)
	}
	x.cache.forgetAll()
	x.totals.Lock()
	x.totals.entries, x.totals.bytes = 0, 0
	x.totals.Unlock()
	return nil
}

// Totals counts what is in the index: entries are all names but the root's; bytes are the sizes of files, where each name of a file
// with several counts for its share (the size divided by the number of names).
func (x *Index) Totals() (entries, bytes int64) {
	x.totals.Lock()
	defer x.totals.Unlock()
	return x.totals.entries, x.totals.bytes
}

// Get gives the entry at a place; false when there is none.
func (x *Index) Get(at change.Place) (e change.Entry, found bool, err error) {
	err = x.withReader(func(r *reader) error {
		v := r.record(at)
		if v == nil {
			return nil
		}
		found = true
		return decodeRecord(v, &e)
	})
	if err != nil {
		return change.Entry{}, false, fmt.Errorf("get %s: %w", placeText(at), err)
	}
	return e, found, nil
}

// Names gives all places of an object, ordered by directory and name. It is empty when the object is unknown.
func (x *Index) Names(id change.ID) ([]change.Place, error) {
	var places []change.Place
	err := x.withReader(func(r *reader) error {
		return r.places(id, func(at change.Place) bool {
			places = append(places, at)
			return true
		})
	})
	if err != nil {
		return nil, fmt.Errorf("get names of %s: %w", id, err)
	}
	return places, nil
}

// Where gives the first place of an object; false when it is unknown.
func (x *Index) Where(id change.ID) (at change.Place, found bool, err error) {
	err = x.withReader(func(r *reader) error {
		return r.places(id, func(p change.Place) bool {
			at, found = p, true
			return false
		})
	})
	if err != nil {
		return change.Place{}, false, fmt.Errorf("get name of %s: %w", id, err)
	}
	return at, found, nil
}
