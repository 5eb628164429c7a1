package wire

import (
	"context"
	"fmt"
	"io"
	"sync"
	"syscall"

	"georep/internal/change"
	"georep/internal/delta"
	"georep/internal/wire/wirepb"
)

// FeaturePlace is named in the greeting of an agent whose handler heeds Stream.Final. Others are sent content once more, of which they
// have all then.
const FeaturePlace = "place"

// Stream is the content of one file as it arrives, for one goroutine. The handler asks Basis, may Offer once, then calls Next until
// io.EOF, checks that the hash of what it made (delta.NewHash with Seed) is Sum, and if not answers Mismatch.
type Stream interface {
	// Basis says whether the worker wants a signature of what is here.
	Basis() bool
	// Offer sends the signature of a basis of size bytes, more than 0: write must write it as delta.Sign does. Without an offer before
	// the first Next, the content comes whole.
	Offer(size int64, write func(w io.Writer, p delta.Params) error) error
	// Next gives the next step. Its data is valid until the call after. io.EOF: that was all. ErrAborted: the worker gave up.
	Next() (delta.Op, error)
	// Sum is the hash of the whole content, after Next gave io.EOF.
	Sum() [16]byte
	// Final is, after Next gave io.EOF, the request by which the file is to be made if not by that which opened the stream; else nil.
	// Its object has the size that was announced.
	Final() *Request
	// Seed is the seed of that hash.
	Seed() uint64
	// Mismatch gives the result to answer when the content has not the hash Sum. The worker then sends it again.
	Mismatch() change.Result
}

// stream implements Stream. The reader of the connection adds to queue; the handler's goroutine takes from it.
type stream struct {
	server   *server
	id       uint32
	size     int64 // of the content to come
	wants    bool
	seed     uint64
	attempt  uint32
	answered bool // the question about a basis is
	mismatch bool

	steps   []byte // rest of the content frame at hand
	held    []byte // its buffer
	coder   delta.Coder
	used    int64 // of the window, not yet given back
	covered int64

	mu      sync.Mutex
	changed chan struct{}
	queue   [][]byte
	ahead   int64 // bytes of the window in use
	sum     [16]byte
	final   *Request
	gone    bool  // the handler has ended
	ended   error // io.EOF or ErrAborted; follows the queue
}

// openWrite starts the handler of a content stream.
func (s *server) openWrite(f frame) error {
	r, transfer, err := parseRequest(f.payload)
	if err != nil {
		return err
	}
	if transfer == nil || r.Object.Kind != change.File || r.HasInline || transfer.Attempt > attemptWhole {
		return protocolError("a content stream for what is not to be written")
	}
	st := &stream{
		server: s, id: f.stream, size: r.Object.Size, wants: transfer.WantBasis, seed: transfer.Seed, attempt: transfer.Attempt,
		changed: make(chan struct{}, 1), coder: delta.NewCoder(0),
	}
	if st.seed == 0 {
		st.seed = s.seed
	}
	s.mu.Lock()
	_, used := s.writes[f.stream]
	full := len(s.writes) >= MaxWrites
	if !used && !full {
		s.writes[f.stream] = st
	}
	s.mu.Unlock()
	if used || full {
		return protocolError("stream %d is open already, or %d others are", f.stream, MaxWrites)
	}
	s.tasks.Go(func() {
		result := s.handler.Write(s.ctx, r, st)
		s.mu.Lock()
		delete(s.writes, f.stream)
		s.mu.Unlock()
		st.release()
		s.answer(f.stream, &result, st.mismatch)
	})
	return nil
}

// deliver hands a message of an open stream to it. Messages that crossed the stream's end are dropped.
func (s *server) deliver(f frame) error {
	s.mu.Lock()
	write, look := s.writes[f.stream], s.looks[f.stream]
	s.mu.Unlock()
	switch {
	case write != nil:
		return write.message(f)
	case look != nil:
		return look.message(f)
	}
	return nil
}

func (st *stream) message(f frame) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.gone {
		return nil
	}
	if st.ended != nil {
		return protocolError("a content stream goes on after its end")
	}
	switch f.kind {
	case frameContent:
		if err := st.enqueue(f.payload); err != nil {
			return err
		}
	case frameFinish:
		sum, steps, final, err := parseFinish(f.payload, st.size)
		if err == nil && len(steps) > 0 {
			err = st.enqueue(steps)
		}
		if err != nil {
			return err
		}
		st.sum, st.final, st.ended = sum, final, io.EOF
	case frameAbort:
		st.ended = ErrAborted
	default:
		return protocolError("a frame of type %d in a content stream", f.kind)
	}
	select {
	case st.changed <- struct{}{}:
	default:
	}
	return nil
}

// enqueue keeps steps for the handler. Called with mu held.
func (st *stream) enqueue(steps []byte) error {
	cost := contentCost(len(steps))
	st.ahead += cost
	if st.ahead > StreamWindow || st.server.ahead.Add(cost) > ContentWindow {
		return protocolError("a content stream runs ahead of its reader")
	}
	st.queue = append(st.queue, append(st.server.content(), steps...))
	return nil
}

func (st *stream) Basis() bool     { return st.wants && !st.answered }
func (st *stream) Seed() uint64    { return st.seed }
func (st *stream) Sum() [16]byte   { return st.sum }
func (st *stream) Final() *Request { return st.final }

func (st *stream) Mismatch() change.Result {
	st.mismatch = true
	return change.Result{
		Status: change.Failed, Errno: syscall.EBADMSG, Call: "write",
		Detail: "the content arrived with another hash than it was sent with; if this repeats, memory or a disk of one host is faulty",
	}
}

func (st *stream) Offer(size int64, write func(w io.Writer, p delta.Params) error) error {
	if !st.Basis() || size <= 0 {
		return fmt.Errorf("offer a basis of %d bytes: %w", size, syscall.EINVAL)
	}
	st.answered = true
	p := delta.Choose(size, st.size, st.seed)
	for range st.attempt {
		p = p.Stronger()
	}
	for p.SignatureSize(size) > MaxSignature {
		p.Block *= 2
	}
	if p.Validate() != nil {
		return st.server.sendMessage(frameBasis, st.id, &wirepb.Basis{})
	}
	st.coder = delta.NewCoder(p.Block)
	w := &signatureWriter{stream: st, left: p.SignatureSize(size)}
	w.head = &wirepb.Basis{HasBasis: true, Size: size, Block: uint32(p.Block), Roll: uint32(p.Roll), Strong: uint32(p.Strong), Seed: p.Seed}
	if p.Seed == st.seed {
		w.head.Seed = 0
	}
	err := write(w, p)
	if err == nil && w.left != 0 {
		return fmt.Errorf("offer a basis: %d bytes of its signature are missing", w.left)
	}
	if err != nil && st.server.ctx.Err() == nil {
		// What cannot be read is of no use, but the new content may take its place.
		err = w.pad()
	}
	if err == nil {
		err = w.flush()
	}
	return err
}

// signatureWriter frames a signature. Its beginning travels with the head.
type signatureWriter struct {
	*stream
	head    *wirepb.Basis // not yet sent
	left    int
	buf     []byte
	sampler sampler
}

// pad completes a signature with entries that fit nothing.
func (w *signatureWriter) pad() error {
	zeros := make([]byte, min(w.left, contentTarget))
	for w.left > 0 {
		if _, err := w.Write(zeros[:min(w.left, len(zeros))]); err != nil {
			return err
		}
	}
	return nil
}

func (w *signatureWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		return 0, fmt.Errorf("offer a basis: its signature is too long by %d bytes", len(p)-w.left)
	}
	w.left -= len(p)
	w.buf = append(w.buf, p...)
	if len(w.buf) >= contentTarget {
		return len(p), w.flush()
	}
	return len(p), nil
}

func (w *signatureWriter) flush() error {
	if w.head != nil {
		w.head.Signature, w.buf = w.buf[:min(len(w.buf), MaxFrame/2)], w.buf[min(len(w.buf), MaxFrame/2):]
		if err := w.server.sendMessage(frameBasis, w.id, w.head); err != nil {
			return err
		}
		w.head = nil
	}
	for len(w.buf) > 0 {
		n := min(len(w.buf), MaxFrame)
		pack := w.sampler.shrinks(w.server.out, w.buf[:n])
		if err := w.server.out.sendAs(w.server.ctx, frameSignature, w.id, w.buf[:n], pack); err != nil {
			return err
		}
		w.buf = w.buf[n:]
	}
	w.buf = nil
	return nil
}

func (st *stream) Next() (delta.Op, error) {
	if !st.answered {
		st.answered = true
		if st.wants {
			if err := st.server.sendMessage(frameBasis, st.id, &wirepb.Basis{}); err != nil {
				return delta.Op{}, err
			}
		}
	}
	for len(st.steps) == 0 {
		if err := st.nextFrame(st.server.ctx); err != nil {
			return delta.Op{}, err
		}
	}
	op, rest, err := parseStep(&st.coder, st.steps)
	if err == nil {
		n := op.Len
		if st.covered > st.size-n {
			err = protocolError("content of %d bytes is longer than that", st.size)
		}
		st.covered += n
	}
	if err != nil {
		st.server.breach(err)
		return delta.Op{}, err
	}
	st.steps = rest
	return op, nil
}

// nextFrame takes the next content frame, and gives the worker back what the one before took of the window.
func (st *stream) nextFrame(ctx context.Context) error {
	st.server.recycle(st.held)
	st.held = nil
	for {
		st.mu.Lock()
		if len(st.queue) > 0 {
			st.held = st.queue[0]
			st.queue = st.queue[1:]
			st.mu.Unlock()
			break
		}
		ended := st.ended
		st.mu.Unlock()
		if ended != nil {
			return ended
		}
		// Nothing may come because so much is held back here and in other streams that the worker has no room left.
		if st.used > 0 && st.server.ahead.Load() > ContentWindow/2 {
			if err := st.giveBack(ctx); err != nil {
				return err
			}
		}
		select {
		case <-st.changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	st.steps = st.held
	st.used += contentCost(len(st.held))
	if st.used < StreamWindow/4 {
		return nil
	}
	return st.giveBack(ctx)
}

// giveBack lets the worker send as much more as was taken.
func (st *stream) giveBack(ctx context.Context) error {
	n := st.used
	st.used = 0
	st.mu.Lock()
	st.ahead -= n
	st.mu.Unlock()
	st.server.ahead.Add(-n)
	return st.server.out.credit(ctx, st.id, uint32(n))
}

// release gives back the buffers of a stream that has ended.
func (st *stream) release() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.server.recycle(st.held)
	for _, b := range st.queue {
		st.server.recycle(b)
	}
	st.held, st.queue, st.steps = nil, nil, nil
	st.server.ahead.Add(-st.ahead)
	st.ahead = 0
	st.gone = true
}

// content gives an empty buffer for a content frame.
func (s *server) content() []byte {
	return (*s.contents.Get().(*[]byte))[:0]
}

func (s *server) recycle(b []byte) {
	if cap(b) > 0 && cap(b) <= MaxFrame {
		s.contents.Put(&b)
	}
}
