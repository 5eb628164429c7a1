package delta

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"syscall"
	"testing"
)

func TestPatcherRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		op   Op
	}{
		{"no operation", Op{}},
		{"unknown kind", Op{Kind: 9, Len: 1}},
		{"empty data", Op{Kind: Data}},
		{"data of another length", Op{Kind: Data, Len: 2, Data: []byte{1}}},
		{"data beyond the size", Op{Kind: Data, Len: 1001, Data: make([]byte, 1001)}},
		{"negative length", Op{Kind: Copy, Len: -1}},
		{"copy beyond the size", Op{Kind: Copy, Len: 1001}},
		{"copy beyond the basis", Op{Kind: Copy, Off: 100, Len: 101}},
		{"copy far beyond the basis", Op{Kind: Copy, Off: math.MaxInt64, Len: 100}},
		{"copy before the basis", Op{Kind: Copy, Off: -1, Len: 2}},
		{"hole beyond the size", Op{Kind: Hole, Len: 1001}},
		{"endless hole", Op{Kind: Hole, Len: math.MaxInt64}},
	} {
		out := &target{basis: make([]byte, 200)}
		p := NewPatcher(out, bytes.NewReader(out.basis), 200, 1000, NewHash(1))
		if err := p.Apply(c.op); !errors.Is(err, ErrOp) {
			t.Errorf("%s: %v", c.name, err)
		}
		if len(out.data) > 0 || p.Written() != 0 {
			t.Errorf("%s: something was written", c.name)
		}
	}
	p := NewPatcher(&target{}, nil, 100, 1<<40, NewHash(1))
	if err := p.Apply(Op{Kind: Copy, Len: 1}); !errors.Is(err, ErrOp) {
		t.Errorf("copy without a basis: %v", err)
	}
	if _, err := p.Finish(); !errors.Is(err, ErrOp) {
		t.Errorf("incomplete target: %v", err)
	}
	p = NewPatcher(&target{}, bytes.NewReader(nil), 1<<40, 1<<40, NewHash(1))
	if err := p.Apply(Op{Kind: Copy, Len: MaxCopy + 1}); !errors.Is(err, ErrOp) {
		t.Errorf("large copy: %v", err)
	}
}

// readable is a target that can be read back.
type readable struct{ *target }

func (r readable) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(r.data).ReadAt(p, off)
}

// TestPatcherChecksWhatArrived has copies that go wrong on their way: the hash must be that of the result.
func TestPatcherChecksWhatArrived(t *testing.T) {
	stated, real := random(1, 5000), random(2, 5000)
	p := NewPatcher(readable{&target{basis: real}}, bytes.NewReader(stated), 5000, 5000, NewHash(1))
	if err := p.Apply(Op{Kind: Copy, Len: 5000}); err != nil {
		t.Fatal(err)
	}
	sum, err := p.Finish()
	if err != nil {
		t.Fatal(err)
	}
	want := NewHash(1)
	_, _ = want.Write(real)
	if sum != want.Sum() {
		t.Error("the hash is not that of the result")
	}
}

// broken fails in one of its methods.
type broken struct {
	*target
	write, copied, truncate error
}

func (b broken) WriteAt(p []byte, off int64) (int, error) {
	if b.write != nil {
		return 0, b.write
	}
	return b.target.WriteAt(p, off)
}

func (b broken) CopyRange(basisOff, off, n int64) error {
	if b.copied != nil {
		return b.copied
	}
	return b.target.CopyRange(basisOff, off, n)
}
func (b broken) Truncate(int64) error { return b.truncate }

func TestErrorsAreKept(t *testing.T) {
	basis := random(1, 100000)
	ctx, p := context.Background(), Choose(100000, 100000, 1)
	s := sign(t, basis, p)
	in := newContent(random(2, 1<<20))
	emit := func(Op) error { return syscall.EPIPE }
	gone, cancel := context.WithCancel(ctx)
	cancel()
	fine := func(Op) error { return nil }
	patch := func(out Output, op Op) error {
		p := NewPatcher(out, bytes.NewReader(basis), 1000, 10, NewHash(1))
		err := p.Apply(op)
		if err == nil {
			_, err = p.Finish()
		}
		return err
	}
	data, copied := Op{Kind: Data, Len: 10, Data: make([]byte, 10)}, Op{Kind: Copy, Len: 10}
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"diff: emit", s.Diff(ctx, in, 1<<20, NewHash(1), emit), syscall.EPIPE},
		{"diff: emit at the end", s.Diff(ctx, newContent(basis), 100000, NewHash(1), emit), syscall.EPIPE},
		{"diff: short content", s.Diff(ctx, in, 2<<20, NewHash(1), fine), io.ErrUnexpectedEOF},
		{"diff: cancelled", s.Diff(gone, in, 1<<20, NewHash(1), fine), context.Canceled},
		{"diff: read", s.Diff(ctx, failing{in, nil}, 1<<20, NewHash(1), fine), syscall.EIO},
		{"diff: extents", s.Diff(ctx, failing{in, syscall.EIO}, 1<<20, NewHash(1), fine), syscall.EIO},
		{"whole: emit", Whole(ctx, in, 1<<20, NewHash(1), emit), syscall.EPIPE},
		{"whole: short content", Whole(ctx, in, 2<<20, NewHash(1), fine), io.ErrUnexpectedEOF},
		{"whole: cancelled", Whole(gone, in, 1<<20, NewHash(1), fine), context.Canceled},
		{"whole: read", Whole(ctx, failing{in, nil}, 1<<20, NewHash(1), fine), syscall.EIO},
		{"sign: short basis", Sign(ctx, bytes.NewReader(basis), 100001, p, io.Discard), io.ErrUnexpectedEOF},
		{"sign: cancelled", Sign(gone, bytes.NewReader(basis), 100000, p, io.Discard), context.Canceled},
		{"sign: read", Sign(ctx, failing{in, nil}, 1<<20, p, io.Discard), syscall.EIO},
		{"sign: write", Sign(ctx, bytes.NewReader(basis), 100000, p, full{}), syscall.ENOSPC},
		{"sign: parameters", Sign(ctx, bytes.NewReader(basis), 100000, Params{}, io.Discard), ErrParams},
		{"patch: write", patch(broken{target: &target{}, write: syscall.ENOSPC}, data), syscall.ENOSPC},
		{"patch: copy", patch(broken{target: &target{}, copied: syscall.EXDEV}, copied), syscall.EXDEV},
		{"patch: truncate", patch(broken{target: &target{}, truncate: syscall.EFBIG}, data), syscall.EFBIG},
		{"patch: basis became short", NewPatcher(&target{basis: basis}, bytes.NewReader(basis[:5]), 10, 10, NewHash(1)).Apply(copied), io.ErrUnexpectedEOF},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, c.err, c.want)
		}
	}
}

// full is a writer that takes nothing.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// failing is content that cannot be read.
type failing struct {
	*content
	extents error
}

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, syscall.EIO }

func (f failing) Extents(size int64, fn func(off, n int64, hole bool) error) error {
	if f.extents != nil {
		return f.extents
	}
	return f.content.Extents(size, fn)
}

// TestExtentsMustCover has an Input whose extents leave something out: that must not pass for content.
func TestExtentsMustCover(t *testing.T) {
	basis := random(1, 10000)
	s := sign(t, basis, Choose(10000, 10000, 1))
	for name, list := range map[string][]stretch{
		"gap":        {{0, 1000}, {2000, 10000}},
		"late":       {{1, 10000}},
		"overlap":    {{0, 5000}, {4000, 10000}},
		"too short":  {{0, 9999}},
		"none":       {},
		"backwards":  {{5000, 10000}, {0, 5000}},
		"inside out": {{0, 10000}, {10000, 9000}},
	} {
		in := listed{bytes.NewReader(basis), list}
		for _, err := range []error{
			s.Diff(context.Background(), in, 10000, NewHash(1), func(Op) error { return nil }),
			Whole(context.Background(), in, 10000, NewHash(1), func(Op) error { return nil }),
		} {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	}
}

// listed has the extents of the list.
type listed struct {
	*bytes.Reader
	list []stretch
}

func (l listed) Extents(_ int64, fn func(off, n int64, hole bool) error) error {
	for _, e := range l.list {
		if err := fn(e.off, e.end-e.off, false); err != nil {
			return err
		}
	}
	return nil
}

// TestWrongMatchIsFound has a signature with short hashes that fit other content: the hash of the whole must tell, and the next try be right.
func TestWrongMatchIsFound(t *testing.T) {
	basis, edited := random(1, 50000), random(2, 50000)
	in := newContent(edited)
	p := Choose(50000, 50000, 1)
	var lie bytes.Buffer
	if err := Sign(context.Background(), bytes.NewReader(edited), 50000, p, &lie); err != nil {
		t.Fatal(err)
	}
	s, err := Load(p, 50000, lie.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tryTransfer(basis, s, in); !errors.Is(err, errMismatch) {
		t.Fatalf("a wrong match ends with %v", err)
	}
	if c := transfer(t, basis, p.Stronger(), in); c.data != 50000 {
		t.Fatalf("%d bytes of data", c.data)
	}
}
