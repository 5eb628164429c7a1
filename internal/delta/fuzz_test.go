package delta

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"
)

// FuzzLoad feeds signatures that a hostile other side made up, and searches with them.
func FuzzLoad(f *testing.F) {
	f.Add(700, 4, 2, uint64(1), int64(1400), make([]byte, 12), []byte("content"))
	f.Add(64, 3, 2, uint64(0), int64(64*9+5), make([]byte, 50), make([]byte, 1000))
	f.Add(-4, 99, -1, uint64(7), int64(-1), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, block, roll, strong int, seed uint64, size int64, sig, target []byte) {
		p := Params{Block: block, Roll: roll, Strong: strong, Seed: seed}
		s, err := Load(p, size, sig)
		if err != nil {
			if !errors.Is(err, ErrParams) && !errors.Is(err, ErrSignature) {
				t.Fatal(err)
			}
			return
		}
		covered := int64(0)
		err = s.Diff(context.Background(), newContent(target), int64(len(target)), NewHash(1), func(op Op) error {
			covered += op.Len
			if op.Kind == Copy && (op.Off < 0 || op.Off+op.Len > size) {
				t.Fatalf("%v of a basis of %d", op, size)
			}
			return nil
		})
		if err != nil || covered != int64(len(target)) {
			t.Fatalf("%d of %d bytes: %v", covered, len(target), err)
		}
	})
}

// FuzzPatch feeds operations in their compact form that a hostile other side made up.
func FuzzPatch(f *testing.F) {
	coder := NewCoder(64)
	var row []byte
	for _, op := range []Op{
		{Kind: Copy, Off: 128, Len: 64}, {Kind: Data, Len: 3, Data: []byte("abc")}, {Kind: Hole, Len: 5},
		{Kind: Copy, Off: 0, Len: 192}, {Kind: Copy, Off: 7, Len: 1},
		{Kind: Data, Len: 100, Data: make([]byte, 100)},
	} {
		row = coder.Append(row, op)
	}
	f.Add(uint16(64), int64(365), row)
	f.Add(uint16(0), int64(1<<40), binary.AppendUvarint(nil, 1<<63))
	f.Fuzz(func(t *testing.T, block uint16, size int64, row []byte) {
		coder := NewCoder(int(block))
		basis := random(1, 300)
		out := &bounded{target: &target{basis: basis}, t: t, size: size}
		p := NewPatcher(out, bytes.NewReader(basis), 300, size, NewHash(1))
		for len(row) > 0 {
			op, rest, err := coder.Parse(row)
			if err == nil {
				err = p.Apply(op)
			}
			if err != nil {
				if !errors.Is(err, ErrOp) {
					t.Fatal(err)
				}
				return
			}
			row = rest
		}
		if _, err := p.Finish(); (err == nil) != (p.Written() == size) {
			t.Fatalf("%d of %d bytes: %v", p.Written(), size, err)
		}
	})
}

// bounded is a target that fails the test when something is written beyond the size, or where nothing was announced.
type bounded struct {
	*target
	t    *testing.T
	size int64
}

func (b *bounded) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > b.size {
		b.t.Fatalf("%d bytes written at %d of %d", len(p), off, b.size)
	}
	return len(p), nil
}

func (b *bounded) CopyRange(from, off, n int64) error {
	if from < 0 || n < 0 || from+n > int64(len(b.basis)) {
		b.t.Fatalf("%d bytes copied at %d of %d", n, from, len(b.basis))
	}
	_, err := b.WriteAt(b.basis[from:from+n], off)
	return err
}

func (b *bounded) Truncate(int64) error { return nil }

// FuzzDiff feeds contents.
func FuzzDiff(f *testing.F) {
	f.Add([]byte("basis"), []byte("target"), uint8(0), uint16(0), uint16(0))
	f.Add(random(1, 2000), random(1, 1500), uint8(3), uint16(100), uint16(900))
	f.Fuzz(func(t *testing.T, basis, edited []byte, block uint8, from, to uint16) {
		p := Params{Block: minBlock + 4*int(block), Roll: 4, Strong: 16, Seed: uint64(len(basis))}
		var holes []stretch
		if from < to && int(to) <= len(edited) {
			holes = []stretch{{int64(from), int64(to)}}
		}
		in := newContent(bytes.Clone(edited), holes...)
		var sig bytes.Buffer
		if err := Sign(context.Background(), bytes.NewReader(basis), int64(len(basis)), p, &sig); err != nil {
			t.Fatal(err)
		}
		s, err := Load(p, int64(len(basis)), sig.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tryTransfer(basis, s, in); err != nil {
			t.Fatal(err)
		}
	})
}
