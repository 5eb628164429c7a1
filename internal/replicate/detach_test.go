package replicate

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"georep/internal/change"
	"georep/internal/status"
	"georep/internal/wire"
)

// large is a file whose content is streamed.
func (w *world) large(n uint64) change.Object {
	return w.file(n, strings.Repeat("large", inlineMax/5+1))
}

// gate holds content back until it is opened.
type gate chan struct{}

func (g gate) wait(ctx context.Context, r *wire.Request) error {
	if r.Object.Size <= inlineMax {
		return nil
	}
	select {
	case <-g:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// holdContent lets all large content wait at a gate.
func (w *world) holdContent() gate {
	g := make(gate)
	w.peer.mu.Lock()
	defer w.peer.mu.Unlock()
	w.peer.onContent = g.wait
	return g
}

// contents is how often large content began to be sent.
func (w *world) contents() int { return w.j.count("content of") }

// TestLargeFileHoldsUpNothing: while a large file is on its way others come, go, change and move, in its directory too, and are
// acknowledged. Nothing is said to be healthy before the large one is there, whose content is sent once.
func TestLargeFileHoldsUpNothing(t *testing.T) {
	run(t, func(w *world) {
		w.both(in("d"), dir(2))
		within := func(name string) change.Place { return change.Place{Dir: objectID(2), Name: name} }
		gone, changed, sub := w.both(within("gone"), w.file(10, "gone")), w.both(within("changed"), w.file(11, "old")), w.both(within("sub"), dir(3))
		w.start()
		w.settle()
		before := w.snapshot()
		if !healthy(before) {
			t.Fatalf("at first it says %+v", before)
		}
		w.pass(time.Minute)
		content := w.holdContent()
		w.source.see(w.source.put(within("large"), w.large(20)))
		w.settle()
		w.source.remove(gone)
		w.source.remove(sub)
		w.source.see(w.source.put(changed, w.file(11, "new!")), w.source.put(in("moved"), dir(3)), w.source.put(within("quick"), w.file(21, "quick")), gone, sub)
		w.source.see(w.source.put(in("d"), func() change.Object { o := dir(2); o.Mode = 0o700; return o }()))
		w.pass(2 * time.Second)
		if !w.has("d", "quick") || !w.has("moved") || w.has("d", "gone") || w.has("d", "sub") {
			t.Errorf("the others wait: %q", w.j.after(0))
		}
		if e, _, _ := w.store.Get(changed); e.Size != 4 {
			t.Errorf("what changed beside it is not acknowledged: %+v", e)
		}
		if e, _, _ := w.store.Get(in("d")); e.Mode != 0o700 {
			t.Errorf("what changed above it is not acknowledged: %+v", e)
		}
		s := w.snapshot()
		if healthy(s) || s.BacklogEntries != 1 || s.BacklogBytes == 0 || s.RecoveryPoint.After(before.RecoveryPoint.Add(time.Minute)) {
			t.Errorf("while it is on its way it says %+v", s)
		}
		close(content)
		w.pass(time.Second)
		if s := w.snapshot(); !healthy(s) || !w.has("d", "large") || w.contents() != 1 || s.BacklogEntries != 0 {
			t.Errorf("in the end it says %+v, and content was sent %d times", s, w.contents())
		}
		w.end()
	})
}

// TestDetachedContentIsPlacedWhereTheFileIs: its directory is renamed while it is on its way.
func TestDetachedContentIsPlacedWhereTheFileIs(t *testing.T) {
	run(t, func(w *world) {
		old := w.both(in("old"), dir(2))
		w.start()
		w.settle()
		content := w.holdContent()
		w.source.see(w.source.put(change.Place{Dir: objectID(2), Name: "large"}, w.large(20)))
		w.settle()
		w.source.remove(old)
		w.source.see(w.source.put(in("new"), dir(2)), old)
		w.pass(time.Second)
		if !w.has("new") || w.has("old") {
			t.Errorf("the directory waits: %q", w.j.after(0))
		}
		close(content)
		w.pass(time.Second)
		if !w.has("new", "large") || w.contents() != 1 || !healthy(w.snapshot()) {
			t.Errorf("it was sent %d times: %q", w.contents(), w.j.after(0))
		}
		w.end()
	})
}

// TestDetachedContentOfWhatIsGone: nothing is made of content whose file is gone by then, however that becomes known.
func TestDetachedContentOfWhatIsGone(t *testing.T) {
	for _, seen := range []bool{true, false} {
		t.Run(fmt.Sprint("seen=", seen), func(t *testing.T) {
			run(t, func(w *world) {
				w.start()
				w.settle()
				content := w.holdContent()
				at := w.source.put(in("large"), w.large(20))
				w.source.see(at)
				w.settle()
				w.source.see(w.source.put(in("quick"), w.file(21, "quick")))
				w.pass(time.Second)
				w.source.remove(at)
				if seen {
					w.source.see(at)
					w.pass(time.Second)
					if s := w.snapshot(); !healthy(s) {
						t.Errorf("with content that nobody wants it says %+v", s)
					}
				} else {
					close(content)
					w.pass(time.Second)
				}
				if s := w.snapshot(); w.has("large") || !healthy(s) || w.ledger.Count() != 0 {
					t.Errorf("in the end it says %+v: %q", s, w.j.after(0))
				}
				w.end()
			})
		})
	}
}

// TestDetachedContentThatChanged: the file is written to while it is on its way. It is an entry that could not be read, and is sent
// as it is then.
func TestDetachedContentThatChanged(t *testing.T) {
	run(t, func(w *world) {
		w.start()
		w.settle()
		content := w.holdContent()
		at := w.source.put(in("large"), w.large(20))
		w.source.see(at)
		w.settle()
		w.source.see(w.source.put(in("quick"), w.file(21, "quick")))
		w.pass(time.Second)
		now := w.large(20)
		now.Mtime, now.Ctime = change.Time{Sec: 500}, change.Time{Sec: 500}
		w.source.see(w.source.put(at, now))
		w.pass(time.Second / 2)
		if failed := w.eventsOf(status.EntryFailed); len(failed) != 1 || failed[0].Failure.Side != status.Source || failed[0].Failure.Path != "large" {
			t.Errorf("failed: %+v", failed)
		}
		close(content)
		w.pass(time.Hour)
		if e, ok, _ := w.store.Get(at); !ok || e.Mtime.Sec != 500 || !healthy(w.snapshot()) {
			t.Errorf("acknowledged is %+v, and it says %+v", e, w.snapshot())
		}
		w.end()
	})
}

// TestLastCopyIsKept: what the secondary has of a file that was renamed and written to is not dropped, nor the directory in which it
// is, before the new content is there.
func TestLastCopyIsKept(t *testing.T) {
	run(t, func(w *world) {
		w.both(in("d"), dir(2))
		old := w.both(change.Place{Dir: objectID(2), Name: "old"}, w.large(20))
		w.start()
		w.settle()
		content := w.holdContent()
		now := w.large(20)
		now.Mtime, now.Ctime = change.Time{Sec: 500}, change.Time{Sec: 500}
		w.source.remove(old)
		w.source.remove(in("d"))
		w.source.see(w.source.put(in("new"), now), in("d"))
		w.pass(time.Minute)
		if !w.has("d", "old") || w.has("new") {
			t.Errorf("while the content is on its way: %q", w.j.after(0))
		}
		close(content)
		w.pass(time.Minute)
		if w.has("d") || !w.has("new") || !healthy(w.snapshot()) {
			t.Errorf("in the end it says %+v: %q", w.snapshot(), w.j.after(0))
		}
		w.end()
	})
}

// TestLastCopyOfWhatIsGone: a file that is deleted while its new content is on its way is deleted then, not when that has arrived.
func TestLastCopyOfWhatIsGone(t *testing.T) {
	run(t, func(w *world) {
		w.both(in("d"), dir(2))
		at := w.both(change.Place{Dir: objectID(2), Name: "large"}, w.large(20))
		w.start()
		w.settle()
		w.holdContent()
		now := w.large(20)
		now.Mtime, now.Ctime = change.Time{Sec: 500}, change.Time{Sec: 500}
		w.source.see(w.source.put(at, now))
		w.settle()
		w.source.remove(at)
		w.source.remove(in("d"))
		w.source.see(in("d"))
		w.pass(time.Minute)
		if w.has("d") || !healthy(w.snapshot()) {
			t.Errorf("it says %+v: %q", w.snapshot(), w.j.after(0))
		}
		w.end()
	})
}

// TestMoreLargeFilesThanAreDetached: many more than may be detached at once all arrive, and what comes after them does too.
func TestMoreLargeFilesThanAreDetached(t *testing.T) {
	run(t, func(w *world) {
		w.o.Streams = 2
		w.start()
		w.settle()
		content := w.holdContent()
		const n = 3*detachedMax + 5
		for i := range n {
			w.source.see(w.source.put(in(fmt.Sprint("large", i)), w.large(uint64(100+i))))
			w.source.see(w.source.put(in(fmt.Sprint("small", i)), w.file(uint64(1000+i), "small")))
		}
		w.pass(time.Minute)
		close(content)
		w.pass(time.Minute)
		for i := range n {
			if !w.has(fmt.Sprint("large", i)) || !w.has(fmt.Sprint("small", i)) {
				t.Fatalf("number %d is missing", i)
			}
		}
		if !healthy(w.snapshot()) || w.contents() != n {
			t.Errorf("it says %+v, content was sent %d times for %d files", w.snapshot(), w.contents(), n)
		}
		w.end()
	})
}

// TestStopLeavesDetachedContent: a stop does not wait long for it, and what is not there is not acknowledged.
func TestStopLeavesDetachedContent(t *testing.T) {
	run(t, func(w *world) {
		w.start()
		w.settle()
		w.holdContent()
		at := w.source.put(in("large"), w.large(20))
		w.source.see(at)
		w.settle()
		w.source.see(w.source.put(in("quick"), w.file(21, "quick")))
		w.pass(time.Second)
		begun := time.Now()
		w.end()
		if took := time.Since(begun); took > stopGrace+time.Second {
			t.Errorf("it took %s", took)
		}
		if _, ok, _ := w.store.Get(at); ok || w.has("large") || !w.has("quick") {
			t.Errorf("it is acknowledged: %q", w.j.after(0))
		}
	})
}

// TestOnceWaitsForDetachedContent: a run that ends by itself ends when all is there.
func TestOnceWaitsForDetachedContent(t *testing.T) {
	run(t, func(w *world) {
		w.o.Once = true
		w.both(in("a"), dir(2))
		content := w.holdContent()
		w.source.remove(in("a"))
		w.source.see(w.source.put(in("large"), w.large(20)))
		w.source.see(w.source.put(in("b"), dir(2)), in("a"))
		w.start()
		w.pass(time.Minute)
		if !w.has("b") || w.has("a") {
			t.Errorf("the directory waits: %q", w.j.after(0))
		}
		close(content)
		w.wait()
		if w.err != nil || !w.has("large") || w.contents() != 1 {
			t.Errorf("it ended with %v: %q", w.err, w.j.after(0))
		}
	})
}

// TestContentInPlaceIsWaitedFor: with a secondary that writes content in place nothing is detached.
func TestContentInPlaceIsWaitedFor(t *testing.T) {
	run(t, func(w *world) {
		w.o.Patience = -1
		w.both(in("a"), dir(2))
		w.start()
		w.settle()
		content := w.holdContent()
		w.source.see(w.source.put(in("large"), w.large(20)))
		w.settle()
		w.source.remove(in("a"))
		w.source.see(in("a"))
		w.pass(time.Minute)
		if !w.has("a") {
			t.Errorf("the deletion did not wait: %q", w.j.after(0))
		}
		close(content)
		w.pass(time.Second)
		if w.has("a") || !w.has("large") || !healthy(w.snapshot()) {
			t.Errorf("in the end it says %+v", w.snapshot())
		}
		w.end()
	})
}
