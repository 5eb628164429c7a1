package index

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"georep/internal/change"
)

func TestOneProcessAtATime(t *testing.T) {
	path := filepath.Join(scratch(t), "index")
	open(t, path, Options{})
	if _, err := Open(path, Options{LockWait: time.Millisecond}); !errors.Is(err, ErrLocked) {
		t.Fatalf("the second Open gives %v", err)
	}
}

func TestClosedIndexRefuses(t *testing.T) {
	x := openFresh(t)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	_, _, err := x.Get(change.Place{})
	if !errors.Is(err, ErrClosed) {
		t.Errorf("Get gives %v", err)
	}
	if err := x.Update(func(*Tx) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("Update gives %v", err)
	}
}

func TestNewerFormatIsNamed(t *testing.T) {
	path := filepath.Join(scratch(t), "index")
	x := open(t, path, Options{})
	if err := x.Write(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyFormat, []byte{formatVersion + 1}) }); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, ErrNewer) {
		t.Fatalf("Open gives %v", err)
	}
}

func TestIntentsOutliveCrashes(t *testing.T) {
	path := filepath.Join(scratch(t), "index")
	crash := func(x *Index) *Index {
		t.Helper()
		if err := x.abandon(); err != nil {
			t.Fatal(err)
		}
		again, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return again
	}
	expect := func(x *Index, want ...change.ID) {
		t.Helper()
		if got, err := x.Intents(); err != nil || !slices.Equal(got, want) {
			t.Fatalf("Intents gives %v and %v, want %v", got, err, want)
		}
	}
	begin := func(x *Index, gen uint64, dirs ...change.ID) {
		t.Helper()
		if err := x.BeginIntents(gen, dirs); err != nil {
			t.Fatal(err)
		}
	}
	a, b, c := change.NewID(1, 1), change.NewID(2, 1), change.NewID(3, 1)
	x, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.BeginIntents(0, []change.ID{a}); err == nil {
		t.Fatal("generation 0 is taken")
	}
	begin(x, 1, a, b)
	begin(x, 2, b, c)
	begin(x, 3, a)
	expect(x) // of this run, none is left by a crash
	update(t, x, func(tx *Tx) { tx.EndIntents(1) })
	x = crash(x)
	expect(x, a, b, c)
	begin(x, 2, c) // generations begin anew
	update(t, x, func(tx *Tx) { tx.EndIntents(2) })
	update(t, x, func(tx *Tx) { tx.Reconciled(b) })
	begin(x, 7, b)
	x = crash(x)
	expect(x, a, b, c)
	if err := x.Forget(); err != nil {
		t.Fatal(err)
	}
	expect(x)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestForgetKeepsValues(t *testing.T) {
	x := openFresh(t)
	fillIndex(t, x, 1000, 500)
	at, _ := file(0)
	if _, _, found, err := x.Path(at.Dir); !found || err != nil {
		t.Fatal(found, err)
	}
	if err := x.SetValue("source", []byte("that")); err != nil {
		t.Fatal(err)
	}
	if err := x.SetValue("empty", []byte{}); err != nil {
		t.Fatal(err)
	}
	if err := x.Forget(); err != nil {
		t.Fatal(err)
	}
	if got := all(t, x); len(got) > 0 {
		t.Fatalf("%d entries are left", len(got))
	}
	if _, _, found, _ := x.Path(at.Dir); found {
		t.Fatal("a path is left")
	}
	if value, found, err := x.Value("source"); string(value) != "that" || !found || err != nil {
		t.Fatalf("the value is %q, %v, %v", value, found, err)
	}
	if value, found, err := x.Value("empty"); len(value) != 0 || !found || err != nil {
		t.Fatalf("the empty value is %q, %v, %v", value, found, err)
	}
	if err := x.SetValue("source", nil); err != nil {
		t.Fatal(err)
	}
	if _, found, err := x.Value("source"); found || err != nil {
		t.Fatalf("the removed value is there: %v, %v", found, err)
	}
}

func TestOpenMakesMostlyFreeFileSmaller(t *testing.T) {
	path := filepath.Join(scratch(t), "index")
	x := open(t, path, Options{})
	fillIndex(t, x, 60_000, 20_000)
	full, err := x.Size()
	if err != nil || full < compactAbove {
		t.Fatalf("the file has %d bytes (%v), too few for this test", full, err)
	}
	update(t, x, func(tx *Tx) {
		for i := range 540 {
			at, _ := file(i * perDirectory)
			tx.DeleteTree(at.Dir)
		}
	})
	before := all(t, x)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = open(t, path, Options{})
	small, err := x.Size()
	if err != nil || small > full/4 {
		t.Fatalf("the file has %d bytes (%v), had %d", small, err, full)
	}
	if after := all(t, x); len(after) != len(before) || len(after) != 1+600+6000 {
		t.Fatalf("%d entries, were %d", len(after), len(before))
	}
	if _, err := os.Stat(path + ".compact"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the copy is left: %v", err)
	}
	if _, err := Open(path, Options{LockWait: time.Millisecond}); !errors.Is(err, ErrLocked) {
		t.Fatalf("the smaller file is not locked: %v", err)
	}
}

// TestDamageIsNamed damages files in many ways. Whatever is not noticed must not end the process.
func TestDamageIsNamed(t *testing.T) {
	dir := scratch(t)
	for _, end := range []string{"crash", "crash without list", "close"} {
		sound := filepath.Join(dir, end)
		x, err := Open(sound, Options{})
		if err != nil {
			t.Fatal(err)
		}
		fillIndex(t, x, 2500, 500)
		closing := x.abandon
		switch end {
		case "close":
			closing = x.Close
		case "crash without list":
			x.db.NoFreelistSync = true
			if err := x.db.Update(x.noteFree); err != nil {
				t.Fatal(err)
			}
		}
		if err := closing(); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(sound)
		if err != nil {
			t.Fatal(err)
		}
		t.Run("truncated after "+end, func(t *testing.T) {
			for _, keep := range []int{1, 100, 8192, 20_000, len(data) / 3} {
				if err := useDamaged(t, data[:keep]); !errors.Is(err, ErrCorrupt) {
					t.Errorf("%d of %d bytes give %v", keep, len(data), err)
				}
			}
		})
		t.Run("overwritten after "+end, func(t *testing.T) { overwriteMany(t, data) })
	}
	if err := useDamaged(t, []byte(strings.Repeat("not an index\n", 10_000))); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another file gives %v", err)
	}
}

// TestDamageWhileOpenIsNamed cuts the file off below an open index.
func TestDamageWhileOpenIsNamed(t *testing.T) {
	path := filepath.Join(scratch(t), "index")
	x, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	fillIndex(t, x, 50_000, 5000)
	x.written.giveBack() // a mapped page of a truncated file may stay readable
	if err := os.Truncate(path, 40_000); err != nil {
		t.Fatal(err)
	}
	_, err = x.Count(rootID(), 0)
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("Count gives %v", err)
	}
	if err := x.Update(func(tx *Tx) error { return putFiles(tx, 0, 50_000) }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Update gives %v", err)
	}
	if err := x.Write(func(tx *bbolt.Tx) error { panic("a page is bad") }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Write gives %v", err)
	}
	if _, _, err := x.Get(change.Place{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Get after a panic gives %v", err)
	}
	_ = x.Close() // must end, whatever it says
	if _, err := Open(path, Options{LockWait: time.Millisecond}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Open gives %v", err)
	}
}

func overwriteMany(t *testing.T, data []byte) {
	noticed := 0
	const tries = 24
	for seed := range uint64(tries) {
		r := rand.New(rand.NewPCG(seed, 1))
		damaged := slices.Clone(data)
		at := 16384 + r.IntN(len(data)-16384) // behind the first pages, which exist twice
		switch seed % 3 {
		case 0: // a lost page
			clear(damaged[at&^8191 : min(len(damaged), at&^8191+8192)])
		case 1:
			for i := range damaged[at:min(len(damaged), at+512)] {
				damaged[at+i] = byte(r.Uint32())
			}
		case 2:
			binary.LittleEndian.PutUint64(damaged[at&^8191+8:], r.Uint64())
		}
		if err := useDamaged(t, damaged); err != nil {
			noticed++
		}
	}
	t.Logf("%d of %d noticed", noticed, tries)
	if noticed < tries/4 {
		t.Errorf("only %d of %d kinds of damage are noticed", noticed, tries)
	}
}

// useDamaged opens a damaged file and uses all of it. It gives the first error.
func useDamaged(t *testing.T, data []byte) error {
	t.Helper()
	path := filepath.Join(scratch(t), "index")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	x, err := Open(path, Options{})
	if err != nil {
		if !strings.Contains(err.Error(), path) {
			t.Errorf("the error does not name the file: %v", err)
		}
		return err
	}
	defer func() { _ = x.Close() }()
	if _, err := x.Count(rootID(), 0); err != nil {
		return err
	}
	for i := range 5000 {
		at, id := file(i)
		if _, _, err := x.Get(at); err != nil {
			return err
		}
		if _, err := x.Names(id); err != nil {
			return err
		}
	}
	return nil
}
