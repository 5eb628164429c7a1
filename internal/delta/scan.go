package delta

import (
	"encoding/binary"
)

// lanes are the residues of the windows at four neighbouring places, the first of which is at.
type lanes struct {
	at    int
	h     [4]uint64
	valid bool
}

// scan looks at every place of the window from which a whole block can be seen. With final set, no more content follows in
// this region.
func (d *differ) scan(final bool) {
	d.shortcut()
	for d.pos+d.block <= d.end && d.out.err == nil {
		if d.lanes.valid && d.lanes.at == d.pos {
			// The search stopped for lack of content.
			if d.search() {
				continue
			}
		} else if d.fresh() {
			continue
		} else if d.refused {
			d.stride()
			continue
		} else {
			d.pos++
			if d.start() && d.search() {
				continue
			}
		}
		if d.pos+d.block > d.end {
			break
		}
		if !final {
			// Fewer than eight places are left: they are cheaper together with those to come.
			break
		}
		d.lanes.valid = false
		if !d.fresh() {
			d.pos++
		}
	}
	if final {
		d.tail()
	}
	// Data is handed on in full operations; the rest may become one with what follows.
	if n := (d.pos - d.lit) / MaxData * MaxData; n > 0 {
		d.literal(d.lit + n)
	}
}

// shortcut tries the likely place. Behind a long hole that is the aligned one, from which content is seen that did not move; only if it did
// are the zeros before it worth a search.
func (d *differ) shortcut() {
	pos, likely := d.pos, d.likely
	d.likely = 0
	if likely <= pos || likely+d.block > d.end {
		return
	}
	d.pos = likely
	if !d.fresh() {
		d.pos = pos
	}
}

// fresh looks at pos without the help of a rolled hash.
func (d *differ) fresh() bool {
	d.looked++
	d.lanes.valid = false
	return d.try(d.sig.poly.hash(d.buf[d.pos : d.pos+d.block]))
}

// try looks at pos, whose window has that hash, for the blocks of the basis: first that which followed there on the last one, then
// that at the same place, then any.
func (d *differ) try(hash uint64) bool {
	c := candidate{data: d.buf[d.pos : d.pos+d.block], roll: d.sig.roll(hash)}
	same := -1
	if at := d.base + int64(d.pos); at%int64(d.block) == 0 {
		same = int(min(at/int64(d.block), MaxBlocks))
	}
	i := d.sig.find(&c, d.next, same)
	if i >= 0 {
		d.matched(i, d.block)
		return true
	}
	if c.strong != nil {
		d.wasted += int64(d.block)
		// By its size the rolling hash is wrong for less than half a byte a place. More is content or a signature that was made for it.
		if d.wasted > 4*d.looked+64*int64(d.block) {
			d.refused = true
		}
	}
	return false
}

// stride goes on to the next aligned place.
func (d *differ) stride() {
	block := int64(d.block)
	d.pos += int(block - (d.base+int64(d.pos))%block)
	d.pos = min(d.pos, d.end)
}

// tail looks for the short last block, which can only be at the end of the file.
func (d *differ) tail() {
	s := d.sig
	at := d.end - s.last
	if s.last == 0 || at < d.pos || d.base+int64(d.end) != d.size || d.out.err != nil {
		return
	}
	c := candidate{data: d.buf[at:d.end]}
	c.roll = s.roll(s.poly.hash(c.data))
	if s.is(&c, s.full) {
		d.pos = at
		d.matched(s.full, s.last)
	}
}

// start computes the residues at pos and the three places behind it. It says whether there is content enough to go on from there.
func (d *differ) start() bool {
	if d.pos+7+d.block > d.end {
		return false
	}
	for i := range d.lanes.h {
		d.lanes.h[i] = d.sig.poly.hash(d.buf[d.pos+i : d.pos+i+d.block])
	}
	d.lanes.at = d.pos
	d.lanes.valid = true
	return true
}

// search moves pos on, from where the lanes are, to behind the next match (true) or to where less than eight places are left.
func (d *differ) search() bool {
	for {
		from := d.lanes.at
		found := d.roll()
		d.looked += int64(d.lanes.at - from)
		d.pos = d.lanes.at
		if !found {
			return false
		}
		d.looked += 4
		for _, hash := range d.lanes.h {
			if d.sig.knows(hash) && d.try(hash) {
				d.lanes.valid = false
				return true
			}
			d.pos++
		}
		if d.refused {
			d.lanes.valid = false
			return true
		}
		if !d.advance() {
			d.pos = d.lanes.at
			return false
		}
	}
}

// roll moves the lanes on to the next four places of which one may match (true), or as far as there is content.
func (d *differ) roll() bool {
	filter, shift := d.sig.filter, uint(d.sig.fshift)&63
	base, leave := d.sig.poly.base, d.sig.poly.leave
	h0, h1, h2, h3 := d.lanes.h[0], d.lanes.h[1], d.lanes.h[2], d.lanes.h[3]
	// What leaves the windows and what enters them; both are read eight bytes at a time.
	in := d.buf[d.lanes.at+d.block : d.end]
	out := d.buf[d.lanes.at:d.end][:len(in)]
	const word = 1<<32 - 1
	found := false
	for {
		b0, b1, b2, b3 := h0>>shift, h1>>shift, h2>>shift, h3>>shift
		if filter[b0>>6]&(1<<(b0&63)) != 0 || filter[b1>>6]&(1<<(b1&63)) != 0 || filter[b2>>6]&(1<<(b2&63)) != 0 || filter[b3>>6]&(1<<(b3&63)) != 0 {
			found = true
			break
		}
		if len(in) < 8 || len(out) < 8 {
			break
		}
		o, i := binary.LittleEndian.Uint64(out), binary.LittleEndian.Uint64(in)
		h0 = rolled(h0, o&word, i&word, base, leave)
		h1 = rolled(h1, o>>8&word, i>>8&word, base, leave)
		h2 = rolled(h2, o>>16&word, i>>16&word, base, leave)
		h3 = rolled(h3, o>>24&word, i>>24&word, base, leave)
		in, out = in[4:], out[4:]
	}
	d.lanes.h = [4]uint64{h0, h1, h2, h3}
	d.lanes.at = d.end - d.block - len(in)
	return found
}

// advance moves the lanes on by four places, if there is content.
func (d *differ) advance() bool {
	at, p := d.lanes.at, d.sig.poly
	if at+d.block+8 > d.end {
		return false
	}
	o, i := binary.LittleEndian.Uint64(d.buf[at:]), binary.LittleEndian.Uint64(d.buf[at+d.block:])
	for l := range d.lanes.h {
		d.lanes.h[l] = rolled(d.lanes.h[l], o>>(8*l)&(1<<32-1), i>>(8*l)&(1<<32-1), p.base, p.leave)
	}
	d.lanes.at += 4
	return true
}
