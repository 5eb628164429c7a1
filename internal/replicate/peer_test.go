package replicate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"

	"georep/internal/change"
	"georep/internal/wire"
)

// thing is an object of the secondary.
type thing struct {
	change.Object                      // ID is the identity there
	primary       change.ID            // for which it was made
	entries       map[string]change.ID // of a directory
	data          string               // of a file
}

// disk is a secondary in memory.
type disk map[change.ID]*thing

func (d disk) clone() disk {
	out := disk{}
	for id, t := range d {
		c := *t
		c.entries = maps.Clone(t.entries)
		out[id] = &c
	}
	return out
}

// Fixed identities of the secondary.
var (
	secRoot  = change.NewID(1_000_001, 7)
	secStash = change.NewID(1_000_002, 7)
)

// peer is a secondary in memory that loses, when its power fails, what was not committed.
type peer struct {
	j  *journal
	st *store

	mu        sync.Mutex
	now       disk // as programs see it
	safe      disk // as it would be after a power failure
	next      uint64
	held      []func()                                         // answers that wait for release
	hold      func(r *wire.Request) bool                       // whether a request waits
	answer    func(r *wire.Request) (change.Result, bool)      // instead of carrying it out
	link      func(what string) error                          // an error breaks the link
	onCommit  func(ctx context.Context, purge bool) error      // between the beginning and the end of a commit
	onLook    func(dir wire.Dir) error                         // before a listing
	onContent func(ctx context.Context, r *wire.Request) error // while content is on its way
	wrong     []string                                         // rules that were broken
	looking   int
	mostLook  int
}

func newPeer(j *journal, st *store) *peer {
	p := &peer{j: j, st: st, next: 2_000_000}
	dir := func(id change.ID) *thing {
		return &thing{Object: change.Object{ID: id, Kind: change.Dir}, entries: map[string]change.ID{}}
	}
	p.now = disk{secRoot: dir(secRoot), secStash: dir(secStash)}
	p.safe = p.now.clone()
	return p
}

func (p *peer) wronged(format string, args ...any) {
	p.wrong = append(p.wrong, fmt.Sprintf(format, args...))
}

func (p *peer) Do(ctx context.Context, r *wire.Request, done func(change.Result)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.j.add("do %s %s", r.Op, r.At.Path())
	if p.link != nil {
		if err := p.link("do " + r.Op.String()); err != nil {
			return err
		}
	}
	p.announced(r)
	mine := *r
	mine.Inline = slices.Clone(r.Inline)
	r = &mine
	finish := func() {
		p.mu.Lock()
		res := p.carryOut(r)
		p.mu.Unlock()
		p.j.add("done %s %s %s", r.Op, r.At.Path(), res.Status)
		done(res)
	}
	if p.hold != nil && p.hold(r) {
		p.held = append(p.held, finish)
		return nil
	}
	go finish()
	return nil
}

// announced makes sure that what a request may change was noted durably before. Called with mu held.
func (p *peer) announced(r *wire.Request) {
	doubt := p.st.doubtful()
	dir := p.dir(r.At.Dir)
	self := r.Op == change.Times || r.Op == change.Set && r.Object.Kind == change.Dir
	switch {
	case r.Op == change.Adopt && r.HasHash: // a question
	case self && !doubt[r.Object.ID]:
		p.wronged("%s of directory %s was not announced", r.Op, r.At.Path())
	case self, r.At.IsRoot(), dir == nil, dir.ID == secStash:
	case dir.ID == secRoot && !doubt[rootID], dir.ID != secRoot && !doubt[dir.primary]:
		p.wronged("%s %s was not announced", r.Op, r.At.Path())
	}
}

// release answers what is held back, and holds nothing more.
func (p *peer) release() {
	p.mu.Lock()
	held := p.held
	p.held, p.hold = nil, nil
	p.mu.Unlock()
	for _, finish := range held {
		finish()
	}
}

// dir finds a directory. Called with mu held.
func (p *peer) dir(d wire.Dir) *thing {
	switch {
	case d.Path == stashPath:
		return p.now[secStash]
	case d.Path == "":
		return p.now[secRoot]
	}
	t := p.now[secRoot]
	for _, name := range strings.Split(d.Path, "/") {
		if t = p.now[t.entries[name]]; t == nil || t.Kind != change.Dir {
			return nil
		}
	}
	if !d.Sec.IsZero() && t.ID != d.Sec {
		return nil
	}
	return t
}

// at finds what is at a place, and the directory. Called with mu held.
func (p *peer) at(r wire.Ref) (dir, t *thing) {
	if r.IsRoot() {
		return nil, p.now[secRoot]
	}
	if dir = p.dir(r.Dir); dir == nil {
		return nil, nil
	}
	return dir, p.now[dir.entries[r.Name]]
}

// carryOut does what a request says, as far as this needs. Called with mu held.
func (p *peer) carryOut(r *wire.Request) change.Result {
	if p.answer != nil {
		if res, ok := p.answer(r); ok {
			return res
		}
	}
	dir, t := p.at(r.At)
	if dir == nil && !r.At.IsRoot() {
		return change.Result{Status: change.Stale}
	}
	switch r.Op {
	case change.Make, change.Adopt, change.Write:
		return p.make(r, dir, t)
	case change.Link, change.Move:
		return p.name(r, dir, t)
	case change.Drop:
		if t == nil {
			return change.Result{Status: change.Applied}
		}
		if !r.Sec.IsZero() && t.ID != r.Sec {
			return change.Result{Status: change.Stale}
		}
		delete(dir.entries, r.At.Name)
		return change.Result{Status: change.Applied}
	}
	if t == nil || !r.Sec.IsZero() && t.ID != r.Sec {
		return change.Result{Status: change.Stale}
	}
	p.set(t, r)
	return change.Result{Status: change.Applied, Sec: t.ID}
}

func (p *peer) set(t *thing, r *wire.Request) {
	id, size := t.ID, t.Size
	t.Object = r.Object
	t.ID, t.primary = id, r.Object.ID
	if r.Op == change.Set || r.Op == change.Times {
		t.Size = size
	}
}

func (p *peer) make(r *wire.Request, dir, t *thing) change.Result {
	wanted := t != nil && (r.Replace || t.ID == r.Over || t.ID == r.Sec)
	switch {
	case r.At.IsRoot():
		p.set(t, r)
		return change.Result{Status: change.Applied, Sec: t.ID}
	case t != nil && t.Kind == change.Dir && r.Object.Kind == change.Dir:
		p.set(t, r)
		return change.Result{Status: change.Applied, Sec: t.ID}
	case t != nil && !wanted:
		return change.Result{Status: change.Exists}
	case r.Op == change.Adopt && r.HasHash:
		return change.Result{Status: change.Exists}
	case r.Op == change.Write && t == nil && !r.Replace:
		return change.Result{Status: change.Stale}
	}
	p.next++
	n := &thing{Object: change.Object{ID: change.NewID(p.next, 7), Kind: r.Object.Kind}, data: string(r.Inline)}
	if r.Object.Kind == change.Dir {
		n.entries = map[string]change.ID{}
	}
	p.now[n.ID] = n
	p.set(n, r)
	dir.entries[r.At.Name] = n.ID
	for _, at := range r.Names {
		if d := p.dir(at.Dir); d != nil {
			d.entries[at.Name] = n.ID
		}
	}
	return change.Result{Status: change.Applied, Sec: n.ID, Created: true}
}

func (p *peer) name(r *wire.Request, dir, t *thing) change.Result {
	fromDir, from := p.at(r.From)
	switch {
	case t != nil && t.ID == r.Sec:
		return change.Result{Status: change.Applied, Sec: t.ID}
	case from == nil || from.ID != r.Sec:
		return change.Result{Status: change.Stale}
	case t != nil && t.ID != r.Over && !r.Replace:
		return change.Result{Status: change.Exists}
	}
	dir.entries[r.At.Name] = from.ID
	if r.Op == change.Move {
		delete(fromDir.entries, r.From.Name)
	}
	return change.Result{Status: change.Applied, Sec: from.ID}
}

func (p *peer) Write(ctx context.Context, r *wire.Request, c wire.Content, o wire.WriteOptions) (change.Result, error) {
	data := make([]byte, c.Size())
	if _, err := c.ReadAt(data, 0); err != nil && len(data) > 0 {
		return change.Result{}, localError{err}
	}
	p.mu.Lock()
	on := p.onContent
	p.mu.Unlock()
	if on != nil {
		p.j.add("content of %s", r.At.Path())
		if err := on(ctx, r); err != nil {
			return change.Result{}, err
		}
	}
	if err := c.Unchanged(); err != nil {
		return change.Result{}, localError{err}
	}
	o.Progress(c.Size(), c.Size())
	if o.Place != nil {
		final, err := o.Place(ctx)
		if err != nil {
			return change.Result{}, err
		}
		if final != nil {
			r = final
		}
	}
	q := *r
	q.Inline = data
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

func (p *peer) Look(_ context.Context, d wire.Dir, each func(wire.Entry) error) error {
	p.mu.Lock()
	p.looking++
	p.mostLook = max(p.mostLook, p.looking)
	on := p.onLook
	p.mu.Unlock()
	defer func() { p.mu.Lock(); p.looking--; p.mu.Unlock() }()
	p.j.add("look %q", d.Path)
	if on != nil {
		if err := on(d); err != nil {
			return err
		}
	}
	p.mu.Lock()
	t := p.dir(d)
	if t == nil {
		p.mu.Unlock()
		return wire.ErrStale
	}
	var list []wire.Entry
	for _, name := range slices.Sorted(maps.Keys(t.entries)) {
		list = append(list, wire.Entry{Name: name, Object: p.now[t.entries[name]].Object})
	}
	p.mu.Unlock()
	for _, e := range list {
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}

func (p *peer) Commit(ctx context.Context, _ string, purge bool) error {
	p.mu.Lock()
	at, on := p.now.clone(), p.onCommit
	if p.link != nil {
		if err := p.link("commit"); err != nil {
			p.mu.Unlock()
			return err
		}
	}
	p.mu.Unlock()
	if purge {
		p.j.add("purge")
	} else {
		p.j.add("commit")
	}
	if on != nil {
		if err := on(ctx, purge); err != nil {
			return err
		}
	}
	p.mu.Lock()
	p.safe = at
	p.mu.Unlock()
	p.j.add("committed")
	return nil
}

// acknowledged makes sure that what the store is about to note would survive a power failure of the secondary, but where a
// batch that is still open has made the store doubt it.
func (p *peer) acknowledged(gens []uint64, effects []Effect) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	doubt := p.st.doubtful(gens...)
	last := map[change.Place]Effect{}
	for _, f := range effects {
		last[f.At] = f
	}
	for _, f := range last {
		if f.Entry == nil || f.Entry.Racy || doubt[f.At.Dir] || f.Entry.Kind == change.Dir && doubt[f.Entry.ID] {
			continue
		}
		t := p.safe[f.Entry.Sec]
		if t == nil || t.Kind != f.Entry.Kind || t.Mode != f.Entry.Mode || t.Size != f.Entry.Size {
			p.wronged("%q was noted and is not safe", f.At.Name)
		}
	}
	return nil
}

// refused is a failure as the agent answers it.
func refused(no syscall.Errno, call string) change.Result {
	return change.Result{Status: change.Failed, Errno: no, Call: call}
}

var errLink = errors.New("the link broke")
