package index

import (
	"bytes"

	"georep/internal/change"
)

// walk goes through all places below a directory, depth first, a directory's own place after all that is below it. Its memory
// grows with the depth alone, and it continues where it stopped in a later transaction.
type walk struct {
	stack   []level
	open    map[change.ID]bool // the directories on the stack: a damaged index must not lead in circles
	visited int64
	done    bool
	visit   func(key []byte) // called for each place with its key, valid during the call only; may be nil
}

// level is one directory of the stack, and the key of the place in it that is being visited or was last.
type level struct {
	dir change.ID
	at  []byte
}

// walkStep is how many places one transaction visits.
const walkStep = 8192

func newWalk(dir change.ID) *walk {
	return &walk{stack: []level{{dir: dir}}, open: map[change.ID]bool{dir: true}}
}

// step visits the next places: at most walkStep, or as many as make limit visited in all (if that is positive).
func (w *walk) step(r *reader, limit int64) error {
	end := w.visited + walkStep
	if limit > 0 {
		end = min(end, limit)
	}
	var k, v []byte
	moved := true // the cursor does not stand on the top level's last place
	for w.visited < end {
		if len(w.stack) == 0 {
			w.done = true
			return nil
		}
		top := &w.stack[len(w.stack)-1]
		if moved {
			k, v = r.tree.seek(top.from(r))
			moved = false
		} else {
			k, v = r.tree.next()
		}
		if !bytes.HasPrefix(k, top.dir[:]) {
			w.leave()
			moved = true
			continue
		}
		top.at = append(top.at[:0], k...)
		head, err := decodeHead(v)
		if err != nil {
			return err
		}
		if head.kind == change.Dir && !w.open[head.id] {
			w.enter(head.id)
			moved = true
			continue
		}
		w.found(k)
	}
	return nil
}

// from is the key from which the level continues.
func (l *level) from(r *reader) []byte {
	if l.at == nil {
		return l.dir[:]
	}
	r.key = append(append(r.key[:0], l.at...), 0)
	return r.key
}

func (w *walk) enter(dir change.ID) {
	w.stack = append(w.stack, level{dir: dir})
	w.open[dir] = true
}

// leave ends a directory, whose own place in the level above is visited now.
func (w *walk) leave() {
	n := len(w.stack) - 1
	delete(w.open, w.stack[n].dir)
	w.stack = w.stack[:n]
	if n > 0 {
		w.found(w.stack[n-1].at)
	}
}

func (w *walk) found(key []byte) {
	w.visited++
	if w.visit != nil {
		w.visit(key)
	}
}
