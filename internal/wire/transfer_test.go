package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"georep/internal/change"
	"georep/internal/delta"
	"georep/internal/wire/wirepb"
)

func random(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, n)
	r.Read(b)
	return b
}

func write(t *testing.T, c *Client, op change.Op, name string, data []byte) change.Result {
	t.Helper()
	var told int64
	got, err := c.Write(t.Context(), fileRequest(op, name, int64(len(data))), newContent(data), WriteOptions{Progress: func(done, _ int64) { told += done }})
	if err != nil {
		t.Fatal(err)
	}
	if got.Status == change.Applied && told != int64(len(data)) {
		t.Errorf("progress says %d of %d bytes", told, len(data))
	}
	return got
}

func TestContentArrives(t *testing.T) {
	old := random(1, 3_000_000)
	changed := bytes.Clone(old)
	copy(changed[1_000_000:], "changed in place")
	shifted := append([]byte("shifted"), old...)
	cases := []struct {
		name     string
		op       change.Op
		old, now []byte
		most     int64 // bytes of data, -1: all
	}{
		{"new", change.Make, nil, old, -1},
		{"empty", change.Make, nil, nil, 0},
		{"emptied", change.Write, old, nil, 0},
		{"one byte", change.Write, nil, []byte{1}, 1},
		{"new and large", change.Make, nil, random(2, 9_000_000), -1},
		{"in place", change.Write, old, changed, 4000},
		{"shifted", change.Write, old, shifted, 4000},
		{"equal", change.Adopt, old, old, 0},
		{"shorter", change.Write, old, old[:1_234_567], 2000},
		{"other", change.Write, old, random(3, 3_000_000), -1},
		{"zeros", change.Write, old, make([]byte, 3_000_000), -1},
		{"resumed", change.Make, random(2, 9_000_000)[:5_000_000], random(2, 9_000_000), 4_010_000},
	}
	for _, tc := range cases {
		for _, compress := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/compress=%v", tc.name, compress), func(t *testing.T) {
				m := newMemory()
				if tc.old != nil {
					m.files["dir/f"] = tc.old
				}
				c := connected(t, m, ClientOptions{Compress: compress}, ServerOptions{})
				if got := write(t, c, tc.op, "f", tc.now); got.Status != change.Applied {
					t.Fatalf("got %+v", got)
				}
				if !bytes.Equal(m.files["dir/f"], tc.now) {
					t.Error("the content differs")
				}
				if got := m.steps[delta.Data]; tc.most >= 0 && got > tc.most {
					t.Errorf("%d bytes came as data, more than %d", got, tc.most)
				}
			})
		}
	}
}

func TestMismatchIsRepeatedStrongerThenWhole(t *testing.T) {
	old, now := random(1, 1_000_000), random(1, 1_000_000)
	now[500_000]++
	for spoil, want := range map[int]struct {
		offers int
		data   int64
		status change.Status
	}{1: {2, 0, change.Applied}, 2: {2, 1_000_000, change.Applied}, 3: {2, 1_000_000, change.Failed}} {
		m := newMemory()
		m.files["dir/f"], m.spoil = old, spoil
		c := connected(t, m, ClientOptions{}, ServerOptions{})
		got := write(t, c, change.Write, "f", now)
		if got.Status != want.status || len(m.params) != want.offers || m.steps[delta.Data] < want.data {
			t.Errorf("spoilt %d times: %+v after %d signatures and %d bytes of data", spoil, got, len(m.params), m.steps[delta.Data])
		}
		if p, q := m.params[0], m.params[1]; q.Strong <= p.Strong || q.Seed == p.Seed {
			t.Errorf("the second signature is not stronger: %+v after %+v", q, p)
		}
		if want.status == change.Failed && got.Errno != syscall.EBADMSG {
			t.Errorf("got %+v", got)
		}
	}
}

func TestWritesBesideEachOtherAndRequests(t *testing.T) {
	m := newMemory()
	c := connected(t, m, ClientOptions{}, ServerOptions{Workers: 2})
	var wg sync.WaitGroup
	for i := range 2 * MaxWrites {
		wg.Go(func() {
			data := random(uint64(i), 500_000+i)
			got, err := c.Write(t.Context(), fileRequest(change.Make, fmt.Sprint(i), int64(len(data))), newContent(data), WriteOptions{})
			if err != nil || got.Status != change.Applied {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	for i := range 2000 {
		wg.Add(1)
		if err := c.Do(t.Context(), fileRequest(change.Set, fmt.Sprint("s", i), 0), func(change.Result) { wg.Done() }); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	for i := range 2 * MaxWrites {
		if !bytes.Equal(m.files[fmt.Sprint("dir/", i)], random(uint64(i), 500_000+i)) {
			t.Errorf("file %d differs", i)
		}
	}
}

// TestBlockedWritesDoNotBlockTheRest has every stream full of content that its handler does not take.
func TestBlockedWritesDoNotBlockTheRest(t *testing.T) {
	m := &stuck{memory: newMemory(), release: make(chan struct{})}
	c := connected(t, m, ClientOptions{}, ServerOptions{})
	data := random(1, StreamWindow*5/4)
	var wg sync.WaitGroup
	for i := range MaxWrites {
		wg.Go(func() {
			got, err := c.Write(t.Context(), fileRequest(change.Make, fmt.Sprint(i), int64(len(data))), newContent(data), WriteOptions{})
			if err != nil || got.Status != change.Applied {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	for m.waiting.Load() < MaxWrites {
		if err := c.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		if got := do(t, c, fileRequest(change.Make, fmt.Sprint("r", i), 0)); got.Status != change.Applied {
			t.Errorf("got %+v", got)
		}
	}
	if err := c.Commit(t.Context(), "", false); err != nil {
		t.Error(err)
	}
	close(m.release)
	wg.Wait()
}

type stuck struct {
	*memory
	waiting atomic.Int64
	release chan struct{}
}

func (s *stuck) Write(ctx context.Context, r *Request, st Stream) change.Result {
	s.waiting.Add(1)
	<-s.release
	return draining{s.memory}.Write(ctx, r, st)
}

func TestRefusedWriteStopsSending(t *testing.T) {
	m := newMemory()
	m.refusal = &change.Result{Status: change.Failed, Errno: syscall.ENOSPC, Call: "write"}
	c := connected(t, m, ClientOptions{}, ServerOptions{})
	const size = 200 << 20
	got, err := c.Write(t.Context(), fileRequest(change.Make, "f", size), endless{size}, WriteOptions{})
	if err != nil || got.Errno != syscall.ENOSPC {
		t.Errorf("got %+v, %v", got, err)
	}
	if out := c.BytesOut(); out > size/2 {
		t.Errorf("%d bytes were sent for nothing", out)
	}
	if got := do(t, c, fileRequest(change.Make, "g", 0)); got.Status != change.Applied {
		t.Errorf("got %+v", got)
	}
}

// endless is content of ones.
type endless struct{ size int64 }

func (e endless) ReadAt(p []byte, _ int64) (int, error) {
	for i := range p {
		p[i] = 1
	}
	return len(p), nil
}

func (e endless) Extents(size int64, fn func(off, n int64, hole bool) error) error {
	return fn(0, size, false)
}
func (e endless) Size() int64      { return e.size }
func (e endless) Unchanged() error { return nil }

func TestLocalFailures(t *testing.T) {
	m := newMemory()
	c := connected(t, m, ClientOptions{}, ServerOptions{})
	changed := newContent(random(1, 1_000_000))
	changed.changed = errors.New("the file changed while it was read")
	got, err := c.Write(t.Context(), fileRequest(change.Make, "f", 1_000_000), changed, WriteOptions{})
	if err != nil || got.Status != change.Failed || !got.Local || !strings.Contains(got.Detail, "changed") {
		t.Errorf("changed: got %+v, %v", got, err)
	}
	got, err = c.Write(t.Context(), fileRequest(change.Make, "f", 1_000_000), unreadable{newContent(random(1, 1_000_000))}, WriteOptions{})
	if err != nil || got.Status != change.Failed || !got.Local || got.Errno != syscall.EIO {
		t.Errorf("unreadable: got %+v, %v", got, err)
	}
	got, err = c.Write(t.Context(), fileRequest(change.Make, "f", 5), newContent(random(1, 6)), WriteOptions{})
	if err != nil || got.Status != change.Failed || !got.Local {
		t.Errorf("another size: got %+v, %v", got, err)
	}
	if len(m.files) != 0 {
		t.Error("something was written")
	}
}

type unreadable struct{ *content }

func (u unreadable) ReadAt(p []byte, off int64) (int, error) {
	if off > 500_000 {
		return 0, fmt.Errorf("read: %w", syscall.EIO)
	}
	return u.content.ReadAt(p, off)
}

func TestCancelledWritesGiveTheirPlaceBack(t *testing.T) {
	m := newMemory()
	c := connected(t, m, ClientOptions{}, ServerOptions{})
	for i := range 3 * MaxWrites {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := c.Write(ctx, fileRequest(change.Make, "f", 100<<20), endless{100 << 20}, WriteOptions{Progress: func(int64, int64) { cancel() }})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("write %d: %v", i, err)
		}
	}
	if got := write(t, c, change.Make, "g", random(1, 100_000)); got.Status != change.Applied {
		t.Errorf("got %+v", got)
	}
}

// TestPlacedAtTheEnd: a file is made as is said when its content is there, and the content is sent once, also to an agent that wants
// to know that at the beginning.
func TestPlacedAtTheEnd(t *testing.T) {
	for _, able := range []bool{true, false} {
		t.Run(fmt.Sprint("able=", able), func(t *testing.T) {
			m := newMemory()
			var so ServerOptions
			if able {
				so.Features = []string{FeaturePlace}
			}
			c := connected(t, m, ClientOptions{}, so)
			data := random(1, 1_000_000)
			asked, told := 0, int64(0)
			m.spoil = 1 // what is asked once is not asked again when the content is sent again
			got, err := c.Write(t.Context(), fileRequest(change.Make, "first", int64(len(data))), newContent(data), WriteOptions{
				Progress: func(done, _ int64) { told += done },
				Place: func(context.Context) (*Request, error) {
					asked++
					return fileRequest(change.Write, "second", int64(len(data))), nil
				},
			})
			if err != nil || got.Status != change.Applied || asked != 1 || told != int64(len(data)) {
				t.Fatalf("%+v %v, asked %d times, told of %d bytes", got, err, asked, told)
			}
			if !bytes.Equal(m.files["dir/second"], data) || m.files["dir/first"] != nil {
				t.Error("it is not where it was to be")
			}
		})
	}
}

// TestNotPlaced: content of which nothing is to be made in the end leaves nothing, and the error says so.
func TestNotPlaced(t *testing.T) {
	m := newMemory()
	c := connected(t, m, ClientOptions{}, ServerOptions{})
	unwanted := errors.New("unwanted")
	_, err := c.Write(t.Context(), fileRequest(change.Make, "f", 100_000), newContent(random(1, 100_000)), WriteOptions{
		Place: func(context.Context) (*Request, error) { return nil, unwanted },
	})
	if !errors.Is(err, unwanted) {
		t.Errorf("%v", err)
	}
	if got := write(t, c, change.Make, "g", random(2, 5000)); got.Status != change.Applied || m.files["dir/f"] != nil {
		t.Errorf("%+v, and %d bytes in f", got, len(m.files["dir/f"]))
	}
}

// TestOtherContentAtTheEnd: the end of a content stream cannot make it another file's.
func TestOtherContentAtTheEnd(t *testing.T) {
	good := fileRequest(change.Make, "f", 10)
	for name, bad := range map[string]*Request{
		"size": fileRequest(change.Make, "f", 11), "place": fileRequest(change.Make, "../f", 10), "kind": {Op: change.Make, At: good.At, Object: change.Object{Kind: change.Dir}},
	} {
		payload, err := appendMessage(nil, &wirepb.Finish{Sum: make([]byte, 16), Request: requestMessage(bad, nil)})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := parseFinish(payload, 10); err == nil {
			t.Errorf("another %s is taken", name)
		}
	}
	payload, err := appendMessage(nil, &wirepb.Finish{Sum: make([]byte, 16), Request: requestMessage(good, nil)})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, final, err := parseFinish(payload, 10); err != nil || final.At != good.At {
		t.Errorf("%+v %v", final, err)
	}
}
