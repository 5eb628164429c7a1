package replicate

import (
	"context"
	"time"

	"georep/internal/change"
	"georep/internal/status"
)

// reportEvery is how often progress is told.
const reportEvery = 500 * time.Millisecond

// sent counts n bytes of a task's content as done with, of which some had to be sent.
func (e *Engine) sent(t *task, n, travelled int64) {
	e.mu.Lock()
	t.flowed += n
	if t.detached == nil { // else its batch has ended
		e.stats.flow(t.b, n)
	}
	e.stats.sent += travelled
	e.mu.Unlock()
}

// counts notes how far the source is.
func (e *Engine) counts(b Batch) {
	e.mu.Lock()
	c := &e.stats
	started := b.Scan.Running && !c.scanRunning
	ended := !b.Scan.Running && c.scanRunning
	c.scanRunning = b.Scan.Running
	if b.Scan.Entries > 0 || b.Scan.Running {
		c.scan = b.Scan
	}
	c.taking, c.takingBytes = weight(b.Seen)
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
			if err := e.list(); err != nil { // the rest of their batches may take long
				return err
			}
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
		c.samples++
		weight := max(0.2, 1/float64(c.samples)) // at first the plain mean
		c.entryRate = max(0, c.entryRate+weight*(float64(c.acked-c.lastEntries)/d-c.entryRate))
		c.byteRate = max(0, c.byteRate+weight*(float64(c.sent-c.lastB)/d-c.byteRate))
	}
	c.lastAt, c.lastEntries, c.lastB = now, c.acked, c.sent
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
	known, knownBytes, err := e.o.Store.Total()
	e.mu.Lock()
	defer e.mu.Unlock()
	c := &e.stats
	s := status.Snapshot{
		Crawl: status.CrawlChangelog, Events: e.o.Events, ScanRunning: c.scanRunning, ContentSent: c.sent,
		Deleted: c.deleted, HeldDeletions: c.held, EntryRate: c.entryRate, ByteRate: c.byteRate,
		Connections: len(*e.peers.Load()), Failing: e.o.Ledger.Count(), RecoveryPoint: e.point,
	}
	away, awayBytes := e.underWay()
	busy := c.busy() || away > 0
	switch {
	case err != nil || e.o.DryRun && e.caught.IsZero():
		c.first(&s, c.scan.Entries, c.scan.Bytes)
	case e.caught.IsZero():
		c.first(&s, known, knownBytes)
	case e.o.Once || e.o.DryRun:
		c.later(&s, c.scan.Entries, c.scan.Bytes)
	default:
		c.later(&s, known, knownBytes)
		s.BacklogEntries += away
		s.BacklogBytes += awayBytes
		s.EntriesTotal += away
		s.BytesTotal += awayBytes
	}
	if e.o.Wire != nil {
		s.WireOut, s.WireIn = e.o.Wire()
	}
	if s.RecoveryPoint.IsZero() {
		s.Lag = time.Since(e.started)
	} else if busy || s.Failing > 0 || e.halted != "" {
		s.Lag = time.Since(s.RecoveryPoint)
	}
	switch {
	case e.dead != nil:
		s.State = status.StateStopped
	case e.halted != "":
		s.State = status.StateHalted
	case c.scanRunning && e.caught.IsZero():
		s.State, s.Crawl = status.StateScanning, status.CrawlHybrid
	case busy || e.caught.IsZero():
		s.State = status.StateSyncing
	default:
		s.State = status.StateLive
	}
	return s
}

// dropped counts the entries that left the secondary with a name. Called with mu held, after the drop was recorded.
func (e *Engine) dropped(d *change.Declaration) error {
	c := &e.stats
	n, weighed := c.weights[d.At]
	delete(c.weights, d.At)
	switch {
	case d.At.Dir == change.StashID:
		// It lost its last name when something else took that; unless it has got another since, it is gone now.
		names, err := e.over.Names(d.Object.ID)
		if err != nil || len(names) > 0 {
			return err
		}
		n = 1
	case c.linked[d.Object.ID] > 0:
		if c.linked[d.Object.ID]--; c.linked[d.Object.ID] == 0 {
			delete(c.linked, d.Object.ID)
		}
		return nil // it has another name since: it was renamed
	case !weighed:
		n = 1
	}
	c.deleted += n
	return nil
}
