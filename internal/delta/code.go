package delta

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The two low bits of an operation's first varint.
const (
	codeCopy  = 0 // bytes; a signed varint follows: how far from the expected place
	codeData  = 1 // bytes; they follow. With a length of 0: zeros, whose number follows
	codeHole  = 2 // bytes
	codeBlock = 3 // copy of one whole block: how many blocks from the expected one, signed
)

// Coder is the compact form of a row of operations, one after the other as varints. Each end of a row needs its own, with the same
// block, from the first operation on: places are told as distances from where a copy is expected, which is behind the last one and
// the data and holes since. So a stretch that stayed in place costs little more than its length, and a copied block never more than
// the four bytes that it costs rsync.
type Coder struct {
	block  int64
	expect int64
	zeros  []byte // what the zeros of operations that were parsed share
}

// leastZeros is the number of zeros from which they are told by their number.
const leastZeros = 8

// NewCoder begins a row over a basis cut in blocks of that many bytes (Params.Block); 0 if there is no basis.
func NewCoder(block int) Coder { return Coder{block: int64(block)} }

// Append appends the form of op, which must be valid as one of Diff is.
func (c *Coder) Append(buf []byte, op Op) []byte {
	switch op.Kind {
	case Data:
		if len(op.Data) >= leastZeros && zero(op.Data) {
			buf = binary.AppendUvarint(append(buf, codeData), uint64(len(op.Data)))
			break
		}
		buf = binary.AppendUvarint(buf, uint64(len(op.Data))<<2|codeData)
		buf = append(buf, op.Data...)
	case Hole:
		buf = binary.AppendUvarint(buf, uint64(op.Len)<<2|codeHole)
	case Copy:
		if c.block > 0 && op.Len == c.block && op.Off%c.block == 0 {
			steps := op.Off/c.block - c.expect/c.block
			buf = binary.AppendUvarint(buf, uint64(steps<<1^steps>>63)<<2|codeBlock)
		} else {
			buf = binary.AppendUvarint(buf, uint64(op.Len)<<2|codeCopy)
			buf = binary.AppendVarint(buf, op.Off-c.expect)
		}
		c.expect = op.Off
	}
	c.expect += op.Len
	return buf
}

// Parse reads the first operation of b and gives the bytes behind it. Data shares the bytes of b, or those of other operations, and is not to be
// written to. Lengths are positive and
// places not negative; whether they fit basis and target is for Patcher.Apply. Errors wrap ErrOp.
func (c *Coder) Parse(b []byte) (op Op, rest []byte, err error) {
	head, n := binary.Uvarint(b)
	if n <= 0 {
		return Op{}, nil, fmt.Errorf("parse operation: no number: %w", ErrOp)
	}
	rest = b[n:]
	op.Len = int64(head >> 2)
	switch head & 3 {
	case codeData:
		op.Kind = Data
		if op.Len == 0 {
			op, rest, err = c.parseZeros(rest)
			if err != nil {
				return Op{}, nil, err
			}
			break
		}
		if op.Len > int64(len(rest)) {
			return Op{}, nil, fmt.Errorf("parse operation: %v, %d there: %w", op, len(rest), ErrOp)
		}
		op.Data, rest = rest[:op.Len:op.Len], rest[op.Len:]
	case codeHole:
		op.Kind = Hole
	case codeCopy:
		distance, n := binary.Varint(rest)
		if n <= 0 || distance > math.MaxInt64-c.expect {
			return Op{}, nil, fmt.Errorf("parse operation: no place: %w", ErrOp)
		}
		op.Kind, op.Off, rest = Copy, c.expect+distance, rest[n:]
	case codeBlock:
		steps := op.Len>>1 ^ -(op.Len & 1)
		if c.block <= 0 || steps > math.MaxInt64/c.block-c.expect/c.block || steps < -c.expect/c.block {
			return Op{}, nil, fmt.Errorf("parse operation: block %d from %d: %w", steps, c.expect, ErrOp)
		}
		op.Kind, op.Off, op.Len = Copy, (c.expect/c.block+steps)*c.block, c.block
	}
	at := c.expect
	if op.Kind == Copy {
		at = op.Off
	}
	if op.Len < 1 || at < 0 || at > math.MaxInt64-op.Len {
		return Op{}, nil, fmt.Errorf("parse operation: %v: %w", op, ErrOp)
	}
	c.expect = at + op.Len
	return op, rest, nil
}

// parseZeros reads the number of zeros.
func (c *Coder) parseZeros(b []byte) (op Op, rest []byte, err error) {
	count, n := binary.Uvarint(b)
	if n <= 0 || count == 0 || count > MaxData {
		return Op{}, nil, fmt.Errorf("parse operation: %d zeros: %w", count, ErrOp)
	}
	if uint64(len(c.zeros)) < count {
		c.zeros = make([]byte, count)
	}
	return Op{Kind: Data, Len: int64(count), Data: c.zeros[:count:count]}, b[n:], nil
}
