package gsyncd

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"georep/internal/session"
	"georep/internal/status"
	"georep/internal/worker"
)

// reporter writes what the worker tells into the status of its brick.
type reporter struct {
	s   *session.Session
	w   workerFlags
	log *slog.Logger

	mu      sync.Mutex
	last    worker.BrickReport
	told    bool
	failing map[string]status.Failure // by path
	changed bool                      // failing differs from what is stored

	wake     chan struct{}
	feedback bool
}

func newReporter(s *session.Session, w workerFlags, log *slog.Logger) *reporter {
	r := &reporter{s: s, w: w, log: log, wake: make(chan struct{}, 1), failing: map[string]status.Failure{}}
	stored, err := s.LoadFailures(w.brick)
	if err != nil {
		log.Warn("the list of what failed begins anew", "reason", err)
	}
	for _, f := range stored.Failures {
		r.failing[f.Path] = f
	}
	return r
}

// report takes the newest state. A change of state is written at once.
func (r *reporter) report(now worker.BrickReport) {
	r.mu.Lock()
	urgent := !r.told || now.State != r.last.State || now.Host != r.last.Host || now.Crawl != r.last.Crawl
	r.last, r.told = now, true
	r.follow(now)
	r.mu.Unlock()
	if !urgent {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// follow keeps the list of what fails.
func (r *reporter) follow(now worker.BrickReport) {
	f := now.Event.Failure
	switch {
	case now.Event.Kind == status.EntryFailed && f != nil:
		r.log.Warn("an entry failed", "path", f.Path, "op", f.Op, "call", f.Call, "error", f.Error, "hint", f.Hint, "count", f.Count)
		if _, known := r.failing[f.Path]; known || len(r.failing) < session.MaxFailures {
			r.failing[f.Path], r.changed = *f, true
		}
	case now.Event.Kind == status.EntryHealed && f != nil:
		delete(r.failing, f.Path)
		r.changed = true
	case now.Event.Kind == status.CaughtUp && now.Snapshot.Failing == 0 && len(r.failing) > 0:
		clear(r.failing)
		r.changed = true
	}
}

// writeFailures stores the list of what fails when it has changed.
func (r *reporter) writeFailures() {
	r.mu.Lock()
	list := session.BrickFailures{Brick: r.w.brick, Failing: r.last.Snapshot.Failing, Failures: slices.Collect(maps.Values(r.failing))}
	changed := r.changed
	r.changed = false
	r.mu.Unlock()
	if !changed {
		return
	}
	if err := r.s.SaveFailures(list); err != nil {
		r.log.Error("the list of what failed could not be written", "error", err)
	}
}

// writeEvery is how often counters are written, and the option for a checkpoint is looked at.
const writeEvery = time.Second

func (r *reporter) run(ctx context.Context) {
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	state := worker.BrickInitializing
	for {
		select {
		case <-ctx.Done():
			r.write(&state)
			return
		case <-tick.C:
		case <-r.wake:
		}
		r.write(&state)
	}
}

// write brings the stored status up to date, and tells of what has changed.
func (r *reporter) write(before *worker.BrickState) {
	r.mu.Lock()
	now, told := r.last, r.told
	r.mu.Unlock()
	if !told {
		return
	}
	r.writeFailures()
	if now.State != worker.BrickInitializing && !r.feedback && r.w.feedback > 2 {
		r.feedback = true
		if err := os.NewFile(uintptr(r.w.feedback), "feedback").Close(); err != nil {
			r.log.Warn("the monitor could not be told", "error", err)
		}
	}
	option, err := r.s.Checkpoint()
	if err != nil {
		r.log.Warn("the checkpoint could not be read", "error", err)
	}
	var after session.Brick
	reached := false
	err = r.s.UpdateBrick(r.w.brick, func(b *session.Brick) {
		r.fill(b, now)
		reached = b.SetCheckpoint(option, time.Now())
		after = *b
	})
	if err != nil && !errors.Is(err, session.ErrMissing) { // the session is being deleted
		r.log.Error("the status could not be written", "error", err)
		return
	}
	names := []string{"primary_volume", r.s.Primary, "primary_node", r.w.node, "primary_node_id", r.w.nodeID,
		"secondary_host", r.s.Secondary.Host, "secondary_volume", r.s.Secondary.Volume, "brick_path", r.w.brick}
	if reached {
		r.log.Info("the checkpoint is reached", "time", after.CheckpointTime, "completed", after.CheckpointCompletionTime)
		event(eventCheckpoint, slices.Concat(names, []string{"checkpoint_time", strconv.FormatInt(after.CheckpointTime, 10),
			"checkpoint_completion_time", strconv.FormatInt(after.CheckpointCompletionTime, 10)})...)
	}
	if now.State == *before {
		return
	}
	*before = now.State
	r.log.Info("the worker is "+string(now.State), "host", now.Host)
	switch now.State {
	case worker.BrickActive:
		event(eventActive, names...)
	case worker.BrickPassive:
		event(eventPassive, names...)
	}
}

// fill writes a report into the form that is on disk.
func (r *reporter) fill(b *session.Brick, now worker.BrickReport) {
	b.WorkerStatus = string(now.State)
	b.SecondaryNode, b.CrawlStatus = "N/A", "N/A"
	switch {
	case now.Host != "":
		b.SecondaryNode = now.Host
	case now.State == worker.BrickPassive:
		b.SecondaryNode, _, _ = strings.Cut(r.w.remote, ",") // where it would connect
	}
	if now.Crawl != "" {
		b.CrawlStatus = string(now.Crawl)
	}
	if !now.Synced.IsZero() {
		b.LastSynced = max(b.LastSynced, now.Synced.Unix())
		b.LastSyncedEntry = b.LastSynced
	}
	b.Entry, b.Data, b.Meta = max(now.Entries, 0), max(now.Data, 0), max(now.Metadata, 0)
	b.Failures = int64(now.Snapshot.Failing)
}
