package index

import (
	"bytes"
	"fmt"

	"georep/internal/change"
)

// A chunk is a run of entries copied out of the store, so that the read transaction can end before anybody looks at them.
type chunk struct {
	data []byte
	ends []int32 // for each entry: end of its name, end of its record
}

// A List reads few entries at first, since most directories are small, then more.
const (
	chunkFirst = 64
	chunkMost  = 2048
)

// fill reads up to limit entries of dir whose names come after the given one, and says whether there may be more.
func (c *chunk) fill(r *reader, dir change.ID, after string, limit int) (more bool) {
	c.data, c.ends = c.data[:0], c.ends[:0]
	r.key = append(appendPlace(r.key[:0], change.Place{Dir: dir, Name: after}), 0)
	if after == "" {
		r.key = r.key[:idSize] // the root's own name is ""
	}
	k, v := r.tree.seek(r.key)
	for ; bytes.HasPrefix(k, dir[:]); k, v = r.tree.next() {
		if len(c.ends) == 2*limit {
			return true
		}
		c.data = append(c.data, k[idSize:]...)
		c.ends = append(c.ends, int32(len(c.data)))
		c.data = append(c.data, v...)
		c.ends = append(c.ends, int32(len(c.data)))
	}
	return false
}

// List calls fn with the entries of a directory whose names come after the given one (all, if that is ""), in the order of the names'
// bytes. No transaction is open while fn runs, so it may take long, and may call any method: entries that are put or
// deleted during the List beyond the current name may or may not be seen. An error of fn ends the List and is returned as it is.
func (x *Index) List(dir change.ID, after string, fn func(name string, e change.Entry) error) error {
	c := x.chunks.Get().(*chunk)
	defer x.chunks.Put(c)
	limit := chunkFirst
	for more := true; more; limit = min(4*limit, chunkMost) {
		err := x.withReader(func(r *reader) error {
			more = c.fill(r, dir, after, limit)
			return nil
		})
		if err != nil {
			return fmt.Errorf("list directory %s: %w", dir, err)
		}
		x.written.spend(int64(len(c.data) >> 16))
		if after, err = c.each(dir, after, fn); err != nil {
			return err
		}
	}
	return nil
}

// each calls fn with the entries of the chunk and returns the last name.
func (c *chunk) each(dir change.ID, last string, fn func(string, change.Entry) error) (string, error) {
	var e change.Entry
	start := int32(0)
	for i := 0; i < len(c.ends); i += 2 {
		name := string(c.data[start:c.ends[i]])
		if err := decodeRecord(c.data[c.ends[i]:c.ends[i+1]], &e); err != nil {
			return last, fmt.Errorf("list directory %s: %w", dir, err)
		}
		start = c.ends[i+1]
		last = name
		if err := fn(name, e); err != nil {
			return last, err
		}
	}
	return last, nil
}

// Count counts the names below a directory, at any depth, but stops at limit; a limit of 0 or less means none.
func (x *Index) Count(dir change.ID, limit int64) (int64, error) {
	w := newWalk(dir)
	for {
		err := x.withReader(func(r *reader) error { return w.step(r, limit) })
		if err != nil {
			return 0, fmt.Errorf("count below directory %s: %w", dir, err)
		}
		if w.done || limit > 0 && w.visited >= limit {
			return w.visited, nil
		}
		x.written.spend(walkStep / 256)
	}
}
