package brick

import (
	"context"
	"errors"
	"slices"
	"syscall"

	"georep/internal/change"
	"georep/internal/gluster"
)

// unclearTries is how often an object whose names do not agree is looked at before what is certain of it is handed out.
const unclearTries = 20

// observe looks at pending objects and hands out what they are.
func (s *Source) observe(ctx context.Context, b *Batch) error {
	for len(b.Seen) < batchSize {
		id, h, ok := s.pending.next()
		if !ok {
			return nil
		}
		if err := s.look(ctx, b, id, h); err != nil {
			return err
		}
	}
	return nil
}

// look hands out one object.
func (s *Source) look(ctx context.Context, b *Batch, id change.ID, h hint) error {
	s.fresh++
	fresh := s.fresh
	o, err := s.tree.read(ctx, id)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return s.problem(b, id, err)
	}
	switch o.standing {
	case missing, pointer:
		if h.part && s.sharded { // the brick that has the first part has the names too
			if err := s.o.Volume.Trigger(ctx, id); err != nil {
				s.note = err.Error()
			}
			return nil
		}
		return s.lost(id)
	case internal:
		if !o.base.IsZero() {
			s.sharded = true
			s.pending.add(o.base, hint{part: true})
			return nil
		}
		return s.lost(id)
	case unclear:
		if h.tries < unclearTries {
			s.pending.postpone(id, h)
			return nil
		}
		if o.Kind == 0 {
			return s.lost(id)
		}
	}
	return s.hand(ctx, b, &o, h, fresh)
}

// lost notes that all names that the secondary has of an object may be gone.
func (s *Source) lost(id change.ID) error {
	names, err := s.o.Index.Names(id)
	if err != nil {
		return err
	}
	for _, at := range names {
		s.remove(at, removal{id, 0})
	}
	return nil
}

// hand puts the observations of an object, and of the directories above it that the secondary does not have, into the batch.
func (s *Source) hand(ctx context.Context, b *Batch, o *object, h hint, fresh uint64) error {
	known, err := s.o.Index.Names(o.ID)
	if err != nil {
		return err
	}
	if o.standing == here {
		for _, at := range known {
			if !slices.Contains(o.names, at) {
				s.remove(at, removal{o.ID, o.Kind})
			}
		}
	}
	if len(o.names) == 0 {
		return nil
	}
	if gone, err := s.spread(ctx, o); err != nil || gone {
		if gone {
			err = s.lost(o.ID) // it is being removed: its journal will say so
		}
		return err
	}
	part := h.part || h.content && o.sharded && !h.compare
	equal, entry, err := s.equal(o, known)
	if err != nil {
		return err
	}
	if h.settle && entry != nil && len(known) == 1 && o.Kind == change.Dir && known[0] == o.names[0] {
		doubtful := *entry
		doubtful.Mtime = change.Time{}
		if err := s.o.Index.Assume(known[0], doubtful); err != nil {
			return err
		}
		equal = false
	}
	if equal && !part && (h.compare || !h.asked && !h.content && o.Kind == change.Dir) {
		s.count(true)
		return nil
	}
	s.count(false)
	content := o.Kind == change.File && entry != nil && (part || h.content && entry.Ctime != o.Ctime)
	if ok, err := s.aboveAll(ctx, b, o, h); err != nil || !ok {
		return err
	}
	for _, at := range o.names {
		delete(s.removed, at)
		b.Seen = append(b.Seen, change.Observation{At: at, Object: o.Object, Content: content, Fresh: fresh})
	}
	if o.Kind == change.Dir {
		s.show(o.ID)
	}
	return nil
}

// spread gives a directory the attributes that all bricks together have. gone: the volume does not have it any more.
func (s *Source) spread(ctx context.Context, o *object) (gone bool, err error) {
	if o.Kind != change.Dir || !s.o.Spread {
		return false, nil
	}
	attr, err := s.o.Volume.Attributes(ctx, o.ID)
	switch {
	case errors.Is(err, syscall.ENOENT):
		return true, nil
	case err == nil:
		attr.Xattrs = o.Xattrs
		o.Attr = attr
	}
	return false, context.Cause(ctx) // else the brick's own must do
}

// aboveAll hands out the directories above all names of an object that the secondary does not have. Not ok: they cannot be read now.
func (s *Source) aboveAll(ctx context.Context, b *Batch, o *object, h hint) (bool, error) {
	for _, at := range o.names {
		if at.IsRoot() {
			continue
		}
		ok, err := s.above(ctx, b, at.Dir)
		if err != nil {
			return false, err
		}
		if !ok && h.tries < unclearTries {
			s.pending.postpone(o.ID, h)
			return false, nil
		}
		if !ok {
			s.note = "the directory of " + at.Name + " cannot be read; it is looked at again when something changes there"
			return false, nil
		}
	}
	return true, nil
}

func (s *Source) count(equal bool) {
	if s.crawl != nil {
		s.crawl.entries++
		if equal {
			s.crawl.equal++
		}
	}
}

// equal says whether the index has an object just as it is, under all its names and no others.
func (s *Source) equal(o *object, known []change.Place) (bool, *change.Entry, error) {
	if len(known) == 0 {
		return false, nil, nil
	}
	e, ok, err := s.o.Index.Get(known[0])
	if err != nil || !ok {
		return false, nil, err
	}
	if len(known) != len(o.names) {
		return false, &e, nil
	}
	for _, at := range known {
		if !slices.Contains(o.names, at) {
			return false, &e, nil
		}
	}
	same := e.Kind == o.Kind && e.Size == o.Size && e.Mtime == o.Mtime && e.Mode == o.Mode && e.UID == o.UID && e.GID == o.GID && !e.Racy &&
		e.Target == o.Target && e.Rdev == o.Rdev && (e.Ctime == o.Ctime || o.Kind == change.Dir && s.o.XattrSum(o.Xattrs) == e.XattrSum)
	return same, &e, nil
}

// shownMax bounds the directories that are remembered as handed out.
const shownMax = 1 << 16

func (s *Source) show(dir change.ID) {
	if len(s.shown) >= shownMax {
		clear(s.shown)
	}
	s.shown[dir] = true
}

// above hands out the directories above a place that the secondary does not have. Not ok: one of them is not where it can be read now.
func (s *Source) above(ctx context.Context, b *Batch, dir change.ID) (bool, error) {
	var chain []object
	for ; ; dir = chain[len(chain)-1].names[0].Dir {
		if s.shown[dir] {
			break
		}
		known, err := s.o.Index.Names(dir)
		if err != nil {
			return false, err
		}
		if len(known) > 0 {
			break
		}
		s.fresh++
		o, err := s.tree.read(ctx, dir)
		if err != nil {
			return false, err
		}
		if o.standing != here || o.Kind != change.Dir || len(chain) > 1<<16 {
			return false, nil
		}
		chain = append(chain, o)
		if dir == gluster.Root {
			break
		}
	}
	for i := len(chain) - 1; i >= 0; i-- {
		o := &chain[i]
		if gone, err := s.spread(ctx, o); err != nil || gone {
			return false, err
		}
		s.fresh++
		delete(s.removed, o.names[0])
		b.Seen = append(b.Seen, change.Observation{At: o.names[0], Object: o.Object, Fresh: s.fresh})
		s.show(o.ID)
	}
	return true, nil
}

// problem notes an object that cannot be read.
func (s *Source) problem(b *Batch, id change.ID, err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	if err := s.stillThere(); err != nil {
		return err
	}
	names, other := s.o.Index.Names(id)
	if other != nil {
		return other
	}
	for _, at := range names {
		b.Problems = append(b.Problems, Problem{At: at, Path: at.Name, Call: "read", Errno: errno})
	}
	if len(names) == 0 {
		s.note = "an object of the brick cannot be read: " + err.Error()
	}
	return nil
}
