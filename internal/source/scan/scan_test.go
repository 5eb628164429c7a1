package scan_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"georep/internal/change"
	"georep/internal/index"
	"georep/internal/rooted"
	"georep/internal/source/scan"
)

// wide is more than a directory may have to be compared as a whole.
const wide = 33_000

func openIndex(t *testing.T) *index.Index {
	t.Helper()
	x, err := index.Open(filepath.Join(t.TempDir(), "index"), index.Options{})
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

// found is what a pass handed over.
type found struct {
	seen   map[string]change.Observation
	absent map[string]bool
	most   int // in one chunk
}

// compare makes a pass and acknowledges what it found.
func compare(t *testing.T, w *walk, x *index.Index) found {
	t.Helper()
	f := found{seen: map[string]change.Observation{}, absent: map[string]bool{}}
	w.pass(scan.Manner{}, func(c scan.Chunk) {
		f.most = max(f.most, len(c.Seen)+len(c.Absent))
		for _, p := range c.Problems {
			t.Errorf("problem: %+v", p)
		}
		for _, o := range c.Seen {
			f.seen[o.At.Name] = o
		}
		for _, at := range c.Absent {
			f.absent[at.Name] = true
		}
		acknowledge(t, x, c)
	})
	return f
}

// TestWideDirectory compares one directory piece by piece: what is new, changed, gone, and nothing else.
func TestWideDirectory(t *testing.T) {
	dir := t.TempDir()
	name := func(i int) string { return fmt.Sprintf("%s/file-%0200d", dir, i) } // so that sorting them takes more than the memory for it
	for i := range wide {
		if err := os.Symlink("x", name(i)); err != nil {
			t.Fatal(err)
		}
	}
	x := openIndex(t)
	w := start(t, dir, x, 2)
	if f := compare(t, w, x); len(f.seen) != wide || len(f.absent) > 0 || f.most > 2048 {
		t.Fatalf("%d names are seen and %d absent, %d at once", len(f.seen), len(f.absent), f.most)
	}
	if f := compare(t, w, x); len(f.seen)+len(f.absent) > 0 {
		t.Fatalf("%d names are seen and %d absent although nothing changed", len(f.seen), len(f.absent))
	}
	for i := range 100 {
		if err := os.Remove(name(i * 329)); err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(name(i*329+1), 7, 7); err != nil && os.Geteuid() == 0 {
			t.Fatal(err)
		}
		if err := os.Symlink("y", name(wide+i)); err != nil {
			t.Fatal(err)
		}
	}
	f := compare(t, w, x)
	changed := 200
	if os.Geteuid() != 0 {
		changed = 100
	}
	if len(f.seen) != changed || len(f.absent) != 100 {
		t.Fatalf("%d names are seen and %d absent, want %d and 100", len(f.seen), len(f.absent), changed)
	}
}

// TestWideDirectoryComesInOrder wants the names of a wide directory in pieces that follow each other, so that whoever notes them touches
// neighbours; and nothing called absent when the listing breaks off.
func TestWideDirectoryComesInOrder(t *testing.T) {
	dir := t.TempDir()
	for i := range wide {
		if err := os.Symlink("x", fmt.Sprintf("%s/%06d", dir, i)); err != nil {
			t.Fatal(err)
		}
	}
	x := openIndex(t)
	var order []string
	calls, last := 0, 0 // of those that list, when the last one is to fail
	faults := rooted.WithFaults(func(call, _ string) error {
		if call != "getdents64" {
			return nil
		}
		if calls++; calls == last {
			return syscall.EIO
		}
		return nil
	})
	first := start(t, dir, x, 1)
	first.pass(scan.Manner{}, func(c scan.Chunk) {
		for _, o := range c.Seen {
			order = append(order, o.At.Name)
		}
		acknowledge(t, x, c)
	})
	const piece = 8 << 10
	for i, name := range order {
		if n, err := strconv.Atoi(name); err != nil || n/piece != i/piece {
			t.Fatalf("%s is seen as number %d", name, i)
		}
	}
	for i := range 10 {
		if err := os.Remove(fmt.Sprintf("%s/%06d", dir, i)); err != nil {
			t.Fatal(err)
		}
	}
	absent := 0
	start(t, dir, x, 1, faults).pass(scan.Manner{}, func(c scan.Chunk) { absent += len(c.Absent) })
	if absent != 10 {
		t.Errorf("%d names are absent, want 10", absent)
	}
	calls, last = 0, calls
	broken := start(t, dir, x, 1, faults)
	problems := 0
	broken.pass(scan.Manner{}, func(c scan.Chunk) {
		problems += len(c.Problems)
		if len(c.Absent) > 0 {
			t.Errorf("%d names are called absent by an incomplete listing", len(c.Absent))
		}
	})
	if calls != last || problems != 1 {
		t.Errorf("%d problems after %d calls", problems, calls)
	}
}

// TestInterruptedPassGoesOn wants nothing that was acknowledged handed over again by a new walker.
func TestInterruptedPassGoesOn(t *testing.T) {
	dir := t.TempDir()
	for i := range 3000 {
		at := fmt.Sprintf("%s/d%02d", dir, i/100)
		if i%100 == 0 {
			if err := os.Mkdir(at, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(fmt.Sprintf("%s/%d", at, i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x := openIndex(t)
	total, done := 0, 0
	first := start(t, dir, x, 2)
	first.pass(scan.Manner{}, func(c scan.Chunk) {
		total += len(c.Seen)
		if done < 1500 {
			done += len(c.Seen)
			acknowledge(t, x, c)
		}
	})
	f := compare(t, start(t, dir, x, 2), x)
	if total != 3030 || len(f.seen) != total-done || len(f.absent) > 0 {
		t.Fatalf("%d of %d were acknowledged; then %d were seen and %d absent", done, total, len(f.seen), len(f.absent))
	}
}

// TestChecksumDoubtsAll wants the content of every file doubted, and of nothing else.
func TestChecksumDoubtsAll(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("x", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	x := openIndex(t)
	w := start(t, dir, x, 1)
	compare(t, w, x)
	names := map[string]bool{}
	w.pass(scan.Manner{Checksum: true}, func(c scan.Chunk) {
		for _, o := range c.Seen {
			names[o.At.Name] = o.Content
		}
	})
	if len(names) != 1 || !names["file"] {
		t.Fatalf("doubted are %v", names)
	}
}
