package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// content is a file in memory with holes where holes says (sorted, apart from each other).
type content struct {
	*bytes.Reader
	data  []byte
	holes []stretch
}

func newContent(data []byte, holes ...stretch) *content {
	for _, h := range holes {
		clear(data[h.off:h.end])
	}
	return &content{Reader: bytes.NewReader(data), data: data, holes: holes}
}

func (c *content) Extents(size int64, fn func(off, n int64, hole bool) error) error {
	at := int64(0)
	for _, h := range c.holes {
		if h.off > at {
			if err := fn(at, h.off-at, false); err != nil {
				return err
			}
		}
		if err := fn(h.off, h.end-h.off, true); err != nil {
			return err
		}
		at = h.end
	}
	if at < size {
		return fn(at, size-at, false)
	}
	return nil
}

// target is a file that is built in memory.
type target struct {
	basis   []byte
	data    []byte
	written []stretch
}

func (t *target) grow(size int64) {
	for int64(len(t.data)) < size {
		t.data = append(t.data, make([]byte, size-int64(len(t.data)))...)
	}
}

func (t *target) WriteAt(p []byte, off int64) (int, error) {
	t.grow(off + int64(len(p)))
	t.written = append(t.written, stretch{off, off + int64(len(p))})
	return copy(t.data[off:], p), nil
}

func (t *target) CopyRange(basisOff, off, n int64) error {
	_, err := t.WriteAt(t.basis[basisOff:basisOff+n], off)
	return err
}

func (t *target) Truncate(size int64) error {
	t.grow(size)
	t.data = t.data[:size]
	return nil
}

func sign(t testing.TB, basis []byte, p Params) *Signature {
	t.Helper()
	var sig bytes.Buffer
	if err := Sign(context.Background(), bytes.NewReader(basis), int64(len(basis)), p, &sig); err != nil {
		t.Fatal(err)
	}
	s, err := Load(p, int64(len(basis)), sig.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// cost is what a delta takes on the wire and in operations.
type cost struct {
	signature, ops, data, coded int
}

func (c cost) total() int { return c.signature + c.coded }

// transfer brings a target over with everything that takes part, checks the result and says what it cost.
func transfer(t testing.TB, basis []byte, p Params, in *content) cost {
	t.Helper()
	c, err := tryTransfer(basis, sign(t, basis, p), in)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var errMismatch = errors.New("the hash does not agree")

func tryTransfer(basis []byte, s *Signature, in *content) (cost, error) {
	c := cost{signature: len(s.data)}
	size := int64(len(in.data))
	there := NewHash(7)
	out := &target{basis: basis}
	patch := NewPatcher(out, bytes.NewReader(basis), int64(len(basis)), size, there)
	put, get := NewCoder(s.p.Block), NewCoder(s.p.Block)
	here := NewHash(7)
	err := s.Diff(context.Background(), in, size, here, func(op Op) error {
		c.ops++
		c.data += len(op.Data)
		form := put.Append(nil, op)
		c.coded += len(form)
		back, rest, err := get.Parse(form)
		if err != nil || len(rest) > 0 || back.String() != op.String() {
			return fmt.Errorf("%v came back as %v and %d bytes: %w", op, back, len(rest), err)
		}
		return patch.Apply(back)
	})
	if err != nil {
		return c, err
	}
	sum, err := patch.Finish()
	if err != nil {
		return c, err
	}
	if here.Sum() != sum {
		return c, errMismatch
	}
	if !bytes.Equal(out.data, in.data) {
		return c, errors.New("the content differs though its hash agrees")
	}
	for _, h := range in.holes {
		for _, w := range out.written {
			if w.off < h.end && w.end > h.off {
				return c, fmt.Errorf("%v was written, where the hole %v is", w, h)
			}
		}
	}
	return c, nil
}

// random gives n bytes that depend on seed alone.
func random(seed uint64, n int) []byte {
	p := make([]byte, n)
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	_, _ = rand.NewChaCha8(key).Read(p)
	return p
}

// TestZerosCostTheirNumber sends content with zeros that are data: they stay data, and cost next to nothing.
func TestZerosCostTheirNumber(t *testing.T) {
	const size = 4 << 20
	for name, b := range map[string][]byte{
		"all": make([]byte, size), "in the middle": slices.Concat(random(1, 100_001), make([]byte, size), random(2, 77)),
		"few": slices.Concat(random(1, 5000), make([]byte, 3), random(2, 5000)), "last": append(make([]byte, size), 1),
	} {
		coder, parser := NewCoder(0), NewCoder(0)
		var row, got []byte
		err := Whole(context.Background(), newContent(b), int64(len(b)), NewHash(1), func(op Op) error {
			if op.Kind != Data {
				t.Errorf("%s: %v", name, op)
			}
			form := coder.Append(nil, op)
			back, rest, err := parser.Parse(form)
			if err != nil || len(rest) > 0 {
				t.Fatalf("%s: %v, %v", name, back, err)
			}
			row, got = append(row, form...), append(got, back.Data...)
			return nil
		})
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s: %v, or another content", name, err)
		}
		if noise := len(b) - size; len(b) >= size && len(row) > max(noise, 0)+3*zeroPiece {
			t.Errorf("%s: %d bytes for %d", name, len(row), len(b))
		}
	}
}
