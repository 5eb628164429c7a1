package wire

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"georep/internal/change"
	"georep/internal/delta"
	"georep/internal/wire/wirepb"
)

const (
	// deltaLeast is the size from which content that is new to the agent may still have a basis there: a transfer that broke off.
	deltaLeast = 8 << 20
	// contentLeast is the least that a content frame counts for in a stream's window, in bytes.
	contentLeast = 512
	// lastSteps is how many bytes of steps travel with the hash of the whole, so that a small change takes one frame.
	lastSteps = 16 << 10

	attemptFirst, attemptStronger, attemptWhole = 0, 1, 2
)

// transfer is one content stream. The reader fills it in by message; the goroutine of Write waits on changed.
type transfer struct {
	client *Client
	stream uint32
	size   int64 // of the content

	mu        sync.Mutex
	seed      uint64        // of the hash of the whole
	changed   chan struct{} // holds one token when something below changed
	credit    int64
	basis     *wirepb.Basis // the answer about a basis
	params    delta.Params
	signature []byte
	complete  bool // the signature is
	result    *change.Result
	mismatch  bool
}

func (t *transfer) message(f frame) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer func() {
		select {
		case t.changed <- struct{}{}:
		default:
		}
	}()
	switch f.kind {
	case frameCredit:
		n, err := creditOf(f.payload)
		if err == nil && t.credit+int64(n) > StreamWindow {
			err = protocolError("a content stream got too much credit")
		}
		if err != nil {
			return false, err
		}
		t.credit += int64(n)
		t.client.ahead.Release(int64(n))
		return false, nil
	case frameBasis:
		return false, t.basisMessage(f.payload)
	case frameSignature:
		return false, t.signatureMessage(f.payload)
	case frameResult:
		result, mismatch, err := parseResult(f.payload)
		if err != nil {
			return false, err
		}
		t.result, t.mismatch = &result, mismatch
		t.client.ahead.Release(StreamWindow - t.credit)
		t.credit = StreamWindow
		return true, nil
	}
	return false, protocolError("a frame of type %d answers content", f.kind)
}

func (t *transfer) basisMessage(payload []byte) error {
	m := new(wirepb.Basis)
	if err := decodeMessage(payload, m, "a basis"); err != nil {
		return err
	}
	if t.basis != nil {
		return protocolError("a second basis")
	}
	t.basis = m
	if !m.HasBasis {
		t.complete = true
		return nil
	}
	t.params = delta.Params{Block: int(m.Block), Roll: int(m.Roll), Strong: int(m.Strong), Seed: m.Seed}
	if m.Seed == 0 {
		t.params.Seed = t.seed
	}
	if err := t.params.Validate(); err != nil {
		return protocolError("a signature with impossible parameters: %v", err)
	}
	want := int64(t.params.SignatureSize(m.Size))
	if m.Size <= 0 || want > MaxSignature {
		return protocolError("a basis of %d bytes", m.Size)
	}
	t.signature = make([]byte, 0, min(want, 64<<10))
	return t.addSignature(m.Signature)
}

func (t *transfer) signatureMessage(payload []byte) error {
	if t.basis == nil || t.complete {
		return protocolError("a signature without its basis")
	}
	return t.addSignature(payload)
}

func (t *transfer) addSignature(payload []byte) error {
	want := int64(t.params.SignatureSize(t.basis.Size))
	if int64(len(t.signature)+len(payload)) > want {
		return protocolError("a signature is longer than its basis has it")
	}
	t.signature = append(t.signature, payload...)
	t.complete = int64(len(t.signature)) == want
	return nil
}

// wait waits until ready, which is called with t.mu held, or for the agent's result, the end of ctx or of the link.
func (t *transfer) wait(ctx context.Context, ready func() bool) error {
	for {
		t.mu.Lock()
		ok, answered := ready(), t.result != nil
		t.mu.Unlock()
		switch {
		case answered:
			return errAnswered
		case ok:
			return nil
		}
		select {
		case <-t.changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.client.ctx.Done():
			return t.client.linkError()
		}
	}
}

// errAnswered means that the agent has given its result, so that sending content has no use any more.
var errAnswered = errors.New("the agent has answered")

// WriteOptions are what Write tells and asks while it runs. Either may be nil.
type WriteOptions struct {
	// Progress is told of each advance in bytes of the content (of a new start by a negative number), and how many of them were sent
	// because the agent did not have them.
	Progress func(done, sent int64)
	// Place is asked once, when all content was sent: how the file is to be made, if not as the request says that Write was given
	// (nil). It may take its time. With an error the content is given up, and Write returns the error.
	Place func(ctx context.Context) (*Request, error)
}

// Write makes the content and attributes of a file what r and content say, and waits for it. What the agent has of the file already is
// not sent: it is asked for a signature of it when the file exists there or is large. The agent checks the whole content by its
// hash; when that fails the content is sent again with longer hashes, then whole. Some writes may run at once, others wait for them.
//
// An error means that ctx or the link ended, or is Place's. What went wrong with this file only is in the result, which is marked
// Local when reading failed or content.Unchanged said that it changed.
func (c *Client) Write(ctx context.Context, r *Request, content Content, o WriteOptions) (change.Result, error) {
	if err := c.acquire(ctx, c.writes, 1); err != nil {
		return change.Result{}, err
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	w := &outgoing{client: c, r: r, content: content, place: o.Place, progress: o.Progress}
	t, err := w.run(ctx)
	if err == nil {
		c.writes.Release(1)
		return *t.result, nil
	}
	// The agent holds the stream until it has answered, however soon its caller left.
	c.spawn(func() {
		t.wait(c.ctx, func() bool { return false })
		c.writes.Release(1)
	})
	return change.Result{}, err
}

// outgoing is one call of Write.
type outgoing struct {
	client   *Client
	r        *Request
	content  Content
	place    func(ctx context.Context) (*Request, error) // nil: it was asked
	progress func(done, sent int64)
	done     int64 // of the content, in this attempt
}

// run sends the content, again when it did not arrive as it should, and gives the transfer that has the final result.
func (w *outgoing) run(ctx context.Context) (*transfer, error) {
	if w.content.Size() != w.r.Object.Size {
		err := fmt.Errorf("the file has %d bytes now, not %d", w.content.Size(), w.r.Object.Size)
		return &transfer{result: (&localError{call: "read", err: err}).result()}, nil
	}
	for attempt := uint32(attemptFirst); ; {
		t := &transfer{client: w.client, size: w.content.Size(), credit: StreamWindow, changed: make(chan struct{}, 1)}
		err := t.attempt(ctx, w, attempt)
		if errors.Is(err, errMoved) {
			if err = t.wait(ctx, func() bool { return false }); errors.Is(err, errAnswered) {
				w.restart()
				continue
			}
		}
		if err != nil || !t.mismatch || attempt == attemptWhole {
			return t, err
		}
		attempt++
		w.restart()
	}
}

func (w *outgoing) restart() {
	w.progress(-w.done, 0)
	w.done = 0
}

func (w *outgoing) advance(n, sent int64) {
	w.done += n
	w.progress(n, sent)
}

// errMoved means that an agent that makes files only as it was told at the beginning has the content, and is to be told otherwise.
var errMoved = errors.New("the file is to be made elsewhere")

// final asks how the file is to be made; nil: as was said when the stream was opened.
func (w *outgoing) final(ctx context.Context) (*Request, error) {
	if w.place == nil {
		return nil, nil
	}
	place := w.place
	w.place = nil
	r, err := place(ctx)
	if err != nil || r == nil {
		return nil, err
	}
	w.r = r
	if !w.client.peer.Has(FeaturePlace) {
		r.Partial = true
		return nil, errMoved
	}
	return r, nil
}

// attempt sends the content once and waits for the result.
func (t *transfer) attempt(ctx context.Context, w *outgoing, attempt uint32) error {
	r := w.r
	wants := attempt != attemptWhole && t.size > 0 && (r.Op == change.Write || r.Op == change.Adopt || r.Partial || t.size >= deltaLeast)
	m := &wirepb.Transfer{WantBasis: wants, Attempt: attempt}
	t.seed = t.client.seed
	if attempt != attemptFirst {
		t.seed += uint64(attempt) // so that what collided once does not do so again
		m.Seed = t.seed
	}
	payload, refusal := encodeRequest(nil, r, m)
	if refusal != nil {
		t.result = refusal
		return nil
	}
	t.stream = t.client.open(t)
	if err := t.client.out.send(ctx, frameWrite, t.stream, payload); err != nil {
		t.client.forget(t.stream)
		return t.client.because(err)
	}
	return t.conclude(ctx, t.send(ctx, w, wants))
}

// conclude waits for the agent's result after all was sent, or after err prevented it.
func (t *transfer) conclude(ctx context.Context, err error) error {
	local, isLocal := errors.AsType[*localError](err)
	if err != nil && !errors.Is(err, errAnswered) {
		if t.client.ctx.Err() != nil {
			return t.client.linkError()
		}
		t.client.out.sendNow(frameAbort, t.stream, nil)
		if !isLocal {
			return err // ctx ended; the stream stays known until the agent has answered
		}
	}
	if err := t.wait(ctx, func() bool { return false }); !errors.Is(err, errAnswered) {
		return err
	}
	if isLocal {
		t.result, t.mismatch = local.result(), false
	}
	return nil
}

// send sends the steps of the content and its hash.
func (t *transfer) send(ctx context.Context, w *outgoing, wants bool) (err error) {
	content := w.content
	var signature *delta.Signature
	block := 0
	if wants {
		if signature, err = t.awaitBasis(ctx); err != nil {
			return err
		}
	}
	if signature != nil {
		block = t.params.Block
	}
	hash := delta.NewHash(t.seed)
	s := &sender{transfer: t, ctx: ctx, progress: w.advance, coder: delta.NewCoder(block)}
	if signature != nil {
		err = signature.Diff(ctx, content, t.size, hash, s.step)
	} else {
		err = delta.Whole(ctx, content, t.size, hash, s.step)
	}
	if err == nil && len(s.buf) > lastSteps {
		err = s.flush()
	}
	switch {
	case s.err != nil:
		return s.err
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return &localError{call: "read", err: err}
	}
	if err := content.Unchanged(); err != nil {
		return &localError{call: "read", err: err}
	}
	final, err := w.final(ctx)
	if err != nil {
		return err
	}
	return s.finish(hash.Sum(), final)
}

// awaitBasis waits for the signature of what the agent has; nil: nothing.
func (t *transfer) awaitBasis(ctx context.Context) (*delta.Signature, error) {
	if err := t.wait(ctx, func() bool { return t.complete }); err != nil {
		return nil, err
	}
	if !t.basis.HasBasis {
		return nil, nil
	}
	s, err := delta.Load(t.params, t.basis.Size, t.signature)
	if err != nil {
		err = protocolError("a signature cannot be used: %v", err)
		t.client.breach(err)
		return nil, err
	}
	t.mu.Lock()
	t.signature = nil
	t.mu.Unlock()
	return s, nil
}

// localError is a failure on this side that concerns the file alone.
type localError struct {
	call string
	err  error
}

func (e *localError) Error() string { return e.err.Error() }

func (e *localError) result() *change.Result {
	r := &change.Result{Status: change.Failed, Call: e.call, Detail: e.err.Error(), Local: true}
	if errno, ok := errors.AsType[syscall.Errno](e.err); ok {
		r.Errno = errno
	}
	return r
}

// sender collects steps into frames.
type sender struct {
	*transfer
	ctx      context.Context
	progress func(done, sent int64)
	coder    delta.Coder
	buf      []byte
	covered  int64 // bytes of content that buf stands for
	data     int64 // those of them that are in it
	sampler  sampler
	err      error // of sending
}

func (s *sender) step(op delta.Op) error {
	n := op.Len
	if op.Kind == delta.Data {
		n = int64(len(op.Data))
	}
	if n <= 0 {
		return nil
	}
	if op.Kind == delta.Data && n > delta.MaxData {
		return fmt.Errorf("a step of %d bytes is more than %d", n, delta.MaxData)
	}
	before := len(s.buf)
	s.buf = s.coder.Append(s.buf, op)
	s.covered += n
	s.data += int64(min(len(op.Data), len(s.buf)-before)) // zeros are told by their number
	target := contentTarget
	if s.client.out.packs() && !s.sampler.plain {
		target = packTarget
	}
	if len(s.buf) >= target {
		return s.flush()
	}
	return nil
}

// flush sends what was collected, when the stream's credit allows.
func (s *sender) flush() error {
	if s.err != nil || len(s.buf) == 0 {
		return s.err
	}
	return s.sendSteps(frameContent, s.buf)
}

// finish sends the hash of the whole with the steps that are left, and how the file is to be made if that has changed.
func (s *sender) finish(sum [16]byte, final *Request) error {
	m := &wirepb.Finish{Sum: sum[:], Steps: s.buf}
	if final != nil {
		if _, refusal := encodeRequest(nil, final, nil); refusal != nil {
			return &localError{call: refusal.Call, err: fmt.Errorf("%s: %w", refusal.Detail, refusal.Errno)}
		}
		m.Request = requestMessage(final, nil)
	}
	payload, err := appendMessage(nil, m)
	if err != nil {
		return err
	}
	if len(s.buf) == 0 {
		return s.client.out.send(s.ctx, frameFinish, s.stream, payload)
	}
	return s.sendSteps(frameFinish, payload)
}

// sendSteps sends a frame with what was collected, and counts it.
func (s *sender) sendSteps(kind frameType, payload []byte) error {
	cost := contentCost(len(s.buf))
	if s.err = s.client.acquire(s.ctx, s.client.ahead, cost); s.err != nil {
		return s.err
	}
	taken := false
	s.err = s.wait(s.ctx, func() bool {
		// After the result no more is given back, so no more may be taken.
		if s.result == nil && s.credit >= cost {
			s.credit -= cost
			taken = true
		}
		return taken
	})
	if !taken {
		s.client.ahead.Release(cost)
	}
	if s.err == nil {
		s.err = s.client.out.sendAs(s.ctx, kind, s.stream, payload, s.sampler.shrinks(s.client.out, payload))
	}
	s.progress(s.covered, s.data)
	s.buf, s.covered, s.data = s.buf[:0], 0, 0
	return s.err
}

// contentCost is what a content frame takes of a stream's window. Small frames count for more than their bytes, because
// each takes some memory where it waits.
func contentCost(payload int) int64 { return max(int64(payload)+headerSize, contentLeast) }
