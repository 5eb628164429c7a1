package replicate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"georep/internal/change"
	"georep/internal/status"
	"georep/internal/wire"
)

// TestStopFinishesWhatIsInFlight stops the loop while an answer and a sync are awaited: both come, are noted, and Run ends without an error.
func TestStopFinishesWhatIsInFlight(t *testing.T) {
	run(t, func(w *world) {
		w.peer.hold = func(*wire.Request) bool { return true }
		a := w.source.put(in("a"), w.file(10, "a"))
		w.source.see(a)
		w.start()
		w.settle()
		close(w.stop)
		w.settle()
		select {
		case <-w.ended:
			t.Fatal("it ended with a request in flight")
		default:
		}
		w.peer.release()
		w.wait()
		if _, ok, _ := w.store.Get(a); !ok || w.err != nil {
			t.Errorf("what was in flight was not noted; Run ended with %v", w.err)
		}
	})
}

// TestContextEndsAtOnce ends the context: its cause is returned though nothing was answered.
func TestContextEndsAtOnce(t *testing.T) {
	run(t, func(w *world) {
		w.peer.hold = func(*wire.Request) bool { return true }
		w.source.see(w.source.put(in("a"), w.file(10, "a")))
		w.e = New(w.o)
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(w.t.Context())
		ended := make(chan error, 1)
		go func() { _, err := w.e.Run(ctx); ended <- err }()
		w.settle()
		cancel(why)
		if err := <-ended; !errors.Is(err, why) {
			t.Errorf("Run ended with %v", err)
		}
	})
}

// TestOnceEnds ends by itself when all is acknowledged, or has failed a few times.
func TestOnceEnds(t *testing.T) {
	for _, broken := range []bool{false, true} {
		run(t, func(w *world) {
			w.o.Once = true
			w.peer.answer = func(r *wire.Request) (change.Result, bool) {
				return refused(syscall.EROFS, "linkat"), broken && r.At.Name == "bad"
			}
			bad := w.source.put(in("bad"), w.file(10, "x"))
			w.source.see(bad, w.source.put(in("good"), w.file(11, "x")))
			began := time.Now()
			w.start()
			w.wait()
			if w.err != nil || !w.has("good") || w.has("bad") == broken || (w.out.Snapshot.Failing == 1) != broken {
				t.Errorf("broken %v: it ended with %v, %+v", broken, w.err, w.out.Snapshot)
			}
			if n := w.ledger.at(bad).Count; broken && (n < 2 || n > 1+onceTries) {
				t.Errorf("it was tried %d times", n)
			}
			if time.Since(began) > time.Minute {
				t.Errorf("it took %v", time.Since(began))
			}
		})
	}
}

// TestDryRunSendsNothing says what would be done, and sends nothing. (Its store is a copy, which goes on as if it had been done.)
func TestDryRunSendsNothing(t *testing.T) {
	run(t, func(w *world) {
		w.o.DryRun, w.o.Once = true, true
		gone := w.both(in("gone"), w.file(10, "x"))
		changed := w.both(in("changed"), w.file(11, "x"))
		d := w.source.put(in("d"), dir(12))
		f := w.source.put(change.Place{Dir: objectID(12), Name: "f"}, w.file(13, "content"))
		w.store.onCommit = nil
		w.source.see(w.chmod(changed, 0o600), d, f)
		w.absent(gone)
		w.start()
		w.wait()
		var planned []string
		for _, e := range w.eventsOf(status.Planned) {
			planned = append(planned, fmt.Sprintf("%s %s", e.Planned.Op, e.Planned.Path))
		}
		slices.Sort(planned)
		if want := []string{"drop gone", "make d", "make d/f", "set changed"}; !slices.Equal(planned, want) || w.err != nil {
			t.Errorf("planned %q, want %q; Run ended with %v", planned, want, w.err)
		}
		if len(w.sent(0)) > 0 || w.j.count("commit")+w.j.count("purge")+w.j.count("look") > 0 {
			t.Errorf("it did something: %q", w.j.after(0))
		}
	})
}
