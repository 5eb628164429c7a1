package replicate

import (
	"time"

	"georep/internal/change"
	"georep/internal/status"
)

// counters are what the loop counts for the operator. Guarded by Engine.mu.
//
// What has been applied counts as done before it is committed, so that what is shown moves; the recovery point does not.
type counters struct {
	scan        Scan // of the latest pass
	scanRunning bool

	acked, ackedBytes   int64 // entries that were observed and need nothing more, with the sizes of files
	flight, flightBytes int64 // entries of the batches that were begun and are not committed
	done, doneBytes     int64 // the part of these that counts as acked already
	taking, takingBytes int64 // entries that were fetched, and are in no batch yet
	sweeping            int64 // absences that wait for the end of their sweep
	left                int64 // declarations that were left out because the loop ends

	sent, deleted, held int64
	linked              map[change.ID]int      // objects that got a further name lately, and how many
	weights             map[change.Place]int64 // entries that a directory's removal takes with it

	entryRate, byteRate float64
	lastEntries, lastB  int64
	lastAt              time.Time
	samples             int
}

// linkedMax bounds counters.linked, and weights: beyond, some renames count as deletions, and some directories as one entry.
const linkedMax = 1 << 16

// weight counts observed entries, not the root, and the sizes of files among them.
func weight(seen []change.Observation) (entries, bytes int64) {
	for i := range seen {
		if !seen[i].At.IsRoot() {
			entries++
			bytes += seen[i].Object.Size // 0 but for files
		}
	}
	return entries, bytes
}

// begin counts a batch that is about to be carried out.
func (c *counters) begin(b *batch, seen []change.Observation) {
	b.entries, b.bytes = weight(seen)
	for _, stage := range b.stages {
		b.tasksLeft += len(stage)
	}
	b.tasksAll = b.tasksLeft
	c.flight += b.entries
	c.flightBytes += b.bytes
	c.taken(b.entries, b.bytes)
}

// taken says that fetched entries are in a batch, or need nothing.
func (c *counters) taken(entries, bytes int64) {
	c.taking = max(0, c.taking-entries)
	c.takingBytes = max(0, c.takingBytes-bytes)
}

// settled counts entries that need nothing.
func (c *counters) settled(seen []change.Observation) {
	entries, bytes := weight(seen)
	c.taken(entries, bytes)
	c.acked += entries
	c.ackedBytes += bytes
}

// ended counts a task that was applied, as its share of the batch's entries.
func (c *counters) ended(t *task) {
	if t.failed {
		return
	}
	b := t.b
	b.tasksLeft--
	if t.d.Object.Kind == change.File {
		switch t.d.Op {
		case change.Make, change.Write, change.Adopt:
			c.flow(b, t.d.Object.Size-t.flowed)
		}
	}
	n := b.entries * int64(b.tasksAll-b.tasksLeft) / int64(max(b.tasksAll, 1))
	c.done += n - b.done
	c.acked += n - b.done
	b.done = n
}

// flow counts bytes of content that were brought over.
func (c *counters) flow(b *batch, n int64) {
	b.flowed += n
	now := max(0, min(b.flowed, b.bytes))
	c.doneBytes += now - b.doneBytes
	c.ackedBytes += now - b.doneBytes
	b.doneBytes = now
}

// committed ends a batch.
func (c *counters) committed(b *batch) {
	c.acked += b.entries - b.done
	c.ackedBytes += b.bytes - b.doneBytes
	c.flight -= b.entries
	c.flightBytes -= b.bytes
	c.done -= b.done
	c.doneBytes -= b.doneBytes
}

// named notes that an object got a further name.
func (c *counters) named(id change.ID) {
	if c.linked == nil {
		c.linked = map[change.ID]int{}
	}
	if len(c.linked) < linkedMax {
		c.linked[id]++
	}
}

// weighs notes what a place's removal takes with it.
func (c *counters) weighs(at change.Place, entries int64) {
	if c.weights == nil {
		c.weights = map[change.Place]int64{}
	}
	if entries > 1 && len(c.weights) < linkedMax {
		c.weights[at] = entries
	}
}

// busy says whether anything that was fetched is not committed.
func (c *counters) busy() bool { return c.flight+c.taking+c.sweeping > 0 }

// first fills in how far the first comparison is: of what was compared, what is equal and what was made so. What was
// observed again counts twice, so there cannot be more than is known to be on the secondary.
func (c *counters) first(s *status.Snapshot, known, knownBytes int64) {
	s.EntriesTotal, s.BytesTotal = c.scan.Entries, c.scan.Bytes
	s.EntriesDone = max(0, min(c.scan.Equal+c.acked, known+c.done, s.EntriesTotal)-int64(s.Failing))
	s.BytesDone = min(c.scan.EqualBytes+c.ackedBytes, knownBytes+c.doneBytes, s.BytesTotal)
	s.BacklogEntries, s.BacklogBytes = s.EntriesTotal-s.EntriesDone, s.BytesTotal-s.BytesDone
}

// later fills in how far it is after that: what is known to be on the secondary, and what is under way.
func (c *counters) later(s *status.Snapshot, known, knownBytes int64) {
	s.BacklogEntries = c.taking + c.flight - c.done + c.sweeping + c.left + int64(s.Failing)
	s.BacklogBytes = c.takingBytes + c.flightBytes - c.doneBytes
	s.EntriesDone, s.BytesDone = max(0, known-int64(s.Failing)), knownBytes
	s.EntriesTotal, s.BytesTotal = s.EntriesDone+s.BacklogEntries, s.BytesDone+s.BacklogBytes
}
