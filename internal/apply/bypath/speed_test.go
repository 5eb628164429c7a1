package bypath

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"

	"georep/internal/change"
	"georep/internal/wire"
)

// BenchmarkMakeSmallFile is the hot path of a first copy: new files of 4 KiB, many at once.
func BenchmarkMakeSmallFile(b *testing.B) {
	w := newWorld(b)
	content := bytes.Repeat([]byte("0123456789abcdef"), 256)
	const width = 1000
	refs := make([]wire.Ref, b.N/width+1)
	for i := range refs {
		w.dir(fmt.Sprint("d", i))
		refs[i] = w.at(fmt.Sprintf("d%d/f", i))
	}
	object := fileOf(1, string(content))
	var next atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := int(next.Add(1) - 1)
			at := refs[n/width]
			at.Name = fmt.Sprint("f", n)
			r := &wire.Request{Op: change.Make, At: at, Object: object, Inline: content, HasInline: true}
			if res := w.apply(r); res.Status != change.Applied {
				b.Errorf("%+v", res)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "files/s")
}
