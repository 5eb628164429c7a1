package delta

import (
	"encoding/binary"
	"fmt"
)

// Kind is what an operation does.
type Kind uint8

// The kinds of operations.
const (
	Data Kind = 1 + iota // these bytes come next
	Copy                 // a stretch of the basis comes next
	Hole                 // zeros come next, that need no space
)

// Op is one step in building a target from its beginning to its end.
type Op struct {
	Kind Kind
	Off  int64  // Copy: where in the basis, in bytes
	Len  int64  // bytes; Data: 1 to MaxData; Copy: 1 to MaxCopy; Hole: 1 or more
	Data []byte // Data: Len bytes
}

func (o Op) String() string {
	switch o.Kind {
	case Data:
		return fmt.Sprintf("data of %d bytes", o.Len)
	case Copy:
		return fmt.Sprintf("copy of %d bytes at %d", o.Len, o.Off)
	case Hole:
		return fmt.Sprintf("hole of %d bytes", o.Len)
	}
	return fmt.Sprintf("operation %d", uint8(o.Kind))
}

// emitter joins what belongs together and hands it on. A first error sticks.
type emitter struct {
	hash *Hash
	emit func(Op) error
	held Op // a Copy or Hole that may still grow; Kind 0: none
	err  error
}

func (e *emitter) put(op Op) {
	if e.err == nil {
		e.err = e.emit(op)
	}
}

func (e *emitter) flush() {
	if e.held.Kind != 0 {
		e.put(e.held)
		e.held = Op{}
	}
}

// data emits content in operations of at most MaxData bytes, and long runs of zeros in operations of their own.
func (e *emitter) data(p []byte) {
	if len(p) == 0 {
		return
	}
	e.flush()
	_, _ = e.hash.Write(p)
	for len(p) > 0 {
		n := alike(p[:min(len(p), MaxData)])
		e.put(Op{Kind: Data, Len: int64(n), Data: p[:n:n]})
		p = p[n:]
	}
}

// zeroPiece is the unit, in bytes, in which runs of zeros are told from other data: smaller ones are not worth an operation.
const zeroPiece = 16 << 10

// alike gives how many of the first bytes of p, which is not empty, are zeros in whole pieces, or else are not.
func alike(p []byte) int {
	first := zero(p[:min(len(p), zeroPiece)])
	n := min(len(p), zeroPiece)
	for n < len(p) && zero(p[n:min(len(p), n+zeroPiece)]) == first {
		n = min(len(p), n+zeroPiece)
	}
	return n
}

// zero says whether p, of any length, has no other bytes than zeros.
func zero(p []byte) bool {
	if len(p) == 0 || p[0] != 0 || p[len(p)-1] != 0 {
		return len(p) == 0
	}
	for len(p) >= 8 {
		if binary.LittleEndian.Uint64(p) != 0 {
			return false
		}
		p = p[8:]
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

func (e *emitter) hole(n int64) {
	if n <= 0 {
		return
	}
	e.hash.Zeros(n)
	if e.held.Kind != Hole {
		e.flush()
		e.held.Kind = Hole
	}
	e.held.Len += n
}

// copied emits content that the basis has at off. It is at most MaxBlock bytes.
func (e *emitter) copied(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	_, _ = e.hash.Write(p)
	n := int64(len(p))
	if e.held.Kind == Copy && e.held.Off+e.held.Len == off && e.held.Len+n <= MaxCopy {
		e.held.Len += n
		return
	}
	e.flush()
	e.held = Op{Kind: Copy, Off: off, Len: n}
}
