package source

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"georep/internal/change"
)

// look says why, and how, a place is to be looked at. Of two for the same place the sum is taken.
type look struct {
	content bool // its content may have changed
	entry   bool // the name was made, removed or renamed: the directory's own times changed with it
	again   bool // somebody asked and wants an answer
	now     bool // there is no point in waiting for more events
	lazy    bool // it is being written to, and there will be another event when that ends
	deep    bool // if it is a directory, all that is below it must be compared
	follow  bool // a look at another name of the same object led here
}

func (l *look) join(m look) {
	l.content = l.content || m.content
	l.entry = l.entry || m.entry
	l.again = l.again || m.again
	l.now = l.now || m.now
	l.deep = l.deep || m.deep
	l.lazy = l.lazy && m.lazy
	l.follow = l.follow && m.follow
}

// item is a place that waits.
type item struct {
	at    change.Place
	look  look
	seq   uint64    // order in which places came; of a lazy one when it stopped being lazy
	since time.Time // when it came
	after time.Time // a moment before which its first event did not happen
	taken bool
	tries int // looks that failed because something moved
}

const (
	// maxPending bounds the places that wait. Beyond it a pass over the tree takes their place.
	maxPending = 64 << 10
	// maxScans bounds the directories that wait for being compared, in the same way.
	maxScans = 4 << 10
	// lazyDelay is how long a file that is being written to waits before it is looked at although nobody has closed it.
	lazyDelay = time.Second
)

// pending holds the places that are to be looked at, each once, in the order of their first event.
type pending struct {
	mu    sync.Mutex // guards the rest
	items map[change.Place]*item
	queue []*item                // by seq; may hold taken ones
	slow  []*item                // lazy ones by since; may hold taken ones and such that are not lazy any more
	scans map[change.ID]struct{} // directories to be compared
	seq   uint64
	now   int       // items with look.now
	lost  bool      // places were forgotten: a pass will take their place, and that of all that come until it is asked for
	floor time.Time // what is noted now did not happen before this
}

func newPending() *pending {
	return &pending{items: make(map[change.Place]*item), scans: make(map[change.ID]struct{}), floor: time.Now()}
}

// add puts a place in the queue.
func (p *pending) add(at change.Place, l look) {
	p.mu.Lock()
	defer p.mu.Unlock()
	it, ok := p.items[at]
	if !ok {
		if !l.again && (p.lost || len(p.items) >= maxPending) {
			p.overflow()
			return
		}
		it = &item{at: at, look: look{lazy: true, follow: true}, since: time.Now(), after: p.floor}
		it.look.join(l)
		p.items[at] = it
		p.enqueue(it)
		p.countNow(it, false)
		return
	}
	wasLazy, wasNow := it.look.lazy, it.look.now
	it.look.join(l)
	p.countNow(it, wasNow)
	if wasLazy && !it.look.lazy {
		p.enqueue(it)
	}
}

// doubts says whether a place waits because its content may have changed.
func (p *pending) doubts(at change.Place) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	it, ok := p.items[at]
	return ok && it.look.content
}

func (p *pending) countNow(it *item, before bool) {
	if it.look.now && !before {
		p.now++
	}
}

// enqueue puts an item in the queue that fits it. The caller holds mu.
func (p *pending) enqueue(it *item) {
	if it.look.lazy {
		p.slow = append(p.slow, it)
		return
	}
	p.seq++
	it.seq = p.seq
	p.queue = append(p.queue, it)
}

// overflow forgets what nobody waits for. The caller holds mu.
func (p *pending) overflow() {
	if p.lost {
		return
	}
	p.lost = true
	kept := p.queue[:0]
	for at, it := range p.items {
		if !it.look.again {
			it.taken = true
			if it.look.now {
				p.now--
			}
			delete(p.items, at)
		}
	}
	for _, it := range p.queue {
		if !it.taken {
			kept = append(kept, it)
		}
	}
	p.queue, p.slow = append([]*item(nil), kept...), nil // a long queue is given back
}

// takeLost says whether places were forgotten since the last call.
func (p *pending) takeLost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	lost := p.lost
	p.lost = false
	return lost
}

// retry puts items back whose looks failed because something moved: in front, as they keep their numbers.
func (p *pending) retry(items []*item) {
	if len(items) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	front := make([]*item, 0, len(items)+len(p.queue))
	for _, it := range items {
		again := &item{at: it.at, look: it.look, seq: it.seq, since: time.Now(), tries: it.tries + 1}
		again.look.now = false
		if other, ok := p.items[it.at]; ok {
			if other.look.now {
				p.now--
			}
			again.look.join(other.look)
			again.look.lazy, again.look.now = false, false
			other.taken = true
		}
		p.items[it.at] = again
		front = append(front, again)
	}
	slices.SortStableFunc(front, func(a, b *item) int { return cmp.Compare(a.seq, b.seq) })
	p.queue = append(front, p.queue...)
}

// addScan asks for a directory to be compared.
func (p *pending) addScan(dir change.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.scans) >= maxScans {
		p.overflow()
		clear(p.scans)
		return
	}
	p.scans[dir] = struct{}{}
}

// takeScans takes the directories to be compared.
func (p *pending) takeScans() []change.ID {
	p.mu.Lock()
	defer p.mu.Unlock()
	scans := slices.Collect(maps.Keys(p.scans))
	clear(p.scans)
	return scans
}

// ticket gives a number that is greater than that of all that waits now, and smaller than that of all that will come.
func (p *pending) ticket() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	return p.seq
}

// moment is a ticket with a moment before which what is noted now did not happen.
func (p *pending) moment() (ticket uint64, since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	return p.seq, p.floor
}

// wake ends the laziness of what has waited long enough. The caller holds mu.
func (p *pending) wake(now time.Time) {
	n := 0
	for _, it := range p.slow {
		if !it.taken && it.look.lazy {
			if now.Sub(it.since) < lazyDelay {
				break
			}
			it.look.lazy = false
			p.enqueue(it)
		}
		n++
	}
	clear(p.slow[:n])
	p.slow = p.slow[n:]
	n = 0
	for n < len(p.queue) && p.queue[n].taken {
		n++
	}
	clear(p.queue[:n])
	p.queue = p.queue[n:]
}

// take takes up to n places whose time has come: when the oldest has waited for the time of gathering, or somebody is in a hurry.
// Otherwise it tells how long to wait for that; 0 means until something comes.
func (p *pending) take(n int, now time.Time, gather time.Duration) ([]*item, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wake(now)
	if len(p.queue) == 0 {
		for _, it := range p.slow {
			if !it.taken && it.look.lazy {
				return nil, max(lazyDelay-now.Sub(it.since), time.Millisecond)
			}
		}
		return nil, 0
	}
	if wait := gather - now.Sub(p.queue[0].since); wait > 0 && p.now == 0 && len(p.queue) < n {
		return nil, wait
	}
	var items []*item
	used := 0
	for _, it := range p.queue {
		if len(items) == n {
			break
		}
		used++
		if it.taken {
			continue
		}
		it.taken = true
		if it.look.now {
			p.now--
		}
		delete(p.items, it.at)
		items = append(items, it)
	}
	clear(p.queue[:used])
	p.queue = p.queue[used:]
	return items, 0
}

// behind says whether all that came before a ticket has been taken.
func (p *pending) behind(ticket uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, it := range p.queue {
		if !it.taken {
			return it.seq > ticket
		}
	}
	return true
}

// read notes that all events were read that were queued at a moment: those still to come happened after it.
func (p *pending) read(began time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.floor = began
}

// idle says whether nothing waits but lazy places, and a moment before which none of their changes happened (zero: none wait).
func (p *pending) idle() (idle bool, lazySince time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.scans) > 0 || p.lost {
		return false, time.Time{}
	}
	for _, it := range p.queue {
		if !it.taken {
			return false, time.Time{}
		}
	}
	for _, it := range p.slow {
		if !it.taken && it.look.lazy {
			return true, it.after
		}
	}
	return true, time.Time{}
}
