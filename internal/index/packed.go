package index

import (
	"bytes"
	"encoding/binary"

	"go.etcd.io/bbolt"
)

// A packed bucket is a sorted map of which each key of the store holds a run of neighbouring entries, a block. That takes a
// tenth of the store's work for a batch that is in order, and half of the space: a key is written as what differs from the one before, in two
// parts, an ID and the rest, since in either bucket neighbours agree in parts of both.
//
// A block's key is that of its first entry. An entry is four varints (how many bytes of the ID, and of the rest, are those of the
// entry before, or of the block's key; then the lengths of what differs in the rest, and of the value), the bytes that differ, and the value.

// entry is one entry of a packed bucket.
type entry struct{ key, value []byte }

// longestKey bounds the key of a packed bucket: object ID, directory ID, name.
const longestKey = 2*idSize + 255

// appendEntry encodes an entry behind one with the key before. Keys have an ID at least.
func appendEntry(b, before []byte, e entry) []byte {
	head := shared(before[:idSize], e.key[:idSize])
	tail := shared(before[idSize:], e.key[idSize:])
	b = append(b, byte(head))
	b = binary.AppendUvarint(b, uint64(tail))
	b = binary.AppendUvarint(b, uint64(len(e.key)-idSize-tail))
	b = binary.AppendUvarint(b, uint64(len(e.value)))
	b = append(b, e.key[head:idSize]...)
	b = append(b, e.key[idSize+tail:]...)
	return append(b, e.value...)
}

// shared is how many bytes a and b have in common at their beginning.
func shared(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// lengths are the numbers at the beginning of an entry.
type lengths struct{ head, tail, rest, value int }

// cutLengths takes the numbers off b; ok is false when they are malformed.
func cutLengths(b []byte) (l lengths, left []byte, ok bool) {
	if len(b) >= 4 && b[0]|b[1]|b[2]|b[3] < 0x80 {
		return lengths{int(b[0]), int(b[1]), int(b[2]), int(b[3])}, b[4:], true
	}
	for _, field := range []*int{&l.head, &l.tail, &l.rest, &l.value} {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > uint64(maxTargetSize+recordAtMost) {
			return lengths{}, nil, false
		}
		*field, b = int(v), b[n:]
	}
	return l, b, true
}

// cutEntry takes one entry off a block. key holds the key before, and is changed into the entry's; value aliases the block.
func cutEntry(block, key []byte) (newKey, value, left []byte, ok bool) {
	l, b, ok := cutLengths(block)
	if !ok || l.head > idSize || l.tail > len(key)-idSize || idSize-l.head+l.rest+l.value > len(b) || idSize+l.tail+l.rest > longestKey {
		return key, nil, nil, false
	}
	copy(key[l.head:idSize], b)
	b = b[idSize-l.head:]
	key = append(key[:idSize+l.tail], b[:l.rest]...)
	b = b[l.rest:]
	return key, b[:l.value:l.value], b[l.value:], true
}

// cursor goes through the entries of a packed bucket. The slices it gives are valid until it moves.
type cursor struct {
	blocks *bbolt.Cursor
	left   []byte // of the block, behind the current entry
	key    []byte
	value  []byte
	at     bool  // it stands at an entry, not at the end
	err    error // a damaged block; the cursor then stands at the end

	// sought is a key for which seek came to where the cursor stands; empty when there is none. What lies between is not in the bucket, as
	// is asked again and again while a directory is new.
	sought []byte
}

func newCursor(b *bbolt.Bucket) *cursor {
	return &cursor{blocks: b.Cursor(), key: make([]byte, 0, longestKey), sought: make([]byte, 0, longestKey)}
}

// seek goes to the first entry whose key is not before the given one; key is nil at the end.
func (c *cursor) seek(key []byte) (k, v []byte) {
	if len(c.sought) > 0 && bytes.Compare(c.sought, key) <= 0 {
		switch {
		case !c.at:
			return nil, nil
		case bytes.Compare(key, c.key) <= 0:
			return c.key, c.value
		}
	}
	if k, v = c.find(key); c.err == nil {
		c.sought = append(c.sought[:0], key...)
	}
	return k, v
}

// find is seek without regard to where the cursor stands.
func (c *cursor) find(key []byte) (k, v []byte) {
	c.sought, c.at = c.sought[:0], false
	start, block := c.blocks.Seek(key)
	if !bytes.Equal(start, key) {
		if earlier, data := c.blocks.Prev(); earlier != nil {
			start, block = earlier, data
		} else {
			start, block = c.blocks.First()
		}
	}
	if !c.enter(start, block) {
		return nil, nil
	}
	for {
		k, v = c.next()
		if k == nil || bytes.Compare(k, key) >= 0 {
			return k, v
		}
	}
}

// enter stands in front of the first entry of a block; false when there is no block.
func (c *cursor) enter(start, block []byte) bool {
	c.left, c.value = nil, nil
	if start == nil {
		return false
	}
	if len(start) < idSize || len(start) > longestKey || len(block) == 0 {
		c.err = ErrCorrupt
		return false
	}
	c.key, c.left = append(c.key[:0], start...), block
	return true
}

// next goes to the next entry.
func (c *cursor) next() (k, v []byte) {
	c.sought, c.at = c.sought[:0], false
	if c.err != nil {
		return nil, nil
	}
	if len(c.left) == 0 && !c.enter(c.blocks.Next()) {
		return nil, nil
	}
	var ok bool
	if c.key, c.value, c.left, ok = cutEntry(c.left, c.key); !ok {
		c.err, c.left = ErrCorrupt, nil
		return nil, nil
	}
	c.at = true
	return c.key, c.value
}
