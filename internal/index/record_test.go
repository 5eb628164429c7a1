package index

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"georep/internal/change"
)

func TestRecordIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]change.Kind{change.File, change.Dir, change.Symlink, change.BlockDev, change.Socket}).Draw(t, "kind")
		e := drawRecord(t, testFiles[0], kind)
		if err := checkEntry(&e); err != nil {
			t.Fatal(err)
		}
		b := appendRecord(nil, &e)
		if len(b) > recordAtMost+len(e.Target) {
			t.Fatalf("the record has %d bytes", len(b))
		}
		var got change.Entry
		if err := decodeRecord(b, &got); err != nil {
			t.Fatal(err)
		}
		if !cmp.Equal(got, e) {
			t.Fatal(cmp.Diff(e, got))
		}
		head, err := decodeHead(b)
		if err != nil || head != headOf(&e) || recordID(b) != e.ID {
			t.Fatalf("the head is %v and %v", head, err)
		}
		for cut := range len(b) {
			if err := decodeRecord(b[:cut], &got); err == nil {
				t.Fatalf("%d of %d bytes are read as a record", cut, len(b))
			}
		}
		if err := decodeRecord(append(b, 0), &got); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a byte too many gives %v", err)
		}
	})
}

func TestRecordOfLaterVersionIsNamed(t *testing.T) {
	e := sample(testFiles[0], change.File, 1)
	b := appendRecord(nil, &e)
	b[0]++
	if err := decodeRecord(b, &e); !errors.Is(err, ErrNewer) {
		t.Fatalf("it gives %v", err)
	}
}

func TestImpossibleEntriesAreRefused(t *testing.T) {
	good := change.Place{Dir: rootID(), Name: "a"}
	cases := map[string]struct {
		at    change.Place
		spoil func(*change.Entry)
	}{
		"zero identity":        {good, func(e *change.Entry) { e.ID = change.ID{} }},
		"stash identity":       {good, func(e *change.Entry) { e.ID = change.StashID }},
		"kind":                 {good, func(e *change.Entry) { e.Kind = 3 }},
		"mode":                 {good, func(e *change.Entry) { e.Mode = 0o100644 }},
		"size":                 {good, func(e *change.Entry) { e.Size = -1 }},
		"nanoseconds":          {good, func(e *change.Entry) { e.Mtime.Nsec = 1_000_000_000 }},
		"long target":          {good, func(e *change.Entry) { e.Target = string(make([]byte, maxTargetSize+1)) }},
		"name with a slash":    {change.Place{Dir: rootID(), Name: "a/b"}, func(*change.Entry) {}},
		"name in no directory": {change.Place{Name: "a"}, func(*change.Entry) {}},
		"no name":              {change.Place{Dir: rootID()}, func(*change.Entry) {}},
	}
	x := openFresh(t)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e := sample(testFiles[0], change.File, 1)
			c.spoil(&e)
			err := x.Update(func(tx *Tx) error {
				_ = tx.Put(c.at, e) // even a caller that does not look fails
				return nil
			})
			if err == nil {
				t.Fatal("it is kept")
			}
		})
	}
	if got := all(t, x); len(got) > 0 {
		t.Fatalf("%d entries are kept", len(got))
	}
}

// FuzzRecord reads arbitrary bytes as a record; what can be read is written and read again alike.
func FuzzRecord(f *testing.F) {
	for _, kind := range []change.Kind{change.File, change.Dir, change.Symlink, change.CharDev} {
		e := sample(testFiles[0], kind, 5)
		e.XattrSum, e.Racy = 7, true
		if kind == change.Symlink {
			e.Target = "../target"
		}
		f.Add(appendRecord(nil, &e))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var e, again change.Entry
		if decodeRecord(b, &e) != nil {
			return
		}
		if e.ID.IsZero() || e.ID == change.StashID {
			return // the decoder does not care
		}
		if err := checkEntry(&e); err != nil {
			t.Fatal(err)
		}
		if err := decodeRecord(appendRecord(nil, &e), &again); err != nil || !cmp.Equal(e, again) {
			t.Fatalf("read again: %v, %s", err, cmp.Diff(e, again))
		}
	})
}
