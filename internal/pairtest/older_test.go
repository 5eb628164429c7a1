package pairtest_test

import (
	"os"
	"path/filepath"
	"testing"
)

// An older state of the destination comes back (a snapshot is rolled back).
func TestOlderDestination(t *testing.T) {
	p, ctx := newPair(t)
	put(t, p.Primary+"/d/a", "one")
	put(t, p.Primary+"/d/b", "two")
	once(t, ctx, p)
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(p.Secondary)); err != nil {
		t.Fatal(err)
	}
	put(t, p.Primary+"/d/a", "three")
	put(t, p.Primary+"/e/c", "four")
	once(t, ctx, p)
	same(t, p)
	if err := os.RemoveAll(p.Secondary); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(old, p.Secondary); err != nil {
		t.Fatal(err)
	}
	once(t, ctx, p)
	same(t, p)
}

// An older state of the destination comes back in place: what was there then is the same object as before.
func TestOlderDestinationInPlace(t *testing.T) {
	p, ctx := newPair(t)
	put(t, p.Primary+"/d/a", "one")
	put(t, p.Primary+"/d/b", "two")
	put(t, p.Primary+"/s/t/u", "three")
	once(t, ctx, p)
	mark, err := os.ReadFile(p.Secondary + "/.georep/mark")
	if err != nil {
		t.Fatal(err)
	}
	put(t, p.Primary+"/d/b", "four")
	put(t, p.Primary+"/s/t/v", "five")
	if err := os.Remove(p.Primary + "/d/a"); err != nil {
		t.Fatal(err)
	}
	once(t, ctx, p)
	same(t, p)
	put(t, p.Secondary+"/d/a", "one")
	put(t, p.Secondary+"/d/b", "two")
	if err := os.Remove(p.Secondary + "/s/t/v"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.Secondary+"/.georep/mark", mark, 0o600); err != nil {
		t.Fatal(err)
	}
	once(t, ctx, p)
	same(t, p)
}

// The index is taken from a backup: what was made since and removed is on the destination only.
func TestOlderState(t *testing.T) {
	p, ctx := newPair(t)
	put(t, p.Primary+"/d/a", "one")
	once(t, ctx, p)
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(p.State)); err != nil {
		t.Fatal(err)
	}
	put(t, p.Primary+"/d/b", "two")
	once(t, ctx, p)
	same(t, p)
	if err := os.Remove(p.Primary + "/d/b"); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(p.State); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(old, p.State); err != nil {
		t.Fatal(err)
	}
	once(t, ctx, p)
	same(t, p)
}

// The destination is copied as a whole, so that nothing in it is the same object as before, and nothing has changed since.
func TestDestinationCopied(t *testing.T) {
	p, ctx := newPair(t)
	put(t, p.Primary+"/d/a", "one")
	once(t, ctx, p)
	copied := filepath.Join(t.TempDir(), "copied")
	if err := os.CopyFS(copied, os.DirFS(p.Secondary)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(p.Secondary); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copied, p.Secondary); err != nil {
		t.Fatal(err)
	}
	put(t, p.Primary+"/d/b", "two")
	once(t, ctx, p)
	same(t, p)
}

// Another filled directory takes the destination's place, and a person agrees to make it equal.
func TestOtherDestinationAdopted(t *testing.T) {
	p, ctx := newPair(t)
	put(t, p.Primary+"/d/a", "one")
	put(t, p.Primary+"/d/b", "two")
	once(t, ctx, p)
	if err := os.RemoveAll(p.Secondary); err != nil {
		t.Fatal(err)
	}
	put(t, p.Secondary+"/d/a", "one")
	p.Options.AllowDelete = true
	once(t, ctx, p)
	same(t, p)
}

// What waited in the stash when the state was lost is not left there.
func TestStashOfALostState(t *testing.T) {
	p, ctx := newPair(t)
	put(t, p.Primary+"/a", "one")
	once(t, ctx, p)
	waits := filepath.Join(p.Secondary, ".georep", "hold", "000000000000000500000000000000aa")
	put(t, waits, "displaced")
	if err := os.RemoveAll(p.State); err != nil {
		t.Fatal(err)
	}
	p.Options.AllowDelete = true
	once(t, ctx, p)
	same(t, p)
	if _, err := os.Stat(waits); err == nil {
		t.Error("it is still there")
	}
}
