package replicate

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"georep/internal/change"
	"georep/internal/status"
	"georep/internal/wire"
)

// refuse makes the secondary refuse everything whose name begins so, for as long as it is true.
func (w *world) refuse(prefix string, yes *bool) {
	w.peer.answer = func(r *wire.Request) (change.Result, bool) {
		return refused(syscall.EIO, "linkat"), *yes && len(r.At.Name) >= len(prefix) && r.At.Name[:len(prefix)] == prefix
	}
}

// TestFailuresMakeFewTransactions lets every entry of some batches fail: the ledger is written to no more often than batches are noted, has
// each entry before its batch is, and a run that ends names them all.
func TestFailuresMakeFewTransactions(t *testing.T) {
	run(t, func(w *world) {
		const batches, each = 5, 200
		yes := true
		w.refuse("bad", &yes)
		w.o.Once = true
		n := uint64(1000)
		for b := range batches {
			places := []change.Place{w.source.put(in(fmt.Sprint("good", b)), w.file(uint64(100+b), "x"))}
			for i := range each {
				n++
				places = append(places, w.source.put(in(fmt.Sprintf("bad%d-%d", b, i)), w.file(n, "x")))
			}
			w.source.see(places...)
		}
		w.o.Report = func(e status.Event) {
			w.report(e)
			if e.Kind == status.EntryFailed && e.Failure.Count == 1 && w.j.count("failed "+e.Failure.Path) == 0 {
				t.Errorf("%s was told before the ledger had it", e.Failure.Path)
			}
		}
		w.start()
		w.settle()
		notes := w.j.count("noted")
		if w.ledger.writes > notes || w.ledger.Count() != batches*each {
			t.Errorf("%d of %d failures in %d transactions, with %d of the store", w.ledger.Count(), batches*each, w.ledger.writes, notes)
		}
		failed, listed := map[string]bool{}, 0
		for _, line := range w.j.after(0) {
			var gens string
			if name, ok := strings.CutPrefix(line, "failed "); ok {
				failed[name] = true
			} else if gens, ok = strings.CutPrefix(line, "noted ["); !ok {
				continue
			}
			for gen := range strings.FieldsSeq(strings.TrimSuffix(gens, "]")) {
				listed++
				b, _ := strconv.Atoi(gen)
				for i := range each {
					if name := fmt.Sprintf("bad%d-%d", b-1, i); !failed[name] {
						t.Fatalf("%s was passed over before the ledger had it", name)
					}
				}
			}
		}
		if listed != batches {
			t.Errorf("%d batches were noted", listed)
		}
		w.wait()
		if w.err != nil || w.out.Snapshot.Failing != batches*each || len(w.eventsOf(status.EntryFailed)) < batches*each {
			t.Errorf("in the end it says %+v, %v", w.out.Snapshot, w.err)
		}
	})
}

// TestHealingMakesFewTransactions mends what a thousand entries failed by: they are taken off the ledger together.
func TestHealingMakesFewTransactions(t *testing.T) {
	run(t, func(w *world) {
		const many = 1000
		yes := true
		w.refuse("bad", &yes)
		var places []change.Place
		for i := range many {
			places = append(places, w.source.put(in(fmt.Sprint("bad", i)), w.file(uint64(1000+i), "x")))
		}
		w.source.see(places...)
		w.start()
		w.settle()
		if w.ledger.Count() != many {
			t.Fatalf("this shows nothing: %d failing", w.ledger.Count())
		}
		yes = false
		notes := w.j.count("noted")
		w.pass(time.Minute)
		if notes = w.j.count("noted") - notes; w.ledger.Count() != 0 || w.ledger.heals > notes || notes > many/10 {
			t.Errorf("%d failing after %d transactions of the ledger and %d of the store", w.ledger.Count(), w.ledger.heals, notes)
		}
		if n := len(w.eventsOf(status.EntryHealed)); n != many || !healthy(w.snapshot()) {
			t.Errorf("%d healed were told, and it says %+v", n, w.snapshot())
		}
		w.end()
	})
}

// TestFailureThatHealsBeforeItIsWritten: the later of the two counts.
func TestFailureThatHealsBeforeItIsWritten(t *testing.T) {
	run(t, func(w *world) {
		tries := 0
		w.peer.answer = func(r *wire.Request) (change.Result, bool) {
			if r.At.Name != "a" {
				return change.Result{}, false
			}
			tries++
			return refused(syscall.EIO, "linkat"), tries == 1
		}
		commit := make(chan struct{})
		w.peer.onCommit = func(context.Context, bool) error { <-commit; return nil }
		a, b := w.source.put(in("a"), w.file(10, "a")), w.source.put(in("b"), w.file(11, "b"))
		w.source.see(a, b)
		w.source.see(a)
		w.start()
		w.settle()
		if w.j.count("noted") != 0 || !w.has("a") {
			t.Fatalf("this shows nothing: %q", w.j.after(0))
		}
		close(commit)
		w.settle()
		if failed, healed := w.j.index("failed a", 0), w.j.index("healed a", 0); failed < 0 || healed < failed || w.ledger.Count() != 0 {
			t.Errorf("failing: %q after %q", w.ledger.paths(), w.j.after(0))
		}
		if !w.has("a") || !healthy(w.snapshot()) {
			t.Errorf("it says %+v", w.snapshot())
		}
		w.end()
	})
}

// TestFailureIsToldWhileItsBatchLasts: the operator need not wait for the slowest file beside it.
func TestFailureIsToldWhileItsBatchLasts(t *testing.T) {
	run(t, func(w *world) {
		yes := true
		w.refuse("bad", &yes)
		w.peer.hold = func(r *wire.Request) bool { return r.At.Name == "slow" }
		w.source.see(w.source.put(in("bad"), w.file(10, "x")), w.source.put(in("slow"), w.file(11, "x")))
		w.start()
		w.pass(2 * reportEvery)
		if w.ledger.Count() != 1 || w.j.count("noted") != 0 || len(w.eventsOf(status.EntryFailed)) != 1 {
			t.Errorf("failing: %q after %q", w.ledger.paths(), w.j.after(0))
		}
		w.peer.release()
		w.end()
	})
}

// TestFailuresOfALostBatchAreListed breaks the link before the batch is safe: what was said of its entries is in the ledger all the same.
func TestFailuresOfALostBatchAreListed(t *testing.T) {
	run(t, func(w *world) {
		yes := true
		w.refuse("bad", &yes)
		w.peer.onCommit = func(context.Context, bool) error { return errLink }
		w.source.see(w.source.put(in("bad"), w.file(10, "x")), w.source.put(in("good"), w.file(11, "x")))
		w.start()
		w.wait()
		if !errors.Is(w.err, errLink) || w.ledger.Count() != 1 || w.out.Snapshot.Failing != 1 {
			t.Errorf("Run ended with %v, failing: %q", w.err, w.ledger.paths())
		}
	})
}

// TestBlindDirectoryLeaves takes a directory away that could not be looked at: nothing is left of that on the ledger, and under another
// name it is looked at again before anything is sent there.
func TestBlindDirectoryLeaves(t *testing.T) {
	top, below := in("top"), change.Place{Dir: objectID(5), Name: "d"}
	for name, leave := range map[string]func(w *world, d change.Object){
		"dropped": func(w *world, _ change.Object) { w.source.remove(below); w.source.see(below) },
		"dropped with the one above": func(w *world, _ change.Object) {
			w.source.remove(below)
			w.source.remove(top)
			w.source.see(top)
		},
		"renamed": func(w *world, d change.Object) {
			w.source.remove(below)
			w.source.see(w.source.put(in("renamed"), d), below)
		},
		"with the one above renamed": func(w *world, _ change.Object) {
			o := w.source.tree[top]
			w.source.remove(top)
			w.source.see(w.source.put(in("other"), o), top)
		},
		"replaced": func(w *world, _ change.Object) {
			w.source.see(w.source.put(below, w.file(12, "file")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *world) {
				blind := true
				w.both(top, dir(5))
				d := dir(10)
				w.both(below, d)
				f := w.both(change.Place{Dir: objectID(10), Name: "f"}, w.file(11, "x"))
				w.peer.onLook = func(at wire.Dir) error {
					w.peer.mu.Lock()
					defer w.peer.mu.Unlock()
					if blind && at.Path == "top/d" {
						return &wire.RemoteError{Errno: syscall.EACCES, Detail: "permission denied"}
					}
					return nil
				}
				w.doubted(objectID(10))
				w.start()
				w.settle()
				if got := w.ledger.at(below); got.Errno != int(syscall.EACCES) {
					t.Fatalf("of the directory it says %+v", got)
				}
				gone := name != "renamed" && name != "with the one above renamed"
				if gone {
					w.source.remove(f)
				} else {
					w.chmod(f, 0o600)
					w.peer.mu.Lock()
					if name == "with the one above renamed" {
						blind = false
					}
					w.peer.mu.Unlock()
				}
				leave(w, d)
				w.pass(time.Hour)
				if w.ledger.Count() != 0 || !healthy(w.snapshot()) || len(w.e.blind) != 0 {
					t.Errorf("failing: %q, blind: %v, and it says %+v", w.ledger.paths(), w.e.blind, w.snapshot())
				}
				if e, ok, _ := w.store.Get(f); ok == gone || !gone && e.Mode != 0o600 {
					t.Errorf("of what is in it the store has %v, %+v", ok, e)
				}
				w.end()
			})
		})
	}
}

// watched is a source of which somebody sees what it is about to hand out.
type watched struct {
	*source
	on func(Batch)
}

func (s watched) Next(ctx context.Context) (Batch, error) {
	b, err := s.source.Next(ctx)
	s.on(b)
	return b, err
}

// TestHealedWhileInDoubt: a failing entry that needs nothing any more is observed while its directory is in doubt. It heals when that has
// been looked at, also in a run that ends by itself, where it is not tried again for long.
func TestHealedWhileInDoubt(t *testing.T) {
	run(t, func(w *world) {
		w.o.Once = true
		at := w.both(in("a"), w.file(10, "a"))
		if err := w.ledger.Fail([]Failing{{At: at, Failure: status.Failure{Path: "a", Errno: 5, Side: status.Destination}}}); err != nil {
			t.Fatal(err)
		}
		w.o.Source = watched{w.source, func(b Batch) {
			synctest.Wait() // the engine waits for this
			if len(b.Seen) > 0 && w.j.count("look") == 0 {
				w.e.mu.Lock()
				defer w.e.mu.Unlock()
				w.e.suspect[rootID] = true
			}
		}}
		w.start()
		w.wait()
		if w.err != nil || w.ledger.Count() != 0 || w.j.count("look") == 0 {
			t.Errorf("%v, failing: %q, %q", w.err, w.ledger.paths(), w.j.after(0))
		}
	})
}
