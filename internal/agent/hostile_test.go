package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/wire"
	"georep/internal/wire/wirepb"
)

// hello is how a worker greets, and the numbers are types of frames, as docs/protocol.md has them.
const (
	hello        = "georep 1 hostile\n"
	frameRequest = 16
	frameWrite   = 18
	frameLook    = 25
)

// framed is a frame for stream 1.
func framed(kind byte, size int, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(size))
	b = append(b, kind, 0)
	b = binary.BigEndian.AppendUint32(b, 1)
	return append(b, payload...)
}

func message(kind byte, m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err) // bytes and numbers can be encoded
	}
	return framed(kind, len(b), b)
}

// asked is a request for a file that is fine but for what spoil does to it.
func asked(kind byte, spoil func(r *wirepb.Request)) []byte {
	r := &wirepb.Request{Op: uint32(change.Make), AtName: []byte("f"), Replace: true, MayRemove: true,
		Object: &wirepb.Object{Kind: uint32(change.File), Mode: 0o600, Nlink: 1}}
	if kind == frameWrite {
		r.Op, r.Transfer = uint32(change.Write), &wirepb.Transfer{Seed: 1}
	} else {
		r.HasInline = true
	}
	spoil(r)
	return message(kind, r)
}

// TestHostileStreamsEndTheAgent sends to real agents what no worker would send: each says what it minds, ends, and has touched nothing.
func TestHostileStreamsEndTheAgent(t *testing.T) {
	spoil := func(f func(r *wirepb.Request)) []byte { return asked(frameRequest, f) }
	long := bytes.Repeat([]byte("x"), 256)
	for name, said := range map[string][]byte{
		"garbage":             []byte(hello + "GET / HTTP/1.1\r\nHost: example\r\n\r\n"),
		"a giant frame":       append([]byte(hello), framed(frameRequest, 1<<32-1, nil)...),
		"an unknown frame":    append([]byte(hello), framed(99, 0, nil)...),
		"no protobuf":         append([]byte(hello), framed(frameRequest, 3, []byte{0xff, 0xff, 0xff})...),
		"a climbing name":     spoil(func(r *wirepb.Request) { r.AtName = []byte("..") }),
		"a name with a slash": spoil(func(r *wirepb.Request) { r.AtName = []byte("../outside/new") }),
		"a name with a NUL":   spoil(func(r *wirepb.Request) { r.AtName = []byte("f\x00g") }),
		"a long name":         spoil(func(r *wirepb.Request) { r.AtName = long }),
		"an absolute path":    spoil(func(r *wirepb.Request) { r.AtPath = []byte("/tmp") }),
		"a climbing path":     spoil(func(r *wirepb.Request) { r.AtPath = []byte("../outside") }),
		"a path with a NUL":   spoil(func(r *wirepb.Request) { r.AtPath = []byte("a\x00b") }),
		"a long part":         spoil(func(r *wirepb.Request) { r.AtPath = append([]byte("a/"), long...) }),
		"a move from above": spoil(func(r *wirepb.Request) {
			r.Op, r.FromPath, r.FromName = uint32(change.Move), []byte("../outside"), []byte("file")
		}),
		"a further name above": asked(frameWrite, func(r *wirepb.Request) { r.Names = []*wirepb.Ref{{Path: []byte("../outside"), Name: []byte("file")}} }),
		"a write above":        asked(frameWrite, func(r *wirepb.Request) { r.AtPath, r.AtName = []byte(".."), []byte("beside") }),
		"a look above":         message(frameLook, &wirepb.Look{Path: []byte("../outside")}),
		"a look at all":        message(frameLook, &wirepb.Look{Path: []byte("/")}),
	} {
		t.Run(name, func(t *testing.T) {
			if !bytes.HasPrefix(said, []byte(hello)) {
				said = append([]byte(hello), said...)
			}
			c := newCanary(t)
			p := start(t, "--root", c.root, "--session", "s")
			var heard []byte
			var reader sync.WaitGroup
			reader.Go(func() { heard, _ = io.ReadAll(p) })
			_, _ = p.Write(said) // it may have ended before it read all
			reader.Wait()        // its input stays open: it has to end by itself
			if told, err := p.end(t); err == nil || !strings.Contains(told, "protocol error") || !bytes.Contains(heard, []byte("protocol error")) {
				t.Errorf("it ended with %v, said %q, and to the worker %q", err, told, heard)
			}
			c.check(t)
		})
	}
}

// TestEndlessGreeting sends bytes for as long as the agent takes them, and no newline.
func TestEndlessGreeting(t *testing.T) {
	c := newCanary(t)
	p := start(t, "--root", c.root, "--session", "s")
	var reader sync.WaitGroup
	reader.Go(func() { _, _ = io.Copy(io.Discard, p) })
	const enough = 64 << 20
	sent, err := int64(0), error(nil)
	for chunk := bytes.Repeat([]byte("x"), 64<<10); err == nil && sent < enough; {
		var n int
		n, err = p.Write(chunk)
		sent += int64(n)
	}
	reader.Wait()
	if told, ended := p.end(t); ended == nil || err == nil || !strings.Contains(told, "greeting is longer") {
		t.Errorf("it took %d bytes and ended with %v: %s", sent, ended, told)
	}
	c.check(t)
}

// TestStreamThatBreaksWithinAFrame ends the stream after half a frame.
func TestStreamThatBreaksWithinAFrame(t *testing.T) {
	whole := asked(frameRequest, func(*wirepb.Request) {})
	for _, n := range []int{5, 10, len(whole) / 2, len(whole) - 1} {
		c := newCanary(t)
		p := start(t, "--root", c.root, "--session", "s")
		if _, err := io.WriteString(p, hello+string(whole[:n])); err != nil {
			t.Fatal(err)
		}
		if err := p.WriteCloser.Close(); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, p)
		if told, err := p.end(t); err == nil || !strings.Contains(told, io.ErrUnexpectedEOF.Error()) {
			t.Errorf("after %d bytes of a frame it ended with %v: %s", n, err, told)
		}
		c.check(t)
	}
}

// silenceVariable names the root beneath which this test program, in a process of its own, plays an agent that hears nothing more.
const silenceVariable = "GEOREP_TEST_SILENCE"

// TestSilentWorkers lets the worker fall silent, and time go on by itself: the agent does not wait for ever, whatever it is waiting for. It is
// in a process of its own because it confines that.
func TestSilentWorkers(t *testing.T) {
	root := os.Getenv(silenceVariable)
	if root == "" {
		c := newCanary(t)
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=1m")
		cmd.Env = append(os.Environ(), silenceVariable+"="+c.root)
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, said)
		}
		c.check(t)
		if left, err := os.ReadDir(filepath.Join(c.root, apply.Hold)); err != nil || len(left) > 0 {
			t.Errorf("there is left %v, %v", left, err)
		}
		return
	}
	request := asked(frameRequest, func(*wirepb.Request) {})
	for name, said := range map[string]string{
		"nothing":            "",
		"half a greeting":    hello[:5],
		"a greeting":         hello,
		"half a header":      hello + string(request[:5]),
		"half a frame":       hello + string(request[:len(request)-1]),
		"no content of file": hello + string(asked(frameWrite, func(r *wirepb.Request) { r.Object.Size = 1 << 20 })),
	} {
		synctest.Test(t, func(t *testing.T) {
			in, feed := io.Pipe()
			drain, out := io.Pipe()
			var others sync.WaitGroup
			others.Go(func() { _, _ = io.Copy(io.Discard, drain) })
			others.Go(func() { _, _ = io.WriteString(feed, said) })
			begun := time.Now()
			err := Serve(t.Context(), in, out, io.Discard, "1.2.3", []string{"--root", root, "--session", "s"})
			if waited := time.Since(begun); !errors.Is(err, wire.ErrSilent) || waited < 30*time.Second || waited > 2*time.Minute {
				t.Errorf("%s: after %s %v", name, waited, err)
			}
			others.Wait()
		})
	}
}

// TestWellFormedRequestsReachNothingOutside asks for what the protocol allows to ask, by ways that lead outside: each is refused or finds
// nothing, and the agent goes on.
func TestWellFormedRequestsReachNothingOutside(t *testing.T) {
	ctx := context.Background()
	cn := newCanary(t)
	p := start(t, "--root", cn.root, "--session", "s")
	c := connect(t, p)
	exit, own := wire.Dir{Path: "exit"}, wire.Dir{Path: apply.Reserved}
	file := object(1, change.File)
	through := makeFile(at(exit, "new"), 2, "planted")
	over := makeFile(at(exit, "file"), 3, "planted")
	over.Replace, over.MayRemove = true, true
	deep := makeFile(at(wire.Dir{Path: "exit/dir"}, "deep"), 4, "planted")
	deep.Replace = true
	for name, r := range map[string]*wire.Request{
		"make by a symlink":      through,
		"replace by a symlink":   over,
		"replace below it":       deep,
		"drop by a symlink":      {Op: change.Drop, At: at(exit, "file"), Object: file, MayRemove: true},
		"set by a symlink":       {Op: change.Set, At: at(exit, "file"), Object: file},
		"link out":               {Op: change.Link, At: at(exit, "new"), From: at(wire.Dir{}, "inside"), Object: file},
		"link in":                {Op: change.Link, At: at(wire.Dir{}, "new"), From: at(exit, "file"), Object: file},
		"move out":               {Op: change.Move, At: at(exit, "new"), From: at(wire.Dir{}, "inside"), Object: file},
		"move in":                {Op: change.Move, At: at(wire.Dir{}, "new"), From: at(exit, "file"), Object: file},
		"drop what georep keeps": {Op: change.Drop, At: at(wire.Dir{}, apply.Reserved), Object: object(5, change.Dir), MayRemove: true},
		"make the marker":        makeFile(at(own, apply.Marker), 6, "mine"),
		"drop the lock":          {Op: change.Drop, At: at(own, apply.LockFile), Object: file, MayRemove: true},
	} {
		if res := do(t, c, r); res.Status == change.Applied {
			t.Errorf("%s: %+v", name, res)
		}
		cn.check(t)
	}
	write := &wire.Request{Op: change.Write, At: at(exit, "file"), Replace: true, Object: object(7, change.File)}
	write.Object.Size = 7
	if res, err := c.Write(ctx, write, content{strings.NewReader("planted")}, wire.WriteOptions{}); err == nil && res.Status == change.Applied {
		t.Errorf("write by a symlink: %+v", res)
	}
	if err := c.Look(ctx, exit, func(e wire.Entry) error { t.Errorf("a look shows %q", e.Name); return nil }); err == nil {
		t.Error("a directory outside was listed")
	}
	if err := c.Ping(ctx); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(cn.root, apply.Reserved, apply.LockFile)); err != nil {
		t.Error(err)
	}
	cn.check(t)
}

// TestPurgeClearsWhatWasKept has an agent replace what it did not expect, and purge: what was displaced goes with the purge and not
// before, remains of dead processes when the agent starts, and a part that can still be resumed stays, as does what the worker put aside.
func TestPurgeClearsWhatWasKept(t *testing.T) {
	ctx := context.Background()
	root := t.TempDir()
	hold, part := filepath.Join(root, apply.Hold), filepath.Join(root, apply.Part)
	aside := change.NewID(77, 1).String()
	for _, dir := range []string{hold, part} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{filepath.Join(root, "f"), filepath.Join(hold, "tmp-0123456789abcdef-1"), filepath.Join(hold, aside), filepath.Join(part, "young")} {
		if err := os.WriteFile(file, []byte("before"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := connect(t, start(t, "--root", root, "--session", "s"))
	r := makeFile(at(wire.Dir{}, "f"), 1, "after")
	r.Replace = true
	if res := do(t, c, r); res.Status != change.Applied {
		t.Fatalf("%+v", res)
	}
	for _, purge := range []bool{false, true} {
		if err := c.Commit(ctx, "", purge); err != nil {
			t.Fatal(err)
		}
		kept, others := 0, []string{}
		entries, err := os.ReadDir(hold)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "sec-") {
				kept++
			} else {
				others = append(others, e.Name())
			}
		}
		if want := map[bool]int{false: 1, true: 0}[purge]; kept != want || len(others) != 1 || others[0] != aside {
			t.Errorf("after a commit with purge %v: %d objects are kept, and %q", purge, kept, others)
		}
	}
	if _, err := os.Stat(filepath.Join(part, "young")); err != nil {
		t.Error("a part that can be resumed is gone:", err)
	}
}
