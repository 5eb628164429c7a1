package replicate

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// journal is what the parts of a world did, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

// after is the journal behind the first n lines.
func (j *journal) after(n int) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines[n:])
}

// index is the position of the first line with that beginning, from a position on; -1: there is none.
func (j *journal) index(begin string, from int) int {
	for i, line := range j.after(from) {
		if strings.HasPrefix(line, begin) {
			return from + i
		}
	}
	return -1
}

func (j *journal) count(begin string) (n int) {
	for _, line := range j.after(0) {
		if strings.HasPrefix(line, begin) {
			n++
		}
	}
	return n
}
