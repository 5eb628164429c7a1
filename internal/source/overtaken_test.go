package source

import (
	"os"
	"testing"
	"time"

	"georep/internal/change"
	"georep/internal/source/scan"
)

// TestOvertakenObservation hands over what a walker saw before a directory moved and a name vanished, after both were looked at.
func TestOvertakenObservation(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/new/file", "one")
	r := newReplica(t)
	v := watched(t, dir, r, func(o *Options) { o.Events = Inotify })
	r.follow(v, time.Now())
	moved, top := r.entries[lookup(r, "new")].Object, r.root
	gone := change.Place{Dir: top, Name: "gone"}
	v.placed.put(moved.ID, 1000)
	v.looked.put(v.hash(gone), 1000)
	c := scan.Chunk{Job: &scan.Job{}, Seen: []change.Observation{
		{At: change.Place{Dir: top, Name: "old"}, Object: moved, Fresh: 999},
		{At: gone, Object: r.entries[lookup(r, "new/file")].Object, Fresh: 999},
		{At: change.Place{Dir: top, Name: "later"}, Object: moved, Fresh: 1001},
	}}
	var b Batch
	must(t, v.takeChunk(&b, c))
	v.next.out = nil // it came from no walker
	if len(b.Seen) != 1 || b.Seen[0].At.Name != "later" {
		t.Fatalf("handed out are %+v", b.Seen)
	}
	r.follow(v, time.Now())
	r.check(dir)
}

// TestJobOfAbsencesOnly compares a directory of which nothing is left and of which no event told.
func TestJobOfAbsencesOnly(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a/b", "one")
	write(t, dir+"/a/c", "one")
	r := newReplica(t)
	v := watched(t, dir, r, func(o *Options) { o.Events, o.ScanInterval = None, -1 })
	r.until(v, dir)
	must(t, os.Remove(dir+"/a/b"))
	must(t, os.Remove(dir+"/a/c"))
	a := r.entries[lookup(r, "a")].ID
	v.Rescan(a)
	v.Again(change.Place{Dir: r.root, Name: "a"})
	r.until(v, dir)
}
