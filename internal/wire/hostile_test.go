package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"runtime"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"georep/internal/change"
	"georep/internal/wire/wirepb"
)

const (
	workerHello = "georep 1 hostile compress\n"
	agentHello  = "\ngeorep 1 hostile features=zstd\n"
)

func encoded(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func message(t testing.TB, kind frameType, stream uint32, m proto.Message) []byte {
	return appendFrame(nil, kind, stream, encoded(t, m))
}

func validRequest(t testing.TB, kind frameType, stream uint32) []byte {
	var transfer *wirepb.Transfer
	if kind == frameWrite {
		transfer = &wirepb.Transfer{Seed: 1}
	}
	return message(t, kind, stream, requestMessage(fileRequest(change.Make, "f", 1<<40), transfer))
}

func packed(t testing.TB, frames []byte) []byte {
	p, err := newPacker()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	b, err := p.pack(frames)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b)
}

// blocked is a handler that does nothing until the connection ends.
type blocked struct{ *memory }

func (blocked) Apply(ctx context.Context, _ *Request) change.Result {
	<-ctx.Done()
	return change.Result{Status: change.Applied}
}

func (blocked) Write(ctx context.Context, _ *Request, _ Stream) change.Result {
	<-ctx.Done()
	return change.Result{Status: change.Applied}
}

func (blocked) Look(ctx context.Context, _ Dir, _ func(Entry) error) error {
	<-ctx.Done()
	return ctx.Err()
}

func (blocked) Commit(ctx context.Context, _ string, _ bool) error {
	<-ctx.Done()
	return ctx.Err()
}

// hostileWorkers are streams of bytes that an agent must cut off.
func hostileWorkers(t testing.TB) map[string][]byte {
	repeat := func(n int, frame func(i int) []byte) []byte {
		var b []byte
		for i := range n {
			b = append(b, frame(i)...)
		}
		return b
	}
	content := func(stream uint32, payload []byte) []byte { return appendFrame(nil, frameContent, stream, payload) }
	hole := appendStepBytes(1<<61, stepHole)
	cases := map[string][]byte{
		"garbage":           []byte("GET / HTTP/1.1\r\nHost: example\r\n\r\n"),
		"a giant frame":     {0xff, 0xff, 0xff, 0xff, 16, 0, 0, 0, 0, 1},
		"an unknown type":   appendFrame(nil, 99, 1, nil),
		"the agent's type":  appendFrame(nil, frameResult, 1, nil),
		"unknown flags":     appendHeader(nil, 0, frameRequest, 0x40, 1),
		"a compressed type": appendHeader(nil, 0, frameRequest, flagZstd, 1),
		"an endless message": repeat(10, func(int) []byte {
			return append(appendHeader(nil, MaxFrame, frameRequest, flagMore, 1), make([]byte, MaxFrame)...)
		}),
		"a cut message":     append(appendHeader(nil, 0, frameRequest, flagMore, 1), appendFrame(nil, frameHeartbeat, 0, nil)...),
		"no protobuf":       appendFrame(nil, frameRequest, 1, []byte{0xff, 0xff, 0xff}),
		"too many requests": repeat(MaxRequests+1, func(i int) []byte { return validRequest(t, frameRequest, uint32(i)) }),
		"too many bytes":    repeat(20, func(i int) []byte { return bad1MiB(t) }),
		"too many writes":   repeat(MaxWrites+1, func(i int) []byte { return validRequest(t, frameWrite, uint32(i)) }),
		"a stream twice":    repeat(2, func(int) []byte { return validRequest(t, frameWrite, 7) }),
		"too many looks":    repeat(MaxLooks+1, func(i int) []byte { return message(t, frameLook, uint32(i), &wirepb.Look{}) }),
		"too many calls":    repeat(MaxCalls+1, func(i int) []byte { return message(t, frameCommit, uint32(i), &wirepb.Commit{}) }),
		"too much content":  append(validRequest(t, frameWrite, 1), repeat(20, func(int) []byte { return content(1, make([]byte, 500_000)) })...),
		"too much of all": repeat(9, func(i int) []byte {
			return append(validRequest(t, frameWrite, uint32(i)), repeat(8, func(int) []byte { return content(uint32(i), make([]byte, 500_000)) })...)
		}),
		"many empty contents": append(validRequest(t, frameWrite, 1), repeat(StreamWindow/contentLeast+1, func(int) []byte { return content(1, nil) })...),
		"content after all":   append(validRequest(t, frameWrite, 1), append(message(t, frameFinish, 1, &wirepb.Finish{Sum: make([]byte, 16)}), content(1, hole)...)...),
		"a short hash":        append(validRequest(t, frameWrite, 1), message(t, frameFinish, 1, &wirepb.Finish{Sum: make([]byte, 3)})...),
		"credit to a look":    append(message(t, frameLook, 1, &wirepb.Look{}), appendFrame(nil, frameCredit, 1, []byte{0xff, 0xff, 0xff, 0xff})...),
		"a bomb":              packed(t, appendFrame(nil, frameRequest, 1, make([]byte, 64<<20))),
		"a pack in a pack":    packed(t, packed(t, appendFrame(nil, frameHeartbeat, 0, nil))),
		"an empty pack":       packed(t, nil),
		"a torn pack":         packed(t, []byte{0, 0, 0, 9, 1, 0, 0, 0, 0, 0, 1}),
		"no pack":             appendHeader(nil, 0, framePack, flagZstd, 0),
		"a bare pack":         appendHeader(nil, 0, framePack, 0, 0),
	}
	maps.Copy(cases, hostileRequests(t))
	for name, climbing := range map[string]string{"dots": "a/..", "rooted": "/", "nul": "a\x00b"} {
		cases["look at "+name] = message(t, frameLook, 1, &wirepb.Look{Path: []byte(climbing)})
	}
	return cases
}

// hostileRequests are single requests that are not valid.
func hostileRequests(t testing.TB) map[string][]byte {
	bad := func(change func(m *wirepb.Request)) []byte {
		m := requestMessage(fileRequest(2, "f", 0), nil)
		change(m)
		return message(t, frameRequest, 1, m)
	}
	return map[string][]byte{
		"dot dot":          bad(func(m *wirepb.Request) { m.AtName = []byte("..") }),
		"a slash":          bad(func(m *wirepb.Request) { m.AtName = []byte("a/b") }),
		"a NUL":            bad(func(m *wirepb.Request) { m.AtName = []byte("a\x00") }),
		"an absolute path": bad(func(m *wirepb.Request) { m.AtPath = []byte("/etc") }),
		"a climbing path":  bad(func(m *wirepb.Request) { m.AtPath = []byte("a/../../b") }),
		"a doubled slash":  bad(func(m *wirepb.Request) { m.AtPath = []byte("a//b") }),
		"a long name":      bad(func(m *wirepb.Request) { m.AtName = bytes.Repeat([]byte("x"), 256) }),
		"no name":          bad(func(m *wirepb.Request) { m.AtName = nil }),
		"another op":       bad(func(m *wirepb.Request) { m.Op = 9 }),
		"op 257":           bad(func(m *wirepb.Request) { m.Op = 257 }),
		"a climbing link":  bad(func(m *wirepb.Request) { m.FromPath = []byte(".."); m.FromName = []byte("x") }),
		"a climbing name":  bad(func(m *wirepb.Request) { m.Names = []*wirepb.Ref{{Path: []byte("../x"), Name: []byte("y")}} }),
		"an empty name":    bad(func(m *wirepb.Request) { m.Names = []*wirepb.Ref{{}} }),
		"a long identity":  bad(func(m *wirepb.Request) { m.Sec = []byte("seventeen letters") }),
		"a negative size":  bad(func(m *wirepb.Request) { m.Object.Size = -1 }),
		"a mode":           bad(func(m *wirepb.Request) { m.Object.Mode = 0o170644 }),
		"a kind":           bad(func(m *wirepb.Request) { m.Object.Kind = 3 }),
		"kind 264":         bad(func(m *wirepb.Request) { m.Object.Kind = 264 }),
		"nanoseconds":      bad(func(m *wirepb.Request) { m.Object.MtimeNsec = 1e9 }),
		"an attribute":     bad(func(m *wirepb.Request) { m.Object.HasXattrs = true; m.Object.Xattrs = []*wirepb.Xattr{{}} }),
		"attributes twice": bad(func(m *wirepb.Request) {
			x := &wirepb.Xattr{Name: []byte("user.x")}
			m.Object.HasXattrs = true
			m.Object.Xattrs = []*wirepb.Xattr{x, x}
		}),
		"content of no size": bad(func(m *wirepb.Request) { m.HasInline = true; m.Inline = []byte("longer") }),
		"millions of names":  appendFrame(nil, frameRequest, 1, bytes.Repeat([]byte{8<<3 | 2, 0}, 3<<20)),
		"millions of xattrs": appendFrame(nil, frameRequest, 1, protowire.AppendBytes([]byte{11<<3 | 2}, bytes.Repeat([]byte{8<<3 | 2, 0}, 3<<20))),
		"a short sum":        bad(func(m *wirepb.Request) { m.Hash = []byte("short") }),
	}
}

// The kinds of steps, as docs/protocol.md has them.
const (
	stepCopy = iota
	stepData
	stepHole
	stepBlock
)

func appendStepBytes(length uint64, kind uint64) []byte {
	return binary.AppendUvarint(nil, length<<2|kind)
}

func bad1MiB(t testing.TB) []byte {
	r := fileRequest(change.Make, "f", 1<<20)
	r.HasInline, r.Inline = true, make([]byte, 1<<20)
	return message(t, frameRequest, 1, requestMessage(r, nil))
}

func TestHostileWorkersAreCutOff(t *testing.T) {
	for name, said := range hostileWorkers(t) {
		t.Run(name, func(t *testing.T) {
			h := blocked{newMemory()}
			// More follows, so that an agent that overlooks the offence goes on to wait and not to the end of the stream.
			a, b := pipes(t)
			var heard []byte
			var peer sync.WaitGroup
			peer.Go(func() { heard, _ = io.ReadAll(a) })
			peer.Go(func() { io.WriteString(a, workerHello+string(said)) })
			err := Serve(t.Context(), b, ServerOptions{}, h)
			if !errors.Is(err, ErrProtocol) {
				t.Errorf("got %v", err)
			}
			peer.Wait()
			a.Close()
			if !bytes.Contains(heard, []byte("protocol error")) {
				t.Error("the worker was not told why")
			}
			if len(h.applied) != 0 {
				t.Error("something was applied")
			}
		})
	}
}

// TestHostileContent has steps that only the stream's own reader can refuse.
func TestHostileContent(t *testing.T) {
	for name, steps := range map[string][]byte{
		"longer than the file": appendStepBytes(1<<40+1, stepHole),
		"longer in two steps":  append(appendStepBytes(1<<40, stepHole), appendStepBytes(1, stepHole)...),
		"giant hole":           appendStepBytes(1<<61, stepHole),
		"empty step":           appendStepBytes(0, stepHole),
		"torn data":            appendStepBytes(100, stepData),
		"block without basis":  appendStepBytes(1, stepBlock),
		"copy before":          binary.AppendVarint(appendStepBytes(1, stepCopy), -1),
		"copy beyond":          binary.AppendVarint(appendStepBytes(1<<30, stepCopy), 1<<62+1<<61+(1<<61-1)),
		"torn copy":            appendStepBytes(1, stepCopy),
		"endless varint":       bytes.Repeat([]byte{0xff}, 11),
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pipes(t)
			var peer sync.WaitGroup
			peer.Go(func() { io.Copy(io.Discard, a) })
			io.WriteString(a, workerHello+string(validRequest(t, frameWrite, 1))+string(appendFrame(nil, frameContent, 1, steps)))
			if err := Serve(t.Context(), b, ServerOptions{}, draining{newMemory()}); !errors.Is(err, ErrProtocol) {
				t.Errorf("got %v", err)
			}
			peer.Wait()
			a.Close()
		})
	}
}

// TestFramesOfLaterVersions must be overlooked, and so must fields.
func TestFramesOfLaterVersions(t *testing.T) {
	request := encoded(t, requestMessage(fileRequest(change.Make, "f", 0), nil))
	request = protowire.AppendTag(request, 999, protowire.BytesType)
	request = protowire.AppendBytes(request, []byte("from the future"))
	said := workerHello + string(appendFrame(nil, 0x80, 5, []byte("new"))) + string(appendFrame(nil, frameRequest, 3, request))
	m := newMemory()
	a, b := pipes(t)
	served := make(chan error, 1)
	go func() { served <- Serve(context.Background(), b, ServerOptions{}, m) }()
	io.WriteString(a, said)
	_, rest, err := findGreeting(a)
	if err != nil {
		t.Fatal(err)
	}
	f, err := newFrameReader(a, rest).next()
	if err != nil || f.kind != frameResult || f.stream != 3 {
		t.Errorf("got %+v, %v", f, err)
	}
	a.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if len(m.applied) != 1 {
		t.Error("the request was not applied")
	}
}

// hostileAgents are streams of bytes that a worker must cut off. The worker's streams are 1, 2, 3: a request, a look and a write.
func hostileAgents(t testing.TB) map[string][]byte {
	basis := &wirepb.Basis{HasBasis: true, Size: 1 << 20, Block: 1024, Roll: 4, Strong: 2}
	entries := func(e *wirepb.Entry) []byte {
		return message(t, frameEntries, 2, &wirepb.Entries{Entries: []*wirepb.Entry{e}})
	}
	file := &wirepb.Object{Kind: 8}
	many := bytes.Repeat(entries(&wirepb.Entry{Name: []byte("f"), Object: file}), LookWindow+2)
	with := func(change func(b *wirepb.Basis)) []byte {
		b := proto.Clone(basis).(*wirepb.Basis)
		change(b)
		return message(t, frameBasis, 3, b)
	}
	return map[string][]byte{
		"garbage":             []byte("bash: warning: setlocale: LC_ALL: cannot change locale\n"),
		"an unknown stream":   message(t, frameResult, 99, &wirepb.Result{Status: 1}),
		"a result twice":      bytes.Repeat(message(t, frameResult, 1, &wirepb.Result{Status: 1}), 2),
		"a status":            message(t, frameResult, 1, &wirepb.Result{Status: 9}),
		"an errno":            message(t, frameResult, 1, &wirepb.Result{Status: 4, Errno: 1 << 31}),
		"an identity":         message(t, frameResult, 1, &wirepb.Result{Status: 1, Sec: []byte("seventeen letters")}),
		"the wrong answer":    message(t, frameAnswer, 1, &wirepb.Answer{}),
		"an endless listing":  many,
		"a listed ..":         entries(&wirepb.Entry{Name: []byte(".."), Object: file}),
		"a listed slash":      entries(&wirepb.Entry{Name: []byte("a/b"), Object: file}),
		"a listed kind":       entries(&wirepb.Entry{Name: []byte("a"), Object: &wirepb.Object{Kind: 77}}),
		"no object":           entries(&wirepb.Entry{Name: []byte("a")}),
		"a basis of no size":  with(func(b *wirepb.Basis) { b.Size = 0 }),
		"a negative basis":    with(func(b *wirepb.Basis) { b.Size = -5 }),
		"a giant signature":   with(func(b *wirepb.Basis) { b.Size, b.Block, b.Strong = 1<<62, 64, 16 }),
		"no block":            with(func(b *wirepb.Basis) { b.Block = 0 }),
		"a giant block":       with(func(b *wirepb.Basis) { b.Block = 1<<32 - 1 }),
		"no hash":             with(func(b *wirepb.Basis) { b.Roll = 0 }),
		"a second basis":      bytes.Repeat(with(func(*wirepb.Basis) {}), 2),
		"a long signature":    append(with(func(*wirepb.Basis) {}), appendFrame(nil, frameSignature, 3, make([]byte, 6*1024+1))...),
		"a bare signature":    appendFrame(nil, frameSignature, 3, make([]byte, 6)),
		"too much credit":     appendFrame(nil, frameCredit, 3, []byte{0, 0, 0, 1}),
		"no credit":           appendFrame(nil, frameCredit, 3, []byte{1}),
		"a bomb":              packed(t, appendFrame(nil, frameEntries, 2, make([]byte, 64<<20))),
		"millions of entries": appendFrame(nil, frameEntries, 2, bytes.Repeat([]byte{1<<3 | 2, 0}, 3<<20)),
		"its own type":        appendFrame(nil, frameRequest, 1, nil),
	}
}

// busyClient starts a request, a look and a write on streams 1, 2 and 3 and gives a wait for their end.
func busyClient(t testing.TB, rw io.ReadWriteCloser) (*Client, func()) {
	c, err := NewClient(t.Context(), rw, ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	c.Do(context.Background(), fileRequest(change.Make, "f", 0), func(change.Result) {})
	stall := make(chan struct{})
	looking := make(chan struct{})
	wg.Go(func() {
		c.Look(context.Background(), Dir{}, func(Entry) error { <-stall; return nil })
	})
	wg.Go(func() {
		for {
			c.mu.Lock()
			n := c.next
			c.mu.Unlock()
			if n >= 2 || c.ctx.Err() != nil {
				break
			}
			runtime.Gosched()
		}
		close(looking)
		c.Write(context.Background(), fileRequest(change.Write, "f", 1<<20), newContent(make([]byte, 1<<20)), WriteOptions{})
	})
	<-looking
	return c, func() {
		<-c.Done()
		close(stall)
		wg.Wait()
	}
}

func TestHostileAgentsAreCutOff(t *testing.T) {
	for name, said := range hostileAgents(t) {
		t.Run(name, func(t *testing.T) {
			a, b := pipes(t)
			var peer sync.WaitGroup
			io.WriteString(b, agentHello)
			c, wait := busyClient(t, a)
			// All three streams must be known before they are answered.
			_, rest, err := readGreeting(b)
			if err != nil {
				t.Fatal(err)
			}
			seen := newFrameReader(b, rest)
			for range 3 {
				if _, err := seen.next(); err != nil {
					t.Fatal(err)
				}
			}
			peer.Go(func() { io.Copy(io.Discard, b) })
			peer.Go(func() { b.Write(said) })
			wait()
			if err := c.Wait(); !errors.Is(err, ErrProtocol) {
				t.Errorf("got %v", err)
			}
			peer.Wait()
			b.Close()
		})
	}
}

func TestMemoryForHostileFramesIsBounded(t *testing.T) {
	bomb := packed(t, make([]byte, 128<<20))
	announced := appendHeader(nil, MaxFrame, frameRequest, flagMore, 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := newFrameReader(bytes.NewReader(announced), nil)
	if _, err := r.next(); err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
	r = newFrameReader(bytes.NewReader(bomb), nil)
	if _, err := r.next(); !errors.Is(err, ErrProtocol) {
		t.Error(err)
	}
	r.close()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 16<<20 {
		t.Errorf("%d bytes were allocated", got)
	}
}
