package wire

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"georep/internal/change"
	"georep/internal/wire/wirepb"
)

// featureZstd is named by an end that can read packed frames, and asked for by the option "compress".
const (
	featureZstd    = "zstd"
	optionCompress = "compress"
	optionSeed     = "seed"
	optionSession  = "session."
)

// ClientOptions are the worker's wishes for a connection.
type ClientOptions struct {
	Version     string            // of this program, for people
	Compress    bool              // pack frames with zstd, both ways, when the agent can; what does not shrink goes as it is
	Limiter     *rate.Limiter     // nil: none. Bytes a second that are sent, as they are on the wire; connections may share one (see NewLimiter)
	MaxInFlight int               // requests by Do that wait for their answer, 1 to MaxRequests, which 0 stands for
	Options     map[string]string // options of the session for the agent, some hundred bytes
	HelloWait   time.Duration     // how long the agent may take to greet; 0: 2 minutes
}

// Client is the worker's end of one connection. Its methods may be called at the same time.
type Client struct {
	link
	peer     Greeting
	protocol int
	seed     uint64

	count  *semaphore.Weighted // of requests
	bytes  *semaphore.Weighted // of their bytes
	writes *semaphore.Weighted
	ahead  *semaphore.Weighted // bytes of content that the agent has not taken
	looks  *semaphore.Weighted
	calls  *semaphore.Weighted
	local  sync.WaitGroup // see spawn

	scratch sync.Pool // *[]byte

	mu      sync.Mutex
	over    bool
	next    uint32
	waiting map[uint32]waiter
}

// waiter gets the messages of one stream. It runs on the reader, so it must not wait for anything. With last the stream is
// forgotten.
type waiter interface {
	message(f frame) (last bool, err error)
}

// NewClient greets the agent at the other end of rw and starts the connection, which owns rw from now on, also when an error is
// returned. rw.Close must make its Read and Write return. A *HelloError says what was wrong with the greeting.
func NewClient(ctx context.Context, rw io.ReadWriteCloser, o ClientOptions) (*Client, error) {
	if o.MaxInFlight == 0 {
		o.MaxInFlight = MaxRequests
	}
	c := &Client{
		count:   semaphore.NewWeighted(int64(min(max(o.MaxInFlight, 1), MaxRequests))),
		bytes:   semaphore.NewWeighted(MaxRequestBytes),
		writes:  semaphore.NewWeighted(MaxWrites),
		ahead:   semaphore.NewWeighted(ContentWindow),
		looks:   semaphore.NewWeighted(MaxLooks),
		calls:   semaphore.NewWeighted(MaxCalls),
		scratch: sync.Pool{New: func() any { return new([]byte) }},
		waiting: map[uint32]waiter{},
	}
	c.stream = rw
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, errors.Join(fmt.Errorf("choose a seed: %w", err), rw.Close())
	}
	c.seed = binary.LittleEndian.Uint64(seed[:])
	rest, err := c.greet(ctx, o)
	if err != nil {
		return nil, errors.Join(err, rw.Close())
	}
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	c.out, err = newOut(c.ctx, rw, o.Limiter, o.Compress && c.peer.Has(featureZstd))
	if err != nil {
		return nil, errors.Join(err, rw.Close())
	}
	c.reader = newFrameReader(listener{rw, &c.link}, rest)
	c.start(c.handle)
	return c, nil
}

// greet reads the agent's greeting and answers it. rest is what was read beyond.
func (c *Client) greet(ctx context.Context, o ClientOptions) (rest []byte, err error) {
	wait := o.HelloWait
	if wait == 0 {
		wait = 2 * time.Minute
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("no greeting within %s", wait))
	defer cancel()
	// Reading cannot be interrupted but by closing.
	stop := context.AfterFunc(ctx, func() { c.stream.Close() })
	defer stop()
	c.peer, rest, err = findGreeting(c.stream)
	if cause := context.Cause(ctx); cause != nil {
		return nil, &HelloError{Problem: HelloNothing, Err: cause, Text: fmt.Sprintf("the remote georep did not answer: %v: check that the host answers and that its login does not wait for input", cause)}
	}
	if err != nil {
		return nil, err
	}
	mine := Greeting{Protocol: Protocol, Oldest: Oldest, Version: o.Version, Features: []string{featureZstd}, Options: map[string]string{}}
	if c.protocol, err = agree(mine, c.peer, "here", "on the remote host"); err != nil {
		return nil, err
	}
	for k, v := range o.Options {
		mine.Options[optionSession+k] = v
	}
	mine.Options[optionSeed] = strconv.FormatUint(c.seed, 16)
	if o.Compress {
		mine.Options[optionCompress] = featureZstd
	}
	line, err := mine.line()
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c.stream, line); err != nil {
		return nil, &HelloError{Problem: HelloNothing, Err: err, Text: fmt.Sprintf("the remote georep went away after its greeting: %v", err)}
	}
	return rest, nil
}

// Peer is what the agent said of itself.
func (c *Client) Peer() Greeting { return c.peer }

// BytesOut is the number of bytes sent after the greeting, as they are on the wire.
func (c *Client) BytesOut() int64 { return c.out.wrote.Load() }

// BytesIn is the number of bytes received after the greeting.
func (c *Client) BytesIn() int64 { return c.reader.read.Load() }

// Done is closed when the connection has ended or is about to.
func (c *Client) Done() <-chan struct{} { return c.ctx.Done() }

// Wait waits for the end of the connection and says why it ended; nil after Close. No done function runs after it returned.
func (c *Client) Wait() error {
	c.gather()
	return c.ended()
}

// spawn runs f in a goroutine that the end of the connection waits for. After that end it does nothing.
func (c *Client) spawn(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.local.Go(f)
	}
}

// gather waits for all goroutines of the connection, once it has ended.
func (c *Client) gather() {
	c.group.Wait()
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.local.Wait()
}

func (c *Client) ended() error {
	err := context.Cause(c.ctx)
	switch {
	case errors.Is(err, ErrClosed):
		return nil
	case err == io.EOF:
		return fmt.Errorf("the remote georep ended the connection: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// linkError is why a call could not be carried out on a connection that has ended.
func (c *Client) linkError() error {
	if err := c.ended(); err != nil {
		return err
	}
	return ErrClosed
}

// Close ends the connection and waits for its end. What is under way is given up: its done functions are not called.
func (c *Client) Close() error {
	c.fail(ErrClosed)
	err := c.stream.Close()
	c.gather()
	return err
}

// handle is called by the reader for each message.
func (c *Client) handle(f frame) error {
	c.mu.Lock()
	w, ok := c.waiting[f.stream]
	c.mu.Unlock()
	if !ok {
		return protocolError("a frame of type %d for stream %d, which nobody opened", f.kind, f.stream)
	}
	last, err := w.message(f)
	if last {
		c.forget(f.stream)
	}
	return err
}

// open gives a new stream to w.
func (c *Client) open(w waiter) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		c.next++
		if _, used := c.waiting[c.next]; !used && c.next != 0 {
			c.waiting[c.next] = w
			return c.next
		}
	}
}

func (c *Client) forget(stream uint32) {
	c.mu.Lock()
	delete(c.waiting, stream)
	c.mu.Unlock()
}

// scoped gives a context that ends with ctx and with the link.
func (c *Client) scoped(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.ctx, func() { cancel(c.linkError()) })
	return ctx, func() { stop(); cancel(nil) }
}

// request waits for the answer to one request of Do.
type request struct {
	client *Client
	size   int64
	done   func(change.Result)
}

func (q *request) message(f frame) (bool, error) {
	if f.kind != frameResult {
		return false, protocolError("a frame of type %d answers a request", f.kind)
	}
	result, _, err := parseResult(f.payload)
	if err != nil {
		return false, err
	}
	q.client.bytes.Release(q.size)
	q.client.count.Release(1)
	q.done(result)
	return true, nil
}

// Do sends a request and returns; done is called once with the answer, on the reader of the connection, so it must not
// wait for anything. Do waits only for room: for the number and the bytes of requests under way, and for the rate limit. An error means that the
// request was not sent (ctx ended, or the link) and that done is not called. When the link fails done is not called
// either; Wait then has the reason. A request that cannot be sent because of what is in it is answered as failed here.
func (c *Client) Do(ctx context.Context, r *Request, done func(change.Result)) error {
	if c.ctx.Err() != nil {
		return c.linkError()
	}
	buf := c.scratch.Get().(*[]byte)
	defer c.scratch.Put(buf)
	payload, refusal := encodeRequest((*buf)[:0], r, nil)
	if refusal != nil {
		c.spawn(func() { done(*refusal) })
		return nil
	}
	if cap(payload) <= keepBuffer {
		*buf = payload
	}
	q := &request{client: c, size: requestSize(len(payload), r), done: done}
	if err := c.acquire(ctx, c.count, 1); err != nil {
		return err
	}
	if err := c.acquire(ctx, c.bytes, q.size); err != nil {
		c.count.Release(1)
		return err
	}
	stream := c.open(q)
	var content sampler
	if err := c.out.sendAs(ctx, frameRequest, stream, payload, content.shrinks(c.out, payload)); err != nil {
		c.forget(stream)
		c.bytes.Release(q.size)
		c.count.Release(1)
		return c.because(err)
	}
	return nil
}

// acquire takes n of s, waiting for as long as ctx and the link last.
func (c *Client) acquire(ctx context.Context, s *semaphore.Weighted, n int64) error {
	if s.TryAcquire(n) {
		return nil
	}
	ctx, stop := c.scoped(ctx)
	defer stop()
	if err := s.Acquire(ctx, n); err != nil {
		return context.Cause(ctx)
	}
	return nil
}

// because gives the reason of the link's end for err when the link has ended, else err.
func (c *Client) because(err error) error {
	if c.ctx.Err() != nil {
		return c.linkError()
	}
	return err
}

// encodeRequest appends the message of r to buf, or says why r can never be sent.
func encodeRequest(buf []byte, r *Request, transfer *wirepb.Transfer) ([]byte, *change.Result) {
	if err := r.Validate(); err != nil {
		return buf, &change.Result{Status: change.Failed, Errno: syscall.EINVAL, Call: "send", Detail: err.Error(), Local: true}
	}
	payload, err := appendMessage(buf, requestMessage(r, transfer))
	if err != nil {
		return buf, &change.Result{Status: change.Failed, Errno: syscall.EINVAL, Call: "send", Detail: err.Error(), Local: true}
	}
	if len(payload) > MaxMessage {
		return buf, &change.Result{
			Status: change.Failed, Errno: syscall.E2BIG, Call: "send", Local: true,
			Detail: fmt.Sprintf("its names and attributes take %d bytes, more than the %d that one request may have", len(payload), MaxMessage),
		}
	}
	return payload, nil
}
