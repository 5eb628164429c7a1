package replicate

import (
	"fmt"
	"testing"
	"time"

	"georep/internal/change"
	"georep/internal/status"
	"georep/internal/wire"
)

// filled makes n equal files on both sides, and gives their places.
func (w *world) filled(n int) (places []change.Place) {
	for i := range n {
		places = append(places, w.both(in(fmt.Sprint("f", i)), w.file(100+uint64(i), "x")))
	}
	return places
}

// absent removes places from the primary and hands that out.
func (w *world) absent(places ...change.Place) {
	for _, at := range places {
		w.source.remove(at)
	}
	w.source.see(places...)
}

func (w *world) wantHalted(want bool) {
	w.t.Helper()
	if s := w.snapshot(); (s.State == status.StateHalted) != want {
		w.t.Errorf("it says %+v, want halted: %v", s, want)
	}
}

// TestGuardLimits removes as many entries as is allowed, and one more; both the share and the number must be passed.
func TestGuardLimits(t *testing.T) {
	for _, c := range []struct {
		guard  Guard
		gone   int
		halted bool
	}{
		{Guard{Percent: 25, Entries: 5}, 24, false}, // of 99 entries and the root
		{Guard{Percent: 25, Entries: 5}, 26, true},
		{Guard{Percent: 25, Entries: 26}, 26, false}, // few, however large their share
		{Guard{Percent: 90, Entries: 5}, 80, false},
		{Guard{Percent: 25, Entries: 5, Allow: true}, 99, false},
	} {
		run(t, func(w *world) {
			w.o.Guard = c.guard
			places := w.filled(99)
			w.absent(places[:c.gone]...)
			w.start()
			w.settle()
			w.wantHalted(c.halted)
			if w.has("f0") != c.halted || !w.has(fmt.Sprint("f", 98)) && c.gone < 99 {
				t.Errorf("%+v: f0 is there: %v", c, w.has("f0"))
			}
			w.end()
		})
	}
}

// TestGuardCountsWithinItsWindow removes a little again and again: together it is too much within the window, and is not beyond it.
func TestGuardCountsWithinItsWindow(t *testing.T) {
	for _, pause := range []time.Duration{time.Minute, guardWindow + time.Minute} {
		run(t, func(w *world) {
			w.o.Guard = Guard{Percent: 25, Entries: 5}
			places := w.filled(100)
			w.start()
			for i := range 4 {
				w.absent(places[10*i : 10*i+10]...)
				w.pass(pause)
			}
			w.wantHalted(pause < guardWindow)
			if w.has("f39") != (pause < guardWindow) || w.has("f0") {
				t.Errorf("pause %v: f0 %v, f39 %v", pause, w.has("f0"), w.has("f39"))
			}
			w.end()
		})
	}
}

// TestGuardWeighsTrees removes one of several names of many files, which takes nothing, and then one name that takes many entries with it.
func TestGuardWeighsTrees(t *testing.T) {
	run(t, func(w *world) {
		w.o.Guard = Guard{Percent: 25, Entries: 5}
		w.filled(10)
		d := w.both(in("d"), dir(10))
		for i := range uint64(30) {
			w.both(change.Place{Dir: objectID(10), Name: fmt.Sprint(i)}, w.file(1000+i, "x"))
		}
		var linked []change.Place
		for i := range uint64(30) {
			linked = append(linked, w.both(in(fmt.Sprint("linked", i)), w.file(2000+i, "x")))
			w.both(in(fmt.Sprint("other", i)), w.file(2000+i, "x"))
		}
		w.absent(linked...)
		w.start()
		w.settle()
		w.wantHalted(false)
		w.absent(d)
		w.settle()
		w.wantHalted(true)
		if !w.has("d", "29") || w.has("linked29") {
			t.Errorf("sent %q", w.sent(0))
		}
		if n := w.snapshot().HeldDeletions; n != 31 {
			t.Errorf("%d deletions are held, want 31", n)
		}
		w.end()
	})
}

// TestGuardSweeps hands absences out in parts that belong together: they are judged together, and nothing is removed before the last.
func TestGuardSweeps(t *testing.T) {
	run(t, func(w *world) {
		w.o.Guard = Guard{Percent: 25, Entries: 5}
		places := w.filled(100)
		for i := range 4 {
			b := Batch{AbsentMore: i < 3}
			for _, at := range places[10*i : 10*i+10] {
				w.source.remove(at)
				b.Seen = append(b.Seen, change.Observation{At: at, Absent: true})
			}
			w.source.hand(b)
		}
		w.start()
		w.settle()
		w.wantHalted(true)
		if !w.has("f0") {
			t.Error("a part of the sweep was carried out")
		}
		w.end()
	})
}

// TestGuardEmptySource finds the source empty: however few entries there were, that is not believed.
func TestGuardEmptySource(t *testing.T) {
	run(t, func(w *world) {
		w.o.Guard = Guard{Percent: 25, Entries: 1000}
		var seen []change.Observation
		for _, at := range w.filled(3) {
			w.source.remove(at)
			seen = append(seen, change.Observation{At: at, Absent: true})
		}
		w.source.hand(Batch{Seen: seen, Empty: true})
		w.start()
		w.settle()
		w.wantHalted(true)
		if !w.has("f0") || w.has("nothing") {
			t.Errorf("sent %q", w.sent(0))
		}
		w.end()
	})
}

// TestGuardHaltedFromTheStart holds every deletion back, also those that a request might do by the way, while other changes go on.
func TestGuardHaltedFromTheStart(t *testing.T) {
	run(t, func(w *world) {
		w.o.Guard.Halted = "another file system is mounted there"
		places := w.filled(3)
		w.peer.hold = func(r *wire.Request) bool {
			if r.MayRemove {
				t.Errorf("%s %s may remove something", r.Op, r.At.Path())
			}
			return false
		}
		w.absent(places[0])
		w.source.see(w.source.put(in("new"), w.file(10, "x")), w.source.put(places[1], w.file(11, "another")))
		w.start()
		w.settle()
		w.wantHalted(true)
		if w.j.count("do drop") > 0 || w.j.count("purge") > 0 || !w.has("f0") || !w.has("new") || healthy(w.snapshot()) {
			t.Errorf("sent %q", w.sent(0))
		}
		if _, ok, _ := w.store.Get(change.Stashed(objectID(101))); !ok {
			t.Error("what was replaced was not kept")
		}
		w.end()
		if w.out.Halted == "" {
			t.Error("the outcome does not say that a person must decide")
		}
	})
}

// TestGuardCountsTheStash replaces most files by others: what they held waits in the stash, and to drop it there is a deletion like others.
func TestGuardCountsTheStash(t *testing.T) {
	run(t, func(w *world) {
		w.o.Guard = Guard{Percent: 25, Entries: 5}
		places := w.filled(40)
		for i, at := range places[:30] {
			w.source.put(at, w.file(1000+uint64(i), "another"))
		}
		w.source.see(places[:30]...)
		w.start()
		w.settle()
		w.wantHalted(true)
		if n, _ := w.store.Count(change.StashID, 1000); n != 30 || w.j.count("do drop") > 0 {
			t.Errorf("%d objects are kept, want 30: %q", n, w.sent(0))
		}
		w.end()
	})
}

// TestPurge lets the secondary forget what it kept only when all is acknowledged: not while anything fails, and once a minute at most.
func TestPurge(t *testing.T) {
	run(t, func(w *world) {
		broken := true
		w.peer.answer = func(r *wire.Request) (change.Result, bool) {
			return change.Result{Status: change.Failed}, broken && r.At.Name == "bad"
		}
		w.source.see(w.source.put(in("bad"), w.file(10, "x")), w.source.put(in("good"), w.file(11, "x")))
		w.start()
		w.pass(time.Minute)
		if w.j.count("purge") > 0 {
			t.Error("it was purged while an entry fails")
		}
		w.peer.mu.Lock()
		broken = false
		w.peer.mu.Unlock()
		w.pass(time.Hour)
		if n := w.j.count("purge"); n != 1 {
			t.Errorf("it was purged %d times after all was acknowledged", n)
		}
		healed, purge := w.j.index("healed bad", 0), w.j.index("purge", 0)
		if healed < 0 || purge < healed {
			t.Errorf("purged before all was acknowledged: %q", w.j.after(0))
		}
		for i := range uint64(30) {
			w.source.see(w.source.put(in(fmt.Sprint(i)), w.file(100+i, "x")))
			w.pass(10 * time.Second)
		}
		if n := w.j.count("purge"); n < 3 || n > 1+5+1 {
			t.Errorf("it was purged %d times in five minutes of changes", n)
		}
		w.end()
	})
}
