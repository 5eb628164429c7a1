package source

import (
	"errors"
	"fmt"
	"io/fs"

	"georep/internal/change"
	"georep/internal/rooted"
	"georep/internal/source/scan"
	"georep/internal/source/spill"
)

// absentMemory is the memory in bytes for candidates that wait; the rest is in a file.
const absentMemory = 4 << 20

// sweep holds candidates for absence in two heaps: those that came lately, and those whose time comes when everything that was
// queued before their ticket has been handed out.
type sweep struct {
	late   *spill.Stack
	ripe   *spill.Stack
	ticket uint64 // of ripe
}

func newSweep(dir string) *sweep {
	return &sweep{late: spill.New(dir, absentMemory), ripe: spill.New(dir, absentMemory)}
}

func (s *sweep) close() {
	s.late.Reset()
	s.ripe.Reset()
}

func (s *sweep) empty() bool { return s.late.Len() == 0 && s.ripe.Len() == 0 }

// add takes candidates.
func (s *sweep) add(places []change.Place) error {
	var b []byte
	for _, at := range places {
		b = append(append(b[:0], at.Dir[:]...), at.Name...)
		if err := s.late.Push(b); err != nil {
			return fmt.Errorf("keep a vanished name: %w", err)
		}
	}
	return nil
}

// ripen gives the late candidates a ticket, if no others have one. The caller has read all events that were queued.
func (s *sweep) ripen(ticket func() uint64) {
	if s.ripe.Len() == 0 && s.late.Len() > 0 {
		s.late, s.ripe = s.ripe, s.late
		s.ticket = ticket()
	}
}

// take takes up to n of the ripe candidates.
func (s *sweep) take(n int) ([]change.Place, error) {
	var places []change.Place
	for len(places) < n {
		record, ok, err := s.ripe.Pop()
		if err != nil {
			return nil, fmt.Errorf("take a vanished name: %w", err)
		}
		if !ok {
			break
		}
		var at change.Place
		at.Name = string(record[copy(at.Dir[:], record):])
		places = append(places, at)
	}
	return places, nil
}

// confirm looks at candidates once more, and adds to the batch those that are absent in a directory that is in the tree. What
// has come back is looked at like any other place.
func (v *Volume) confirm(places []change.Place, b *Batch) {
	groups := make(map[change.ID][]change.Place)
	var order []change.ID
	for _, at := range places {
		if groups[at.Dir] == nil {
			order = append(order, at.Dir)
		}
		groups[at.Dir] = append(groups[at.Dir], at)
	}
	for _, id := range order {
		dir, path, err := v.dirs.open(id, "")
		if err != nil {
			v.unconfirmed(groups[id], path, err, b)
			continue
		}
		left := v.excludedPath(path)
		for _, at := range groups[id] {
			v.confirmOne(dir, path, at, left, b)
		}
		dir.Close()
	}
}

func (v *Volume) confirmOne(dir *rooted.Dir, path string, at change.Place, left bool, b *Batch) {
	fresh := v.tick()
	o, err := dir.StatLite(at.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && (left || v.excluded(path, at.Name, o.Kind == change.Dir)):
		if e, ok, err := v.o.Index.Get(at); err != nil || !ok || e.Kind == change.Dir {
			v.known.clear() // should any of the directories below come back, the secondary has to be told of it anew
			v.next.dropped = fresh
		}
		b.Seen = append(b.Seen, change.Observation{At: at, Absent: true, Fresh: fresh})
	case err == nil:
		v.pending.add(at, look{follow: true})
	default:
		v.problem(b, at, change.Join(path, at.Name), err)
	}
}

// unconfirmed deals with candidates in a directory that cannot be opened: gone with it, or unknown.
func (v *Volume) unconfirmed(places []change.Place, path string, err error, b *Batch) {
	if errors.Is(err, errAstray) {
		for _, at := range places {
			v.pending.add(at, look{follow: true}) // it becomes a candidate again, when its directory has been found
		}
		return
	}
	if errors.Is(err, scan.ErrGone) {
		// What the index has of the directory itself is not right any more, and says it all.
		b.Gone = append(b.Gone, places...)
		if at, ok := v.dirs.acknowledged(places[0].Dir); ok {
			v.pending.add(at, look{follow: true})
		}
		return
	}
	for _, at := range places {
		v.problem(b, at, change.Join(path, at.Name), err)
	}
}

// checkRoot returns ErrSourceReplaced when the root is not what it was.
func (v *Volume) checkRoot() error {
	self, err := v.o.Root.Top().Self()
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrSourceReplaced, err)
	}
	_, _, device, _, err := v.o.Root.Statfs()
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrSourceReplaced, err)
	}
	if self.ID != v.rootID || device != v.device || self.Nlink == 0 {
		return ErrSourceReplaced
	}
	if v.o.Path == "" {
		return nil
	}
	there, err := rooted.Open(v.o.Path)
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrSourceReplaced, err)
	}
	defer there.Close()
	other, err := there.Top().Self()
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrSourceReplaced, err)
	}
	_, _, device, _, err = there.Statfs()
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrSourceReplaced, err)
	}
	if other.ID != v.rootID || device != v.device {
		return ErrSourceReplaced
	}
	return nil
}

// rootEmpty says whether the root holds nothing at all.
func (v *Volume) rootEmpty() (bool, error) {
	dir, err := v.o.Root.OpenDir("")
	if err != nil {
		return false, fmt.Errorf("open source root: %w", err)
	}
	defer dir.Close()
	found := errors.New("found")
	err = dir.Entries(nil, func(name string, _ change.Kind, _ uint64) error {
		if name == reserved {
			return nil
		}
		return found
	})
	if errors.Is(err, found) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list source root: %w", err)
	}
	return true, nil
}
