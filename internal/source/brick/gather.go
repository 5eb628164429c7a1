package brick

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"georep/internal/change"
	"georep/internal/gluster"
	"georep/internal/source/changelog"
)

// takeAsked turns what was asked for into hints.
func (s *Source) takeAsked() {
	s.mu.Lock()
	again, rescan, asked := s.again, s.rescan, s.asked
	s.again, s.rescan, s.asked = nil, nil, false
	s.mu.Unlock()
	if asked {
		s.news = true
	}
	for _, at := range again {
		s.lookAgain(at)
	}
	for _, dir := range rescan {
		s.startCrawl(dir)
	}
}

// lookAgain looks what is at a place now.
func (s *Source) lookAgain(at change.Place) {
	if at.IsRoot() {
		s.pending.add(gluster.Root, hint{asked: true})
		return
	}
	if at.Name == "." {
		s.pending.add(at.Dir, hint{asked: true})
		s.gone = append(s.gone, at)
		return
	}
	id, err := gfidOf(s.tree.at(at), false)
	if err == nil {
		if o, err := s.tree.readOnce(id); err == nil && o.standing != pointer {
			s.pending.add(id, hint{asked: true, content: true})
			return
		}
	}
	e, known, err := s.o.Index.Get(at)
	if err == nil && known {
		s.remove(at, removal{e.ID, e.Kind})
		return
	}
	s.gone = append(s.gone, at)
}

// remove notes a name that may be gone.
func (s *Source) remove(at change.Place, r removal) {
	if at.IsRoot() || at.Dir == change.StashID || s.tree.own(at) {
		return
	}
	old, known := s.removed[at]
	if !known {
		s.removals = append(s.removals, at)
	}
	if !known || old.id == r.id && old.kind == 0 {
		s.removed[at] = r
		return
	}
	if old.id != r.id { // two objects had it, one after the other: whatever is there, if it is not the one that is there now
		s.removed[at] = removal{r.id, r.kind}
	}
}

// gather takes what the journal tells.
func (s *Source) gather() error {
	for s.pending.len() < batchSize && !s.barrier {
		c, ok, err := s.stream.Poll()
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				return fmt.Errorf("%w: %w", ErrBrick, err)
			}
			return fmt.Errorf("%w: %w", ErrBrick, err)
		}
		if !ok {
			return s.stillThere()
		}
		s.chunk(&c)
		if c.Current {
			return nil
		}
	}
	return nil
}

// stillThere notices that the brick's file system is gone.
func (s *Source) stillThere() error {
	if _, err := os.Lstat(s.tree.root + "/.glusterfs"); err != nil {
		return fmt.Errorf("%w: %w", ErrBrick, err)
	}
	return nil
}

func (s *Source) chunk(c *changelog.Chunk) {
	if c.Gap != "" {
		s.note = c.Gap + ": the brick is compared with what the secondary has"
		s.gap = true
		s.startCrawl(gluster.Root)
		s.news = true
	}
	for i := range c.Records {
		s.record(&c.Records[i], c)
	}
	if c.Closed > 0 {
		s.recent.clear()
		s.settle()
		s.past.Closed = max(s.past.Closed, c.Closed)
		s.barrier, s.news = true, true
	}
	if c.Live || c.Current {
		s.history = false
	}
	if c.Current {
		s.current = time.Now()
		s.news = true
	}
}

// record follows one record of the journal.
func (s *Source) record(r *changelog.Record, c *changelog.Chunk) {
	s.news = true
	if !c.Again {
		s.xtime.tell(r.ID)
	}
	born := s.o.Trusted || c.Live && !s.current.IsZero()
	if c.Live && r.Kind != changelog.Entry {
		s.recent.add(r.ID)
	}
	switch r.Kind {
	case changelog.Data:
		s.past.Data++
		s.pending.add(r.ID, hint{content: true, compare: c.Again})
		return
	case changelog.Meta:
		s.past.Metadata++
		s.pending.add(r.ID, hint{compare: c.Again})
		return
	}
	s.past.Entries++
	if s.tree.own(r.At) || r.Fop == changelog.Rename && s.tree.own(r.From) {
		if base, ok := baseOf(r.At); ok {
			s.sharded = true
			s.pending.add(base, hint{part: true})
			return
		}
		s.pending.add(r.ID, hint{})
		return
	}
	s.unsettle(r.At.Dir)
	if r.Fop == changelog.Rename {
		s.unsettle(r.From.Dir)
	}
	switch r.Fop {
	case changelog.Create, changelog.Mkdir, changelog.Symlink:
		if r.Fop != changelog.Create || !s.sharded { // with parts, a change of content is recorded as a creation too: see Trigger
			s.past.Anchor = r.ID
		}
		s.pending.add(r.ID, hint{born: born, content: true}) // as which a change of content is recorded too: see Volume.Trigger
	case changelog.Unlink:
		s.nameGone(r.At, r.ID, 0)
	case changelog.Rmdir:
		s.nameGone(r.At, r.ID, change.Dir)
	case changelog.Rename:
		s.pending.add(r.ID, hint{})
		s.nameGone(r.From, r.ID, 0)
		s.nameGone(r.At, change.ID{}, 0) // another object may have had it
		s.pending.add(r.From.Dir, hint{})
	default:
		s.pending.add(r.ID, hint{})
	}
	s.pending.add(r.At.Dir, hint{})
}

// settlingMax bounds the directories that are remembered for settle.
const settlingMax = 1 << 16

func (s *Source) unsettle(dir change.ID) {
	if s.o.Spread && len(s.settling) < settlingMax {
		s.settling[dir] = true
	}
}

// settle has the directories whose entries changed handed out once more. The workers of other bricks change entries of the same directories on the
// secondary, each in its own time, and with each entry the directory's times; whoever is last must set them.
func (s *Source) settle() {
	for dir := range s.settling {
		s.pending.add(dir, hint{settle: true})
	}
	clear(s.settling)
}

// nameGone notes that a name was taken from an object; a zero id stands for whatever the index has there.
func (s *Source) nameGone(at change.Place, id change.ID, kind change.Kind) {
	e, known, err := s.o.Index.Get(at)
	switch {
	case err == nil && known:
		s.remove(at, removal{e.ID, e.Kind})
		if e.ID != id && !id.IsZero() {
			s.pending.add(id, hint{})
		}
	case id.IsZero():
	default:
		if got, waiting := s.pending.of[id]; waiting && got.born {
			return // it came and went: the secondary has never had it
		}
		s.pending.add(id, hint{})
		s.remove(at, removal{id, kind})
	}
}
