package source

import (
	"sync"

	"georep/internal/change"
)

// maxDoubts bounds the objects whose content is in doubt. Beyond it a pass over the tree takes their place.
const maxDoubts = 1 << 16

// doubts remembers which objects were written to, or changed under a name that the event did not tell, until they are looked
// at. By the time of the look an object may be found under another name only.
type doubts struct {
	mu      sync.Mutex
	objects map[uint64]uint64 // hash of the handle, to the ticket with which it came
}

// add notes an object. It says false when there is no room: then all are forgotten.
func (d *doubts) add(handle, ticket uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.objects == nil || len(d.objects) >= maxDoubts {
		full := d.objects != nil
		d.objects = make(map[uint64]uint64)
		if full {
			return false
		}
	}
	d.objects[handle] = ticket
	return true
}

// take says whether an object is in doubt, and since when, and forgets that.
func (d *doubts) take(id change.ID) (ticket uint64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := id.Handle()
	ticket, ok = d.objects[h]
	delete(d.objects, h)
	return ticket, ok
}

// has says whether an object is in doubt.
func (d *doubts) has(id change.ID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.objects[id.Handle()]
	return ok
}

// settle forgets what came before a ticket: all looks that were due by then have been made.
func (d *doubts) settle(ticket uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for h, came := range d.objects {
		if came < ticket {
			delete(d.objects, h)
		}
	}
}
