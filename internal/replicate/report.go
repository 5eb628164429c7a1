package replicate

import (
	"context"
	"time"

	"georep/internal/change"
	"georep/internal/status"
)

// reportEvery is how often progress is told.
const reportEvery = 500 * time.Millisecond

// counters are what the loop counts. Guarded by Engine.mu.
type counters struct {
	entries, bytes       int64 // acknowledged
	seenEntries          int64 // handed out by the source
	seenBytes            int64
	scanEntries          int64
	scanBytes            int64
	scanRunning, scanned bool
	sent                 int64
	deleted, held        int64
	entryRate, byteRate  float64
	lastEntries, lastB   int64
	lastAt               time.Time
}

func (c *counters) applied(t *task, _ change.Result) {
	if t.d.Op == change.Drop && t.d.At.Dir != change.StashID {
		c.deleted++
	}
	if t.d.Object.Kind == change.File && (t.d.Op == change.Make || t.d.Op == change.Write) && t.d.Object.Size <= inlineMax {
		c.sent += t.d.Object.Size
	}
}

func (c *counters) committed(b *batch) {
	c.entries += int64(len(b.places))
	c.bytes += b.bytes
}

func (e *Engine) sent(n int64) {
	e.mu.Lock()
	e.stats.sent += n
	e.mu.Unlock()
}

// counts notes how far the source is.
func (e *Engine) counts(b Batch) {
	e.mu.Lock()
	c := &e.stats
	started := b.Scan.Running && !c.scanRunning
	ended := !b.Scan.Running && c.scanRunning
	c.scanRunning = b.Scan.Running
	c.scanned = c.scanned || ended
	if b.Scan.Entries > 0 || b.Scan.Running {
		c.scanEntries, c.scanBytes = b.Scan.Entries, b.Scan.Bytes
	}
	c.seenEntries += int64(len(b.Seen))
	for i := range b.Seen {
		c.seenBytes += b.Seen[i].Object.Size
	}
	e.mu.Unlock()
	if started {
		e.report(status.Event{Kind: status.ScanStarted})
	}
	if ended {
		e.report(status.Event{Kind: status.ScanDone})
	}
}

func (e *Engine) reportLoop(ctx context.Context) error {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			e.rates()
			kind := status.Progress
			e.mu.Lock()
			if e.stats.scanRunning && e.open == 0 {
				kind = status.ScanProgress
			}
			e.mu.Unlock()
			e.report(status.Event{Kind: kind})
		}
	}
}

func (e *Engine) rates() {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := &e.stats
	now := time.Now()
	if d := now.Sub(c.lastAt).Seconds(); !c.lastAt.IsZero() && d > 0 {
		c.entryRate = 0.8*c.entryRate + 0.2*float64(c.entries-c.lastEntries)/d
		c.byteRate = 0.8*c.byteRate + 0.2*float64(c.sent-c.lastB)/d
	}
	c.lastAt, c.lastEntries, c.lastB = now, c.entries, c.sent
}

// report tells the operator of an event, with the state of affairs.
func (e *Engine) report(ev status.Event) {
	e.reporter.Lock()
	defer e.reporter.Unlock()
	ev.Time = time.Now()
	ev.Snapshot = e.snapshot()
	e.o.Report(ev)
}

func (e *Engine) snapshot() status.Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := &e.stats
	equal := max(0, c.scanEntries-c.seenEntries)
	s := status.Snapshot{
		Crawl: status.CrawlChangelog, Events: e.o.Events, ScanRunning: c.scanRunning,
		EntriesDone: c.entries + equal, EntriesTotal: max(c.scanEntries, c.seenEntries, c.entries+equal),
		BytesDone: c.bytes, BytesTotal: max(c.seenBytes, c.bytes), ContentSent: c.sent,
		Deleted: c.deleted, HeldDeletions: c.held, EntryRate: c.entryRate, ByteRate: c.byteRate,
		Connections: len(e.o.Peers), Failing: e.o.Ledger.Count(), RecoveryPoint: e.caught,
	}
	if e.o.Wire != nil {
		s.WireOut, s.WireIn = e.o.Wire()
	}
	if s.RecoveryPoint.IsZero() {
		s.Lag = time.Since(e.started)
	} else if e.kept > 0 || s.Failing > 0 || e.halted != "" {
		s.Lag = time.Since(s.RecoveryPoint)
	}
	s.BacklogEntries, s.BacklogBytes = s.EntriesTotal-s.EntriesDone, s.BytesTotal-s.BytesDone
	switch {
	case e.dead != nil:
		s.State = status.StateStopped
	case e.halted != "":
		s.State = status.StateHalted
	case c.scanRunning:
		s.State, s.Crawl = status.StateScanning, status.CrawlHybrid
	case e.kept > 0 || e.caught.IsZero():
		s.State = status.StateSyncing
	default:
		s.State = status.StateLive
	}
	return s
}
