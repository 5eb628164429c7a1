package source

import (
	"fmt"
	"testing"
	"time"

	"georep/internal/change"
)

func place(i int) change.Place {
	return change.Place{Dir: change.NewID(uint64(i/1000+1), 1), Name: fmt.Sprint(i)}
}

// TestPendingIsBounded notes far more places than may wait, as while a destination is away: what is given up is told once, what somebody
// asked for stays, and what comes after it has been told is kept again.
func TestPendingIsBounded(t *testing.T) {
	p := newPending()
	p.add(place(-1), look{again: true})
	for i := range 10 * maxPending {
		p.add(place(i), look{content: true})
		p.addScan(change.NewID(uint64(i), 1))
		if len(p.items) > maxPending || len(p.queue)+len(p.slow) > 2*maxPending || len(p.scans) > maxScans {
			t.Fatalf("after %d places %d wait (%d, %d, %d)", i, len(p.items), len(p.queue), len(p.slow), len(p.scans))
		}
	}
	if !p.takeLost() || p.takeLost() {
		t.Fatal("the loss is not told, or told twice")
	}
	items, _ := p.take(10, time.Now().Add(time.Hour), 0)
	if len(items) != 1 || items[0].at != place(-1) {
		t.Fatalf("%d places are left", len(items))
	}
	p.add(place(5), look{entry: true})
	if items, _ := p.take(10, time.Now().Add(time.Hour), 0); len(items) != 1 || items[0].at != place(5) {
		t.Fatalf("a place that came after the loss was told is not kept: %d", len(items))
	}
}

// TestPendingOrder wants places in the order of their first event, retried ones in front, and tickets to divide them.
func TestPendingOrder(t *testing.T) {
	p := newPending()
	for i := range 5 {
		p.add(place(i), look{entry: true})
	}
	ticket := p.ticket()
	p.add(place(5), look{entry: true})
	p.add(place(0), look{content: true, now: true})
	late := time.Now().Add(time.Hour)
	first, _ := p.take(2, late, time.Minute)
	if len(first) != 2 || first[0].at != place(0) || !first[0].look.content || !first[0].look.entry || p.behind(ticket) {
		t.Fatalf("the first are %+v", first)
	}
	p.retry(first)
	p.add(place(1), look{again: true})
	rest, _ := p.take(5, late, time.Minute)
	for i, it := range rest {
		if it.at != place(i) || it.tries != map[bool]int{true: 1}[i < 2] {
			t.Errorf("place %d is %+v", i, it)
		}
	}
	if len(rest) != 5 || !rest[1].look.again || !p.behind(ticket) {
		t.Errorf("%d places; all before the ticket are taken: %v", len(rest), p.behind(ticket))
	}
	if idle, _ := p.idle(); idle {
		t.Error("idle although a place waits")
	}
}

// TestAwayDestination lets changes come for long while nobody takes batches, and wants them all in the end.
func TestAwayDestination(t *testing.T) {
	kinds(t, func(t *testing.T, e Events) {
		dir := t.TempDir()
		write(t, dir+"/a/file", "one")
		r := newReplica(t)
		v := watched(t, dir, r, func(o *Options) { o.Events, o.ScanInterval = e, -1 })
		r.follow(v, time.Now())
		for i := range maxPending + 1000 { // as if so many files had been touched
			v.pending.add(change.Place{Dir: r.entries[lookup(r, "a")].ID, Name: fmt.Sprint(i)}, look{content: true})
		}
		write(t, dir+"/a/file", "two")
		write(t, dir+"/b/c/d", "three")
		must(t, v.drainEvents())
		if len(v.pending.items) > 0 || !v.pending.lost {
			t.Fatalf("%d places wait, lost: %v", len(v.pending.items), v.pending.lost)
		}
		r.follow(v, time.Now())
		r.check(dir)
	})
}
