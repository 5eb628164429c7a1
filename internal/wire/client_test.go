package wire

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"georep/internal/change"
)

func TestRequestsAreAnswered(t *testing.T) {
	for _, compress := range []bool{false, true} {
		t.Run(fmt.Sprintf("compress=%v", compress), func(t *testing.T) {
			m := newMemory()
			c := connected(t, m, ClientOptions{Compress: compress, MaxInFlight: 64}, ServerOptions{})
			const n = 5000
			var wg sync.WaitGroup
			var right atomic.Int64
			for i := range n {
				r := fileRequest(change.Make, fmt.Sprintf("f%d", i), 3)
				r.HasInline, r.Inline = true, []byte("abc")
				r.Object.ID = change.NewID(uint64(i+1), 0)
				wg.Add(1)
				err := c.Do(t.Context(), r, func(got change.Result) {
					if got.Status == change.Applied && got.Sec == change.NewID(uint64(i+1), 0) {
						right.Add(1)
					}
					wg.Done()
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			wg.Wait()
			if right.Load() != n || len(m.files) != n {
				t.Errorf("%d right answers and %d files of %d", right.Load(), len(m.files), n)
			}
		})
	}
}

// TestRequestSurvivesTheWire holds for every request that Validate accepts.
func TestRequestSurvivesTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genRequest(t)
		payload, refusal := encodeRequest(nil, r, nil)
		if refusal != nil {
			t.Fatalf("refused: %s", refusal.Detail)
		}
		got, transfer, err := parseRequest(payload)
		if err != nil || transfer != nil {
			t.Fatal(err, transfer)
		}
		if !reflect.DeepEqual(got, r) {
			t.Fatalf("got  %+v\nwant %+v", got, r)
		}
		if cost := r.Cost(); len(payload) > cost {
			t.Fatalf("cost %d, but %d bytes", cost, len(payload))
		}
	})
}

func genRequest(t *rapid.T) *Request {
	name := rapid.StringOfN(rapid.RuneFrom([]rune("ab.\n\xff\u00e9 ")), 1, 20, 255).Filter(change.ValidName)
	raw := rapid.Custom(func(t *rapid.T) string { return "\xff\xfe" + name.Draw(t, "name") })
	id := rapid.Custom(func(t *rapid.T) (id change.ID) {
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		return id
	})
	ref := rapid.Custom(func(t *rapid.T) Ref {
		path := strings.Join(rapid.SliceOfN(raw, 0, 4).Draw(t, "path"), "/")
		return Ref{Dir: Dir{Path: path, Sec: id.Draw(t, "sec")}, Name: raw.Draw(t, "name")}
	})
	moment := rapid.Custom(func(t *rapid.T) change.Time {
		return change.Time{Sec: rapid.Int64().Draw(t, "sec"), Nsec: rapid.Uint32Range(0, 999_999_999).Draw(t, "nsec")}
	})
	r := &Request{
		Op: change.Op(rapid.IntRange(1, 8).Draw(t, "op")), At: ref.Draw(t, "at"),
		Sec: id.Draw(t, "sec"), Over: id.Draw(t, "over"),
		Replace: rapid.Bool().Draw(t, "replace"), MayRemove: rapid.Bool().Draw(t, "remove"),
	}
	if r.Op == change.Link || r.Op == change.Move {
		r.From = ref.Draw(t, "from")
	}
	if r.Op == change.Write {
		r.Names = rapid.SliceOfN(ref, 1, 3).Draw(t, "names")
	}
	if rapid.Bool().Draw(t, "hash") {
		r.HasHash, r.Hash, r.HashSeed = true, id.Draw(t, "sum"), rapid.Uint64().Draw(t, "seed")
	}
	o := &r.Object
	o.ID, o.Kind = id.Draw(t, "object"), rapid.SampledFrom([]change.Kind{1, 2, 4, 6, 8, 10, 12}).Draw(t, "kind")
	o.Mode, o.UID, o.GID = rapid.Uint32Range(0, 0o7777).Draw(t, "mode"), rapid.Uint32().Draw(t, "uid"), rapid.Uint32().Draw(t, "gid")
	o.Mtime = moment.Draw(t, "mtime")
	o.Size, o.Blocks = rapid.Int64Range(0, 1<<62).Draw(t, "size"), rapid.Int64Range(0, 1<<62).Draw(t, "blocks")
	o.Rdev, o.Nlink = rapid.Uint64().Draw(t, "rdev"), rapid.Uint32().Draw(t, "nlink")
	if o.Kind == change.Symlink {
		o.Target = raw.Draw(t, "target")
	}
	if rapid.Bool().Draw(t, "xattrs") {
		o.HasXattrs = true
		for i := range rapid.IntRange(0, 3).Draw(t, "count") {
			o.Xattrs = append(o.Xattrs, change.Xattr{Name: fmt.Sprintf("user.%d\xff", i), Value: rapid.SliceOfN(rapid.Byte(), 1, 9).Draw(t, "value")})
		}
	}
	if o.Kind == change.File && rapid.Bool().Draw(t, "inline") {
		r.HasInline, r.Inline = true, rapid.SliceOfN(rapid.Byte(), 1, 99).Draw(t, "content")
		o.Size = int64(len(r.Inline))
	}
	return r
}

func TestBigRequestsComeInSeveralFrames(t *testing.T) {
	m := newMemory()
	c := connected(t, m, ClientOptions{}, ServerOptions{})
	r := fileRequest(change.Write, "f", 0)
	for i := range 20000 {
		r.Names = append(r.Names, Ref{Dir: Dir{Path: strings.Repeat("d", 100)}, Name: fmt.Sprintf("%0100d", i)})
	}
	if got := do(t, c, r); got.Status != change.Applied {
		t.Fatalf("got %+v", got)
	}
	if len(m.applied) != 1 || len(m.applied[0].Names) != 20000 || m.applied[0].Names[19999] != r.Names[19999] {
		t.Error("the names did not arrive")
	}
}

func TestWhatCannotBeSentFailsAlone(t *testing.T) {
	c := connected(t, newMemory(), ClientOptions{}, ServerOptions{})
	bad := fileRequest(change.Make, "..", 0)
	if got := do(t, c, bad); got.Status != change.Failed || got.Errno != syscall.EINVAL || !got.Local {
		t.Errorf("a bad name: got %+v", got)
	}
	big := fileRequest(change.Set, "f", 0)
	big.Object.HasXattrs = true
	for i := range 200 {
		big.Object.Xattrs = append(big.Object.Xattrs, change.Xattr{Name: fmt.Sprintf("user.%03d", i), Value: make([]byte, MaxXattr)})
	}
	if got := do(t, c, big); got.Status != change.Failed || got.Errno != syscall.E2BIG || !got.Local {
		t.Errorf("too large: got %+v", got)
	}
	if got := do(t, c, fileRequest(change.Make, "good", 0)); got.Status != change.Applied {
		t.Errorf("after that: got %+v", got)
	}
}

func TestResultsCarryWhatFailed(t *testing.T) {
	m := newMemory()
	want := change.Result{Status: change.Failed, Errno: syscall.ENOSPC, Call: "openat", Detail: "disk full"}
	m.apply = func(context.Context, *Request) change.Result { return want }
	c := connected(t, m, ClientOptions{}, ServerOptions{})
	if got := do(t, c, fileRequest(change.Make, "f", 0)); got != want {
		t.Errorf("got %+v", got)
	}
}

func TestWindowHoldsBackAndFrees(t *testing.T) {
	m := newMemory()
	hold := make(chan struct{})
	m.apply = func(context.Context, *Request) change.Result {
		<-hold
		return change.Result{Status: change.Applied}
	}
	c := connected(t, m, ClientOptions{MaxInFlight: 100}, ServerOptions{})
	var answered atomic.Int64
	for i := range 100 {
		if err := c.Do(t.Context(), fileRequest(change.Make, fmt.Sprint(i), 0), func(change.Result) { answered.Add(1) }); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() {
		waiting <- c.Do(ctx, fileRequest(change.Make, "over", 0), func(change.Result) { t.Error("answered after its end") })
	}()
	// All workers and the window are taken: other things still pass.
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(hold)
	if got := do(t, c, fileRequest(change.Make, "last", 0)); got.Status != change.Applied {
		t.Errorf("got %+v", got)
	}
}

func TestByteWindow(t *testing.T) {
	m := newMemory()
	c := connected(t, m, ClientOptions{MaxInFlight: MaxRequests}, ServerOptions{})
	content := make([]byte, 1<<20)
	var wg sync.WaitGroup
	for i := range 40 {
		r := fileRequest(change.Make, fmt.Sprint(i), 1<<20)
		r.HasInline, r.Inline = true, content
		wg.Add(1)
		if err := c.Do(t.Context(), r, func(change.Result) { wg.Done() }); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if len(m.files) != 40 {
		t.Errorf("%d files", len(m.files))
	}
}

func TestLook(t *testing.T) {
	const n = 30_000
	m := newMemory()
	m.look = func(ctx context.Context, d Dir, entry func(Entry) error) error {
		switch d.Path {
		case "stale":
			return fmt.Errorf("open %q: %w", d.Path, ErrStale)
		case "denied":
			return fmt.Errorf("open %q: %w", d.Path, syscall.EACCES)
		}
		for i := range n {
			e := Entry{Name: fmt.Sprintf("entry\xff%d", i)}
			e.Object.ID, e.Object.Kind = change.NewID(uint64(i), 1), change.File
			if i == 5 {
				e.Object.HasXattrs = true
				for j := range 100 {
					e.Object.Xattrs = append(e.Object.Xattrs, change.Xattr{Name: fmt.Sprintf("user.%03d", j), Value: make([]byte, MaxXattr)})
				}
			}
			if err := entry(e); err != nil {
				return err
			}
		}
		return nil
	}
	c := connected(t, m, ClientOptions{}, ServerOptions{})
	count := 0
	err := c.Look(t.Context(), Dir{Path: "d"}, func(e Entry) error {
		if e.Name != fmt.Sprintf("entry\xff%d", count) || e.Object.ID != change.NewID(uint64(count), 1) {
			return fmt.Errorf("entry %d is %+v", count, e)
		}
		count++
		return nil
	})
	if err != nil || count != n {
		t.Errorf("%d entries, %v", count, err)
	}
	if err := c.Look(t.Context(), Dir{Path: "stale"}, nil); !errors.Is(err, ErrStale) {
		t.Errorf("stale: %v", err)
	}
	var remote *RemoteError
	if err := c.Look(t.Context(), Dir{Path: "denied"}, nil); !errors.As(err, &remote) || !errors.Is(err, syscall.EACCES) {
		t.Errorf("denied: %v", err)
	}
	enough := errors.New("enough")
	for range 3 * MaxLooks { // left listings give their place back
		if err := c.Look(t.Context(), Dir{Path: "d"}, func(Entry) error { return enough }); err != enough {
			t.Errorf("left: %v", err)
		}
	}
}

// TestSlowReaderOfAListing shows that the rest of the connection does not wait for it.
func TestSlowReaderOfAListing(t *testing.T) {
	m := newMemory()
	m.look = func(_ context.Context, _ Dir, entry func(Entry) error) error {
		for i := range 60_000 {
			e := Entry{Name: fmt.Sprint(i)}
			e.Object.Kind = change.Dir
			if err := entry(e); err != nil {
				return err
			}
		}
		return nil
	}
	c := connected(t, m, ClientOptions{}, ServerOptions{})
	count := 0
	err := c.Look(t.Context(), Dir{}, func(Entry) error {
		if count++; count%10_000 == 0 {
			if got := do(t, c, fileRequest(change.Make, fmt.Sprint(count), 0)); got.Status != change.Applied {
				return errors.New("not applied")
			}
			return c.Commit(t.Context(), "", false)
		}
		return nil
	})
	if err != nil || count != 60_000 {
		t.Errorf("%d entries, %v", count, err)
	}
}

func TestCommitAndBind(t *testing.T) {
	m := newMemory()
	var purged atomic.Bool
	m.commit = func(_ context.Context, purge bool) error {
		if purge {
			purged.Store(true)
			return nil
		}
		return syscall.EIO
	}
	c := connected(t, m, ClientOptions{}, ServerOptions{})
	if err := c.Commit(t.Context(), "", true); err != nil || !purged.Load() {
		t.Error(err)
	}
	if err := c.Commit(t.Context(), "", false); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v", err)
	}
	if got, err := c.Bind(t.Context(), "mine", true); err != nil || got != (BindResult{Empty: true, Bound: true}) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := c.Bind(t.Context(), "other", true); err != nil || got.Bound || got.Other != "mine" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestCloseGivesUpWhatIsUnderWay(t *testing.T) {
	m := newMemory()
	began := make(chan struct{}, 1)
	m.apply = func(ctx context.Context, _ *Request) change.Result {
		began <- struct{}{}
		<-ctx.Done()
		return change.Result{Status: change.Applied}
	}
	c := connected(t, m, ClientOptions{}, ServerOptions{})
	if err := c.Do(t.Context(), fileRequest(change.Make, "f", 0), func(change.Result) { t.Error("answered") }); err != nil {
		t.Fatal(err)
	}
	<-began
	c.Close()
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	if err := c.Do(t.Context(), fileRequest(change.Make, "f", 0), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := c.Ping(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}
