package index

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"georep/internal/change"
)

// TestResidentMemoryIsBounded uses all of an index that is several times larger than what may stay in memory.
func TestResidentMemoryIsBounded(t *testing.T) {
	const limit = 1 << 20
	total := 250_000 * scale(t)
	path := filepath.Join(scratch(t), "index")
	x := open(t, path, Options{Resident: limit})
	if x.written.statm == nil {
		t.Fatal("there is no /proc/self/statm to measure with")
	}
	fillIndex(t, x, total, 10_000)
	size, err := x.Size()
	if err != nil {
		t.Fatal(err)
	}
	base := x.written.base
	peak := useAll(t, x, total)
	// Between two looks at the size, 4096 pages may come.
	if bound := base + limit + checkEvery*4096 + 4<<20; peak > bound || bound > base+size {
		t.Errorf("%d MiB of the file's %d were in memory, at most %d may be", (peak-base)>>20, size>>20, (bound-base)>>20)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = open(t, path, Options{Resident: 1 << 40})
	base = x.written.base
	if peak := useAll(t, x, total); peak-base < size/2 {
		t.Errorf("without a limit, only %d MiB of the file's %d were in memory: this test proves nothing", (peak-base)>>20, size>>20)
	}
}

// useAll reads in every way, and gives the most bytes of files that were in memory.
func useAll(t *testing.T, x *Index, total int) (peak int64) {
	t.Helper()
	look := func() {
		x.written.mu.Lock()
		defer x.written.mu.Unlock()
		peak = max(peak, x.written.resident())
	}
	for i := range total / 20 {
		at, id := file(rand.IntN(total))
		if _, found, err := x.Get(at); !found || err != nil {
			t.Fatal(found, err)
		}
		if _, found, err := x.Where(id); !found || err != nil {
			t.Fatal(found, err)
		}
		if i%50 == 0 {
			look()
		}
	}
	for i := 0; i < total; i += perDirectory {
		at, _ := file(i)
		if err := x.List(at.Dir, "", func(string, change.Entry) error { return nil }); err != nil {
			t.Fatal(err)
		}
		look()
	}
	if n, err := x.Count(rootID(), 0); err != nil || n < int64(total) {
		t.Fatal(n, err)
	}
	look()
	return peak
}
