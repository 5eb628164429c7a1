package replicate

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"testing"
	"time"

	"georep/internal/change"
	"georep/internal/status"
	"georep/internal/wire"
)

// chmod changes the mode of an object of the primary, which changes its ctime too.
func (w *world) chmod(at change.Place, mode uint32) change.Place {
	w.source.mu.Lock()
	defer w.source.mu.Unlock()
	o := w.source.tree[at]
	o.Mode = mode
	o.Ctime.Sec++
	w.source.tree[at] = o
	return at
}

// TestStaleLeadsToALook removes a file from the secondary behind the engine's back: what cannot be found leads to a look, the store is
// corrected, the directory compared, and the file made again.
func TestStaleLeadsToALook(t *testing.T) {
	run(t, func(w *world) {
		f := w.both(in("f"), w.file(10, "x"))
		delete(w.peer.now[secRoot].entries, "f")
		w.source.see(w.chmod(f, 0o600))
		w.start()
		w.settle()
		for _, line := range []string{"done set f stale", `look ""`, "reconciled", "rescan 1", "do make f"} {
			if w.j.index(line, 0) < 0 {
				t.Errorf("%q did not happen: %q", line, w.j.after(0))
			}
		}
		if !w.has("f") || !healthy(w.snapshot()) {
			t.Errorf("in the end it says %+v", w.snapshot())
		}
		w.end()
	})
}

// TestExistsLeadsToALook finds something at a place that should be free: it is looked at, noted as unknown, and replaced only then.
func TestExistsLeadsToALook(t *testing.T) {
	run(t, func(w *world) {
		stranger := change.NewID(5_000_000, 7)
		w.peer.now[stranger] = &thing{Object: change.Object{ID: stranger, Kind: change.FIFO}}
		w.peer.now[secRoot].entries["f"] = stranger
		f := w.source.put(in("f"), w.file(10, "x"))
		w.source.see(f)
		w.start()
		w.settle()
		exists, look := w.j.index("done make f exists", 0), w.j.index("look", 0)
		if exists < 0 || look < exists {
			t.Errorf("it was not looked at: %q", w.j.after(0))
		}
		if e, ok, _ := w.store.Get(f); !ok || e.ID != objectID(10) || !healthy(w.snapshot()) {
			t.Errorf("noted %+v, and it says %+v", e, w.snapshot())
		}
		w.end()
	})
}

// TestEndlessSurprises has one entry that is never as the store says: after some looks it waits in the ledger, and the rest goes on.
func TestEndlessSurprises(t *testing.T) {
	run(t, func(w *world) {
		w.peer.answer = func(r *wire.Request) (change.Result, bool) {
			return change.Result{Status: change.Stale}, r.At.Name == "f"
		}
		f, g := w.both(in("f"), w.file(10, "x")), w.source.put(in("g"), w.file(11, "x"))
		w.source.see(w.chmod(f, 0o600), g)
		w.start()
		w.settle()
		if looks := w.j.count("look"); looks < 2 || looks > surprisesMax+2 {
			t.Errorf("it was looked at %d times", looks)
		}
		if got := w.ledger.paths(); !slices.Equal(got, []string{"f"}) || w.ledger.at(f).Hint == "" || !w.has("g") {
			t.Errorf("failing: %q (%+v)", got, w.ledger.at(f))
		}
		w.end()
	})
}

// TestSkippedIsAskedForAgain lets a directory's move fail: what was to be made in it is asked for again before its batch counts as
// ended, and is made when the cause is gone.
func TestSkippedIsAskedForAgain(t *testing.T) {
	run(t, func(w *world) {
		broken := true
		w.peer.answer = func(r *wire.Request) (change.Result, bool) {
			return refused(syscall.EBUSY, "renameat2"), broken && r.Op == change.Move
		}
		old := w.both(in("old"), dir(10))
		w.source.remove(old)
		d := w.source.put(in("d"), dir(10))
		f := w.source.put(change.Place{Dir: objectID(10), Name: "f"}, w.file(11, "x"))
		w.source.see(d, f)
		w.start()
		w.settle()
		if again, noted := w.j.index("again f", 0), w.j.index("noted [1]", 0); again < 0 || noted < again {
			t.Errorf("what was skipped was not asked for before its batch ended: %q", w.j.after(0))
		}
		if !slices.Contains(w.ledger.paths(), "d") || healthy(w.snapshot()) {
			t.Errorf("failing: %q, and it says %+v", w.ledger.paths(), w.snapshot())
		}
		w.peer.mu.Lock()
		broken = false
		w.peer.mu.Unlock()
		w.pass(time.Hour)
		if !w.has("d", "f") || w.has("old") || !healthy(w.snapshot()) {
			t.Errorf("in the end it says %+v, failing: %q", w.snapshot(), w.ledger.paths())
		}
		w.end()
	})
}

// TestMissingDirectoryIsCompared lets a new directory fail: what is below it is not tried one by one, but compared when it is there.
func TestMissingDirectoryIsCompared(t *testing.T) {
	run(t, func(w *world) {
		broken := true
		w.peer.answer = func(r *wire.Request) (change.Result, bool) {
			return refused(syscall.ENOSPC, "mkdirat"), broken && r.At.Name == "d"
		}
		places := []change.Place{w.source.put(in("d"), dir(10))}
		for i := range uint64(50) {
			places = append(places, w.source.put(change.Place{Dir: objectID(10), Name: fmt.Sprint(i)}, w.file(20+i, "x")))
		}
		w.source.see(places...)
		w.start()
		w.settle()
		if got := w.ledger.paths(); !slices.Equal(got, []string{"d"}) {
			t.Errorf("failing: %q, want the directory alone", got)
		}
		w.peer.mu.Lock()
		broken = false
		w.peer.mu.Unlock()
		w.pass(time.Minute)
		if w.j.index("rescan 10", 0) < 0 || !w.has("d", "49") || !healthy(w.snapshot()) {
			t.Errorf("in the end it says %+v and sent %q", w.snapshot(), w.sent(0))
		}
		w.end()
	})
}

// TestCaughtUpWaitsForWhatWasAskedFor has the source say that it has handed out all at the very moment when the engine is asking for
// something again: that is not what the source speaks of, so it must not count.
func TestCaughtUpWaitsForWhatWasAskedFor(t *testing.T) {
	run(t, func(w *world) {
		vanish := make(chan struct{})
		w.source.open = func(change.Place) error { <-vanish; return fs.ErrNotExist }
		w.source.onAgain = func(places []change.Place) {
			if len(places) == 0 || w.source.nextsBegun() > 2 {
				return
			}
			// The loop takes the first of these, and calls Next again; the second comes before what is asked for is queued.
			w.source.handOnly(Batch{})
			w.source.awaitNext(3)
			w.source.handOnly(Batch{CaughtUp: true, At: time.Now()})
		}
		w.source.see(w.source.put(in("a"), w.file(10, "a")))
		w.source.told = true // it says that it has caught up when this test makes it say so
		w.start()
		w.settle()
		w.source.mu.Lock()
		o := w.source.tree[in("a")]
		o.Ctime.Sec++
		w.source.tree[in("a")] = o
		w.source.open = nil
		w.source.mu.Unlock()
		close(vanish)
		w.settle()
		handed, caught := w.j.index("handed again a", 0), w.j.index("event "+string(status.CaughtUp), 0)
		if handed < 0 || caught < handed {
			t.Errorf("it had caught up before it saw what it had asked for: %q", w.j.after(0))
		}
		if !w.has("a") || !healthy(w.snapshot()) {
			t.Errorf("in the end it says %+v", w.snapshot())
		}
		w.end()
	})
}

// TestUnreadableContent fails to read files of the source: each waits in the ledger as the source's, but one that is gone is only
// observed again.
func TestUnreadableContent(t *testing.T) {
	run(t, func(w *world) {
		w.source.open = func(at change.Place) error {
			if at.Name == "denied" {
				return &wrapped{syscall.EACCES}
			}
			return nil
		}
		w.source.reading = func(at change.Place, _ int) error {
			if at.Name == "damaged" {
				return &wrapped{syscall.EIO}
			}
			return nil
		}
		var places []change.Place
		for i, name := range []string{"denied", "damaged", "changing", "gone", "good"} {
			places = append(places, w.source.put(in(name), w.file(10+uint64(i), "content")))
		}
		w.source.see(places...)
		changing := w.file(12, "content")
		changing.Ctime.Sec += 100 // since it was observed
		w.source.put(places[2], changing)
		w.source.remove(places[3])
		w.start()
		w.settle()
		if f := w.ledger.at(places[0]); f.Errno != int(syscall.EACCES) || f.Side != status.Source || f.Hint == "" {
			t.Errorf("of a file that may not be read it says %+v", f)
		}
		if f := w.ledger.at(places[1]); f.Errno != int(syscall.EIO) || f.Side != status.Source {
			t.Errorf("of a damaged file it says %+v", f)
		}
		if w.ledger.at(places[3]).Count != 0 || w.j.index("again gone", 0) < 0 {
			t.Errorf("a file that is gone is failing: %q", w.j.after(0))
		}
		if !w.has("good") || w.has("gone") || w.has("denied") || w.has("damaged") {
			t.Errorf("sent %q", w.sent(0))
		}
		w.pass(time.Hour)
		if got := w.ledger.paths(); !slices.Equal(got, []string{"damaged", "denied"}) || !w.has("changing") {
			t.Errorf("after an hour these fail: %q", got)
		}
		w.end()
	})
}

// TestOtherSizeIsObservedAgain writes to a file between its observation and its reading: nothing is sent of the new content under the
// old size.
func TestOtherSizeIsObservedAgain(t *testing.T) {
	run(t, func(w *world) {
		at := w.source.put(in("a"), w.file(10, "old"))
		w.source.see(at)
		w.source.put(at, w.file(10, "new content"))
		w.start()
		w.settle()
		if w.ledger.at(at).Count != 0 || w.j.index("again a", 0) < 0 {
			t.Errorf("it is failing, or was not observed again: %q", w.j.after(0))
		}
		made := slices.DeleteFunc(w.sent(0), func(line string) bool { return line != "make a" })
		if len(made) != 1 || !w.has("a") {
			t.Errorf("sent %q", w.sent(0))
		}
		w.end()
	})
}

// wrapped is an error as the source gives it.
type wrapped struct{ errno syscall.Errno }

func (e *wrapped) Error() string    { return "read: " + e.errno.Error() }
func (e *wrapped) Unwrap() error    { return e.errno }
func (e *wrapped) EntryError() bool { return true }

// TestProblemsOfTheSource lists what the source could not read, and forgets it when the source finds that it is not there.
func TestProblemsOfTheSource(t *testing.T) {
	run(t, func(w *world) {
		f := status.Failure{Path: "x", Op: "read", Errno: int(syscall.EIO), Side: status.Source}
		w.source.hand(Batch{Problems: []Problem{{At: in("x"), Failure: f}}})
		w.start()
		w.settle()
		if got := w.ledger.paths(); !slices.Equal(got, []string{"x"}) || healthy(w.snapshot()) {
			t.Errorf("failing: %q, and it says %+v", got, w.snapshot())
		}
		w.source.hand(Batch{Gone: []change.Place{in("x")}})
		w.settle()
		if w.ledger.Count() != 0 || w.j.count("event "+string(status.EntryHealed)) != 1 || !healthy(w.snapshot()) {
			t.Errorf("failing: %q, and it says %+v", w.ledger.paths(), w.snapshot())
		}
		w.end()
	})
}

// TestBrokenStoreEndsTheLoop cannot note anything: Run ends with the store's error, and nothing is called safe.
func TestBrokenStoreEndsTheLoop(t *testing.T) {
	broken := errors.New("no space for the index")
	for _, begin := range []bool{true, false} {
		run(t, func(w *world) {
			if begin {
				w.store.onBegin = func(uint64, []change.ID) error { return broken }
			} else {
				w.store.onCommit = func([]uint64, []Effect) error { return broken }
			}
			w.source.see(w.source.put(in("a"), w.file(10, "a")))
			w.start()
			w.wait()
			if !errors.Is(w.err, broken) || !w.e.snapshot().RecoveryPoint.IsZero() {
				t.Errorf("Run ended with %v", w.err)
			}
			if begin && len(w.sent(0)) > 0 {
				t.Errorf("it sent %q though it could not note what", w.sent(0))
			}
		})
	}
}

// TestTimesInDoubtWhereverItIs cannot set the times of a directory at the place to which its batch was to bring it: that they are wrong is
// noted where the directory still is, since nothing else would tell after a crash.
func TestTimesInDoubtWhereverItIs(t *testing.T) {
	w := newWorld(t)
	d := w.both(in("d"), dir(10))
	e := New(w.o)
	b := &batch{gen: 1}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.doubt(&task{b: b, d: change.Declaration{Op: change.Times, At: change.Stashed(objectID(10)), Object: dir(10)}})
	if len(b.effects) != 1 || b.effects[0].At != d || b.effects[0].Entry.Mtime != (change.Time{}) {
		t.Errorf("noted %+v", b.effects)
	}
}
