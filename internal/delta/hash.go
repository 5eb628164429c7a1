package delta

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"
)

// page is the unit in which the hash of a whole content tells zeros from data. Holes of file systems are made of such pages.
const page = 4 << 10

// Hash is the hash of a whole content under a seed: 128 bits, the same for the same bytes however they were written and
// wherever holes are. Not safe for concurrent use. It guards against accidents and against content made without
// knowledge of the seed; it is not a cryptographic hash.
//
// Pages of zeros (4096 bytes, aligned) do not enter the hash of the data; their number does, in a second hash of the lengths of the runs of
// pages. So a hole of a terabyte costs nothing, and the result does not depend on whether it was a hole.
type Hash struct {
	data   *xxh3.Hasher // the pages that are not all zero
	runs   *xxh3.Hasher // lengths of alternating runs of pages: data, zero, data ...
	seed   uint64
	size   int64 // bytes written
	inRun  int64 // pages of the current run
	zeros  bool  // the current run is one of zero pages
	lead   int   // zero bytes that began the current page, not in data so far
	filled int   // bytes of the current page when it is one of data; 0: it is zeros so far
	blank  [page]byte
}

// NewHash begins a hash. Hashes are only comparable when their seeds are equal.
func NewHash(seed uint64) *Hash {
	return &Hash{data: xxh3.NewSeed(seed), runs: xxh3.NewSeed(mix(seed)), seed: seed}
}

// Write adds content. It never fails.
func (h *Hash) Write(p []byte) (int, error) {
	n := len(p)
	h.size += int64(n)
	for len(p) > 0 {
		if h.filled == 0 {
			p = h.begin(p)
			continue
		}
		// In a page of data. What follows it is looked at page by page, and written in one piece as far as it is data.
		m := min(page-h.filled, len(p))
		h.filled += m
		if h.filled == page {
			h.count(false, 1)
			h.filled = 0
			for len(p)-m >= page && p[m] != 0 {
				m += page
				h.inRun++
			}
		}
		_, _ = h.data.Write(p[:m])
		p = p[m:]
	}
	return n, nil
}

// begin takes content at a place where the current page has been all zeros so far, and gives what it did not take.
func (h *Hash) begin(p []byte) []byte {
	rest := p[:min(page-h.lead, len(p))]
	n := leadingZeros(rest)
	h.lead += n
	switch {
	case n < len(rest):
		_, _ = h.data.Write(h.blank[:h.lead])
		h.filled, h.lead = h.lead, 0
		// A page whose first byte is not zero has filled == 0, which means undecided: take that byte here.
		_, _ = h.data.Write(rest[n : n+1])
		h.filled++
		n++
		if h.filled == page {
			h.count(false, 1)
			h.filled = 0
		}
	case h.lead == page:
		h.count(true, 1)
		h.lead = 0
	}
	return p[n:]
}

// Zeros adds n zero bytes, in a time that does not depend on n.
func (h *Hash) Zeros(n int64) {
	if n <= 0 {
		return
	}
	used := h.lead + h.filled // one of them is 0
	if used > 0 || n < page {
		m := min(int64(page-used), n)
		_, _ = h.Write(h.blank[:m])
		n -= m
	}
	h.size += n
	if n >= page {
		h.count(true, n/page)
	}
	h.lead += int(n % page)
}

// count adds complete pages to the runs.
func (h *Hash) count(zeros bool, pages int64) {
	if h.zeros != zeros {
		h.endRun(h.runs)
		h.zeros, h.inRun = zeros, 0
	}
	h.inRun += pages
}

func (h *Hash) endRun(to *xxh3.Hasher) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(h.inRun))
	_, _ = to.Write(b[:])
}

// Sum gives the hash of what was written so far. More may be written afterwards.
func (h *Hash) Sum() [16]byte {
	// The unfinished page needs no place of its own: if it is data its bytes are in data, and the size tells how many of
	// them and of zeros there are.
	runs := *h.runs
	h.endRun(&runs)
	var b [41]byte
	put(b[0:], h.data.Sum128())
	put(b[16:], runs.Sum128())
	binary.LittleEndian.PutUint64(b[32:], uint64(h.size))
	if h.filled > 0 {
		b[40] = 1
	}
	var sum [16]byte
	put(sum[:], xxh3.Hash128Seed(b[:], h.seed))
	return sum
}

func put(b []byte, u xxh3.Uint128) {
	binary.BigEndian.PutUint64(b, u.Hi)
	binary.BigEndian.PutUint64(b[8:], u.Lo)
}

// leadingZeros counts the zero bytes at the start of p.
func leadingZeros(p []byte) int {
	n := 0
	for len(p)-n >= 8 && binary.LittleEndian.Uint64(p[n:]) == 0 {
		n += 8
	}
	for n < len(p) && p[n] == 0 {
		n++
	}
	return n
}
