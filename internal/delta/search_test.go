package delta

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/bits"
	"testing"

	"pgregory.net/rapid"
)

// TestRolled checks that a hash that was rolled to a place is the one computed there.
func TestRolled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		block := 4 * rapid.IntRange(1, 50).Draw(t, "block/4")
		p := newPolynomial(block, rapid.Uint64().Draw(t, "seed"))
		data := rapid.SliceOfN(rapid.Byte(), block+8, block+200).Draw(t, "data")
		h := p.hash(data[:block])
		for at := 0; at+block+4 <= len(data); at += 4 {
			if want := p.hash(data[at : at+block]); h != want {
				t.Fatalf("at %d: %x, want %x", at, h, want)
			}
			h = rolled(h, uint64(binary.LittleEndian.Uint32(data[at:])), uint64(binary.LittleEndian.Uint32(data[at+block:])), p.base, p.leave)
		}
	})
}

// effort runs a Diff and gives the bytes that it hashed strongly for nothing, and whether it gave the search up.
func effort(t *testing.T, s *Signature, in *content) (wasted int64, refused bool) {
	t.Helper()
	covered := int64(0)
	d := s.differ(context.Background(), in, int64(len(in.data)), NewHash(1), func(op Op) error {
		covered += op.Len
		return nil
	})
	if err := d.run(); err != nil {
		t.Fatal(err)
	}
	if covered != int64(len(in.data)) {
		t.Fatalf("the operations cover %d of %d bytes", covered, len(in.data))
	}
	// After the search was given up, one block may be hashed in vain at each aligned place.
	if limit := 4*d.looked + 65*int64(s.p.Block) + covered; d.wasted > limit || d.looked > covered+covered/int64(s.p.Block)+64 {
		t.Errorf("%d places looked at and %d bytes hashed for nothing in %d bytes", d.looked, d.wasted, covered)
	}
	return d.wasted, d.refused
}

// thueMorse is content of words around 0x41414141 that has, over any block of a power of two words, the rolling hash of content that is all 0x41: the
// weakness of polynomials modulo a power of two.
func thueMorse(n int) []byte {
	p := make([]byte, n)
	for i := range n / 4 {
		word := uint32(0x41414141 + 0x01010101)
		if bits.OnesCount(uint(i))%2 == 1 {
			word = 0x41414141 - 0x01010101
		}
		binary.LittleEndian.PutUint32(p[4*i:], word)
	}
	return p
}

// TestMustP20LinearOnCollidingContent has content at whose every place the rolling hash says yes and the strong one no.
func TestMustP20LinearOnCollidingContent(t *testing.T) {
	basis := thueMorse(16 << 20)
	p := Choose(int64(len(basis)), 8<<20, 99)
	in := newContent(bytes.Repeat([]byte{0x41}, 8<<20))
	wasted, refused := effort(t, sign(t, basis, p), in)
	if !refused || wasted == 0 {
		t.Errorf("the content does not collide: %d bytes wasted, search given up: %t", wasted, refused)
	}
	transfer(t, basis, p, in)
	// What did not move is found nevertheless.
	if c := transfer(t, basis, p, newContent(append(in.data[:0:0], basis...))); c.data != 0 {
		t.Errorf("%d bytes of data of an equal file", c.data)
	}
}

// TestLinearOnForgedSignature has a hostile other side say that every block has the rolling hash of zeros, and no strong one that exists.
func TestLinearOnForgedSignature(t *testing.T) {
	p := Choose(1<<30, 8<<20, 3)
	size := int64(p.Block) * 5000
	forged := make([]byte, p.SignatureSize(size))
	for i := 0; i < len(forged); i += p.Roll + p.Strong {
		binary.LittleEndian.PutUint16(forged[i+p.Roll:], uint16(i))
		forged[i+p.Roll+2] = byte(i >> 16)
	}
	s, err := Load(p, size, forged)
	if err != nil {
		t.Fatal(err)
	}
	if _, refused := effort(t, s, newContent(make([]byte, 8<<20))); !refused {
		t.Error("the search was not given up")
	}
	for i := 0; i < len(s.chain); i++ {
		n := 0
		for at := s.slots[s.slot(s.rollOf(i))]; at != 0; at = s.chain[at-1] {
			n++
		}
		if n > crowd+1 {
			t.Fatalf("%d blocks in one slot", n)
		}
	}
}

// TestSearchIsNotGivenUp has content that is nasty for search, but not made with malice.
func TestSearchIsNotGivenUp(t *testing.T) {
	for _, c := range changes() {
		p := Choose(int64(len(c.basis)), int64(len(c.target)), 4711)
		if _, refused := effort(t, sign(t, c.basis, p), newContent(c.target)); refused {
			t.Errorf("%s: the search was given up", c.name)
		}
	}
}

// sparse is a huge file that has content in a few places only. Reading nothing but a hole is an error of the test.
type sparse struct {
	t       *testing.T
	islands []island
}

type island struct {
	off  int64
	data []byte
}

func (s *sparse) Extents(size int64, fn func(off, n int64, hole bool) error) error {
	at := int64(0)
	for _, i := range s.islands {
		if err := fn(at, i.off-at, true); err != nil {
			return err
		}
		at = i.off + int64(len(i.data))
		if err := fn(i.off, int64(len(i.data)), false); err != nil {
			return err
		}
	}
	return fn(at, size-at, true)
}

func (s *sparse) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	end := off + int64(len(p))
	touched := false
	for _, i := range s.islands {
		from, to := max(off, i.off), min(end, i.off+int64(len(i.data)))
		if from < to {
			copy(p[from-off:to-off], i.data[from-i.off:])
			touched = true
		}
	}
	if !touched {
		s.t.Errorf("%d bytes read at %d, where only a hole is", len(p), off)
	}
	return len(p), nil
}

// TestSparse has a file of a tebibyte with four pages in it, one of which changes: holes are neither read nor sent, and blocks that lie
// across their ends are found.
func TestSparse(t *testing.T) {
	const size = 1 << 40
	places := []int64{5 << 20, 1<<30 + 4096, 700<<30 + 12288, 1<<40 - 1<<21}
	before, after := &sparse{t: t}, &sparse{t: t}
	for i, off := range places {
		before.islands = append(before.islands, island{off, random(uint64(i), 4096)})
		after.islands = append(after.islands, before.islands[i])
	}
	after.islands[2].data = random(77, 4096)
	p := Params{Block: 1 << 20, Roll: 6, Strong: 4, Seed: 8}
	var sig bytes.Buffer
	if err := Sign(context.Background(), before, size, p, &sig); err != nil {
		t.Fatal(err)
	}
	s, err := Load(p, size, sig.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var data, copied, holes int64
	err = s.Diff(context.Background(), after, size, NewHash(1), func(op Op) error {
		switch op.Kind {
		case Data:
			data += op.Len
		case Copy:
			copied += op.Len
		case Hole:
			holes += op.Len
		}
		return nil
	})
	if err != nil || data != 4096 || copied != 3*4096 || data+copied+holes != size {
		t.Errorf("data %d, copied %d, holes %d, %v", data, copied, holes, err)
	}
}
