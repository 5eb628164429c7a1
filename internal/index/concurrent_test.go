package index

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"georep/internal/change"
	"georep/internal/need"
)

// TestLongListLetsUpdatesGoOn updates the index from within a List, many times: no transaction may be open there, or the file would grow
// with each update, and an update that must map it anew would wait for ever.
func TestLongListLetsUpdatesGoOn(t *testing.T) {
	x, size := openFresh(t), 5000*scale(t)
	fillIndex(t, x, 2*size, size)
	before, err := x.Size()
	if err != nil {
		t.Fatal(err)
	}
	rounds := 0
	err = x.List(rootID(), "", func(name string, e change.Entry) error {
		rounds++
		return x.Update(func(tx *Tx) error { return putFiles(tx, 0, size/5) }) // the same again, but for the first round
	})
	if err != nil || rounds != 2*size/perDirectory {
		t.Fatalf("%d rounds: %v", rounds, err)
	}
	after, err := x.Size()
	if err != nil || after > 2*before {
		t.Fatalf("the file grew from %d to %d bytes: %v", before, after, err)
	}
	// Growth over several new mappings, again from within.
	n, most := 2*size, 16*size
	err = x.List(rootID(), "", func(string, change.Entry) error {
		if n >= most {
			return nil
		}
		n += size
		return x.Update(func(tx *Tx) error { return putFiles(tx, n-size, n) })
	})
	if err != nil || n < most {
		t.Fatalf("%d files: %v", n, err)
	}
	checkCount(t, x, int64(most+most/perDirectory))
}

func checkCount(t *testing.T, x *Index, want int64) {
	t.Helper()
	if n, err := x.Count(rootID(), 0); n != want || err != nil {
		t.Fatalf("%d names and %v, want %d", n, err, want)
	}
}

// TestReadersWhileDirectoriesMove reads from several goroutines while a directory moves to and fro.
func TestReadersWhileDirectoriesMove(t *testing.T) {
	x := openFresh(t)
	top, moving, inner := rootID(), change.NewID(10, 1), change.NewID(11, 1)
	update(t, x, func(tx *Tx) {
		_ = tx.Put(change.Place{}, sample(top, change.Dir, 0))
		_ = tx.Put(change.Place{Dir: top, Name: "here"}, sample(moving, change.Dir, 1))
		_ = tx.Put(change.Place{Dir: moving, Name: "inner"}, sample(inner, change.Dir, 2))
		for i := range 300 {
			_ = tx.Put(change.Place{Dir: inner, Name: fmt.Sprintf("%03d", i)}, sample(change.NewID(uint64(100+i), 1), change.File, i))
		}
	})
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := readAround(x, inner); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 200 {
		name := []string{"here", "there"}[(i+1)%2]
		update(t, x, func(tx *Tx) { _ = tx.Put(change.Place{Dir: top, Name: name}, sample(moving, change.Dir, i)) })
		if path, _, _, err := x.Path(inner); err != nil || path != name+"/inner" {
			t.Fatalf("after the move to %s, the path is %q: %v", name, path, err)
		}
	}
	close(done)
	readers.Wait()
}

func readAround(x *Index, inner change.ID) error {
	path, _, found, err := x.Path(inner)
	if err != nil || !found || path != "here/inner" && path != "there/inner" {
		return fmt.Errorf("the path is %q, %v: %w", path, found, err)
	}
	n := 0
	if err := x.List(inner, "", func(string, change.Entry) error { n++; return nil }); err != nil || n != 300 {
		return fmt.Errorf("%d entries are listed: %w", n, err)
	}
	if places, err := x.Names(change.NewID(100, 1)); err != nil || len(places) != 1 {
		return fmt.Errorf("the names are %v: %w", places, err)
	}
	if _, found, err := x.Get(change.Place{Dir: inner, Name: "007"}); err != nil || !found {
		return fmt.Errorf("007 is found: %v: %w", found, err)
	}
	return nil
}

// TestDoomedTreeIsGoneAfterCrash ends a deletion between its first transaction and the rest.
func TestDoomedTreeIsGoneAfterCrash(t *testing.T) {
	path := filepath.Join(scratch(t), "index")
	x, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	fillIndex(t, x, 3*walkStep, 10_000)
	spared, id := file(150)
	tx := x.newTx()
	tx.DeleteTree(rootID())
	if err := tx.Put(change.Place{}, sample(rootID(), change.Dir, 1)); err != nil {
		t.Fatal(err)
	}
	if err := tx.Put(change.Place{Dir: change.StashID, Name: spared.Dir.String()}, sample(spared.Dir, change.Dir, 1)); err != nil {
		t.Fatal(err)
	}
	if err := tx.commit(); err != nil {
		t.Fatal(err)
	}
	if left, err := x.deleteDoomed(); err != nil || !left {
		t.Fatal(left, err)
	}
	if err := x.abandon(); err != nil {
		t.Fatal(err)
	}
	x = open(t, path, Options{})
	got := all(t, x)
	if len(got) != 1+1+perDirectory {
		t.Fatalf("%d entries are left", len(got))
	}
	if at, found, err := x.Where(id); err != nil || !found || at != spared {
		t.Fatalf("the file that was moved out is at %v, %v, %v", at, found, err)
	}
}

// TestFullDiskIsSurvived fills a small file system.
func TestFullDiskIsSurvived(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	if err := syscall.Mount("georep-test", dir, "tmpfs", 0, "size=16m"); err != nil {
		need.Missing(t, "the right to mount a tmpfs")
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "index")
	x, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for ; kept < 200_000; kept += 1000 {
		if err = x.Update(func(tx *Tx) error { return putFiles(tx, kept, kept+1000) }); err != nil {
			break
		}
	}
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EFBIG) {
		t.Fatalf("a full disk gives %v", err)
	}
	if got := all(t, x); len(got) != 1+kept+kept/perDirectory {
		t.Fatalf("%d entries after %d files", len(got), kept)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := x.Update(func(tx *Tx) error { return putFiles(tx, kept, kept+1000) }); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	checkCount(t, x, int64((kept+1000)*(perDirectory+1)/perDirectory))
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
}
