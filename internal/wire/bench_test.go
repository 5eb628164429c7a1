package wire

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"georep/internal/change"
)

// accepting is a Handler that does nothing, at once.
type accepting struct{ *memory }

func (accepting) Apply(_ context.Context, r *Request) change.Result {
	return change.Result{Status: change.Applied, Sec: r.Object.ID}
}

func benchmarkRequests(b *testing.B, size int, compress bool) {
	c := connected(b, accepting{newMemory()}, ClientOptions{Compress: compress}, ServerOptions{})
	content := random(1, size)
	requests := make([]*Request, 1000)
	for i := range requests {
		r := fileRequest(change.Make, fmt.Sprintf("some-file-name-%d.txt", i), int64(size))
		r.At.Dir.Path = "home/somebody/projects/example"
		r.Object.UID, r.Object.GID = 1000, 1000
		r.Object.Mtime = change.Time{Sec: 1_700_000_000 + int64(i), Nsec: 123456789}
		r.Object.Ctime = r.Object.Mtime
		r.HasInline, r.Inline = true, content
		requests[i] = r
	}
	var wg sync.WaitGroup
	before := c.BytesOut()
	i := 0
	for b.Loop() {
		wg.Add(1)
		if err := c.Do(b.Context(), requests[i%len(requests)], func(change.Result) { wg.Done() }); err != nil {
			b.Fatal(err)
		}
		i++
	}
	wg.Wait()
	b.ReportMetric(float64(i)/b.Elapsed().Seconds(), "req/s")
	b.ReportMetric(float64(c.BytesOut()-before)/float64(i), "B/req")
}

func BenchmarkRequests(b *testing.B) {
	for _, size := range []int{0, 100, 4096} {
		for _, compress := range []bool{false, true} {
			b.Run(fmt.Sprintf("%dB/compress=%v", size, compress), func(b *testing.B) { benchmarkRequests(b, size, compress) })
		}
	}
}

func BenchmarkPing(b *testing.B) {
	c := connected(b, newMemory(), ClientOptions{}, ServerOptions{})
	for b.Loop() {
		if err := c.Ping(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// draining takes content without keeping it.
type draining struct{ *memory }

func (draining) Write(_ context.Context, _ *Request, s Stream) change.Result {
	for {
		if _, err := s.Next(); err != nil {
			return change.Result{Status: change.Applied}
		}
	}
}

func BenchmarkContent(b *testing.B) {
	const size = 256 << 20
	c := connected(b, draining{newMemory()}, ClientOptions{}, ServerOptions{})
	b.SetBytes(size)
	for b.Loop() {
		r := fileRequest(change.Make, "f", size)
		if _, err := c.Write(b.Context(), r, endless{size}, WriteOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
