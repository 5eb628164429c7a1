package replicate

import "sync"

// queue hands tasks to goroutines in order. Its length is bounded by the batches that may be open.
type queue struct {
	mu     sync.Mutex
	cond   *sync.Cond
	tasks  []*task
	closed bool
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
	q.tasks = append(q.tasks, ts...)
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
	for len(q.tasks) == 0 && !q.closed {
		q.cond.Wait()
	}
	if q.closed {
		return nil
	}
	t := q.tasks[0]
	q.tasks[0] = nil
	q.tasks = q.tasks[1:]
	return t
}

// more takes further tasks that are waiting now and that fit: at most n of them, with content of at most that many bytes.
func (q *queue) more(n int, bytes int64, fits func(*task) bool) []*task {
	q.mu.Lock()
	defer q.mu.Unlock()
	var taken []*task
	for len(q.tasks) > 0 && len(taken) < n && !q.closed {
		t := q.tasks[0]
		if bytes -= t.d.Object.Size; bytes < 0 || !fits(t) {
			break
		}
		taken = append(taken, t)
		q.tasks[0] = nil
		q.tasks = q.tasks[1:]
	}
	return taken
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.cond.Broadcast()
}
