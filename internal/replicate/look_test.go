package replicate

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"georep/internal/change"
	"georep/internal/wire"
)

// doubted makes the engine begin with a look at directories, as after a crash.
func (w *world) doubted(dirs ...change.ID) {
	w.o.Suspects = append(w.o.Suspects, dirs...)
}

// on gives the directory of the secondary that a path of names leads to.
func (w *world) on(names ...string) *thing {
	t := w.peer.now[secRoot]
	for _, name := range names {
		t = w.peer.now[t.entries[name]]
	}
	return t
}

// TestLookCorrectsTheStore changes all sorts of things on the secondary that the store does not know of: a look finds each, before anything
// else is sent, and the primary's state is made again.
func TestLookCorrectsTheStore(t *testing.T) {
	run(t, func(w *world) {
		missing, changed := w.both(in("missing"), w.file(10, "x")), w.both(in("changed"), w.file(11, "x"))
		same := w.both(in("same"), w.file(12, "x"))
		gone := w.both(in("gone"), dir(20))
		w.both(change.Place{Dir: objectID(20), Name: "below"}, w.file(21, "x"))
		root := w.on()
		delete(root.entries, "missing")
		delete(root.entries, "gone")
		w.on("changed").Mode = 0o777
		stranger := change.NewID(5_000_000, 7)
		w.peer.now[stranger] = &thing{Object: change.Object{ID: stranger, Kind: change.FIFO}}
		root.entries["stranger"] = stranger
		w.doubted(rootID)
		w.start()
		w.settle()
		if look, do := w.j.index(`look ""`, 0), w.j.index("do ", 0); look < 0 || do < look {
			t.Errorf("something was sent before the look: %q", w.j.after(0))
		}
		if !w.has("missing") || !w.has("gone", "below") || w.on("changed").Mode != 0o644 || w.has("stranger") {
			t.Errorf("sent %q", w.sent(0))
		}
		if i := slices.Index(w.sent(0), "make same"); i >= 0 {
			t.Error("what was right was sent")
		}
		for _, at := range []change.Place{missing, changed, same, gone} {
			if _, ok, _ := w.store.Get(at); !ok {
				t.Errorf("%q was forgotten", at.Name)
			}
		}
		if !healthy(w.snapshot()) {
			t.Errorf("it says %+v", w.snapshot())
		}
		w.end()
	})
}

// TestLookOfAnUnreadableEntry gets a listing in which one entry could not be read: the store keeps what it knows of that.
func TestLookOfAnUnreadableEntry(t *testing.T) {
	run(t, func(w *world) {
		f := w.both(in("f"), w.file(10, "x"))
		before, _, _ := w.store.Get(f)
		sec := before.Sec
		w.on("f").Object = change.Object{} // no identity, no state
		w.doubted(rootID)
		w.start()
		w.settle()
		if e, ok, _ := w.store.Get(f); !ok || e.Sec != sec || e.Mode != before.Mode {
			t.Errorf("the store says %+v", e)
		}
		w.end()
	})
}

// TestBlindDirectory cannot list one directory: nothing is sent there, it is named as failing, the rest goes on, and it heals.
func TestBlindDirectory(t *testing.T) {
	run(t, func(w *world) {
		blind := true
		d := w.both(in("d"), dir(10))
		f := w.both(change.Place{Dir: objectID(10), Name: "f"}, w.file(11, "x"))
		w.peer.onLook = func(at wire.Dir) error {
			w.peer.mu.Lock()
			defer w.peer.mu.Unlock()
			if blind && at.Path == "d" {
				return &wire.RemoteError{Errno: syscall.EACCES, Detail: "permission denied"}
			}
			return nil
		}
		w.doubted(objectID(10))
		w.source.see(w.chmod(f, 0o600), w.source.put(in("other"), w.file(12, "x")))
		w.start()
		w.settle()
		if got := w.ledger.at(d); got.Errno != int(syscall.EACCES) || got.Path != "d" || got.Hint == "" {
			t.Errorf("of the directory it says %+v", got)
		}
		if !w.has("other") || slices.Contains(w.sent(0), "set d/f") || healthy(w.snapshot()) {
			t.Errorf("sent %q, and it says %+v", w.sent(0), w.snapshot())
		}
		w.peer.mu.Lock()
		blind = false
		w.peer.mu.Unlock()
		w.pass(time.Hour)
		if w.on("d", "f").Mode != 0o600 || !healthy(w.snapshot()) {
			t.Errorf("in the end it says %+v, failing: %q", w.snapshot(), w.ledger.paths())
		}
		w.end()
	})
}

// TestStaleDirectory finds another directory where the store has one: that is forgotten with all below it, and made again.
func TestStaleDirectory(t *testing.T) {
	run(t, func(w *world) {
		w.both(in("d"), dir(10))
		w.both(change.Place{Dir: objectID(10), Name: "f"}, w.file(11, "x"))
		other := change.NewID(5_000_000, 7)
		w.peer.now[other] = &thing{Object: change.Object{ID: other, Kind: change.Dir}, entries: map[string]change.ID{}}
		w.on().entries["d"] = other
		w.doubted(objectID(10))
		w.start()
		w.settle()
		if !w.has("d", "f") || !healthy(w.snapshot()) {
			t.Errorf("sent %q, and it says %+v", w.sent(0), w.snapshot())
		}
		if e, _, _ := w.store.Get(in("d")); e.Sec != other {
			t.Errorf("the store has it as %s, not as what is there", e.Sec)
		}
		w.end()
	})
}

// TestStaleRoot finds that the destination itself was replaced: nothing is sent, and Run ends.
func TestStaleRoot(t *testing.T) {
	run(t, func(w *world) {
		w.both(in("f"), w.file(10, "x"))
		w.peer.onLook = func(wire.Dir) error { return wire.ErrStale }
		w.doubted(rootID)
		w.start()
		w.wait()
		if w.err == nil || len(w.sent(0)) > 0 {
			t.Errorf("Run ended with %v, sent %q", w.err, w.sent(0))
		}
	})
}

// TestLooksAtOnce doubts many directories on two levels: those of a level are looked at together, up to a limit, and the upper level first.
func TestLooksAtOnce(t *testing.T) {
	run(t, func(w *world) {
		const n = 3 * looksAtOnce
		var low, high []change.ID
		for i := range uint64(n) {
			w.both(in(fmt.Sprint("d", i)), dir(1000+i))
			w.both(change.Place{Dir: objectID(1000 + i), Name: "e"}, dir(2000+i))
			high, low = append(high, objectID(1000+i)), append(low, objectID(2000+i))
		}
		arrived := make(chan struct{}, n)
		release := make(chan struct{})
		w.peer.onLook = func(wire.Dir) error { arrived <- struct{}{}; <-release; return nil }
		w.doubted(append(low, high...)...)
		w.start()
		w.settle()
		for range 20 * n { // one is let go at a time
			select {
			case release <- struct{}{}:
			default:
			}
			w.settle()
			for len(arrived) > 0 {
				<-arrived
			}
		}
		if w.peer.mostLook != looksAtOnce {
			t.Errorf("%d looks at once, want %d", w.peer.mostLook, looksAtOnce)
		}
		first, last := -1, -1
		for i, line := range w.j.after(0) {
			switch {
			case len(line) > 6 && line[:6] == `look "` && line[len(line)-3:] == `/e"`:
				if first < 0 {
					first = i
				}
			case len(line) > 7 && line[:7] == `look "d`:
				last = i
			}
		}
		if first < 0 || last > first {
			t.Errorf("a lower directory was looked at before the upper level was done (%d, %d)", first, last)
		}
		w.end()
	})
}

// TestTimesOfACoarseClockAreNoDifference looks at a secondary that keeps times in whole seconds: what it cut off is not set again.
func TestTimesOfACoarseClockAreNoDifference(t *testing.T) {
	for _, step := range []time.Duration{0, time.Second} {
		run(t, func(w *world) {
			f := w.file(10, "x")
			f.Mtime.Nsec = 500
			w.both(in("f"), f)
			w.on("f").Mtime.Nsec = 0
			w.o.TimeStep = step
			w.doubted(rootID)
			w.start()
			w.settle()
			if made := slices.Contains(w.sent(0), "make f"); made == (step > 0) {
				t.Errorf("with steps of %v it sent %q", step, w.sent(0))
			}
			w.end()
		})
	}
}
