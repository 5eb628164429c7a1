package replicate

import (
	"slices"
	"testing"

	"georep/internal/change"
)

func TestTheOldestBatchComesFirst(t *testing.T) {
	task1 := func(gen uint64, size int64) *task {
		return &task{b: &batch{gen: gen}, d: change.Declaration{Object: change.Object{Size: size}}}
	}
	a1, a2, a3 := task1(1, 10), task1(1, 20), task1(1, 30)
	b1, b2 := task1(2, 10), task1(2, 10)
	c1 := task1(3, 10)
	q := newQueue()
	q.push(b1)
	q.push(c1, a1, a2)
	if got := q.pop(); got != a1 {
		t.Fatal("a task of a younger batch, or a later one of the oldest, came before the first")
	}
	q.push(b2, a3)
	any := func(*task) bool { return true }
	if got := q.more(5, 59, any); !slices.Equal(got, []*task{a2, a3}) {
		t.Fatalf("took %d tasks of 20, 30 and 10 bytes when 59 bytes were asked for", len(got))
	}
	if got := q.more(2, 100, any); !slices.Equal(got, []*task{b1, b2}) {
		t.Fatalf("took %d tasks of the second batch when two were asked for", len(got))
	}
	if got := q.more(1, 100, func(*task) bool { return false }); got != nil {
		t.Fatal("took a task that does not fit")
	}
	if got := q.pop(); got != c1 {
		t.Fatal("the last task is another")
	}
	q.push(a1)
	q.close()
	if q.pop() != nil {
		t.Fatal("a queue that is closed gave a task")
	}
}
