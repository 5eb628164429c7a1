package wire

import "georep/internal/delta"

// contentTarget is how large a content frame grows before it is sent, in bytes.
const contentTarget = 64 << 10

// parseStep reads the first step of b, the rest of a content frame, and gives what follows it. The data shares the bytes of b.
func parseStep(c *delta.Coder, b []byte) (op delta.Op, rest []byte, err error) {
	if op, rest, err = c.Parse(b); err != nil {
		err = protocolError("a content step cannot be read: %v", err)
	}
	return op, rest, err
}
