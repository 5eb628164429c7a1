package delta

import "encoding/binary"

// polynomial is the rolling hash: the 32-bit little endian words of a block are the coefficients of a polynomial without constant
// term, and the hash is its value at a secret odd point modulo 2^64. The point being odd, the low bits of the hash depend on few
// bits of the content; the high ones depend on all, and it is those that signatures have.
//
// Words, not bytes: the windows at four neighbouring places then have independent states, each of which rolls by four
// bytes, so the processor works on four at once.
type polynomial struct {
	block  int
	base   uint64    // the secret point
	leave  uint64    // base^(block/4): takes the word that leaves the window out
	powers [9]uint64 // base^0 to base^8
}

func newPolynomial(block int, seed uint64) *polynomial {
	// Modulo 8 the base is 3 or 5: of such numbers the powers differ longest.
	p := &polynomial{block: block, base: mix(seed)&^7 | 3 + 2*(seed&1), leave: 1}
	p.powers[0] = 1
	for i := 1; i < len(p.powers); i++ {
		p.powers[i] = p.powers[i-1] * p.base
	}
	square := p.base
	for n := block / 4; n > 0; n >>= 1 {
		if n&1 == 1 {
			p.leave *= square
		}
		square *= square
	}
	return p
}

// mix is the finalizer of splitmix64: independent looking values from neighbouring seeds.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// hash evaluates the polynomial of data, whose last word is filled up with zeros. Content of another length than a block
// is only ever compared with content of the same length, so the zeros confuse nothing.
func (p *polynomial) hash(data []byte) uint64 {
	const word = 1<<32 - 1
	var h uint64
	w1, w2, w3, w4, w5, w6, w7, w8 := p.powers[1], p.powers[2], p.powers[3], p.powers[4], p.powers[5], p.powers[6], p.powers[7], p.powers[8]
	for len(data) >= 32 {
		a := binary.LittleEndian.Uint64(data)
		b := binary.LittleEndian.Uint64(data[8:])
		c := binary.LittleEndian.Uint64(data[16:])
		d := binary.LittleEndian.Uint64(data[24:32])
		data = data[32:]
		h = h*w8 + (a&word)*w8 + (a>>32)*w7 + (b&word)*w6 + (b>>32)*w5 +
			((c&word)*w4 + (c>>32)*w3 + (d&word)*w2 + (d>>32)*w1)
	}
	for len(data) > 0 {
		var last [4]byte
		data = data[copy(last[:], data):]
		h = (h + uint64(binary.LittleEndian.Uint32(last[:]))) * w1
	}
	return h
}

// rolled moves the window with hash h by one word: out leaves it, in enters it. The other two are base and leave.
func rolled(h, out, in, base, leave uint64) uint64 { return (h - out*leave + in) * base }
