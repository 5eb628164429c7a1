package replicate

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"georep/internal/change"
	"georep/internal/wire"
)

// TestStagesInOrder exchanges two directories and replaces a file, in one batch: what loses its name is kept, places become free,
// directories arrive, files are made, times are set; and each stage is answered before the next is sent.
func TestStagesInOrder(t *testing.T) {
	run(t, func(w *world) {
		a, b, f := w.both(in("a"), dir(10)), w.both(in("b"), dir(11)), w.both(in("f"), w.file(12, "old"))
		w.source.put(a, dir(11))
		w.source.put(b, dir(10))
		w.source.put(f, w.file(13, "other"))
		w.source.see(a, b, f)
		w.start()
		w.settle()
		stash := func(n uint64) string { return stashPath + "/" + objectID(n).String() }
		stages := [][]string{
			{"link " + stash(12)},
			{"move " + stash(10), "move " + stash(11)},
			{"move a", "move b"},
			{"make f"},
			{"times "},
		}
		from := 0
		for i, stage := range stages {
			var first, last int
			for k, what := range stage {
				do, done := w.j.index("do "+what, 0), w.j.index("done "+what, 0)
				if do < 0 || done < 0 {
					t.Fatalf("%s was not sent and answered: %q", what, w.j.after(0))
				}
				if k == 0 || do < first {
					first = do
				}
				last = max(last, done)
			}
			if first < from {
				t.Errorf("stage %d began before the one before it was answered: %q", i, w.j.after(0))
			}
			from = last
		}
		w.end()
	})
}

// TestBatchesOverlap holds the answers of a batch back: one about other objects is sent meanwhile, one about the same object waits.
func TestBatchesOverlap(t *testing.T) {
	run(t, func(w *world) {
		w.peer.hold = func(r *wire.Request) bool { return r.Op == change.Make }
		a := w.source.put(in("a"), w.file(10, "a"))
		b := w.source.put(in("b"), w.file(11, "b"))
		w.source.see(a)
		w.source.see(b)
		o := w.file(10, "a")
		o.Mode = 0o600
		w.source.see(w.source.put(a, o))
		w.start()
		w.settle()
		if got := w.sent(0); len(got) != 2 || !slices.Contains(got, "make a") || !slices.Contains(got, "make b") {
			t.Errorf("sent %q, want both files once", got)
		}
		w.peer.release()
		w.settle()
		if got := w.sent(0); !slices.Contains(got[2:], "set a") {
			t.Errorf("what clashed was not sent when the way was free: %q", got)
		}
		w.end()
	})
}

// TestDirectoriesOnTheirWay sends what lies in a new directory of an open batch as soon as that is there.
func TestDirectoriesOnTheirWay(t *testing.T) {
	run(t, func(w *world) {
		w.peer.hold = func(r *wire.Request) bool { return r.At.Name == "d" }
		d := w.source.put(in("d"), dir(10))
		f := w.source.put(change.Place{Dir: objectID(10), Name: "f"}, w.file(11, "x"))
		w.source.see(d)
		w.source.see(f)
		w.start()
		w.settle()
		w.wantSent(0, "make d")
		w.peer.release()
		w.settle()
		if !w.has("d", "f") {
			t.Errorf("it was not made: %q", w.sent(0))
		}
		w.end()
	})
}

// TestIntentsBeforeSending makes sure that the directories of a batch are noted before anything of it is sent. The peer of all these
// tests watches for each request that they are.
func TestIntentsBeforeSending(t *testing.T) {
	run(t, func(w *world) {
		w.both(in("d"), dir(10))
		f := w.both(change.Place{Dir: objectID(10), Name: "f"}, w.file(11, "x"))
		o := w.file(11, "x")
		o.Nlink = 2
		g := w.both(in("g"), o)
		o.Mode, o.Ctime.Sec = 0o600, 99
		w.source.put(f, o)
		w.source.put(g, o)
		var noted []change.ID
		w.store.onBegin = func(_ uint64, dirs []change.ID) error { noted = append(noted, dirs...); return nil }
		w.source.see(f)
		w.start()
		w.settle()
		if begin, do := w.j.index("begin", 0), w.j.index("do set", 0); begin < 0 || do < begin {
			t.Errorf("not noted before it was sent: %q", w.j.after(0))
		}
		for _, id := range []change.ID{objectID(10), rootID} {
			if !slices.Contains(noted, id) {
				t.Errorf("the directory %d, in which the file has a name, was not noted", id.Ino())
			}
		}
		w.end()
	})
}

// TestOpenBatchesAreBounded lets the secondary answer but never sync: the loop takes only so much before it waits.
func TestOpenBatchesAreBounded(t *testing.T) {
	run(t, func(w *world) {
		synced := make(chan struct{})
		w.peer.onCommit = func(context.Context, bool) error { <-synced; return nil }
		for i := range uint64(10 * maxOpen) {
			w.source.see(w.source.put(in(fmt.Sprint(i)), w.file(100+i, "x")))
		}
		w.start()
		w.settle()
		if got := w.j.count("begin"); got != maxOpen {
			t.Errorf("%d batches were begun while none was safe, want %d", got, maxOpen)
		}
		close(synced)
		w.settle()
		if got := w.j.count("begin"); got < 10*maxOpen || !healthy(w.snapshot()) {
			t.Errorf("%d batches were begun in the end, and it says %+v", got, w.snapshot())
		}
		w.end()
	})
}

// TestTimesOfADirectoryThatReplaces: a directory is on its way to the place of something unknown when what is in it is planned. Its times
// are set after that, on the directory.
func TestTimesOfADirectoryThatReplaces(t *testing.T) {
	run(t, func(w *world) {
		at := w.both(in("d"), w.file(9, "in the way"))
		e, _, _ := w.store.Get(at)
		e.ID = change.UnknownID(e.Sec)
		w.store.apply([]Effect{{At: at, Entry: &e}})
		w.peer.hold = func(r *wire.Request) bool { return r.Op == change.Adopt || r.Op == change.Make }
		w.source.handOnly(Batch{Seen: w.source.observe([]change.Place{w.source.put(at, dir(2))})})
		w.source.see(w.source.put(change.Place{Dir: objectID(2), Name: "f"}, w.file(10, "f")))
		w.start()
		w.settle()
		w.peer.release()
		w.pass(time.Second)
		made := w.j.index("done make d/f", 0)
		if times := w.j.index("done times d", max(made, 0)); made < 0 || times < 0 || w.j.count("done times d stale") > 0 {
			t.Errorf("%q", w.j.after(0))
		}
		w.end()
	})
}
