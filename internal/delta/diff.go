package delta

import (
	"context"
	"fmt"
	"io"
)

// Diff compares size bytes of in with the basis and calls emit for each operation that builds them from it, in order. The
// operations cover exactly size bytes. Data of an operation is valid only during the call. All content goes to h (not nil).
//
// Content that ends before size is an error that wraps io.ErrUnexpectedEOF; errors of in and emit are returned wrapped and
// as they are. Diff needs memory for two blocks and less than half a MiB. It takes time in proportion to the bytes that are
// not in holes, and for each long hole that of two blocks more, whatever the content and the signature are.
func (s *Signature) Diff(ctx context.Context, in Input, size int64, h *Hash, emit func(Op) error) error {
	return s.differ(ctx, in, size, h, emit).run()
}

func (s *Signature) differ(ctx context.Context, in Input, size int64, h *Hash, emit func(Op) error) *differ {
	block := int64(s.p.Block)
	room := block + MaxData + max(chunk, block)
	// The pads of zeros around holes need room too, so a small file gets a little more than its size.
	room = max(min(room, size+2*block), minBlock)
	return &differ{
		extents: extents{size: size},
		ctx:     ctx, sig: s, in: in, next: -1,
		block: s.p.Block,
		out:   emitter{hash: h, emit: emit},
		buf:   make([]byte, room),
	}
}

// differ is one run of Diff: a window that slides over the target. It has three marks,
//
//	buf: | gone .. lit: undecided, becomes data .. pos: to be looked at .. end |
type differ struct {
	extents
	ctx   context.Context
	sig   *Signature
	in    Input
	out   emitter
	block int

	buf           []byte
	base          int64 // place in the file of buf[0]
	lit, pos, end int
	holes         []stretch // of the window, in file places, in order; those before lit are gone
	next          int       // the block after the last one that matched
	likely        int       // a place beyond pos that is to be tried before pos; 0: none

	lanes   lanes
	wasted  int64 // bytes that were hashed strongly for nothing
	looked  int64 // places that the window was at
	refused bool  // the signature makes us waste: look only at aligned places from here on
}

// stretch is a part of a file, in bytes.
type stretch struct{ off, end int64 }

func (d *differ) run() error {
	if err := d.walk(d.in, d.read, d.zeros); err != nil && d.out.err == nil {
		return fmt.Errorf("compare content: %w", err)
	}
	d.scan(true)
	d.literal(d.end)
	d.out.flush()
	return d.out.err
}

// read takes n bytes of the content into the window.
func (d *differ) read(off, n int64) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	for n > 0 {
		if err := d.room(); err != nil {
			return err
		}
		m := int(min(n, int64(len(d.buf)-d.end)))
		if err := readFull(d.in, d.buf[d.end:d.end+m], off); err != nil {
			return err
		}
		d.end += m
		off += int64(m)
		n -= int64(m)
	}
	return nil
}

// zeros takes a hole of n bytes. A block of the basis may lie across its ends, so it enters the window as zeros, except the
// middle of a long one.
func (d *differ) zeros(off, n int64) error {
	block := int64(d.block)
	pad := block - 1
	if n <= 4*block {
		return d.blank(off, n)
	}
	if err := d.blank(off, pad); err != nil {
		return err
	}
	d.scan(true)
	d.literal(d.end)
	if d.out.err != nil {
		return d.out.err
	}
	d.out.hole(n - 2*pad)
	d.base = off + n - pad
	d.lit, d.pos, d.end = 0, 0, 0
	d.lanes.valid = false
	d.likely = int((off+n)/block*block - d.base)
	return d.blank(d.base, pad)
}

// blank takes n bytes of a hole into the window.
func (d *differ) blank(off, n int64) error {
	if n > 0 {
		d.holes = append(d.holes, stretch{off, off + n})
	}
	for n > 0 {
		if err := d.room(); err != nil {
			return err
		}
		m := int(min(n, int64(len(d.buf)-d.end)))
		clear(d.buf[d.end : d.end+m])
		d.end += m
		n -= int64(m)
	}
	return nil
}

// room makes room in the window when it is full: what it has is looked at, and what stays undecided moves to its front.
func (d *differ) room() error {
	if d.end < len(d.buf) {
		return nil
	}
	if err := d.ctx.Err(); err != nil {
		return err
	}
	d.scan(false)
	copy(d.buf, d.buf[d.lit:d.end])
	d.base += int64(d.lit)
	d.pos -= d.lit
	d.end -= d.lit
	d.lanes.at -= d.lit
	d.lit = 0
	return d.out.err
}

// literal decides that everything before the place to is data.
func (d *differ) literal(to int) {
	d.split(to, -1)
	d.pos = max(d.pos, to)
}

// split hands on what is undecided before the place to: holes as such, the rest as what the basis has from off on, or as data if off is negative.
func (d *differ) split(to int, off int64) {
	from := d.lit
	for d.lit < to {
		at := d.base + int64(d.lit)
		stop := d.base + int64(to)
		for len(d.holes) > 0 && d.holes[0].end <= at {
			d.holes = d.holes[1:]
		}
		if len(d.holes) > 0 && d.holes[0].off <= at {
			n := min(d.holes[0].end, stop) - at
			d.out.hole(n)
			d.lit += int(n)
			continue
		}
		if len(d.holes) > 0 {
			stop = min(stop, d.holes[0].off)
		}
		n := int(stop - at)
		if off < 0 {
			d.out.data(d.buf[d.lit : d.lit+n])
		} else {
			d.out.copied(d.buf[d.lit:d.lit+n], off+int64(d.lit-from))
		}
		d.lit += n
	}
}

// matched decides that the n bytes at pos are those of block i.
func (d *differ) matched(i, n int) {
	d.literal(d.pos)
	d.split(d.pos+n, int64(i)*int64(d.block))
	d.pos += n
	d.next = i + 1
}

// Whole emits the operations that build size bytes of in without a basis, Data and Hole. It is otherwise as Diff.
func Whole(ctx context.Context, in Input, size int64, h *Hash, emit func(Op) error) error {
	out := emitter{hash: h, emit: emit}
	x := extents{size: size}
	buf := make([]byte, min(MaxData, max(size, 0)))
	err := x.walk(in, func(off, n int64) error {
		for n > 0 && out.err == nil {
			if err := ctx.Err(); err != nil {
				return err
			}
			m := min(n, int64(len(buf)))
			if err := readFull(in, buf[:m], off); err != nil {
				return err
			}
			out.data(buf[:m])
			off += m
			n -= m
		}
		return out.err
	}, func(_, n int64) error {
		out.hole(n)
		return out.err
	})
	if err != nil && out.err == nil {
		return fmt.Errorf("read content: %w", err)
	}
	out.flush()
	return out.err
}

// extents checks what an Input says of its stretches: in order, without gaps, and covering the size. Otherwise content would be lost silently.
type extents struct {
	size, at int64
}

func (x *extents) walk(in Input, data, hole func(off, n int64) error) error {
	if x.size <= 0 {
		return nil
	}
	err := in.Extents(x.size, func(off, n int64, zero bool) error {
		if off != x.at || n < 0 {
			return fmt.Errorf("extent of %d bytes at %d where one at %d was expected", n, off, x.at)
		}
		n = min(n, x.size-x.at)
		x.at += n
		if zero {
			return hole(off, n)
		}
		return data(off, n)
	})
	if err != nil {
		return err
	}
	if x.at < x.size {
		return fmt.Errorf("extents end at %d of %d bytes: %w", x.at, x.size, io.ErrUnexpectedEOF)
	}
	return nil
}
