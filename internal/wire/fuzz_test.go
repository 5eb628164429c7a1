package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"reflect"
	"testing"

	"georep/internal/change"
	"georep/internal/delta"
)

// once is a stream on which a hostile peer says something and goes.
type once struct{ io.Reader }

func (once) Write(p []byte) (int, error) { return len(p), nil }
func (once) Close() error                { return nil }

// FuzzServe has a worker that says anything. The agent must end, and whatever reaches its handler must be valid.
func FuzzServe(f *testing.F) {
	for _, said := range hostileWorkers(f) {
		if len(said) < 64<<10 {
			f.Add([]byte(workerHello), said)
		}
	}
	f.Add([]byte(workerHello), append(validRequest(f, frameRequest, 1), validRequest(f, frameWrite, 2)...))
	f.Fuzz(func(t *testing.T, hello, said []byte) {
		h := &checking{memory: newMemory(), t: t}
		h.files["dir/f"] = []byte("something old")
		_ = Serve(context.Background(), once{io.MultiReader(bytes.NewReader(hello), bytes.NewReader(said))}, ServerOptions{Workers: 2}, h)
	})
}

// checking is a handler that checks what reaches it.
type checking struct {
	*memory
	t *testing.T
}

func (c *checking) Apply(_ context.Context, r *Request) change.Result {
	if err := r.Validate(); err != nil {
		c.t.Errorf("a request that is not valid: %v", err)
	}
	return change.Result{Status: change.Applied}
}

func (c *checking) Write(ctx context.Context, r *Request, s Stream) change.Result {
	if err := r.Validate(); err != nil {
		c.t.Errorf("a request that is not valid: %v", err)
	}
	if s.Basis() {
		_ = s.Offer(100_000, func(w io.Writer, p delta.Params) error {
			return delta.Sign(ctx, bytes.NewReader(make([]byte, 100_000)), 100_000, p, w)
		})
	}
	var covered int64
	for {
		op, err := s.Next()
		if err != nil {
			return change.Result{Status: change.Applied}
		}
		if op.Kind == delta.Data && int64(len(op.Data)) != op.Len || op.Len <= 0 || op.Off < 0 {
			c.t.Errorf("a step that is not valid: %v", op)
		}
		if covered += op.Len; covered > r.Object.Size || covered < 0 {
			c.t.Errorf("%d bytes for a file of %d", covered, r.Object.Size)
		}
	}
}

func (c *checking) Look(_ context.Context, d Dir, entry func(Entry) error) error {
	if err := d.validate(); err != nil {
		c.t.Errorf("a directory that is not valid: %v", err)
	}
	e := Entry{Name: "x"}
	e.Object.Kind = change.File
	return entry(e)
}

// FuzzClient has an agent that says anything. The worker must end, or go on.
func FuzzClient(f *testing.F) {
	for _, said := range hostileAgents(f) {
		if len(said) < 64<<10 {
			f.Add(said)
		}
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		c, wait := busyClient(t, once{io.MultiReader(bytes.NewReader([]byte(agentHello)), bytes.NewReader(said))})
		wait()
		if c.Wait() == nil {
			t.Error("the client ended without a reason")
		}
	})
}

// FuzzFrames checks that reading frames ends, and that frames that can be read are written the same.
func FuzzFrames(f *testing.F) {
	for _, said := range hostileWorkers(f) {
		if len(said) < 64<<10 {
			f.Add(said)
		}
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		r := newFrameReader(bytes.NewReader(said), nil)
		defer r.close()
		for {
			got, err := r.next()
			if err != nil {
				if err != io.EOF && err != io.ErrUnexpectedEOF && !errors.Is(err, ErrProtocol) {
					t.Errorf("an error of another kind: %v", err)
				}
				return
			}
			if len(got.payload) > MaxMessage {
				t.Fatalf("a message of %d bytes", len(got.payload))
			}
			again, err := newFrameReader(bytes.NewReader(appendFrame(nil, got.kind, got.stream, got.payload)), nil).next()
			if err != nil || again.kind != got.kind || again.stream != got.stream || !bytes.Equal(again.payload, got.payload) {
				t.Fatalf("written again it is %+v, %v", again, err)
			}
		}
	})
}

// FuzzRequest checks that what parses is valid and survives being sent on.
func FuzzRequest(f *testing.F) {
	for _, kind := range []frameType{frameRequest, frameWrite} {
		f.Add(validRequest(f, kind, 1)[headerSize:])
	}
	for _, said := range hostileWorkers(f) {
		if len(said) > headerSize && len(said) < 64<<10 {
			f.Add(said[headerSize:])
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, transfer, err := parseRequest(payload)
		if err != nil {
			return
		}
		if err := r.Validate(); err != nil {
			t.Fatal(err)
		}
		b, refusal := encodeRequest(nil, r, transfer)
		if refusal != nil {
			t.Fatal(refusal.Detail)
		}
		again, _, err := parseRequest(b)
		if err != nil {
			t.Fatal(err)
		}
		if !r.HasHash {
			r.HashSeed = 0 // has no meaning and is not sent
		}
		r.Object.Ctime = change.Time{} // nor this
		if len(r.Inline) == 0 {
			r.Inline = nil
		}
		for i := range r.Object.Xattrs {
			if len(r.Object.Xattrs[i].Value) == 0 {
				r.Object.Xattrs[i].Value = nil
			}
		}
		for i := range again.Object.Xattrs {
			if len(again.Object.Xattrs[i].Value) == 0 {
				again.Object.Xattrs[i].Value = nil
			}
		}
		if len(again.Inline) == 0 {
			again.Inline = nil
		}
		if !reflect.DeepEqual(r, again) {
			t.Fatalf("got  %+v\nwant %+v", again, r)
		}
	})
}

// FuzzSteps checks that steps that can be read are in range, and are written the same.
func FuzzSteps(f *testing.F) {
	const block = 700
	c := delta.NewCoder(block)
	b := c.Append(nil, delta.Op{Kind: delta.Copy, Off: 5, Len: 7})
	b = c.Append(b, delta.Op{Kind: delta.Data, Len: 3, Data: []byte("abc")})
	b = c.Append(b, delta.Op{Kind: delta.Hole, Len: 1 << 40})
	b = c.Append(b, delta.Op{Kind: delta.Copy, Off: 7 * block, Len: block})
	b = c.Append(b, delta.Op{Kind: delta.Data, Len: 1 << 10, Data: make([]byte, 1<<10)})
	f.Add(c.Append(b, delta.Op{Kind: delta.Copy, Off: 0, Len: 7}))
	f.Fuzz(func(t *testing.T, b []byte) {
		read, wrote := delta.NewCoder(block), delta.NewCoder(block)
		for len(b) > 0 {
			op, rest, err := parseStep(&read, b)
			if err != nil {
				if !errors.Is(err, ErrProtocol) {
					t.Fatal(err)
				}
				return
			}
			if op.Len <= 0 || op.Off < 0 || op.Off+op.Len < 0 || len(rest) >= len(b) {
				t.Fatalf("%v with %d of %d bytes left", op, len(rest), len(b))
			}
			b = rest
			before := wrote
			again, _, err := parseStep(&before, wrote.Append(nil, op))
			if err != nil || !reflect.DeepEqual(again, op) {
				t.Fatalf("written again %v is %v, %v", op, again, err)
			}
		}
	})
}

// FuzzGreeting checks that a greeting that can be read can be sent on.
func FuzzGreeting(f *testing.F) {
	f.Add("georep 1 0.1.0 oldest=1 features=zstd,confined opt.session.a=b%20c")
	f.Add("georep 2 %ff oldest=1 features= x=y")
	f.Fuzz(func(t *testing.T, line string) {
		g, err := parseGreeting(line)
		if err != nil {
			return
		}
		out, err := g.line()
		if err != nil {
			return // longer when quoted
		}
		again, err := parseGreeting(out[:len(out)-1])
		if err != nil || again.Protocol != g.Protocol || again.Oldest != g.Oldest || !reflect.DeepEqual(again.Options, g.Options) {
			t.Fatalf("got %+v, %v, want %+v", again, err, g)
		}
	})
}
