package delta

import "fmt"

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

// data emits content in operations of at most MaxData bytes.
func (e *emitter) data(p []byte) {
	if len(p) == 0 {
		return
	}
	e.flush()
	_, _ = e.hash.Write(p)
	for len(p) > 0 {
		n := min(len(p), MaxData)
		e.put(Op{Kind: Data, Len: int64(n), Data: p[:n:n]})
		p = p[n:]
	}
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
