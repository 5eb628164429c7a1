package wire

import (
	"encoding/binary"
	"math"

	"georep/internal/delta"
)

// The payload of a content frame is a row of steps. Each begins with a varint: the number of bytes, shifted left by two,
// and the kind in the two low bits. A copy goes on with the signed varint distance from the end of the copy before it on
// this stream, so that content that did not move costs one byte. Data goes on with its bytes.
const (
	stepCopy = 0
	stepData = 1
	stepHole = 2

	// contentTarget is how large a content frame grows before it is sent, in bytes.
	contentTarget = 64 << 10
)

// appendStep appends one step. last is where the copy before it ended in the basis.
func appendStep(buf []byte, op delta.Op, last *int64) []byte {
	switch op.Kind {
	case delta.Copy:
		buf = binary.AppendUvarint(buf, uint64(op.Len)<<2|stepCopy)
		buf = binary.AppendVarint(buf, op.Off-*last)
		*last = op.Off + op.Len
	case delta.Hole:
		buf = binary.AppendUvarint(buf, uint64(op.Len)<<2|stepHole)
	default:
		buf = binary.AppendUvarint(buf, uint64(len(op.Data))<<2|stepData)
		buf = append(buf, op.Data...)
	}
	return buf
}

// parseStep reads the first step of b, which is not empty, and gives what follows it. The data shares the bytes of b.
func parseStep(b []byte, last *int64) (op delta.Op, rest []byte, err error) {
	head, n := binary.Uvarint(b)
	if n <= 0 {
		return op, nil, protocolError("a content step cannot be read")
	}
	b = b[n:]
	op.Len = int64(head >> 2)
	if op.Len == 0 {
		return op, nil, protocolError("a content step is empty")
	}
	switch head & 3 {
	case stepCopy:
		distance, n := binary.Varint(b)
		if n <= 0 {
			return op, nil, protocolError("a content step cannot be read")
		}
		op.Kind, op.Off = delta.Copy, *last+distance
		if op.Off < 0 || op.Off > math.MaxInt64-op.Len || distance > 0 && op.Off < *last {
			return op, nil, protocolError("a content step copies from %d", op.Off)
		}
		*last = op.Off + op.Len
		return op, b[n:], nil
	case stepData:
		if op.Len > int64(len(b)) {
			return op, nil, protocolError("a content step of %d bytes has %d", op.Len, len(b))
		}
		op.Kind, op.Data = delta.Data, b[:op.Len:op.Len]
		return op, b[op.Len:], nil
	case stepHole:
		op.Kind = delta.Hole
		return op, b, nil
	}
	return op, nil, protocolError("a content step is of an unknown kind")
}
