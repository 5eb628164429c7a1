package index

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"georep/internal/change"
)

// benchFiles is the size of the sample tree in benchmarks.
const benchFiles = 1_000_000

// report gives the rate in items a second; an iteration is so many.
func report(b *testing.B, items int) {
	b.ReportMetric(float64(items)*float64(b.N)/b.Elapsed().Seconds(), "items/s")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkInsertOrdered(b *testing.B) {
	for b.Loop() {
		x := openFresh(b)
		fillIndex(b, x, benchFiles, 10_000)
		if err := x.Close(); err != nil {
			b.Fatal(err)
		}
	}
	report(b, benchFiles)
}

func BenchmarkFilled(b *testing.B) {
	x := openFresh(b)
	fillIndex(b, x, benchFiles, 10_000)
	size, err := x.Size()
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d files take %d MiB", benchFiles, size>>20)
	get := func(b *testing.B, n int) {
		at, _ := file(n)
		if _, found, err := x.Get(at); !found || err != nil {
			b.Fatal(found, err)
		}
	}
	b.Run("GetOrdered", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			get(b, i%benchFiles)
		}
		report(b, 1)
	})
	b.Run("GetRandom", func(b *testing.B) {
		for b.Loop() {
			get(b, rand.IntN(benchFiles))
		}
		report(b, 1)
	})
	b.Run("WhereOrdered", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			_, id := file(i % benchFiles)
			if _, found, err := x.Where(id); !found || err != nil {
				b.Fatal(found, err)
			}
		}
		report(b, 1)
	})
	b.Run("ListDirectories", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			at, _ := file(i * perDirectory % benchFiles)
			listOne(b, x, at.Dir, perDirectory)
		}
		report(b, perDirectory)
	})
	b.Run("ListWide", func(b *testing.B) {
		for b.Loop() {
			listOne(b, x, rootID(), benchFiles/perDirectory)
		}
		report(b, benchFiles/perDirectory)
	})
	b.Run("Path", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			at, _ := file(i % benchFiles)
			if _, _, found, err := x.Path(at.Dir); !found || err != nil {
				b.Fatal(found, err)
			}
		}
		report(b, 1)
	})
	b.Run("PutOneDurably", func(b *testing.B) { benchUpdates(b, x, 1) })
	b.Run("PutThousandScattered", func(b *testing.B) { benchUpdates(b, x, 1000) })
}

func listOne(b *testing.B, x *Index, dir change.ID, want int) {
	n := 0
	if err := x.List(dir, "", func(string, change.Entry) error { n++; return nil }); err != nil || n != want {
		b.Fatal(n, err)
	}
}

// benchUpdates changes files in runs of twenty neighbours (or one), at random places.
func benchUpdates(b *testing.B, x *Index, count int) {
	for n := 0; b.Loop(); n++ {
		if err := x.Update(func(tx *Tx) error {
			for done := 0; done < count; done += 20 {
				from := rand.IntN(benchFiles - 20)
				for i := from; i < from+min(20, count); i++ {
					at, id := file(i)
					if err := tx.Put(at, sample(id, change.File, i+n)); err != nil {
						return err
					}
				}
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	report(b, count)
}

// BenchmarkPathWhileMoving asks for paths while each tenth update moves a directory.
func BenchmarkPathWhileMoving(b *testing.B) {
	x := openFresh(b)
	fillIndex(b, x, 100_000, 10_000)
	for n := 0; b.Loop(); n++ {
		if n%1000 == 0 {
			at, _ := file(n % 100_000)
			if err := x.Update(func(tx *Tx) error {
				return tx.Put(change.Place{Dir: rootID(), Name: fmt.Sprintf("moved-%d", n)}, sample(at.Dir, change.Dir, n))
			}); err != nil {
				b.Fatal(err)
			}
		}
		at, _ := file(n % 100_000)
		if _, _, found, err := x.Path(at.Dir); !found || err != nil {
			b.Fatal(found, err)
		}
	}
	report(b, 1)
}

func BenchmarkOpen(b *testing.B) {
	for _, end := range []string{"close", "crash"} {
		b.Run("after "+end, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "index")
			x, err := Open(path, Options{})
			if err != nil {
				b.Fatal(err)
			}
			fillIndex(b, x, benchFiles, 10_000)
			for b.Loop() {
				closing := x.Close
				if end == "crash" {
					closing = x.abandon
				}
				if err := closing(); err != nil {
					b.Fatal(err)
				}
				if x, err = Open(path, Options{}); err != nil {
					b.Fatal(err)
				}
			}
			if err := x.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
