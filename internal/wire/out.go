package wire

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/time/rate"
)

const (
	// batchTarget is how many bytes collect while the writer is busy before those who add more have to wait.
	batchTarget = 256 << 10
	// keepBuffer is the largest buffer that is kept for the next batch.
	keepBuffer = 2 << 20
	// pieceMost and pieceLeast bound what is written at once when a rate is limited.
	pieceMost  = 64 << 10
	pieceLeast = 512
)

// out collects frames and writes them in large pieces. Adding costs a copy and no system call; the writer takes whatever
// collected while it wrote the piece before, so that pieces grow with the load and a lonely frame leaves at once.
type out struct {
	link    context.Context // ends with the link
	sink    io.Writer
	limiter *rate.Limiter // nil: no limit
	packer  *packer       // nil: no compression
	samples *zstd.Encoder // tries what may not be worth it; nil with packer
	wrote   atomic.Int64

	mu      sync.Mutex
	pending []byte
	spare   []byte
	plain   []stretch     // of pending, what does not shrink
	room    chan struct{} // closed and replaced whenever pending was taken; nil when nobody waits
	closing bool
	wake    chan struct{} // holds one token when there is something to do
}

// NewLimiter gives a limiter to so many bytes a second, which connections may share. It holds within 5 % over any minute, so what may
// pass at once is no more than an eighth of a second's bytes.
func NewLimiter(perSecond int64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), int(max(pieceLeast, perSecond/8)))
}

func newOut(link context.Context, sink io.Writer, limiter *rate.Limiter, compress bool) (*out, error) {
	o := &out{link: link, sink: sink, limiter: limiter, wake: make(chan struct{}, 1)}
	if compress {
		var err error
		if o.packer, err = newPacker(); err != nil {
			return nil, err
		}
		o.samples, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(sampleSize), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return nil, fmt.Errorf("make zstd encoder: %w", err)
		}
	}
	return o, nil
}

// packs says whether frames are compressed.
func (o *out) packs() bool { return o.packer != nil }

// tryPack says whether a sample of content shrinks by a sixteenth.
func (o *out) tryPack(sample []byte) bool {
	return len(o.samples.EncodeAll(sample, nil)) <= len(sample)-len(sample)/16
}

// stretch is a part of a buffer, in bytes.
type stretch struct{ from, to int }

// send adds one message. It waits while the writer is behind, for as long as ctx and the link last.
func (o *out) send(ctx context.Context, kind frameType, stream uint32, payload []byte) error {
	return o.sendAs(ctx, kind, stream, payload, true)
}

// sendAs is send for content that may not be worth compressing.
func (o *out) sendAs(ctx context.Context, kind frameType, stream uint32, payload []byte, pack bool) error {
	o.mu.Lock()
	for len(o.pending) >= batchTarget {
		if o.room == nil {
			o.room = make(chan struct{})
		}
		room := o.room
		o.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-o.link.Done():
			return context.Cause(o.link)
		}
		o.mu.Lock()
	}
	from := len(o.pending)
	o.add(kind, stream, payload)
	if !pack && o.packs() {
		o.addPlain(from, len(o.pending))
	}
	o.mu.Unlock()
	o.signal()
	return nil
}

// addPlain notes what is not to be compressed. Called with mu held.
func (o *out) addPlain(from, to int) {
	if n := len(o.plain); n > 0 && o.plain[n-1].to == from {
		o.plain[n-1].to = to
	} else if to > from {
		o.plain = append(o.plain, stretch{from, to})
	}
}

// sendNow adds a small message without waiting. It is for messages whose number is bounded by something else.
func (o *out) sendNow(kind frameType, stream uint32, payload []byte) {
	o.mu.Lock()
	o.add(kind, stream, payload)
	o.mu.Unlock()
	o.signal()
}

func (o *out) add(kind frameType, stream uint32, payload []byte) {
	if !o.closing {
		o.pending = appendFrame(o.pending, kind, stream, payload)
	}
}

// credit tells the peer that it may send n more on a stream.
func (o *out) credit(ctx context.Context, stream, n uint32) error {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return o.send(ctx, frameCredit, stream, b[:])
}

// heartbeat shows life when nothing else is on its way that does.
func (o *out) heartbeat() {
	o.mu.Lock()
	idle := len(o.pending) == 0
	if idle {
		o.add(frameHeartbeat, 0, nil)
	}
	o.mu.Unlock()
	if idle {
		o.signal()
	}
}

func (o *out) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// finish lets run end when all that was added is written. What is added later is dropped.
func (o *out) finish() {
	o.mu.Lock()
	o.closing = true
	o.mu.Unlock()
	o.signal()
}

// run writes until finish, the end of the link or an error, which it returns.
func (o *out) run() error {
	if o.packs() {
		defer o.packer.close()
		defer o.samples.Close()
	}
	for {
		batch, plain, closing := o.take()
		if len(batch) == 0 {
			if closing {
				return nil
			}
			select {
			case <-o.wake:
				// Who just added something is likely to add more: let it, rather than write a tiny piece.
				runtime.Gosched()
			case <-o.link.Done():
				return context.Cause(o.link)
			}
			continue
		}
		if err := o.write(batch, plain); err != nil {
			return err
		}
		o.giveBack(batch)
	}
}

// take gives what has collected, and lets those who wait add more.
func (o *out) take() (batch []byte, plain []stretch, closing bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.pending) == 0 {
		return nil, nil, o.closing // both buffers stay, and nobody waits
	}
	batch, o.pending, o.spare = o.pending, o.spare[:0], nil
	plain, o.plain = o.plain, nil
	if o.room != nil {
		close(o.room)
		o.room = nil
	}
	return batch, plain, o.closing
}

func (o *out) giveBack(batch []byte) {
	if cap(batch) > keepBuffer {
		return
	}
	o.mu.Lock()
	o.spare = batch
	o.mu.Unlock()
}

func (o *out) write(batch []byte, plain []stretch) error {
	if !o.packs() {
		return o.paced(batch)
	}
	at := 0
	for _, p := range append(plain, stretch{len(batch), len(batch)}) {
		for at < p.from {
			n := wholeFrames(batch[at:p.from])
			if err := o.writePacked(batch[at : at+n]); err != nil {
				return err
			}
			at += n
		}
		if err := o.paced(batch[at:p.to]); err != nil {
			return err
		}
		at = p.to
	}
	return nil
}

// wholeFrames says how many bytes at the start of batch are frames that may be packed together: as many as make up
// batchTarget bytes, and at least one.
func wholeFrames(batch []byte) int {
	n := 0
	for n < len(batch) {
		next := n + headerSize + int(binary.BigEndian.Uint32(batch[n:]))
		if n > 0 && next > batchTarget {
			break
		}
		n = next
	}
	return n
}

// writePacked writes frames compressed, or as they are when they are too few or too large for it.
func (o *out) writePacked(frames []byte) error {
	if len(frames) < packLeast || len(frames) > packMost {
		return o.paced(frames)
	}
	packed, err := o.packer.pack(frames)
	if err != nil {
		return err
	}
	return o.paced(packed)
}

// paced writes b, no faster than the limiter allows. Pieces are so small that each passes within a quarter of a second: a
// slow link then still looks alive to the peer, and the rate is even.
func (o *out) paced(b []byte) error {
	for len(b) > 0 {
		n := len(b)
		if o.limiter != nil && o.limiter.Limit() != rate.Inf {
			n = min(n, max(pieceLeast, min(pieceMost, int(o.limiter.Limit()/4))))
			n = min(n, max(1, o.limiter.Burst()))
			if err := o.limiter.WaitN(o.link, n); err != nil {
				return fmt.Errorf("wait for the rate limit: %w", err)
			}
		}
		got, err := o.sink.Write(b[:n])
		o.wrote.Add(int64(got))
		if err != nil {
			return fmt.Errorf("write to the link: %w", err)
		}
		b = b[n:]
	}
	return nil
}
