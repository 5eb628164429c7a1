package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/lmittmann/tint"

	"georep/internal/config"
	"georep/internal/worker"
)

// outcome is what a worker returned.
type outcome struct {
	summary worker.Summary
	err     error
}

// runMirror runs the worker under a display until it ends. The first signal asks it to finish what is in flight; at the
// second this function returns without waiting, because the process is then to end at once.
func (p *Program) runMirror(ctx context.Context, m *config.Mirror, options worker.Options) error {
	s := newScreen(p.Out, p.Err)
	d := newDisplay(s, m, time.Now)
	options.Log = newLogger(s, m.Verbose)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan outcome, 1)
	go func() {
		summary, err := p.Mirror(ctx, options, d.report)
		ended <- outcome{summary, err}
	}()
	interrupted := false
	for {
		select {
		case o := <-ended:
			return finish(d, m, o, interrupted)
		case <-p.Signals:
			if interrupted {
				d.close()
				return &exitError{code: ExitInterrupted}
			}
			interrupted = true
			d.note("stopping: finishing what is in flight (Ctrl-C again ends at once)")
			stop()
		}
	}
}

// finish says how it ended and chooses the exit code.
func finish(d *display, m *config.Mirror, o outcome, interrupted bool) error {
	code, err := exitCode(m, o, interrupted, d.hasCaughtUp())
	d.finish(o.summary, code, err)
	if code == ExitOK {
		return nil
	}
	return &exitError{code: code, err: err}
}

// exitCode maps an outcome to the documented codes, with what is left to say.
func exitCode(m *config.Mirror, o outcome, interrupted, caughtUp bool) (int, error) {
	end := o.summary.Snapshot
	failing := max(len(o.summary.Failures), end.Failing)
	if interrupted && (o.err == nil || errors.Is(o.err, context.Canceled)) {
		if m.Once && !caughtUp {
			return ExitInterrupted, errors.New("interrupted before everything was copied: run the same command again to go on")
		}
		if !m.Once {
			return ExitOK, nil
		}
	}
	switch {
	case errors.Is(o.err, worker.ErrHalted):
		return ExitHalted, o.err
	case o.err != nil:
		return ExitFailed, o.err
	case o.summary.Halted:
		return ExitHalted, fmt.Errorf("%w: %s", worker.ErrHalted, o.summary.HaltReason)
	case failing > 0 && !m.DryRun:
		return ExitFailed, fmt.Errorf("%s failed, everything else was copied: mend the causes and run the same command again", entries(int64(failing)))
	}
	return ExitOK, nil
}

// newLogger logs to the error output: in colours for a terminal, as JSON otherwise.
func newLogger(s *screen, verbose bool) *slog.Logger {
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelDebug
	}
	if _, ok := terminal(s.errs); ok {
		return slog.New(tint.NewTextHandler(s.logWriter(), &tint.Options{Level: level, TimeFormat: time.TimeOnly}))
	}
	return slog.New(slog.NewJSONHandler(s.logWriter(), &slog.HandlerOptions{Level: level}))
}

// untilTerminated ends the context at a termination, and not at an interrupt: Ctrl-C reaches a local agent too, which has
// to finish what the worker still sends.
func (p *Program) untilTerminated(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case s := <-p.Signals:
				if s == os.Signal(syscall.SIGTERM) {
					cancel()
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() { cancel(); <-done }
}
