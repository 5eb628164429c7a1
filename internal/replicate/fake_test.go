package replicate

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"georep/internal/change"
	"georep/internal/status"
)

// objectID is the identity of the n-th object of the primary.
func objectID(n uint64) change.ID { return change.NewID(n, n*31) }

// rootID is the identity of the primary's root.
var rootID = objectID(1)

// source is a tree in memory whose changes are handed out when a test says so, and whatever the engine asks for again at once.
type source struct {
	j  *journal
	st *store

	mu      sync.Mutex
	tree    map[change.Place]change.Object
	content map[change.ID][]byte
	batches []Batch
	again   []change.Place
	rescan  []change.ID
	told    bool // that it has caught up
	fresh   uint64
	wake    chan struct{}
	scan    bool                               // a scan is said to be running
	onAgain func(places []change.Place)        // called before anything asked for again is queued
	open    func(at change.Place) error        // nil error: the file opens
	reading func(at change.Place, n int) error // of the content
	nexts   int                                // calls of Next that were begun
	began   *sync.Cond
}

func newSource(j *journal, st *store) *source {
	s := &source{j: j, st: st, tree: map[change.Place]change.Object{}, content: map[change.ID][]byte{}, wake: make(chan struct{}, 1)}
	s.began = sync.NewCond(&s.mu)
	return s
}

func (s *source) stir() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// hand hands out a batch, after which the source says that it has caught up.
func (s *source) hand(b Batch) {
	s.mu.Lock()
	s.told = false
	s.mu.Unlock()
	s.handOnly(b)
}

// handOnly hands out a batch and says nothing after it.
func (s *source) handOnly(b Batch) {
	s.mu.Lock()
	s.batches = append(s.batches, b)
	s.mu.Unlock()
	s.stir()
}

// see hands out what is at places now, as one batch.
func (s *source) see(places ...change.Place) {
	s.mu.Lock()
	b := Batch{Seen: s.observe(places)}
	s.mu.Unlock()
	s.hand(b)
}

// observe reads places. Called with mu held.
func (s *source) observe(places []change.Place) (out []change.Observation) {
	for _, at := range places {
		s.fresh++
		o, ok := s.tree[at]
		out = append(out, change.Observation{At: at, Absent: !ok, Object: o, Fresh: s.fresh})
	}
	return out
}

// put makes or changes an object of the tree.
func (s *source) put(at change.Place, o change.Object) change.Place {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tree[at] = o
	return at
}

func (s *source) remove(at change.Place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tree, at)
}

func (s *source) Next(ctx context.Context) (Batch, error) {
	s.mu.Lock()
	s.nexts++
	s.mu.Unlock()
	s.began.Broadcast()
	for {
		if b, ok := s.ready(); ok {
			return b, nil
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		}
	}
}

func (s *source) nextsBegun() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nexts
}

// awaitNext waits until Next was called so often.
func (s *source) awaitNext(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.nexts < n {
		s.began.Wait()
	}
}

func (s *source) ready() (Batch, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.batches) > 0:
		b := s.batches[0]
		s.batches = s.batches[1:]
		b.Scan.Running = s.scan
		return b, true
	case len(s.again)+len(s.rescan) > 0:
		b := Batch{Seen: s.observe(s.again), Scan: Scan{Running: s.scan}}
		for _, dir := range s.rescan {
			b.Seen = append(b.Seen, s.compared(dir)...)
		}
		for _, at := range s.again {
			s.j.add("handed again %s", at.Name)
		}
		s.again, s.rescan, s.told = nil, nil, false
		sort.SliceStable(b.Seen, func(i, j int) bool { return !b.Seen[i].Absent && b.Seen[j].Absent })
		return b, true
	case !s.told:
		s.told = true
		return Batch{CaughtUp: true, At: time.Now(), Scan: Scan{Running: s.scan}}, true
	}
	return Batch{}, false
}

// compared observes what differs between a directory and the store. Called with mu held.
func (s *source) compared(dir change.ID) []change.Observation {
	var places []change.Place
	for at := range s.tree {
		if at.Dir == dir && !at.IsRoot() {
			if e, ok, _ := s.st.Get(at); !ok || e.ID != s.tree[at].ID || e.Mtime != s.tree[at].Mtime || e.Mode != s.tree[at].Mode {
				places = append(places, at)
			}
		}
	}
	_ = s.st.List(dir, "", func(name string, _ change.Entry) error {
		if at := (change.Place{Dir: dir, Name: name}); s.tree[at].Kind == 0 {
			places = append(places, at)
		}
		return nil
	})
	slices.SortFunc(places, func(a, b change.Place) int { return strings.Compare(a.Name, b.Name) })
	return s.observe(places)
}

func (s *source) Open(_ context.Context, at change.Place, o change.Object) (Content, error) {
	s.mu.Lock()
	open := s.open
	s.mu.Unlock()
	if open != nil {
		if err := open(at); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tree[at].ID != o.ID {
		return nil, fs.ErrNotExist
	}
	return &content{s: s, at: at, o: o, size: s.tree[at].Size, data: s.content[o.ID]}, nil
}

func (s *source) Again(places ...change.Place) {
	s.mu.Lock()
	on := s.onAgain
	s.mu.Unlock()
	if on != nil {
		on(places)
	}
	for _, at := range places {
		s.j.add("again %s", at.Name)
	}
	s.mu.Lock()
	s.again, s.told = append(s.again, places...), false
	s.mu.Unlock()
	s.stir()
}

func (s *source) Rescan(dir change.ID) {
	s.j.add("rescan %d", dir.Ino())
	s.mu.Lock()
	s.rescan, s.told = append(s.rescan, dir), false
	s.mu.Unlock()
	s.stir()
}

// content is an open file of a source.
type content struct {
	s    *source
	at   change.Place
	o    change.Object
	size int64
	data []byte
}

func (c *content) ReadAt(p []byte, off int64) (int, error) {
	c.s.mu.Lock()
	reading := c.s.reading
	c.s.mu.Unlock()
	if reading != nil {
		if err := reading(c.at, len(p)); err != nil {
			return 0, err
		}
	}
	if off >= int64(len(c.data)) {
		return 0, io.EOF
	}
	n := copy(p, c.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (c *content) Extents(size int64, fn func(off, n int64, hole bool) error) error {
	return fn(0, size, false)
}
func (c *content) Size() int64  { return c.size }
func (c *content) Close() error { return nil }

func (c *content) Unchanged() error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.tree[c.at].Ctime != c.o.Ctime {
		return errors.New("the file was changed while it was read")
	}
	return nil
}

// ledger is a failure ledger in memory: the first delay is a second, and each further one twice as long.
type ledger struct {
	j  *journal
	mu sync.Mutex
	in map[change.Place]status.Failure

	writes int // transactions with failures
	heals  int // and with entries that have healed
}

func newLedger(j *journal) *ledger { return &ledger{j: j, in: map[change.Place]status.Failure{}} }

func (l *ledger) Fail(items []Failing) error {
	l.mu.Lock()
	l.writes++
	for i := range items {
		f := &items[i].Failure
		f.Count = l.in[items[i].At].Count + 1
		f.Last = time.Now()
		f.Next = f.Last.Add(time.Second << min(f.Count-1, 9))
		l.in[items[i].At] = *f
	}
	l.mu.Unlock()
	for i := range items {
		l.j.add("failed %s", items[i].Path)
	}
	return nil
}

func (l *ledger) Healed(places []change.Place) (was []Failing, _ error) {
	l.mu.Lock()
	for _, at := range places {
		if f, ok := l.in[at]; ok {
			was = append(was, Failing{at, f})
			delete(l.in, at)
		}
	}
	if len(was) > 0 {
		l.heals++
	}
	l.mu.Unlock()
	for i := range was {
		l.j.add("healed %s", was[i].Path)
	}
	return was, nil
}

func (l *ledger) Due(now time.Time, limit int) (due []change.Place, next time.Time, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, f := range l.in {
		if !f.Next.After(now) && len(due) < limit {
			due = append(due, at)
		}
		if next.IsZero() || f.Next.Before(next) {
			next = f.Next
		}
	}
	slices.SortFunc(due, func(a, b change.Place) int { return strings.Compare(a.Name, b.Name) })
	return due, next, nil
}

func (l *ledger) PutOff(places ...change.Place) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, at := range places {
		if f, ok := l.in[at]; ok {
			f.Next = time.Now().Add(2 * max(time.Second, f.Next.Sub(f.Last)))
			f.Last = time.Now()
			l.in[at] = f
		}
	}
	return nil
}

func (l *ledger) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.in)
}

func (l *ledger) paths() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, f := range l.in {
		out = append(out, f.Path)
	}
	slices.Sort(out)
	return out
}

func (l *ledger) at(at change.Place) status.Failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.in[at]
}

var (
	_ Source = (*source)(nil)
	_ Store  = (*store)(nil)
	_ Ledger = (*ledger)(nil)
	_ Peer   = (*peer)(nil)
)
