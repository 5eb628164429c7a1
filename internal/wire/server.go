package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"georep/internal/change"
	"georep/internal/wire/wirepb"
)

// Handler carries out what the worker asks for. Its methods are called at the same time, in no particular order: the worker
// sends only what may run now. ctx ends with the connection; what was begun may be finished or left, as it may be repeated.
type Handler interface {
	// Apply carries out a request whose content, if any, is inline.
	Apply(ctx context.Context, r *Request) change.Result
	// Write carries out a request whose content comes by the stream.
	Write(ctx context.Context, r *Request, s Stream) change.Result
	// Look lists a directory. An error that is ErrStale, or that wraps an errno, is told apart by the worker. An error of
	// entry is returned as it is.
	Look(ctx context.Context, d Dir, entry func(Entry) error) error
	// Commit makes durable all that was answered before and, when it is not empty, the mark, of at most MaxMark bytes.
	Commit(ctx context.Context, mark string, purge bool) error
}

// Binder is a Handler that can also say whose copy it holds.
type Binder interface {
	Bind(ctx context.Context, session string, adopt bool) (BindResult, error)
}

// ServerOptions are the agent's wishes for a connection.
type ServerOptions struct {
	Version  string
	Workers  int      // requests that Apply carries out at once; 0: 16
	Features []string // named in the greeting besides the protocol's own
	// Silence is how long the worker may say nothing, as when it is frozen, rounded up to whole heartbeats, at least two; 0: 60 s.
	Silence time.Duration
	// Started, if given, is told of the worker's greeting before the first request, with the session's options. An error ends
	// the connection and is shown to the worker.
	Started func(Greeting) error
}

// server is the agent's end of one connection.
type server struct {
	link
	handler  Handler
	seed     uint64 // of the hashes of whole contents, unless a transfer says another
	requests chan work
	held     atomic.Int64 // bytes of the requests that were not answered
	count    atomic.Int64 // number of them
	calls    atomic.Int64
	ahead    atomic.Int64   // bytes of content that no handler has taken
	tasks    sync.WaitGroup // whatever runs the handler

	mu       sync.Mutex
	writes   map[uint32]*stream
	looks    map[uint32]*view
	scratch  sync.Pool // *[]byte, for messages
	contents sync.Pool // *[]byte, for content frames
}

// work is a request that waits for a worker.
type work struct {
	stream  uint32
	size    int64
	request *Request
}

// Serve greets the worker at the other end of rw and carries out its requests by h, until the worker goes or ctx ends. It
// closes rw, and closing must make rw's Read and Write return. It returns nil when the worker ended the connection
// between two messages, and not before every call of h has returned.
func Serve(ctx context.Context, rw io.ReadWriteCloser, o ServerOptions, h Handler) error {
	s := &server{
		handler:  h,
		requests: make(chan work, MaxRequests),
		writes:   map[uint32]*stream{},
		looks:    map[uint32]*view{},
		scratch:  sync.Pool{New: func() any { return new([]byte) }},
		contents: sync.Pool{New: func() any { return new([]byte) }},
	}
	s.stream = rw
	if o.Silence > 0 {
		s.patient = int32(min(max((o.Silence-1)/heartbeatEvery+1, 2), math.MaxInt32-1))
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	defer s.cancel(nil)
	peer, rest, err := s.greet(o)
	if errors.Is(err, io.EOF) {
		return rw.Close() // the worker left without a word
	}
	if err != nil {
		return errors.Join(err, rw.Close())
	}
	s.out, err = newOut(s.ctx, rw, nil, peer.Options[optionCompress] == featureZstd)
	if err != nil {
		return errors.Join(err, rw.Close())
	}
	s.seed, _ = strconv.ParseUint(peer.Options[optionSeed], 16, 64) // without one it is 0
	s.reader = newFrameReader(listener{rw, &s.link}, rest)
	if o.Started != nil {
		if err := o.Started(sessionOptions(peer)); err != nil {
			return s.refuse(err)
		}
	}
	workers := o.Workers
	if workers <= 0 {
		workers = 16
	}
	for range workers {
		s.tasks.Go(s.work)
	}
	s.start(s.handle)
	<-s.ctx.Done()
	s.group.Wait() // the reader begins tasks
	s.tasks.Wait()
	return s.ended()
}

// greet sends the greeting and reads the worker's.
func (s *server) greet(o ServerOptions) (peer Greeting, rest []byte, err error) {
	mine := Greeting{Protocol: Protocol, Oldest: Oldest, Version: o.Version, Features: append([]string{featureZstd}, o.Features...)}
	if FastAES() {
		mine.Features = append(mine.Features, FeatureAES)
	}
	line, err := mine.line()
	if err != nil {
		return peer, nil, err
	}
	stop := context.AfterFunc(s.ctx, func() { s.stream.Close() })
	defer stop()
	timer := time.AfterFunc(heartbeatEvery*silenceLimit, func() { s.fail(ErrSilent) })
	defer timer.Stop()
	// The newline before it sets the greeting apart from what a login script printed without one.
	if _, err := io.WriteString(s.stream, "\n"+line); err != nil {
		return peer, nil, fmt.Errorf("greet the worker: %w", err)
	}
	peer, rest, err = readGreeting(s.stream)
	if err != nil {
		if cause := context.Cause(s.ctx); cause != nil {
			err = cause
		}
		return peer, nil, fmt.Errorf("read the worker's greeting: %w", err)
	}
	_, err = agree(mine, peer, "on the secondary", "on the primary")
	return peer, rest, err
}

// sessionOptions leaves only the session's own options in a worker's greeting.
func sessionOptions(g Greeting) Greeting {
	own := map[string]string{}
	for k, v := range g.Options {
		if name, ok := cutSession(k); ok {
			own[name] = v
		}
	}
	g.Options = own
	return g
}

// refuse ends a connection before it began, with a reason for the worker.
func (s *server) refuse(err error) error {
	text := err.Error()
	frame := appendFrame(nil, frameFatal, 0, []byte(text[:min(len(text), maxDetail)]))
	_, writing := s.stream.Write(frame)
	return errors.Join(err, writing, s.stream.Close())
}

func (s *server) ended() error {
	err := context.Cause(s.ctx)
	if err == io.EOF {
		return nil
	}
	return err
}

// handle is called by the reader for each message. It never waits for a handler: the limits of the protocol bound what it
// has to keep, and a worker that exceeds them is cut off.
func (s *server) handle(f frame) error {
	switch f.kind {
	case frameRequest:
		return s.queue(f)
	case frameWrite:
		return s.openWrite(f)
	case frameContent, frameFinish, frameAbort, frameCredit:
		return s.deliver(f)
	case frameLook:
		return s.openLook(f)
	case frameCommit, frameBind, framePing:
		return s.call(f)
	}
	return protocolError("a frame of type %d is unknown", f.kind)
}

// queue takes a request for the workers.
func (s *server) queue(f frame) error {
	r, _, err := parseRequest(f.payload)
	if err != nil {
		return err
	}
	size := requestSize(len(f.payload), r)
	if s.count.Add(1) > MaxRequests || s.held.Add(size) > MaxRequestBytes {
		return protocolError("more requests at once than %d, or more than %d bytes of them", MaxRequests, MaxRequestBytes)
	}
	s.requests <- work{stream: f.stream, size: size, request: r} // has room for MaxRequests
	return nil
}

// work carries out requests until the connection ends.
func (s *server) work() {
	for {
		select {
		case w := <-s.requests:
			result := s.handler.Apply(s.ctx, w.request)
			s.held.Add(-w.size)
			s.count.Add(-1)
			s.answer(w.stream, &result, false)
		case <-s.ctx.Done():
			return
		}
		if s.ctx.Err() != nil {
			return
		}
	}
}

// answer sends a result. It waits for the worker to listen; when the connection ends there is nobody to answer.
func (s *server) answer(stream uint32, result *change.Result, mismatch bool) {
	s.sendMessage(frameResult, stream, resultMessage(result, mismatch))
}

// sendMessage sends a message, or ends the connection when that is impossible.
func (s *server) sendMessage(kind frameType, stream uint32, m proto.Message) error {
	buf := s.scratch.Get().(*[]byte)
	defer s.scratch.Put(buf)
	payload, err := appendMessage((*buf)[:0], m)
	if err == nil && len(payload) > MaxMessage {
		err = fmt.Errorf("a message has %d bytes, more than %d", len(payload), MaxMessage)
	}
	if err != nil {
		s.fail(err)
		return err
	}
	if cap(payload) <= keepBuffer {
		*buf = payload
	}
	return s.out.send(s.ctx, kind, stream, payload)
}

// call carries out a commit, a bind or a ping beside the workers.
func (s *server) call(f frame) error {
	if s.calls.Add(1) > MaxCalls {
		return protocolError("more than %d calls at once", MaxCalls)
	}
	var run func() (frameType, *wirepb.Answer)
	switch f.kind {
	case frameCommit:
		m := new(wirepb.Commit)
		if err := decodeMessage(f.payload, m, "a commit"); err != nil {
			return err
		}
		if len(m.Mark) > MaxMark {
			return protocolError("a mark of %d bytes", len(m.Mark))
		}
		run = func() (frameType, *wirepb.Answer) {
			return frameAnswer, answerMessage(s.handler.Commit(s.ctx, string(m.Mark), m.Purge))
		}
	case frameBind:
		m := new(wirepb.Bind)
		if err := decodeMessage(f.payload, m, "a bind"); err != nil {
			return err
		}
		run = func() (frameType, *wirepb.Answer) { return frameAnswer, s.bind(m) }
	default:
		run = func() (frameType, *wirepb.Answer) { return framePong, &wirepb.Answer{} }
	}
	s.tasks.Go(func() {
		kind, answer := run()
		s.calls.Add(-1)
		s.sendMessage(kind, f.stream, answer)
	})
	return nil
}

func (s *server) bind(m *wirepb.Bind) *wirepb.Answer {
	binder, ok := s.handler.(Binder)
	if !ok {
		return answerMessage(errors.ErrUnsupported)
	}
	bound, err := binder.Bind(s.ctx, string(m.Session), m.Adopt)
	answer := answerMessage(err)
	answer.Empty, answer.Bound, answer.Other = bound.Empty, bound.Bound, []byte(bound.Other)
	answer.Mark, answer.TimeStep = []byte(bound.Mark), uint64(bound.TimeStep)
	return answer
}
