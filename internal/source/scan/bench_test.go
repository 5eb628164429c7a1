package scan_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"georep/internal/change"
	"georep/internal/index"
	"georep/internal/rooted"
	"georep/internal/source/scan"
)

// benchTree names a directory to measure with, such as one with a million files; without it a small one is made.
const benchTree = "GEOREP_BENCH_TREE"

// BenchmarkUnchanged compares a tree with an index that equals it.
func BenchmarkUnchanged(b *testing.B) {
	dir := os.Getenv(benchTree)
	if dir == "" {
		dir = b.TempDir()
		for i := range 20_000 {
			at := filepath.Join(dir, fmt.Sprintf("d%03d", i/100))
			if i%100 == 0 {
				if err := os.Mkdir(at, 0o755); err != nil {
					b.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(at, fmt.Sprintf("file-%05d", i)), nil, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	x, err := index.Open(filepath.Join(b.TempDir(), "index"), index.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	w := start(b, dir, x, 2)
	first := w.pass(scan.Manner{}, func(c scan.Chunk) { acknowledge(b, x, c) })
	b.ResetTimer()
	b.ReportAllocs()
	for b.Loop() {
		job := w.pass(scan.Manner{}, func(c scan.Chunk) {
			if len(c.Seen)+len(c.Absent)+len(c.Problems) > 0 {
				b.Errorf("an unchanged tree gives %+v", c)
			}
		})
		if job.Entries.Load() != first.Entries.Load() {
			b.Fatalf("%d entries, were %d", job.Entries.Load(), first.Entries.Load())
		}
	}
	b.ReportMetric(float64(first.Entries.Load())*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// acknowledge puts what was seen into the index.
func acknowledge(t testing.TB, x *index.Index, c scan.Chunk) {
	t.Helper()
	err := x.Update(func(tx *index.Tx) error {
		for i := range c.Seen {
			if err := tx.Put(c.Seen[i].At, change.Entry{Object: c.Seen[i].Object, Sec: c.Seen[i].Object.ID}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// walk is a Walker that runs, on a directory.
type walk struct {
	*scan.Walker
	t     testing.TB
	root  scan.Dir
	ended chan struct{} // capacity 1: something changed
}

// start begins a walker over dir; it ends with the test.
func start(t testing.TB, dir string, x scan.Index, jobs int, o ...rooted.Option) *walk {
	t.Helper()
	root, err := rooted.Open(dir, o...)
	if err != nil {
		t.Fatal(err)
	}
	self, err := root.Top().Self()
	if err != nil {
		t.Fatal(err)
	}
	w := &walk{t: t, root: scan.Dir{ID: self.ID}, ended: make(chan struct{}, 1)}
	var fresh atomic.Uint64
	w.Walker = scan.New(scan.Options{
		Index: x, Jobs: jobs, TempDir: t.TempDir(), Fresh: func() uint64 { return fresh.Add(1) },
		Excluded: func(string, string, bool) bool { return false },
		Open: func(d scan.Dir) (*rooted.Dir, scan.Dir, error) {
			dir, err := root.OpenDir(d.Path)
			return dir, d, err
		},
		Changed: func() {
			select {
			case w.ended <- struct{}{}:
			default:
			}
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// pass compares the whole tree and gives its chunks to take.
func (w *walk) pass(m scan.Manner, take func(scan.Chunk)) *scan.Job {
	w.t.Helper()
	job, err := w.Pass(w.root, m)
	if err != nil || job == nil {
		w.t.Fatal(job, err)
	}
	for {
		select {
		case c := <-w.Bulk():
			take(c)
			w.Done(c)
		case <-w.ended:
			if w.Running() == nil {
				return job
			}
		}
	}
}
