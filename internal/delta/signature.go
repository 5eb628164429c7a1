package delta

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
)

// ErrSignature is the error of a signature that cannot be one.
var ErrSignature = errors.New("malformed signature")

// crowd is how many blocks one slot of the table may hold. Hashes of honest signatures never come near; one that was made to slow a
// search down loses the blocks beyond.
const crowd = 32

// Signature is what is known of the basis on the other side, arranged for search. Diff may be called more than once, also
// from several goroutines at once.
type Signature struct {
	signer
	size   int64  // bytes of the basis that are covered
	full   int    // blocks of full length
	last   int    // bytes of the short block after them, 0: none
	data   []byte // entries
	entry  int    // bytes of one
	filter []uint64
	fshift int     // the top bits of a hash above this are its place in the filter
	slots  []int32 // by the top bits of the hash: 1 + first block; 0: none
	sshift int
	chain  []int32 // by block: 1 + the next in the same slot
}

// Load takes a signature as Sign wrote it for a basis of basisSize bytes. It keeps sig and uses about 8 to 20 bytes more for each
// block. Errors wrap ErrParams or ErrSignature.
func Load(p Params, basisSize int64, sig []byte) (*Signature, error) {
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("load signature: %w", err)
	}
	if basisSize < 0 {
		return nil, fmt.Errorf("load signature of %d bytes of basis: %w", basisSize, ErrSignature)
	}
	if want := p.SignatureSize(basisSize); len(sig) != want {
		return nil, fmt.Errorf("load signature: %d bytes, want %d: %w", len(sig), want, ErrSignature)
	}
	s := &Signature{signer: newSigner(p), size: p.covered(basisSize), data: sig, entry: p.Roll + p.Strong}
	s.full = int(s.size / int64(p.Block))
	s.last = int(s.size % int64(p.Block))
	s.index()
	return s, nil
}

// index fills filter and table with the full blocks. Of equal blocks it holds the first.
func (s *Signature) index() {
	size := bits.Len(uint(max(s.full, 16)))
	s.sshift = 64 - size
	s.slots = make([]int32, 1<<size)
	s.chain = make([]int32, s.full)
	fsize := min(max(size+6, 10), 26, 8*s.p.Roll)
	s.fshift = 64 - fsize
	s.filter = make([]uint64, 1<<(fsize-6))
	for i := range s.full {
		hash := s.rollOf(i) << (64 - 8*s.p.Roll)
		at := &s.slots[s.slot(s.rollOf(i))]
		for n := 0; ; n++ {
			if *at == 0 {
				*at = int32(i + 1)
				bit := hash >> s.fshift
				s.filter[bit>>6] |= 1 << (bit & 63)
				break
			}
			if n == crowd || bytes.Equal(s.at(int(*at-1)), s.at(i)) {
				break
			}
			at = &s.chain[*at-1]
		}
	}
}

// at is the entry of block i.
func (s *Signature) at(i int) []byte { return s.data[i*s.entry : (i+1)*s.entry] }

// rollOf is the rolling hash that the signature holds for block i.
func (s *Signature) rollOf(i int) uint64 {
	var v uint64
	for _, b := range s.at(i)[:s.p.Roll] {
		v = v<<8 | uint64(b)
	}
	return v
}

// candidate is content that may be a block of the basis. Its strong hash is computed when it is first needed.
type candidate struct {
	data   []byte
	roll   uint64
	strong []byte
	space  [maxStrong]byte
}

// is says whether the signature says that the content is block i.
func (s *Signature) is(c *candidate, i int) bool {
	if s.rollOf(i) != c.roll {
		return false
	}
	if c.strong == nil {
		c.strong = s.strong(c.space[:0], c.data)
	}
	return bytes.Equal(s.at(i)[s.p.Roll:], c.strong)
}

// find gives a full block that the content is, or -1. The blocks first and second are
// preferred, in that order, if they exist.
func (s *Signature) find(c *candidate, first, second int) int {
	for _, i := range [...]int{first, second} {
		if i >= 0 && i < s.full && s.is(c, i) {
			return i
		}
	}
	for at := s.slots[s.slot(c.roll)]; at != 0; at = s.chain[at-1] {
		if s.is(c, int(at-1)) {
			return int(at - 1)
		}
	}
	return -1
}

// knows says whether a full block with that rolling hash exists, of those in the table.
func (s *Signature) knows(hash uint64) bool {
	bit := hash >> s.fshift
	if s.filter[bit>>6]>>(bit&63)&1 == 0 {
		return false
	}
	roll := s.roll(hash)
	for at := s.slots[s.slot(roll)]; at != 0; at = s.chain[at-1] {
		if s.rollOf(int(at-1)) == roll {
			return true
		}
	}
	return false
}

// slot is the place in the table for the rolling hash that an entry has.
func (s *Signature) slot(roll uint64) uint64 { return roll << (64 - 8*s.p.Roll) >> s.sshift }
