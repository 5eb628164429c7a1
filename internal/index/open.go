package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// The keys of the bucket meta, and the states.
var (
	keyFormat = []byte("format") // one byte
	keyFree   = []byte("free")   // whether the store's list of free pages is in the file, one of the next two
	keyTotals = []byte("totals") // entries and bytes, eight bytes each, big endian

	freeListed   = []byte("listed")
	freeUnlisted = []byte("unlisted")
)

const formatVersion = 1

// compactAbove is the size of a file, in bytes, from which one that is more than half free is rewritten at Open.
const compactAbove = 8 << 20

// openChecked opens the file, and makes it smaller when that is worth it.
func openChecked(path string, wait time.Duration) (*bbolt.DB, *os.File, error) {
	if err := check(path, wait); err != nil {
		return nil, nil, err
	}
	db, file, err := openFile(path, wait)
	if err != nil {
		return nil, nil, err
	}
	if worthCompacting(db, file) && compact(db, path, wait) {
		if err := db.Close(); err != nil {
			return nil, nil, err
		}
		if db, file, err = openFile(path, wait); err != nil {
			return nil, nil, err
		}
	}
	if err := syncDirectory(path); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, file, nil
}

func worthCompacting(db *bbolt.DB, file *os.File) bool {
	info, err := file.Stat()
	free := int64(db.Stats().FreePageN) * int64(db.Info().PageSize)
	return err == nil && info.Size() >= compactAbove && free > info.Size()/2
}

func storeOptions(wait time.Duration) *bbolt.Options {
	return &bbolt.Options{Timeout: wait, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, PageSize: 8192}
}

// openFile opens the store. Another process may have put a smaller file in its place while this one waited for the lock: then the
// lock is on a file without a name, and it tries again.
func openFile(path string, wait time.Duration) (*bbolt.DB, *os.File, error) {
	for {
		db, file, err := openStore(path, storeOptions(wait))
		if err != nil {
			return nil, nil, err
		}
		held, err := file.Stat()
		if err != nil {
			return nil, nil, errors.Join(err, db.Close())
		}
		named, err := os.Stat(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, errors.Join(err, db.Close())
		}
		if err == nil && os.SameFile(named, held) {
			return db, file, nil
		}
		if err := db.Close(); err != nil {
			return nil, nil, err
		}
	}
}

// openStore opens the store, gives the file that it uses, and names its errors. The store panics over some damage.
func openStore(path string, o *bbolt.Options) (db *bbolt.DB, file *os.File, err error) {
	o.OpenFile = func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
		file, err = os.OpenFile(name, flag, mode)
		return file, err
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w (%v)", ErrCorrupt, r)
			if file != nil {
				_ = file.Close() // gives the lock back; the content is lost already
			}
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	db, err = bbolt.Open(path, 0o600, o)
	return db, file, storeError(err)
}

func storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bbolterrors.ErrTimeout):
		return ErrLocked
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrChecksum), errors.Is(err, bbolterrors.ErrVersionMismatch):
		return fmt.Errorf("%w (%v)", ErrCorrupt, err)
	}
	return err
}

// check looks for damage that the store would not survive: a file that is too short, and, when the list of free pages must be made
// anew, any page that cannot be read. The store reads them all for that, where damage ends the process.
func check(path string, wait time.Duration) (err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	o := storeOptions(wait)
	o.ReadOnly = true
	if info.Size() < int64(4*o.PageSize) { // what a new file has
		return fmt.Errorf("%w (%d bytes are left)", ErrCorrupt, info.Size())
	}
	db, _, err := openStore(path, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	defer recovered(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	return db.View(func(tx *bbolt.Tx) error {
		if tx.Size() > info.Size() {
			return fmt.Errorf("%w (%d of %d bytes are left)", ErrCorrupt, info.Size(), tx.Size())
		}
		if meta := tx.Bucket(bucketMeta); meta != nil && bytes.Equal(meta.Get(keyFree), freeListed) {
			return nil
		}
		return readAll(tx)
	})
}

// readAll touches every page of every bucket.
func readAll(tx *bbolt.Tx) error {
	return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		c := b.Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			if len(k) == 0 {
				return fmt.Errorf("%w (an empty key)", ErrCorrupt)
			}
		}
		return nil
	})
}

// compact puts a copy without free space in the file's place, and says whether it did. When it fails (the disk may be full), the
// file stays as it is, which does no harm.
func compact(db *bbolt.DB, path string, wait time.Duration) bool {
	smaller := path + ".compact"
	if err := copyStore(db, smaller, wait); err != nil {
		_ = os.Remove(smaller) // the next one removes it, too
		return false
	}
	if err := os.Rename(smaller, path); err != nil {
		_ = os.Remove(smaller)
		return false
	}
	return true
}

// syncDirectory makes durable which file has the name path. Without it, a power failure could bring back a file that was replaced, and
// with it forget what was acknowledged since.
func syncDirectory(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// copyTransaction is how many bytes of keys and values one transaction of a copy takes.
const copyTransaction = 4 << 20

func copyStore(db *bbolt.DB, path string, wait time.Duration) (err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	o := storeOptions(wait)
	o.NoFreelistSync = false
	dst, _, err := openStore(path, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	defer recovered(&err)
	return bbolt.Compact(dst, db, copyTransaction)
}

// prepare makes a fresh file ready, and reads what the index keeps about itself.
func (x *Index) prepare(tx *bbolt.Tx) error {
	for _, name := range [][]byte{bucketTree, bucketNames, bucketValues, bucketIntents, bucketDoomed, bucketMeta} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return fmt.Errorf("create %s: %w", name, err)
		}
	}
	meta := tx.Bucket(bucketMeta)
	switch format := meta.Get(keyFormat); {
	case format == nil:
		if err := meta.Put(keyFormat, []byte{formatVersion}); err != nil {
			return fmt.Errorf("write format: %w", err)
		}
	case len(format) != 1:
		return fmt.Errorf("%w (its format is unknown)", ErrCorrupt)
	case format[0] > formatVersion:
		return fmt.Errorf("%w (format %d)", ErrNewer, format[0])
	}
	if totals := meta.Get(keyTotals); len(totals) == 16 {
		x.totals.entries = int64(binary.BigEndian.Uint64(totals))
		x.totals.bytes = int64(binary.BigEndian.Uint64(totals[8:]))
	}
	return inheritIntents(tx)
}

// listFreeBelow is the number of free pages up to which each transaction writes the list of them into the file. Without it, the next Open after
// a crash must read the whole file to find them; but a long list, after a great deletion, would slow each transaction down.
const listFreeBelow = 2048

// listFree decides whether the transaction that follows lists the free pages.
func (x *Index) listFree() { x.db.NoFreelistSync = x.db.Stats().FreePageN >= listFreeBelow }

// noteFree notes in the transaction what listFree decided.
func (x *Index) noteFree(tx *bbolt.Tx) error {
	meta, now := tx.Bucket(bucketMeta), freeListed
	if x.db.NoFreelistSync {
		now = freeUnlisted
	}
	if bytes.Equal(meta.Get(keyFree), now) {
		return nil
	}
	if err := meta.Put(keyFree, now); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// addTotals writes the totals with a difference added.
func (x *Index) addTotals(tx *bbolt.Tx, entries, share int64) error {
	if entries == 0 && share == 0 {
		return nil
	}
	haveEntries, haveShare := x.Totals()
	value := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(haveEntries+entries))
	value = binary.BigEndian.AppendUint64(value, uint64(haveShare+share))
	if err := tx.Bucket(bucketMeta).Put(keyTotals, value); err != nil {
		return fmt.Errorf("write totals: %w", err)
	}
	return nil
}
