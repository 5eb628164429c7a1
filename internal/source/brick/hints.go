package brick

import (
	"time"

	"georep/internal/change"
)

// hint is why an object is to be looked at.
type hint struct {
	content bool // it was written to
	part    bool // a part of it that is on its own was written to, of which its own size and times need not tell
	born    bool // it was created by what was recorded, so the secondary has nothing of it
	asked   bool // it is handed out in any case
	compare bool // it is handed out only if the index has it in another state
	settle  bool // a directory's times on the secondary may not be what the index says
	tries   int
}

// hints are the objects that are to be looked at, each once, in the order in which they were first heard of.
type hints struct {
	of    map[change.ID]hint
	order []change.ID
	later []change.ID // that were changing when they were looked at
	when  time.Time   // those are looked at again
}

// laterWait is how long something that keeps changing is left alone.
const laterWait = 50 * time.Millisecond

func newHints() *hints { return &hints{of: map[change.ID]hint{}} }

func (h *hints) len() int { return len(h.order) + len(h.later) }

// add notes a hint, together with what is known already.
func (h *hints) add(id change.ID, more hint) {
	old, known := h.of[id]
	if !known {
		h.of[id] = more
		h.order = append(h.order, id)
		return
	}
	old.content = old.content || more.content
	old.part = old.part || more.part
	old.born = old.born || more.born
	old.asked = old.asked || more.asked
	old.settle = old.settle || more.settle
	old.compare = old.compare && more.compare
	h.of[id] = old
}

// ready says whether something is to be looked at now.
func (h *hints) ready() bool {
	if len(h.later) > 0 && !time.Now().Before(h.when) {
		h.order = append(h.order, h.later...)
		h.later = nil
	}
	return len(h.order) > 0
}

// next takes the first.
func (h *hints) next() (change.ID, hint, bool) {
	if len(h.order) == 0 {
		return change.ID{}, hint{}, false
	}
	id := h.order[0]
	h.order = h.order[1:]
	if len(h.order) == 0 {
		h.order = nil
	}
	got := h.of[id]
	delete(h.of, id)
	return id, got, true
}

// postpone brings back a hint that could not be followed now.
func (h *hints) postpone(id change.ID, again hint) {
	again.tries++
	if _, known := h.of[id]; known {
		h.add(id, again)
		return
	}
	h.of[id] = again
	h.later = append(h.later, id)
	h.when = time.Now().Add(laterWait)
}
