package replicate

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"georep/internal/change"
	"georep/internal/status"
	"georep/internal/wire"
)

// TestRule1MarkBehindAck lets one entry fail: the ledger has it before the batch is noted as done, everything else goes on, the
// recovery point stays where it was until the cause is gone, and then moves on without a person.
func TestRule1MarkBehindAck(t *testing.T) {
	run(t, func(w *world) {
		broken := true
		w.peer.answer = func(r *wire.Request) (change.Result, bool) {
			return refused(syscall.EIO, "linkat"), broken && r.At.Name == "bad"
		}
		bad, good := w.source.put(in("bad"), w.file(10, "bad")), w.source.put(in("good"), w.file(11, "good"))
		w.source.see(bad, good)
		w.start()
		w.settle()
		failed, noted := w.j.index("failed bad", 0), w.j.index("noted [1]", 0)
		if failed < 0 || noted < failed {
			t.Errorf("the ledger did not have it before the batch was noted: %q", w.j.after(0))
		}
		if s := w.snapshot(); !w.has("good") || !s.RecoveryPoint.IsZero() || s.Failing != 1 || healthy(s) {
			t.Errorf("with a failing entry it says %+v", s)
		}
		if f := w.ledger.at(bad); f.Errno != int(syscall.EIO) || f.Call != "linkat" || f.Path != "bad" || f.Hint == "" || f.Side != status.Destination {
			t.Errorf("the ledger says %+v", f)
		}
		w.pass(time.Hour)
		if n := w.ledger.at(bad).Count; n < 2 {
			t.Errorf("it was tried %d times in an hour", n)
		}
		w.peer.mu.Lock()
		broken = false
		w.peer.mu.Unlock()
		w.pass(time.Hour)
		if s := w.snapshot(); !w.has("bad") || !healthy(s) || w.ledger.Count() != 0 {
			t.Errorf("when the cause was gone it says %+v, failing: %q", s, w.ledger.paths())
		}
		w.end()
	})
}

// TestRule2AckMeansSafe looks at what the store notes: only what had been answered before a sync of the secondary began that ended
// in the meantime. (The peer of all these tests watches that every noted entry would survive its power failure.)
func TestRule2AckMeansSafe(t *testing.T) {
	run(t, func(w *world) {
		sync := make(chan struct{})
		w.peer.onCommit = func(context.Context, bool) error { <-sync; return nil }
		a, b := w.source.put(in("a"), w.file(10, "a")), w.source.put(in("b"), w.file(11, "b"))
		w.source.see(a)
		w.source.see(b)
		w.peer.hold = func(r *wire.Request) bool { return r.At.Name == "b" }
		w.start()
		w.settle()
		if w.j.count("commit") != 1 || w.j.count("noted") != 0 {
			t.Errorf("before the sync: %q", w.j.after(0))
		}
		w.peer.release() // b is answered while the sync of a goes on
		w.settle()
		sync <- struct{}{}
		w.settle()
		if _, ok, _ := w.store.Get(a); !ok {
			t.Error("the first was not noted after its sync")
		}
		if _, ok, _ := w.store.Get(b); ok || w.j.count("noted") != 1 {
			t.Errorf("the second was noted by a sync that began before its answer: %q", w.j.after(0))
		}
		if !w.snapshot().RecoveryPoint.IsZero() {
			t.Error("there is a recovery point before all is safe")
		}
		close(sync)
		w.settle()
		if _, ok, _ := w.store.Get(b); !ok || !healthy(w.snapshot()) {
			t.Errorf("in the end it says %+v", w.snapshot())
		}
		w.end()
	})
}

// TestRule5NeverDeleteByMistake takes more away at the source than is allowed: nothing is removed, other changes go on, and it says so.
func TestRule5NeverDeleteByMistake(t *testing.T) {
	run(t, func(w *world) {
		w.o.Guard = Guard{Percent: 25, Entries: 10}
		var gone []change.Place
		for i := range uint64(20) {
			at := w.both(in(fmt.Sprint("f", i)), w.file(100+i, "x"))
			w.source.remove(at)
			gone = append(gone, at)
		}
		w.source.see(gone...)
		w.start()
		w.settle()
		w.source.see(w.source.put(in("new"), w.file(10, "new")))
		w.settle()
		s := w.snapshot()
		if !w.has("f0") || !w.has("new") || s.State != status.StateHalted || s.HeldDeletions != 20 || healthy(s) {
			t.Errorf("it says %+v and sent %q", s, w.sent(0))
		}
		if w.j.count("do drop") != 0 {
			t.Errorf("it sent %q", w.sent(0))
		}
		w.end()
		if w.out.Halted == "" {
			t.Error("the outcome does not say that a person must decide")
		}
	})
}

// TestRule7StatusIsAcknowledged holds answers and syncs back: as long as anything is not acknowledged, it is not called healthy and the
// recovery point is not later than what is.
func TestRule7StatusIsAcknowledged(t *testing.T) {
	run(t, func(w *world) {
		w.source.see(w.source.put(in("a"), w.file(10, "a")))
		w.start()
		w.settle()
		first := w.snapshot()
		if !healthy(first) {
			t.Fatalf("with all acknowledged it says %+v", first)
		}
		w.pass(time.Minute)
		sync := make(chan struct{})
		w.peer.mu.Lock()
		w.peer.hold = func(*wire.Request) bool { return true }
		w.peer.onCommit = func(context.Context, bool) error { <-sync; return nil }
		w.peer.mu.Unlock()
		w.source.see(w.source.put(in("b"), w.file(11, "b")))
		notYet := func(when string) {
			t.Helper()
			w.pass(time.Minute)
			if s := w.snapshot(); healthy(s) || !s.RecoveryPoint.Equal(first.RecoveryPoint) || s.Lag < time.Minute {
				t.Errorf("%s it says %+v", when, s)
			}
		}
		notYet("while the answer is not there")
		w.peer.release()
		notYet("while the sync goes on")
		close(sync)
		w.pass(time.Second)
		if s := w.snapshot(); !healthy(s) || !s.RecoveryPoint.After(first.RecoveryPoint) {
			t.Errorf("with all acknowledged it says %+v", s)
		}
		w.end()
	})
}

// TestRule8NoTwoClocks gives the primary's files times that are a day ahead or behind: everything is done at once, and nothing but the
// content is taken to be in doubt.
func TestRule8NoTwoClocks(t *testing.T) {
	for _, skew := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		run(t, func(w *world) {
			began := time.Now()
			o := w.file(10, "a")
			o.Ctime.Sec = began.Add(skew).Unix()
			o.Mtime.Sec = o.Ctime.Sec
			a := w.source.put(in("a"), o)
			w.source.see(a)
			w.start()
			w.settle()
			e, ok, _ := w.store.Get(a)
			if !w.has("a") || !ok || e.Ctime != o.Ctime || e.Racy != (skew > 0) || time.Since(began) > settled {
				t.Errorf("skew %v: noted %+v after %v", skew, e, time.Since(began))
			}
			if s := w.snapshot(); !healthy(s) || s.RecoveryPoint.Before(began) || s.RecoveryPoint.After(time.Now()) {
				t.Errorf("skew %v: it says %+v", skew, s)
			}
			w.end()
		})
	}
}

// TestRule9BoundedMemory lets many batches through a secondary that answers late: what the loop holds is bounded by the open batches,
// and nothing is left when all is acknowledged.
func TestRule9BoundedMemory(t *testing.T) {
	run(t, func(w *world) {
		const batches, each = 60, 15
		w.peer.hold = func(*wire.Request) bool { return true }
		for b := range uint64(batches) {
			places := make([]change.Place, each)
			for i := range places {
				places[i] = w.source.put(in(fmt.Sprint(b, "-", i)), w.file(1000+b*each+uint64(i), "x"))
			}
			w.source.see(places...)
		}
		w.start()
		held := func() int {
			w.e.mu.Lock()
			defer w.e.mu.Unlock()
			return max(len(w.e.over.places), len(w.e.over.names), len(w.e.places), len(w.e.ids), len(w.e.touched))
		}
		w.settle()
		if n := held(); n > maxOpen*each {
			t.Errorf("%d entries are held, with %d open batches of %d", n, maxOpen, each)
		}
		for w.j.count("noted") < batches && !healthy(w.snapshot()) {
			w.peer.release()
			w.settle()
			if n := held(); n > maxOpen*(each+1) {
				t.Fatalf("%d entries are held, with %d open batches of %d", n, maxOpen, each)
			}
		}
		e := w.e
		e.mu.Lock()
		left := len(e.over.places) + len(e.over.names) + len(e.places) + len(e.ids) + len(e.touched) + len(e.settles) + len(e.making) +
			len(e.makingAt) + len(e.lost) + len(e.suspect) + len(e.failing) + len(e.surprisesIn) + len(e.behind) + len(e.unlisted) + e.open + e.kept
		e.mu.Unlock()
		if left != 0 {
			t.Errorf("%d things are left when all is done", left)
		}
		w.end()
	})
}

// TestLinkFailures breaks the link at each thing that is done over it: Run ends with a PeerError, and what was not acknowledged was not
// noted.
func TestLinkFailures(t *testing.T) {
	for _, what := range []string{"do make", "do write", "commit", "look"} {
		run(t, func(w *world) {
			a := w.source.put(in("a"), w.file(10, "a"))
			if what == "do write" {
				o := w.file(10, string(make([]byte, inlineMax+1)))
				w.source.put(a, o)
			}
			w.peer.link = func(doing string) error {
				if doing == what || what == "do write" && doing == "do make" {
					return errLink
				}
				return nil
			}
			if what == "look" {
				w.o.Suspects = []change.ID{rootID}
				w.peer.onLook = func(wire.Dir) error { return errLink }
			}
			w.source.see(a)
			w.start()
			w.wait()
			var peer *PeerError
			if !errors.As(w.err, &peer) || !errors.Is(w.err, errLink) {
				t.Errorf("%s: Run ended with %v", what, w.err)
			}
			if _, ok, _ := w.store.Get(a); ok {
				t.Errorf("%s: what was not safe was noted", what)
			}
			if s := w.e.snapshot(); healthy(s) || s.State != status.StateStopped {
				t.Errorf("%s: it says %+v", what, s)
			}
		})
	}
}
