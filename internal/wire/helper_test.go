package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"georep/internal/change"
	"georep/internal/delta"
)

// memory is a Handler that keeps files in memory, by path.
type memory struct {
	mu      sync.Mutex
	files   map[string][]byte
	applied []*Request

	apply   func(ctx context.Context, r *Request) change.Result
	look    func(ctx context.Context, d Dir, entry func(Entry) error) error
	commit  func(ctx context.Context, purge bool) error
	spoil   int // so many writes get a wrong hash
	params  []delta.Params
	steps   map[delta.Kind]int64 // bytes that came as
	refusal *change.Result
}

func newMemory() *memory {
	return &memory{files: map[string][]byte{}, steps: map[delta.Kind]int64{}}
}

func (m *memory) Apply(ctx context.Context, r *Request) change.Result {
	if m.apply != nil {
		return m.apply(ctx, r)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applied = append(m.applied, r)
	if r.HasInline {
		m.files[r.At.Path()] = r.Inline
	}
	return change.Result{Status: change.Applied, Sec: r.Object.ID}
}

func (m *memory) Look(ctx context.Context, d Dir, entry func(Entry) error) error {
	if m.look != nil {
		return m.look(ctx, d, entry)
	}
	return &os.PathError{Op: "openat", Path: d.Path, Err: syscall.ENOENT}
}

func (m *memory) Commit(ctx context.Context, _ string, purge bool) error {
	if m.commit != nil {
		return m.commit(ctx, purge)
	}
	return nil
}

func (m *memory) Bind(_ context.Context, session string, adopt bool) (BindResult, error) {
	if session == "other" {
		return BindResult{Other: "mine"}, nil
	}
	return BindResult{Empty: adopt, Bound: true}, nil
}

// buffer is a file in memory, as delta.Output.
type buffer struct {
	data  []byte
	basis []byte
}

func (b *buffer) WriteAt(p []byte, off int64) (int, error) {
	b.grow(off + int64(len(p)))
	return copy(b.data[off:], p), nil
}

func (b *buffer) CopyRange(basisOff, off, n int64) error {
	_, err := b.WriteAt(b.basis[basisOff:basisOff+n], off)
	return err
}

func (b *buffer) Truncate(size int64) error {
	b.grow(size)
	b.data = b.data[:size]
	return nil
}

func (b *buffer) grow(size int64) {
	if int64(len(b.data)) < size {
		b.data = append(b.data, make([]byte, size-int64(len(b.data)))...)
	}
}

func (m *memory) Write(ctx context.Context, r *Request, s Stream) change.Result {
	m.mu.Lock()
	old := m.files[r.At.Path()]
	refusal := m.refusal
	m.mu.Unlock()
	if refusal != nil {
		return *refusal
	}
	if s.Basis() && len(old) > 0 {
		err := s.Offer(int64(len(old)), func(w io.Writer, p delta.Params) error {
			m.mu.Lock()
			m.params = append(m.params, p)
			m.mu.Unlock()
			return delta.Sign(ctx, bytes.NewReader(old), int64(len(old)), p, w)
		})
		if err != nil {
			return failed("offer", err)
		}
	}
	out := &buffer{basis: old}
	patcher := delta.NewPatcher(out, bytes.NewReader(old), int64(len(old)), r.Object.Size, delta.NewHash(s.Seed()))
	for {
		op, err := s.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			m.mu.Lock()
			m.steps[op.Kind] += op.Len
			m.mu.Unlock()
			err = patcher.Apply(op)
		}
		if err != nil {
			return failed("write", err)
		}
	}
	sum, err := patcher.Finish()
	if err != nil {
		return failed("write", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.spoil > 0 {
		m.spoil--
		sum[0]++
	}
	if sum != s.Sum() {
		return s.Mismatch()
	}
	if final := s.Final(); final != nil {
		r = final
	}
	m.files[r.At.Path()] = out.data
	return change.Result{Status: change.Applied, Sec: r.Object.ID}
}

func failed(call string, err error) change.Result {
	r := change.Result{Status: change.Failed, Call: call, Detail: err.Error()}
	errors.As(err, &r.Errno)
	return r
}

// content is a file of the primary in memory.
type content struct {
	*bytes.Reader
	changed error
}

func newContent(b []byte) *content { return &content{Reader: bytes.NewReader(b)} }

func (c *content) Unchanged() error { return c.changed }

func (c *content) Extents(size int64, fn func(off, n int64, hole bool) error) error {
	if size == 0 {
		return nil
	}
	return fn(0, size, false)
}

// pair is one end of a connection over two pipes of the system.
type pair struct {
	r, w *os.File
}

func (p pair) Read(b []byte) (int, error)  { return p.r.Read(b) }
func (p pair) Write(b []byte) (int, error) { return p.w.Write(b) }
func (p pair) Close() error                { return errors.Join(p.r.Close(), p.w.Close()) }

func pipes(t testing.TB) (a, b pair) {
	r1, w1, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r2, w2, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return pair{r1, w2}, pair{r2, w1}
}

// connected gives a client of a server with that handler, over pipes, and ends both with the test.
func connected(t testing.TB, h Handler, o ClientOptions, so ServerOptions) *Client {
	t.Helper()
	a, b := pipes(t)
	return connectedOver(t, a, b, h, o, so)
}

func connectedOver(t testing.TB, a, b io.ReadWriteCloser, h Handler, o ClientOptions, so ServerOptions) *Client {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- Serve(context.Background(), b, so, h) }()
	c, err := NewClient(context.Background(), a, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := c.Wait(); err != nil {
			t.Errorf("the client ended with %v", err)
		}
		if err := <-served; err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, io.ErrClosedPipe) { // closed within a frame
			t.Errorf("the server ended with %v", err)
		}
	})
	return c
}

// inMemory gives both ends of a connection that no system call serves, for tests with synthetic time.
func inMemory() (a, b net.Conn) { return net.Pipe() }

func fileRequest(op change.Op, name string, size int64) *Request {
	return &Request{
		Op: op, At: Ref{Dir: Dir{Path: "dir", Sec: change.NewID(7, 8)}, Name: name},
		Object: change.Object{ID: change.NewID(1, 2), Kind: change.File, Attr: change.Attr{Mode: 0o644}, Size: size},
	}
}

// do sends a request and waits for its result.
func do(t testing.TB, c *Client, r *Request) change.Result {
	t.Helper()
	got := make(chan change.Result, 1)
	if err := c.Do(t.Context(), r, func(r change.Result) { got <- r }); err != nil {
		t.Fatal(err)
	}
	return receive(t, c, got)
}

func receive[T any](t testing.TB, c *Client, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-c.Done():
		t.Fatalf("the connection ended: %v", c.linkError())
	case <-time.After(30 * time.Second):
		t.Fatal("no answer within 30 s")
	}
	panic("not reached")
}
