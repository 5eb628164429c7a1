package replicate

import (
	"cmp"
	"slices"
	"sync"
)

// queue hands tasks to goroutines: those of the oldest batch first, and of each batch in their order. What a batch has left when its
// first stages have ended would else stand behind all that younger ones have to do, so that all would end at once, and the
// secondary would have nothing to do while what they did is made safe. Its length is bounded by the batches that may be open.
type queue struct {
	mu     sync.Mutex
	cond   *sync.Cond
	lanes  []lane // that have tasks, the oldest batch's first
	closed bool
}

// lane are the tasks of one batch.
type lane struct {
	gen   uint64
	tasks []*task
}

func newQueue() *queue {
	q := &queue{}
	q.cond = sync.NewCond(&q.mu)
	return q
}

func (q *queue) push(ts ...*task) {
	if len(ts) == 0 {
		return
	}
	q.mu.Lock()
	for _, t := range ts {
		i, found := slices.BinarySearchFunc(q.lanes, t.b.gen, func(l lane, gen uint64) int { return cmp.Compare(l.gen, gen) })
		if !found {
			q.lanes = slices.Insert(q.lanes, i, lane{gen: t.b.gen})
		}
		q.lanes[i].tasks = append(q.lanes[i].tasks, t)
	}
	q.mu.Unlock()
	if len(ts) == 1 {
		q.cond.Signal()
	} else {
		q.cond.Broadcast()
	}
}

// pop waits for a task; nil means that the queue was closed.
func (q *queue) pop() *task {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.lanes) == 0 && !q.closed {
		q.cond.Wait()
	}
	if q.closed {
		return nil
	}
	return q.take()
}

// more takes further tasks that are waiting now and that fit: at most n of them, with content of at most that many bytes.
func (q *queue) more(n int, bytes int64, fits func(*task) bool) []*task {
	q.mu.Lock()
	defer q.mu.Unlock()
	var taken []*task
	for len(q.lanes) > 0 && len(taken) < n && !q.closed {
		t := q.lanes[0].tasks[0]
		if bytes -= t.d.Object.Size; bytes < 0 || !fits(t) {
			break
		}
		taken = append(taken, q.take())
	}
	return taken
}

// take removes the first task. Called with mu held, and only when there is one.
func (q *queue) take() *task {
	first := &q.lanes[0]
	t := first.tasks[0]
	first.tasks[0] = nil
	if first.tasks = first.tasks[1:]; len(first.tasks) == 0 {
		q.lanes = slices.Delete(q.lanes, 0, 1)
	}
	return t
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.cond.Broadcast()
}
