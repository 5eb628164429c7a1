package delta

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// TestChooseCostsNoMoreThanRsync checks, for all sizes, that a signature and one changed block have no more bytes than rsync's, as rsync 3
// computes them; and the signature alone where the blocks are rsync's.
func TestChooseCostsNoMoreThanRsync(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(0, 1<<rapid.IntRange(1, 62).Draw(t, "magnitude")).Draw(t, "size")
		p := Choose(size, rapid.Int64Range(0, size).Draw(t, "target"), 1)
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		block := int64(700)
		for block*block < size && block < 1<<17 {
			block++
		}
		if block > 700 && block < 1<<17 {
			if block*block > size {
				block--
			}
			block = max(block&^7, 700)
		}
		b := 10 + 2*log2(size) - log2(block)
		strong := min(max((b+1-32+7)/8, 2), 16)
		if size > 40<<10 && size <= sameBlock*MaxBlocks && int64(p.Block) != block || int64(p.Block) > block && size <= sameBlock*MaxBlocks {
			t.Fatalf("size %d: block %d, rsync's is %d", size, p.Block, block)
		}
		theirs := (size+block-1)/block*int64(4+strong) + min(block, size)
		if ours := int64(p.SignatureSize(size)) + min(int64(p.Block), size); size > 100 && size <= 40<<10 && ours > theirs {
			t.Fatalf("size %d: a signature and a block of %d bytes, rsync's %d", size, ours, theirs)
		}
		if p.Roll+p.Strong > 4+strong {
			t.Fatalf("size %d: entries of %d bytes, rsync's have %d", size, p.Roll+p.Strong, 4+strong)
		}
		if p.Entries(size) > MaxBlocks {
			t.Fatalf("size %d: %d entries", size, p.Entries(size))
		}
		if s := p.Stronger(); s.Validate() != nil || s.Block != p.Block || s.Seed == p.Seed || s.Roll+s.Strong != 24 {
			t.Fatalf("stronger than %+v is %+v", p, s)
		}
	})
}

func TestLoadRefuses(t *testing.T) {
	good := Params{Block: 700, Roll: 4, Strong: 2}
	for _, c := range []struct {
		name string
		p    Params
		size int64
		sig  int
		want error
	}{
		{"no block", Params{Roll: 4, Strong: 2}, 10, 6, ErrParams},
		{"negative block", Params{Block: -700, Roll: 4, Strong: 2}, 10, 6, ErrParams},
		{"odd block", Params{Block: 701, Roll: 4, Strong: 2}, 10, 6, ErrParams},
		{"huge block", Params{Block: MaxBlock + 4, Roll: 4, Strong: 2}, 10, 6, ErrParams},
		{"no rolling hash", Params{Block: 700, Strong: 2}, 10, 2, ErrParams},
		{"long rolling hash", Params{Block: 700, Roll: 9, Strong: 2}, 10, 11, ErrParams},
		{"no strong hash", Params{Block: 700, Roll: 4}, 10, 4, ErrParams},
		{"long strong hash", Params{Block: 700, Roll: 4, Strong: 17}, 10, 21, ErrParams},
		{"negative size", good, -1, 0, ErrSignature},
		{"short", good, 701, 11, ErrSignature},
		{"long", good, 700, 12, ErrSignature},
		{"without basis", good, 0, 6, ErrSignature},
	} {
		if _, err := Load(c.p, c.size, make([]byte, c.sig)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := Load(good, 701, make([]byte, 12)); err != nil {
		t.Error(err)
	}
}
