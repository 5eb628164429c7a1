package index

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"go.etcd.io/bbolt"

	"georep/internal/change"
)

func open(t testing.TB, path string, o Options) *Index {
	t.Helper()
	x, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

func openFresh(t testing.TB) *Index { return open(t, filepath.Join(scratch(t), "index"), Options{}) }

// scratch gives a directory for the test's files, in memory if there is a place for that: tests are about what is in them, not about
// how long a disk takes to sync. Benchmarks, which are, get the usual one.
func scratch(t testing.TB) string {
	t.Helper()
	if _, measured := t.(*testing.B); measured {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "georep-index-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func update(t testing.TB, x *Index, fn func(*Tx)) {
	t.Helper()
	if err := x.Update(func(tx *Tx) error { fn(tx); return nil }); err != nil {
		t.Fatal(err)
	}
}

// scale multiplies the sizes of the tests that fill an index: GEOREP_TEST_SCALE, a whole number, else 1.
func scale(t testing.TB) int {
	t.Helper()
	text := os.Getenv("GEOREP_TEST_SCALE")
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("GEOREP_TEST_SCALE is %q, want a whole number", text)
	}
	return n
}

// sample is a plausible entry; n makes it differ from others.
func sample(id change.ID, kind change.Kind, n int) change.Entry {
	e := change.Entry{Sec: change.NewID(id.Ino()+7, uint64(n)*0x9e3779b97f4a7c15)}
	e.ID, e.Kind, e.Mode, e.UID, e.GID, e.Nlink = id, kind, 0o644, 1000, 1000, 1
	e.Size, e.Blocks = int64(n%100000), int64(n%200)
	e.Mtime = change.Time{Sec: 1_700_000_000 + int64(n), Nsec: uint32(n*7919) % 1_000_000_000}
	e.Ctime = change.Time{Sec: e.Mtime.Sec + 5, Nsec: e.Mtime.Nsec}
	return e
}

// perDirectory is the width of the sample tree's directories.
const perDirectory = 100

func rootID() change.ID { return change.NewID(2, 1) }

// file gives the place and ID of file n of the sample tree.
func file(n int) (change.Place, change.ID) {
	dir := uint64(1000 + n/perDirectory*(perDirectory+1))
	at := change.Place{Dir: change.NewID(dir, 11), Name: fmt.Sprintf("file-%08d.dat", n)}
	return at, change.NewID(dir+1+uint64(n%perDirectory), uint64(n)*0x2545f4914f6cdd1d)
}

// putFiles puts the files from up to end, and their directories.
func putFiles(tx *Tx, from, end int) error {
	if from == 0 {
		if err := tx.Put(change.Place{}, sample(rootID(), change.Dir, 0)); err != nil {
			return err
		}
	}
	for i := from; i < end; i++ {
		at, id := file(i)
		if i%perDirectory == 0 {
			dir := change.Place{Dir: rootID(), Name: fmt.Sprintf("directory-%06d", i/perDirectory)}
			if err := tx.Put(dir, sample(at.Dir, change.Dir, i)); err != nil {
				return err
			}
		}
		if err := tx.Put(at, sample(id, change.File, i)); err != nil {
			return err
		}
	}
	return nil
}

// fillIndex makes the sample tree of total files in batches.
func fillIndex(t testing.TB, x *Index, total, batch int) {
	t.Helper()
	for n := 0; n < total; n += batch {
		if err := x.Update(func(tx *Tx) error { return putFiles(tx, n, min(total, n+batch)) }); err != nil {
			t.Fatal(err)
		}
	}
}

// all reads the whole tree, and checks on the way that both buckets are sound and agree, and that the totals are right.
func all(t testing.TB, x *Index) map[change.Place]change.Entry {
	t.Helper()
	tree := map[change.Place]change.Entry{}
	err := x.Read(func(tx *bbolt.Tx) error {
		names := map[string]bool{}
		if err := soundBucket(tx.Bucket(bucketNames), func(k, v []byte) error {
			names[string(k)] = true
			return nil
		}); err != nil {
			return fmt.Errorf("names: %w", err)
		}
		return soundBucket(tx.Bucket(bucketTree), func(k, v []byte) error {
			var e change.Entry
			if err := decodeRecord(v, &e); err != nil {
				return err
			}
			name := string(e.ID[:]) + string(k)
			if !names[name] {
				return fmt.Errorf("no name for %x", k)
			}
			delete(names, name)
			at, err := decodePlace(k)
			tree[at] = e
			return err
		}, func() error {
			if len(names) > 0 {
				return fmt.Errorf("%d names without a place", len(names))
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	checkTotals(t, x, tree)
	return tree
}

func checkTotals(t testing.TB, x *Index, tree map[change.Place]change.Entry) {
	t.Helper()
	var wantEntries, wantBytes int64
	for at, e := range tree {
		wantBytes += shareOf(&e)
		if !at.IsRoot() {
			wantEntries++
		}
	}
	if entries, bytes := x.Totals(); entries != wantEntries || bytes != wantBytes {
		t.Fatalf("totals are %d and %d, want %d and %d", entries, bytes, wantEntries, wantBytes)
	}
}

// soundBucket calls fn with each entry of a packed bucket, and fails when blocks or entries are not in order.
func soundBucket(b *bbolt.Bucket, fn func(k, v []byte) error, then ...func() error) error {
	var last []byte
	blocks := b.Cursor()
	for start, block := blocks.First(); start != nil; start, block = blocks.Next() {
		key := bytes.Clone(start)
		for first, left := true, block; len(left) > 0; first = false {
			var value []byte
			var ok bool
			if key, value, left, ok = cutEntry(left, key); !ok {
				return errors.New("a block cannot be read")
			}
			if first && !bytes.Equal(key, start) {
				return errors.New("a block does not begin with its key")
			}
			if last != nil && bytes.Compare(last, key) >= 0 {
				return errors.New("entries are not in order")
			}
			last = bytes.Clone(key)
			if err := fn(key, value); err != nil {
				return err
			}
		}
	}
	for _, f := range then {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}
