package replicate

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"

	"georep/internal/change"
	"georep/internal/delta"
	"georep/internal/wire"
)

// whereabouts is where a directory is on the secondary.
type whereabouts struct {
	path string
	sec  change.ID
}

// dirsMax bounds the cache of whereabouts; it is emptied when it is full, and when directories move.
const dirsMax = 1 << 16

// whereIs finds a directory on the secondary: from the cache, or by its names up to the root. Called with mu held.
func (e *Engine) whereIs(id change.ID) (whereabouts, bool, error) {
	type step struct {
		id   change.ID
		name string
		sec  change.ID
	}
	var chain []step
	base := whereabouts{}
	for dir := id; ; {
		if dir == change.StashID {
			base = whereabouts{path: stashPath}
			break
		}
		if w, ok := e.dirs[dir]; ok {
			base = w
			break
		}
		at, sec, ok, err := e.placeOf(dir)
		if err != nil || !ok || len(chain) > 1<<20 {
			return whereabouts{}, false, err
		}
		if at.IsRoot() {
			base = whereabouts{sec: sec}
			e.remember(dir, base)
			break
		}
		chain = append(chain, step{dir, at.Name, sec})
		dir = at.Dir
	}
	for i := len(chain) - 1; i >= 0; i-- {
		base = whereabouts{path: change.Join(base.path, chain[i].name), sec: chain[i].sec}
		e.remember(chain[i].id, base)
	}
	return base, true, nil
}

// stashPath is where the agent keeps displaced objects, relative to the root.
const stashPath = ".georep/hold"

func (e *Engine) remember(id change.ID, w whereabouts) {
	if len(e.dirs) >= dirsMax {
		clear(e.dirs)
	}
	e.dirs[id] = w
}

func (e *Engine) placeOf(dir change.ID) (change.Place, change.ID, bool, error) {
	names, err := e.over.Names(dir)
	if err != nil || len(names) == 0 {
		return change.Place{}, change.ID{}, false, err
	}
	entry, ok, err := e.over.Get(names[0])
	return names[0], entry.Sec, ok, err
}

// ref resolves a place. Called with mu held.
func (e *Engine) ref(at change.Place) (wire.Ref, hindrance, error) {
	if at.IsRoot() {
		return wire.Ref{}, hindNone, nil
	}
	if e.unseen(at.Dir) {
		return wire.Ref{}, hindSuspect, nil
	}
	w, ok, err := e.whereIs(at.Dir)
	if !ok {
		return wire.Ref{}, hindUnknown, err
	}
	return wire.Ref{Dir: wire.Dir{Path: w.path, Sec: w.sec}, Name: at.Name}, hindNone, err
}

// request resolves a task's declaration, or tells why it cannot be sent now.
func (e *Engine) request(t *task) (*wire.Request, hindrance, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := &t.d
	r := &wire.Request{Op: d.Op, Sec: d.Sec, Over: d.Over, Object: d.Object, Replace: d.Unknown, MayRemove: e.halted == ""}
	at, why, err := e.ref(d.At)
	if err != nil || why != hindNone {
		return nil, why, err
	}
	r.At = at
	switch d.Op {
	case change.Link, change.Move:
		return e.requestFrom(r, d)
	case change.Drop:
		// What is there may have got new content, and so another identity, since this was planned.
		if cur, ok, err := e.over.Get(d.At); err != nil || ok && cur.ID == d.Object.ID {
			r.Sec = cur.Sec
			return r, hindNone, err
		}
	case change.Set, change.Times:
		if !r.Sec.IsZero() || d.At.IsRoot() {
			break
		}
		cur, _, err := e.over.Get(d.At)
		if r.Sec = cur.Sec; r.Sec.IsZero() && err == nil && d.Op == change.Times {
			return nil, hindMissing, nil
		}
		if err != nil || r.Sec.IsZero() {
			return nil, hindElsewhere, err
		}
	}
	if d.Op == change.Set {
		return r, hindNone, nil // its other names need not be found: it is one object
	}
	for _, at := range d.Names {
		n, why, err := e.ref(at)
		if err != nil || why != hindNone {
			return nil, hindElsewhere, err // all names or none: what was written would be noted for them all
		}
		r.Names = append(r.Names, n)
	}
	return r, hindNone, nil
}

// requestFrom completes a request that speaks of two places. Called with mu held.
func (e *Engine) requestFrom(r *wire.Request, d *change.Declaration) (*wire.Request, hindrance, error) {
	from, why, err := e.ref(d.From)
	if err != nil || why != hindNone {
		return nil, hindElsewhere, err
	}
	r.From = from
	if r.Sec.IsZero() {
		entry, _, err := e.over.Get(d.From)
		if err != nil {
			return nil, hindElsewhere, err
		}
		r.Sec = entry.Sec
	}
	return r, hindNone, nil
}

func (e *Engine) sendLoop(ctx context.Context) error {
	for n := 0; ; n++ {
		t := e.ready.pop()
		if t == nil {
			return nil
		}
		if e.leaving.Load() {
			if err := e.leave(t, false); err != nil {
				return err
			}
			continue
		}
		if err := e.send(ctx, t, e.peer(uint64(n))); err != nil {
			return err
		}
	}
}

// send brings one task to the secondary, or to those who stream.
func (e *Engine) send(ctx context.Context, t *task, p Peer) error {
	r, why, err := e.request(t)
	if err != nil {
		return err
	}
	if why != hindNone {
		return e.skip(t, why, nil)
	}
	if t.d.Object.Kind == change.File && (t.d.Op == change.Make || t.d.Op == change.Write || t.d.Op == change.Adopt) {
		if e.overtaken(t, r) {
			return nil
		}
		inline, err := e.inline(t)
		switch {
		case err != nil:
			return err
		case inline && len(r.Names) == 0:
			return e.sendInline(ctx, t, r, p)
		case t.d.Object.Size <= inlineMax && (e.o.Carrier == nil || !carriable(t)):
			e.small.push(t)
		default:
			e.detachable(t, e.o.Carrier == nil || !carriable(t), nil)
			e.bulk.push(t)
		}
		return nil
	}
	return e.do(ctx, t, r, p)
}

// inline says whether a file's content may travel inside its request: it is small, and the secondary has nothing that is worth
// a comparison.
func (e *Engine) inline(t *task) (bool, error) {
	d := &t.d
	if t.compare || d.Op == change.Adopt || d.Object.Size > inlineMax {
		return false, nil
	}
	if d.Op == change.Make || e.o.Whole || d.Object.Size <= deltaMin {
		return true, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	old, ok, err := e.over.Get(d.At)
	return ok && old.Size <= deltaMin, err
}

func (e *Engine) do(ctx context.Context, t *task, r *wire.Request, p Peer) error {
	err := p.Do(ctx, r, func(res change.Result) {
		if err := e.end(t, res); err != nil {
			e.die(err)
		}
	})
	if err != nil {
		return &PeerError{"send to the destination", err}
	}
	return nil
}

// sendInline reads a small file and sends it whole, as a new file that replaces the old one.
func (e *Engine) sendInline(ctx context.Context, t *task, r *wire.Request, p Peer) error {
	if err := settle(ctx, t); err != nil {
		return err
	}
	c, err := e.content(ctx, t)
	if c == nil || err != nil {
		return err
	}
	defer c.Close()
	buf := e.buffers.Get().(*[]byte)
	defer e.buffers.Put(buf)
	*buf = slices.Grow((*buf)[:0], int(t.d.Object.Size))
	data := (*buf)[:t.d.Object.Size]
	if _, err := c.ReadAt(data, 0); err != nil && !(errors.Is(err, io.EOF) && len(data) == 0) {
		return e.unread(ctx, t, changedIfShort(err))
	}
	if err := c.Unchanged(); err != nil {
		return e.unread(ctx, t, err)
	}
	if t.d.Op == change.Write {
		r.Op, r.Over = change.Make, t.d.Sec
	}
	r.Inline, r.HasInline, t.inline = data, true, true
	return e.do(ctx, t, r, p)
}

// errShort means that a file ended before its size: it was truncated while it was read.
var errShort = errors.New("the file became shorter while it was read")

func changedIfShort(err error) error {
	if errors.Is(err, io.EOF) {
		return errShort
	}
	return err
}

func (e *Engine) streamLoop(ctx context.Context, q *queue) error {
	for {
		t := q.pop()
		if t == nil {
			return nil
		}
		p, err := e.peer(e.turn.Add(1)), error(nil)
		if e.leaving.Load() {
			err = e.leave(t, false)
		} else if e.o.Carrier != nil && carriable(t) {
			err = e.carry(ctx, append([]*task{t}, q.more(carryFiles-1, carryBytes-t.d.Object.Size, carriable)...), p)
		} else {
			err = e.stream(ctx, t, p)
		}
		if err != nil || t.parked {
			return err
		}
	}
}

// stream sends a file that is large, or has several names, or is to be compared first.
func (e *Engine) stream(ctx context.Context, t *task, p Peer) error {
	r, c, err := e.opened(ctx, t)
	if c == nil || err != nil {
		return err
	}
	defer c.Close()
	if t.compare || t.d.Op == change.Adopt {
		if done, err := e.equal(ctx, t, r, c, p); done || err != nil {
			return err
		}
	}
	streams, cancel := context.WithCancel(e.streams)
	defer cancel()
	if t.d.Object.Size > inlineMax {
		e.detachable(t, true, cancel)
	}
	by := t
	res, err := p.Write(streams, r, c, wire.WriteOptions{
		Progress: func(done, sent int64) { e.sent(t, done, sent) },
		Place: func(ctx context.Context) (*wire.Request, error) {
			c, err := e.placed(ctx, t)
			if c == nil || err != nil {
				return nil, err
			}
			by = c.t
			return byContent(by, c.r), nil
		},
	})
	if err != nil {
		if ctx.Err() == nil && e.streams.Err() == nil {
			if was, err := e.landed(by); was || err != nil {
				return err
			}
		}
		return e.unreadOr(ctx, by, err)
	}
	return e.end(by, res)
}

// equal asks whether the secondary has the content of a task's file already; then the task has ended. It cannot be detached
// meanwhile. Content that is detached is sent without being asked for.
func (e *Engine) equal(ctx context.Context, t *task, r *wire.Request, c Content, p Peer) (done bool, err error) {
	if !e.detachable(t, false, nil) {
		byContent(t, r)
		return false, nil
	}
	same, err := e.compare(e.streams, r, c, p)
	if err != nil {
		return true, e.unreadOr(ctx, t, err)
	}
	if same.Status != change.Exists {
		return true, e.end(t, same)
	}
	byContent(t, r)
	return false, nil
}

// byContent makes a request of a task one that is carried out with content, whatever is at its place.
func byContent(t *task, r *wire.Request) *wire.Request {
	if t.compare || t.d.Op == change.Adopt {
		r.Op, r.Replace, r.HasHash = change.Write, true, false
		if t.d.Op == change.Write {
			r.Replace = t.d.Unknown
		}
	}
	return r
}

// opened resolves a task and opens its file; nothing without an error means that the task has ended here.
func (e *Engine) opened(ctx context.Context, t *task) (*wire.Request, Content, error) {
	r, why, err := e.request(t)
	if err != nil {
		return nil, nil, err
	}
	if why != hindNone {
		return nil, nil, e.skip(t, why, nil)
	}
	if err := settle(ctx, t); err != nil {
		return nil, nil, err
	}
	c, err := e.content(ctx, t)
	return r, c, err
}

// errSize means that a file has been written to since it was observed.
var errSize = errors.New("it has another size by now")

// content opens a task's file; nothing without an error means that the task has ended here. What was read of a file that has another size
// by now, under the size that it had, would be something that it never was; so it is observed again first.
func (e *Engine) content(ctx context.Context, t *task) (Content, error) {
	c, err := e.o.Source.Open(ctx, t.d.Observed(), t.d.Object)
	if err != nil {
		return nil, e.unread(ctx, t, err)
	}
	if c.Size() == t.d.Object.Size {
		return c, nil
	}
	if err := c.Close(); err != nil {
		return nil, e.unread(ctx, t, err)
	}
	return nil, e.skip(t, hindVanished, errSize)
}

// compare asks whether the secondary has the same content already, by hash.
func (e *Engine) compare(ctx context.Context, r *wire.Request, c Content, p Peer) (change.Result, error) {
	h := delta.NewHash(e.seed)
	buf := make([]byte, 256<<10)
	err := c.Extents(c.Size(), func(off, n int64, hole bool) error {
		if hole {
			h.Zeros(n)
			return nil
		}
		return hashRange(ctx, c, h, buf, off, n)
	})
	if err != nil {
		return change.Result{}, localError{err}
	}
	if err := c.Unchanged(); err != nil {
		return change.Result{}, localError{err}
	}
	q := *r
	q.Op, q.Hash, q.HasHash, q.HashSeed = change.Adopt, h.Sum(), true, e.seed
	answer := make(chan change.Result, 1)
	if err := p.Do(ctx, &q, func(res change.Result) { answer <- res }); err != nil {
		return change.Result{}, err
	}
	select {
	case res := <-answer:
		return res, nil
	case <-ctx.Done():
		return change.Result{}, context.Cause(ctx)
	}
}

func hashRange(ctx context.Context, c Content, h *delta.Hash, buf []byte, off, n int64) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buf[:min(n, int64(len(buf)))]
		got, err := c.ReadAt(part, off)
		if got < len(part) {
			return changedIfShort(err)
		}
		_, _ = h.Write(part) // a hash does not fail
		off, n = off+int64(got), n-int64(got)
	}
	return nil
}

// localError marks an error of reading the source.
type localError struct{ error }

func (l localError) Unwrap() error { return l.error }

// unreadOr tells an error of the source (the entry's) from one of the link (the loop's).
func (e *Engine) unreadOr(ctx context.Context, t *task, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if e.streams.Err() != nil {
		return e.leave(t, true)
	}
	var local localError
	var entry interface{ EntryError() bool }
	if errors.As(err, &local) || errors.As(err, &entry) && entry.EntryError() || errors.Is(err, fs.ErrNotExist) {
		return e.unread(ctx, t, err)
	}
	return &PeerError{"send to the destination", err}
}
