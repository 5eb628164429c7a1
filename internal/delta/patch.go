package delta

import (
	"errors"
	"fmt"
	"io"
)

// ErrOp is the error of operations that are not those of a target of the declared size over the given basis.
var ErrOp = errors.New("invalid delta operation")

// Output is a new, empty file: what is not written reads as zeros.
type Output interface {
	io.WriterAt
	// CopyRange takes n bytes at basisOff of the basis to off.
	CopyRange(basisOff, off, n int64) error
	Truncate(size int64) error
}

// SeenOutput is an Output that shows what it copies while it does. For others a Patcher reads what it had them copy.
type SeenOutput interface {
	Output
	// CopySeen is CopyRange that calls seen for what was copied, piece by piece in order: with its bytes, or with none and the number of
	// zeros of a hole.
	CopySeen(basisOff, off, n int64, seen func(p []byte, hole int64)) error
}

// Patcher builds a target from operations. It trusts none of them: what reaches beyond the basis or the declared size is an error that
// wraps ErrOp and changes nothing. After an error the Patcher is of no more use.
type Patcher struct {
	out   Output
	check io.ReaderAt // where copied content is read for the hash
	shift bool        // check is the basis, so places in it are the basis's
	basis int64
	size  int64
	at    int64
	hash  *Hash
	buf   []byte
}

// NewPatcher begins a target of size bytes over a basis of basisSize bytes; without one basis is nil and basisSize 0. All
// content goes to h (not nil).
//
// Copied content is hashed as it arrived, so that a copy that went wrong or a basis that changes meanwhile is noticed: out shows it if it is
// a SeenOutput; else it is read back from out, if that is an io.ReaderAt, and otherwise from basis.
func NewPatcher(out Output, basis io.ReaderAt, basisSize, size int64, h *Hash) *Patcher {
	p := &Patcher{out: out, check: basis, shift: true, basis: basisSize, size: size, hash: h}
	if basis == nil {
		p.basis = 0
	}
	if r, ok := out.(io.ReaderAt); ok {
		p.check, p.shift = r, false
	}
	return p
}

// Written is how many bytes of the target are built.
func (p *Patcher) Written() int64 { return p.at }

// Apply carries out the next operation. Its data is not kept.
func (p *Patcher) Apply(op Op) error {
	if op.Len < 1 || op.Len > p.size-p.at {
		return fmt.Errorf("%v at %d of %d: %w", op, p.at, p.size, ErrOp)
	}
	switch op.Kind {
	case Data:
		return p.data(op)
	case Copy:
		return p.copied(op)
	case Hole:
		p.hash.Zeros(op.Len)
		p.at += op.Len
		return nil
	}
	return fmt.Errorf("%v at %d: %w", op, p.at, ErrOp)
}

func (p *Patcher) data(op Op) error {
	if op.Len != int64(len(op.Data)) || op.Len > MaxData {
		return fmt.Errorf("%v that has %d: %w", op, len(op.Data), ErrOp)
	}
	if _, err := p.out.WriteAt(op.Data, p.at); err != nil {
		return fmt.Errorf("write %d bytes at %d: %w", op.Len, p.at, err)
	}
	_, _ = p.hash.Write(op.Data)
	p.at += op.Len
	return nil
}

func (p *Patcher) copied(op Op) error {
	if op.Len > MaxCopy || op.Off < 0 || op.Off > p.basis-op.Len {
		return fmt.Errorf("%v of a basis of %d: %w", op, p.basis, ErrOp)
	}
	if out, ok := p.out.(SeenOutput); ok {
		return p.copiedSeen(out, op)
	}
	if err := p.out.CopyRange(op.Off, p.at, op.Len); err != nil {
		return fmt.Errorf("copy %d bytes at %d of the basis to %d: %w", op.Len, op.Off, p.at, err)
	}
	from := p.at
	if p.shift {
		from = op.Off
	}
	if p.buf == nil {
		p.buf = make([]byte, min(chunk, max(op.Len, int64(chunk)/16)))
	}
	if len(p.buf) < chunk && op.Len > int64(len(p.buf)) {
		p.buf = make([]byte, chunk)
	}
	for n := int64(0); n < op.Len; {
		m := min(op.Len-n, int64(len(p.buf)))
		if err := p.readBack(p.buf[:m], from+n); err != nil {
			return fmt.Errorf("check copy: %w", err)
		}
		_, _ = p.hash.Write(p.buf[:m])
		n += m
	}
	p.at += op.Len
	return nil
}

func (p *Patcher) copiedSeen(out SeenOutput, op Op) error {
	seen := int64(0)
	err := out.CopySeen(op.Off, p.at, op.Len, func(b []byte, hole int64) {
		if len(b) > 0 {
			_, _ = p.hash.Write(b)
			seen += int64(len(b))
			return
		}
		p.hash.Zeros(hole)
		seen += hole
	})
	if err == nil && seen != op.Len {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("copy %d bytes at %d of the basis to %d: %w", op.Len, op.Off, p.at, err)
	}
	p.at += op.Len
	return nil
}

// readBack reads what a copy left. The output may end before it: a hole at the end of a copy is not written, and what is not
// written reads as zeros.
func (p *Patcher) readBack(b []byte, off int64) error {
	if p.shift {
		return readFull(p.check, b, off)
	}
	n, err := p.check.ReadAt(b, off)
	if n < len(b) && errors.Is(err, io.EOF) {
		clear(b[n:])
		return nil
	}
	if n == len(b) {
		return nil
	}
	return err
}

// Finish sets the size and gives the hash of the target, which the caller compares with the one that the other side
// computed. A target that is not complete is an error that wraps ErrOp.
func (p *Patcher) Finish() ([16]byte, error) {
	if p.at != p.size {
		return [16]byte{}, fmt.Errorf("operations end at %d of %d bytes: %w", p.at, p.size, ErrOp)
	}
	if err := p.out.Truncate(p.size); err != nil {
		return [16]byte{}, fmt.Errorf("set size %d: %w", p.size, err)
	}
	return p.hash.Sum(), nil
}
