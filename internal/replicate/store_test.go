package replicate

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"georep/internal/change"
)

// store is an index in memory.
type store struct {
	j *journal

	mu       sync.Mutex
	entries  map[change.Place]change.Entry
	intents  map[uint64][]change.ID
	onCommit func(gens []uint64, effects []Effect) error
	onBegin  func(gen uint64, dirs []change.ID) error
}

func newStore(j *journal) *store {
	return &store{j: j, entries: map[change.Place]change.Entry{}, intents: map[uint64][]change.ID{}}
}

func (s *store) Get(at change.Place) (change.Entry, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[at]
	return e, ok, nil
}

func (s *store) Names(id change.ID) (out []change.Place, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, e := range s.entries {
		if e.ID == id {
			out = append(out, at)
		}
	}
	slices.SortFunc(out, func(a, b change.Place) int {
		return strings.Compare(string(a.Dir[:])+a.Name, string(b.Dir[:])+b.Name)
	})
	return out, nil
}

func (s *store) List(dir change.ID, after string, fn func(string, change.Entry) error) error {
	s.mu.Lock()
	here := map[string]change.Entry{}
	for at, e := range s.entries {
		if at.Dir == dir && !at.IsRoot() && at.Name > after {
			here[at.Name] = e
		}
	}
	s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(here)) {
		if err := fn(name, here[name]); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) Count(dir change.ID, limit int64) (n int64, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dirs := []change.ID{dir}
	for len(dirs) > 0 && n < limit {
		for at, e := range s.entries {
			if at.Dir == dirs[0] && !at.IsRoot() {
				n++
				if e.Kind == change.Dir {
					dirs = append(dirs, e.ID)
				}
			}
		}
		dirs = dirs[1:]
	}
	return min(n, limit), nil
}

func (s *store) Total() (entries, bytes int64, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		entries++
		bytes += e.Size
	}
	return entries, bytes, nil
}

func (s *store) Begin(gen uint64, dirs []change.ID) error {
	s.mu.Lock()
	on := s.onBegin
	s.intents[gen] = dirs
	s.mu.Unlock()
	s.j.add("begin %d", gen)
	if on != nil {
		return on(gen, dirs)
	}
	return nil
}

// Mark implements Store.
func (s *store) Mark() string { return "mark" }

func (s *store) Commit(gens []uint64, effects []Effect, _ string) error {
	s.mu.Lock()
	on := s.onCommit
	s.mu.Unlock()
	if on != nil {
		if err := on(gens, effects); err != nil {
			return err
		}
	}
	s.apply(effects)
	s.mu.Lock()
	for _, gen := range gens {
		delete(s.intents, gen)
	}
	s.mu.Unlock()
	s.j.add("noted %v", gens)
	return nil
}

func (s *store) Reconcile(effects []Effect, _ []change.ID) error {
	s.apply(effects)
	s.j.add("reconciled %d", len(effects))
	return nil
}

func (s *store) apply(effects []Effect) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range effects {
		if !f.Tree.IsZero() {
			s.deleteTree(f.Tree)
		}
		if f.Entry == nil {
			delete(s.entries, f.At)
		} else {
			s.entries[f.At] = *f.Entry
		}
	}
}

func (s *store) deleteTree(dir change.ID) {
	for at, e := range s.entries {
		if at.Dir == dir && !at.IsRoot() {
			delete(s.entries, at)
			if e.Kind == change.Dir {
				s.deleteTree(e.ID)
			}
		}
	}
}

// doubtful lists the directories that open intents name, but for those of some generations.
func (s *store) doubtful(but ...uint64) map[change.ID]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[change.ID]bool{}
	for gen, dirs := range s.intents {
		for _, dir := range dirs {
			out[dir] = out[dir] || !slices.Contains(but, gen)
		}
	}
	return out
}
