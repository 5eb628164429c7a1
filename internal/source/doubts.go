package source

import (
	"bytes"
	"sync"
	"time"

	"georep/internal/change"
	"georep/internal/rooted"
)

// maxDoubts bounds the objects that are in doubt. Beyond it a pass over the tree takes their place.
const maxDoubts = 1 << 16

// doubts remembers which objects were changed, until they are looked at. The name that an event tells need not lead to the object any
// more: by the time of the look, or even when it was written to by a descriptor that had been opened long before, it may be found
// under another name only.
type doubts struct {
	mu      sync.Mutex
	objects map[uint64]doubt // by the hash of the handle
}

// doubt is what is known of a change of an object.
type doubt struct {
	ticket  uint64        // with which it came
	since   time.Time     // a moment before which it did not happen
	content bool          // it may be the content, not only attributes
	handle  rooted.Handle // by which the object is found; without one nobody need look for it
}

// add notes an object. It says false when there is no room: then all are forgotten.
func (d *doubts) add(h rooted.Handle, n doubt) bool { return d.note(h.Hash(), n) }

// note is add by the hash of the handle.
func (d *doubts) note(key uint64, n doubt) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.objects == nil || len(d.objects) >= maxDoubts {
		full := d.objects != nil
		d.objects = make(map[uint64]doubt)
		if full {
			return false
		}
	}
	if old, ok := d.objects[key]; ok {
		n.since, n.content = old.since, n.content || old.content
		if len(n.handle.Bytes) == 0 || len(old.handle.Bytes) > 0 {
			n.handle = old.handle
		}
	}
	if n.handle.Bytes != nil && len(d.objects[key].handle.Bytes) == 0 {
		n.handle.Bytes = bytes.Clone(n.handle.Bytes) // it is the watcher's
	}
	d.objects[key] = n
	return true
}

// take says whether an object is in doubt, and forgets that.
func (d *doubts) take(id change.ID) (doubt, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.objects[id.Handle()]
	delete(d.objects, id.Handle())
	return n, ok
}

// has says whether an object is in doubt.
func (d *doubts) has(id change.ID) (doubt, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.objects[id.Handle()]
	return n, ok
}

// settle forgets what came before a ticket, when all looks that were due by then have been made, and gives those with a handle: the
// names that the events told led to something else. What came after a moment may have a look that is not due yet and stays; bound
// is then a moment before which none of that happened.
func (d *doubts) settle(ticket uint64, after time.Time) (left []doubt, bound time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for h, n := range d.objects {
		known := len(n.handle.Bytes) > 0
		switch {
		case n.ticket >= ticket:
		case n.since.After(after):
			if known && (bound.IsZero() || n.since.Before(bound)) {
				bound = n.since
			}
		default:
			delete(d.objects, h)
			if known {
				left = append(left, n)
			}
		}
	}
	return left, bound
}

// takeDoubt says whether an object is in doubt, by whatever event, and forgets that.
func (v *Volume) takeDoubt(id change.ID) (doubt, bool) {
	n, ok := v.doubts.take(id)
	other, too := v.strangers.take(id)
	return doubt{ticket: max(n.ticket, other.ticket), content: n.content || other.content}, ok || too
}

// hasDoubt says whether an object is in doubt, by whatever event.
func (v *Volume) hasDoubt(id change.ID) (doubt, bool) {
	if n, ok := v.doubts.has(id); ok {
		return n, true
	}
	return v.strangers.has(id)
}
