package cli

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"georep/internal/config"
	"georep/internal/status"
	"georep/internal/worker"
)

// display turns events into what a person or a program reads. It may be called from many goroutines.
//
// For a person on a terminal there is one line at the bottom that moves and a line for each event that matters; elsewhere
// there is only the latter, with progress now and then. For a program there is one JSON object an event.
type display struct {
	mu     sync.Mutex
	s      *screen
	m      *config.Mirror
	now    func() time.Time
	begun  time.Time
	eta    estimator
	shown  status.Snapshot // of the last progress line
	at     time.Time       // when that was; before it, the begin
	drawn  time.Time       // when the bottom line was drawn
	caught bool            // it has caught up at least once
}

const (
	lineEvery = 10 * time.Second       // progress lines where there is no terminal
	drawEvery = 100 * time.Millisecond // the moving line of a terminal
)

func newDisplay(s *screen, m *config.Mirror, now func() time.Time) *display {
	begun := now()
	return &display{s: s, m: m, now: now, begun: begun, at: begun}
}

// report is what the worker calls.
func (d *display) report(e status.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	first := e.Kind == status.CaughtUp && !d.caught
	d.caught = d.caught || first
	if d.m.JSON {
		d.object(e)
		return
	}
	now := d.now()
	if e.Snapshot.ScanRunning {
		d.eta = estimator{}
	} else {
		d.eta.update(now, e.Snapshot)
	}
	d.say(e, now, first)
	if d.s.live && !d.m.Quiet && !d.m.DryRun && e.Snapshot.State != "" && e.Kind != status.Done && (e.Kind != status.Progress || now.Sub(d.drawn) >= drawEvery) {
		d.drawn = now
		d.s.status(d.moving(now, e.Snapshot))
	}
}

// say writes the line for an event, if it deserves one. first means that it has just caught up for the first time.
func (d *display) say(e status.Event, now time.Time, first bool) {
	if text := trouble(e); text != "" {
		d.s.problem(d.stamp(e.Time) + text)
		return
	}
	if d.m.Quiet {
		return
	}
	switch e.Kind {
	case status.Planned:
		if e.Planned != nil {
			d.s.line(plannedLine(*e.Planned))
		}
	case status.Connected, status.EntryHealed, status.ScanStarted, status.ScanDone:
		if text := d.milestone(e); text != "" {
			d.s.line(d.stamp(e.Time) + text)
		}
	}
	if first && !d.m.DryRun {
		d.progress(e, now)
	}
	if !d.s.live && !d.m.DryRun && e.Snapshot.State != "" && now.Sub(d.at) >= lineEvery {
		d.progressIfNew(e, now)
	}
}

// trouble is the line for an event that a person should see even with --quiet, and "" for others.
func trouble(e status.Event) string {
	switch e.Kind {
	case status.EntryFailed:
		// A failure that stays is retried for ever; it is told at first and then ever more rarely.
		if e.Failure != nil && (e.Failure.Count <= 1 || e.Failure.Count&(e.Failure.Count-1) == 0) {
			return failureLine(*e.Failure)
		}
	case status.Halted:
		return "deletions are held, other changes go on: " + printable(e.Text)
	case status.LinkLost:
		return "connection lost: " + printable(e.Text)
	case status.Notice:
		return printable(e.Text)
	}
	return ""
}

// milestone is the line for something that happens seldom.
func (d *display) milestone(e status.Event) string {
	switch e.Kind {
	case status.Connected:
		return "connected: " + printable(e.Text)
	case status.EntryHealed:
		if e.Failure != nil {
			return "mended: " + place(e.Failure.Path) + " is copied now"
		}
	case status.ScanStarted:
		if !d.caught {
			return "comparing the source with what is known to be on the destination"
		}
	case status.ScanDone:
		if !d.caught {
			return fmt.Sprintf("compared %s, %s", entries(e.Snapshot.EntriesTotal), size(e.Snapshot.BytesTotal))
		}
	}
	return ""
}

func (d *display) progressIfNew(e status.Event, now time.Time) {
	a, b := e.Snapshot, d.shown
	if a.State != b.State || a.EntriesDone != b.EntriesDone || a.EntriesTotal != b.EntriesTotal || a.BytesDone != b.BytesDone ||
		a.Deleted != b.Deleted || a.Failing != b.Failing || a.HeldDeletions != b.HeldDeletions || a.ContentSent != b.ContentSent {
		d.progress(e, now)
	}
}

// progress writes the moving line as a line of its own.
func (d *display) progress(e status.Event, now time.Time) {
	d.at, d.shown = now, e.Snapshot
	d.s.line(d.stamp(e.Time) + d.moving(now, e.Snapshot))
}

// stamp is the time before a line: of the day on a terminal, with the date where lines are kept.
func (d *display) stamp(t time.Time) string {
	if t.IsZero() {
		t = d.now()
	}
	if d.s.live {
		return t.Local().Format(time.TimeOnly) + " "
	}
	return t.Local().Format(time.DateTime) + " "
}

// note tells something that the program itself does.
func (d *display) note(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.m.Quiet && !d.m.JSON {
		d.s.problem(text)
	}
}

// hasCaughtUp says whether all that was known was acknowledged at some moment.
func (d *display) hasCaughtUp() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.caught
}

// close takes the moving line away.
func (d *display) close() { d.s.status("") }

// ending is the last object of the JSON output.
type ending struct {
	Event    string           `json:"event"` // "exit"
	Time     time.Time        `json:"time"`
	Code     int              `json:"code"`
	Error    string           `json:"error,omitempty"`
	Failures []status.Failure `json:"failures"`
	Snapshot status.Snapshot  `json:"snapshot"`
}

// finish tells the end: every failure that is left, and what was done.
func (d *display) finish(summary worker.Summary, code int, err error) {
	d.close()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.m.JSON {
		last := ending{Event: "exit", Time: d.now(), Code: code, Failures: summary.Failures, Snapshot: summary.Snapshot}
		if last.Failures == nil {
			last.Failures = []status.Failure{}
		}
		if err != nil {
			last.Error = err.Error()
		}
		d.object(last)
		return
	}
	for _, f := range summary.Failures {
		d.s.problem(failureLine(f))
	}
	if !d.m.Quiet && summary.Snapshot != (status.Snapshot{}) {
		d.s.line(d.total(summary.Snapshot))
	}
}

func (d *display) object(value any) {
	line, err := json.Marshal(value)
	if err != nil {
		d.s.problem("write an event as JSON: " + err.Error())
		return
	}
	d.s.line(string(line))
}
