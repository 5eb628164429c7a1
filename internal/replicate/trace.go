package replicate

import (
	"context"
	"log/slog"

	"georep/internal/change"
	"georep/internal/status"
)

// tracing says whether somebody looks for the reason of something.
func (e *Engine) tracing() bool {
	return e.o.Log != nil && e.o.Log.Enabled(context.Background(), slog.LevelDebug)
}

// trace logs an answer, for those who look for the reason of something.
func (e *Engine) trace(t *task, res change.Result) {
	if !e.tracing() {
		return
	}
	e.mu.Lock()
	path, from := e.pathOf(t.d.At), ""
	if t.d.From != (change.Place{}) {
		from = e.pathOf(t.d.From)
	}
	e.mu.Unlock()
	e.o.Log.Debug("answer", status.LogOp, t.d.Op.String(), status.LogPath, path, "from", from, "id", t.d.Object.ID.String(),
		"answer", res.Status.String(), status.LogErrno, int(res.Errno), "batch", t.b.gen)
}

// traceLocal logs that a task has ended without an answer.
func (e *Engine) traceLocal(t *task, why string, cause error) {
	if !e.tracing() {
		return
	}
	e.mu.Lock()
	path, seen := e.pathOf(t.d.At), e.pathOf(t.d.Observed())
	e.mu.Unlock()
	e.o.Log.Debug("not carried out", status.LogOp, t.d.Op.String(), status.LogPath, path, "seen", seen, "id", t.d.Object.ID.String(),
		"why", why, "cause", cause, "batch", t.b.gen)
}

// traceSeen logs what the source saw.
func (e *Engine) traceSeen(b Batch) {
	if !e.tracing() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range b.Seen {
		o := &b.Seen[i]
		e.o.Log.Debug("seen", status.LogPath, e.pathOf(o.At), "dir", o.At.Dir.String(), "absent", o.Absent, "id", o.Object.ID.String(),
			"content", o.Content, "fresh", o.Fresh, "doubted", e.unseen(o.At.Dir))
	}
	for _, at := range b.Gone {
		e.o.Log.Debug("gone", status.LogPath, e.pathOf(at), "dir", at.Dir.String())
	}
	if b.CaughtUp {
		e.o.Log.Debug("source caught up", "at", b.At)
	}
}

func (h hindrance) String() string {
	return [...]string{
		hindNone: "nothing", hindUnknown: "its directory is not there", hindSuspect: "its directory is in doubt",
		hindElsewhere: "what it needs is not there", hindVanished: "it is not there any more", hindMissing: "the directory is not there",
	}[h]
}
