package index

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"
)

// blockMost is how many bytes a block may have, unless one entry alone has more: about four of them fill a page of the store. One with
// less than blockLeast is joined with the next.
const (
	blockMost  = 1000
	blockLeast = blockMost / 3
)

// edit is what shall be at a key: a value, or nothing.
type edit struct {
	key    []byte
	value  []byte
	remove bool
}

// merger works out which blocks of a packed bucket a list of edits changes. It only reads, in a read transaction; what it found is in
// its arena, and is written by a later transaction. No other update may come between.
type merger struct {
	blocks *bbolt.Cursor
	edits  []edit
	order  []int32                   // the edits by key; of those with one key, the last
	next   int                       // in order
	old    func(i int, value []byte) // told what was at the key of edit i, when there was something; may be nil
	arena  *arena

	entries []entry // of the block, or the joined blocks, at hand
	size    int     // of the entries in one block
	changed bool
	appends bool // the last entry is new

	puts    []entry // blocks to write
	removes [][]byte
}

// begin gives the merger its edits, in any order. For one key, the last counts.
func (m *merger) begin(blocks *bbolt.Cursor, edits []edit, a *arena) {
	m.blocks, m.edits, m.arena, m.next, m.old = blocks, edits, a, 0, nil
	m.entries, m.puts, m.removes = m.entries[:0], m.puts[:0], m.removes[:0]
	m.order = m.order[:0]
	for i := range edits {
		m.order = append(m.order, int32(i))
	}
	compare := func(a, b int32) int {
		return cmp.Or(bytes.Compare(edits[a].key, edits[b].key), cmp.Compare(a, b))
	}
	if !slices.IsSortedFunc(m.order, compare) {
		slices.SortFunc(m.order, compare)
	}
	kept := m.order[:0]
	for i, e := range m.order {
		if i+1 == len(m.order) || !bytes.Equal(edits[e].key, edits[m.order[i+1]].key) {
			kept = append(kept, e)
		}
	}
	m.order = kept
}

// edit is the next one; nil at the end.
func (m *merger) edit() *edit {
	if m.next == len(m.order) {
		return nil
	}
	return &m.edits[m.order[m.next]]
}

// run goes through the edits.
func (m *merger) run() error {
	for m.next < len(m.order) {
		start, block := m.find(m.edit().key)
		m.entries, m.size, m.changed, m.appends = m.entries[:0], 0, false, false
		var starts [][]byte
		for {
			var limit, following []byte
			if start != nil {
				starts = append(starts, start)
				limit, following = m.blocks.Next()
			}
			if err := m.block(start, block, limit); err != nil {
				return err
			}
			if limit == nil || !m.changed || m.size >= blockLeast {
				break
			}
			start, block = limit, following
		}
		if m.changed {
			m.write(starts)
		}
	}
	return nil
}

// find gives the block that a key belongs to: the last that does not begin after it, or else the first; nil when there is none.
func (m *merger) find(key []byte) (start, block []byte) {
	start, block = m.blocks.Seek(key)
	if bytes.Equal(start, key) {
		return start, block
	}
	if earlier, data := m.blocks.Prev(); earlier != nil {
		return earlier, data
	}
	return m.blocks.First()
}

// block merges the entries of one block with the edits before limit; all that are left, if that is nil.
func (m *merger) block(start, block, limit []byte) error {
	if start != nil && (len(start) < idSize || len(start) > longestKey) {
		return fmt.Errorf("%w (a block's key of %d bytes)", ErrCorrupt, len(start))
	}
	before := start
	for len(block) > 0 {
		var e entry
		var ok bool
		e.key = m.arena.keep(longestKey, func(b []byte) []byte {
			b, e.value, block, ok = cutEntry(block, append(b, before...))
			return b
		})
		if !ok {
			return fmt.Errorf("%w (a block that cannot be read)", ErrCorrupt)
		}
		before = e.key
		m.insert(e.key)
		m.carry(e)
	}
	m.insert(limit)
	return nil
}

// insert carries out the edits before a key (all, if that is nil): nothing is there.
func (m *merger) insert(before []byte) {
	for ed := m.edit(); ed != nil && (before == nil || bytes.Compare(ed.key, before) < 0); ed = m.edit() {
		m.next++
		if !ed.remove {
			m.changed, m.appends = true, true
			m.append(entry{key: ed.key, value: ed.value})
		}
	}
}

// carry takes an entry that was there over, as the next edit says if it is about its key.
func (m *merger) carry(e entry) {
	if ed := m.edit(); ed != nil && bytes.Equal(ed.key, e.key) {
		if m.old != nil {
			m.old(int(m.order[m.next]), e.value)
		}
		m.next++
		if ed.remove {
			m.changed = true
			return
		}
		if !bytes.Equal(ed.value, e.value) {
			m.changed = true
			e.value = ed.value
		}
	}
	m.append(e)
	m.appends = false
}

func (m *merger) append(e entry) {
	before := e.key
	if n := len(m.entries); n > 0 {
		before = m.entries[n-1].key
	}
	m.size += 4 + len(e.key) + len(e.value) - shared(before[:idSize], e.key[:idSize]) - shared(before[idSize:], e.key[idSize:])
	m.entries = append(m.entries, e)
}

// write cuts the entries into blocks. A list that grew at its end, as it does while a tree is read for the first time, is cut into full blocks;
// another one into equal ones, which have room.
func (m *merger) write(starts [][]byte) {
	parts := 1
	if !m.appends {
		parts = (m.size + blockMost - 1) / blockMost
	}
	written, left := len(m.puts), m.size
	for from := 0; from < len(m.entries); parts-- {
		most := blockMost
		if parts > 1 {
			// An entry that lies across the border belongs to the side where more of it is: cut off always on one side, the rest would
			// add up to a further, nearly empty block.
			most = min(most, left/parts+left/(2*(len(m.entries)-from)))
		}
		start := m.entries[from].key
		b := m.arena.keep(blockMost+512, func(b []byte) []byte {
			b, from = m.cut(b, from, most)
			return b
		})
		left -= len(b)
		m.puts = append(m.puts, entry{key: start, value: b})
	}
	m.removeOthers(starts, m.puts[written:])
}

// cut encodes the entries of one block, from one on, and gives the first that did not fit.
func (m *merger) cut(b []byte, from, most int) ([]byte, int) {
	before := m.entries[from].key
	for i, e := range m.entries[from:] {
		length := len(b)
		b = appendEntry(b, before, e)
		if len(b) > most && length > 0 {
			return b[:length], from + i
		}
		before = e.key
	}
	return b, len(m.entries)
}

// removeOthers notes for removal the blocks that were there but are not written again; both lists are sorted.
func (m *merger) removeOthers(starts [][]byte, written []entry) {
	for _, start := range starts {
		for len(written) > 0 && bytes.Compare(written[0].key, start) < 0 {
			written = written[1:]
		}
		if len(written) == 0 || !bytes.Equal(written[0].key, start) {
			m.removes = append(m.removes, m.arena.keep(len(start), func(b []byte) []byte { return append(b, start...) }))
		}
	}
}

// apply writes the changes to the bucket that the merger read.
func (m *merger) apply(b *bbolt.Bucket) error {
	for _, start := range m.removes {
		if err := b.Delete(start); err != nil {
			return fmt.Errorf("remove block: %w", err)
		}
	}
	for _, block := range m.puts {
		if err := b.Put(block.key, block.value); err != nil {
			return fmt.Errorf("write block: %w", err)
		}
	}
	return nil
}
