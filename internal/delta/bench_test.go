package delta

import (
	"bytes"
	"context"
	"io"
	"syscall"
	"testing"
)

// The size of the benchmarks' content. Its parameters are those of a file of 1 GiB, so that a place of it costs what it costs there.
const benchSize = 128 << 20

func benchParams() Params { return Choose(1<<30, 1<<30, 42) }

// work runs f in the benchmark's loop. Besides the time that passes, which other programs share, it reports the megabytes that
// one second of the processor's time is good for.
func work(b *testing.B, size int64, f func()) {
	b.Helper()
	b.SetBytes(size)
	used := func() float64 {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
	}
	before := used()
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(size)*float64(b.N)/1e6/max(used()-before, 1e-9), "MB/cpu-s")
}

func BenchmarkSign(b *testing.B) {
	basis := random(1, benchSize)
	work(b, benchSize, func() {
		if err := Sign(context.Background(), bytes.NewReader(basis), benchSize, benchParams(), io.Discard); err != nil {
			b.Fatal(err)
		}
	})
}

func BenchmarkHash(b *testing.B) {
	data := random(1, chunk)
	h := NewHash(1)
	work(b, chunk, func() { _, _ = h.Write(data) })
}

func BenchmarkHashZeros(b *testing.B) {
	data := make([]byte, chunk)
	h := NewHash(1)
	work(b, chunk, func() { _, _ = h.Write(data) })
}

func benchmarkDiff(b *testing.B, edit func(basis []byte) []byte) {
	basis := random(1, benchSize)
	s := sign(b, basis, benchParams())
	in := newContent(edit(basis))
	size := int64(len(in.data))
	data := int64(0)
	work(b, size, func() {
		data = 0
		err := s.Diff(context.Background(), in, size, NewHash(1), func(op Op) error {
			data += int64(len(op.Data))
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	})
	b.ReportMetric(float64(data)/float64(size), "data/byte")
}

func BenchmarkDiffSame(b *testing.B) {
	benchmarkDiff(b, func(p []byte) []byte { return p })
}

// BenchmarkDiffInPlace has 1 % of the 4 KiB pages changed, and so 8 % of the blocks.
func BenchmarkDiffInPlace(b *testing.B) {
	benchmarkDiff(b, func(p []byte) []byte {
		p = bytes.Clone(p)
		for i := 0; i < len(p); i += 100 * 4096 {
			copy(p[i:], random(uint64(i), 4096))
		}
		return p
	})
}

// BenchmarkDiffClustered has 1 % of the content changed in one stretch a 16 MiB.
func BenchmarkDiffClustered(b *testing.B) {
	benchmarkDiff(b, func(p []byte) []byte {
		p = bytes.Clone(p)
		for i := 0; i < len(p); i += 16 << 20 {
			copy(p[i:], random(uint64(i), 16<<20/100))
		}
		return p
	})
}

func BenchmarkDiffShifted(b *testing.B) {
	benchmarkDiff(b, func(p []byte) []byte { return append([]byte("shift"), p...) })
}

func BenchmarkDiffUnrelated(b *testing.B) {
	benchmarkDiff(b, func(p []byte) []byte { return random(2, len(p)) })
}

func BenchmarkWhole(b *testing.B) {
	in := newContent(random(1, benchSize))
	work(b, benchSize, func() {
		if err := Whole(context.Background(), in, benchSize, NewHash(1), func(Op) error { return nil }); err != nil {
			b.Fatal(err)
		}
	})
}
