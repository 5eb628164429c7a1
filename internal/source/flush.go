package source

import (
	"context"
	"time"

	"georep/internal/change"
	"georep/internal/rooted"
)

// flushSlack is by how much the clock that stamps changes may be behind: a tick of the kernel, 10 ms at the most.
const flushSlack = 12 * time.Millisecond

// flush begins to write out what mappings hold, if that is asked for. Meanwhile connections are made and the tree is compared.
func (v *Volume) flush(ctx context.Context) {
	if !v.o.Flush {
		return
	}
	v.flushed, v.flushAt = make(chan struct{}), time.Now().Add(-flushSlack)
	v.running.Go(func() {
		defer close(v.flushed)
		_ = v.o.Root.SyncFS(ctx) // what the disk refuses stays in memory, from where it is read
	})
}

// flushedFile waits until what mappings held of a file when it was opened has been written out.
func (v *Volume) flushedFile(ctx context.Context, file *rooted.File, was *change.Object) error {
	if v.flushed == nil {
		return nil
	}
	select {
	case <-v.flushed:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if was.Ctime.Std().After(v.flushAt) {
		_ = file.Sync() // as above
	}
	return nil
}
