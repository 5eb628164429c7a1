package replicate

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"georep/internal/change"
	"georep/internal/status"
)

// world is an engine between a source and a secondary in memory.
type world struct {
	t      *testing.T
	j      *journal
	source *source
	store  *store
	ledger *ledger
	peer   *peer
	o      Options
	e      *Engine

	mu     sync.Mutex
	events []status.Event
	stop   chan struct{}
	ended  chan struct{}
	out    Outcome
	err    error
}

// newWorld makes a world whose both sides hold an equal root, and nothing else.
func newWorld(t *testing.T) *world {
	j := &journal{}
	w := &world{t: t, j: j, store: newStore(j), ledger: newLedger(j), stop: make(chan struct{}), ended: make(chan struct{})}
	w.source, w.peer = newSource(j, w.store), newPeer(j, w.store)
	w.store.onCommit = w.peer.acknowledged
	root := change.Object{ID: rootID, Kind: change.Dir, Attr: change.Attr{Mode: 0o755, Mtime: change.Time{Sec: 1}}}
	w.source.tree[change.Place{}] = root
	w.store.entries[change.Place{}] = change.Entry{Object: root, Sec: secRoot}
	w.peer.now[secRoot].primary = rootID
	w.o = Options{
		Source: w.source, Peers: []Peer{w.peer}, Store: w.store, Ledger: w.ledger, Report: w.report, Stop: w.stop,
		Guard: Guard{Percent: 100, Entries: 1 << 40},
	}
	return w
}

func (w *world) report(e status.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e.Kind {
	case status.Progress, status.ScanProgress:
	default:
		w.events = append(w.events, e)
		w.j.add("event %s", e.Kind)
	}
}

func (w *world) eventsOf(kind status.EventKind) (out []status.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

// run runs a test in a bubble of time that ends with the engine.
func run(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newWorld(t)) })
}

// start lets the engine work.
func (w *world) start() {
	w.e = New(w.o)
	ctx, cancel := context.WithTimeout(w.t.Context(), 24*time.Hour)
	w.t.Cleanup(cancel)
	go func() {
		defer close(w.ended)
		w.out, w.err = w.e.Run(ctx)
	}()
}

// settle waits until nothing happens any more without time going on.
func (w *world) settle() { synctest.Wait() }

// pass lets time go on.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.ended:
	}
	synctest.Wait()
}

// end stops the engine, and makes sure that no rule was broken.
func (w *world) end() {
	w.t.Helper()
	close(w.stop)
	w.wait()
	if w.err != nil {
		w.t.Errorf("run: %v", w.err)
	}
}

// wait waits for the engine's end.
func (w *world) wait() {
	w.t.Helper()
	<-w.ended
	w.peer.mu.Lock()
	defer w.peer.mu.Unlock()
	for _, text := range w.peer.wrong {
		w.t.Error(text)
	}
}

// snapshot is what an operator is told now.
func (w *world) snapshot() status.Snapshot { return w.e.snapshot() }

// in is a place in the root.
func in(name string) change.Place { return change.Place{Dir: rootID, Name: name} }

// file is a file of the primary with that content.
func (w *world) file(n uint64, data string) change.Object {
	id := objectID(n)
	w.source.mu.Lock()
	w.source.content[id] = []byte(data)
	w.source.mu.Unlock()
	return change.Object{
		ID: id, Kind: change.File, Size: int64(len(data)), Nlink: 1, Ctime: change.Time{Sec: int64(n)},
		Attr: change.Attr{Mode: 0o644, Mtime: change.Time{Sec: int64(n)}},
	}
}

// dir is a directory of the primary.
func dir(n uint64) change.Object {
	return change.Object{
		ID: objectID(n), Kind: change.Dir, Ctime: change.Time{Sec: int64(n)}, Attr: change.Attr{Mode: 0o755, Mtime: change.Time{Sec: int64(n)}},
	}
}

// both puts an object on both sides, as acknowledged.
func (w *world) both(at change.Place, o change.Object) change.Place {
	w.source.put(at, o)
	p := w.peer
	p.mu.Lock()
	defer p.mu.Unlock()
	var sec change.ID
	if names, _ := w.store.Names(o.ID); len(names) > 0 {
		e, _, _ := w.store.Get(names[0])
		sec = e.Sec
	} else {
		p.next++
		sec = change.NewID(p.next, 7)
		t := &thing{Object: o, primary: o.ID}
		t.ID = sec
		if o.Kind == change.Dir {
			t.entries = map[string]change.ID{}
		}
		p.now[sec] = t
	}
	up := p.now[secRoot]
	if at.Dir != rootID {
		names, _ := w.store.Names(at.Dir)
		e, _, _ := w.store.Get(names[0])
		up = p.now[e.Sec]
	}
	up.entries[at.Name] = sec
	p.safe = p.now.clone()
	w.store.apply([]Effect{{At: at, Entry: &change.Entry{Object: o, Sec: sec}}})
	return at
}

// has says whether something is at a path of the secondary.
func (w *world) has(names ...string) bool {
	w.peer.mu.Lock()
	defer w.peer.mu.Unlock()
	t := w.peer.now[secRoot]
	for _, name := range names {
		if t = w.peer.now[t.entries[name]]; t == nil {
			return false
		}
	}
	return true
}

// healthy says whether the operator is told that nothing is missing.
func healthy(s status.Snapshot) bool {
	return !s.RecoveryPoint.IsZero() && s.Lag == 0 && s.Failing == 0 && s.State == status.StateLive
}

// sent gives the requests that were sent, in order, from a position in the journal on.
func (w *world) sent(from int) (out []string) {
	for _, line := range w.j.after(from) {
		if len(line) > 3 && line[:3] == "do " {
			out = append(out, line[3:])
		}
	}
	return out
}

func (w *world) wantSent(from int, want ...string) {
	w.t.Helper()
	if got := w.sent(from); !slices.Equal(got, want) {
		w.t.Errorf("sent %q, want %q", got, want)
	}
}
