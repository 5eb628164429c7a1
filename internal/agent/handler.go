package agent

import (
	"context"
	"errors"
	"sync"
	"syscall"

	"georep/internal/apply"
	"georep/internal/apply/bypath"
	"georep/internal/change"
	"georep/internal/rooted"
	"georep/internal/wire"
)

// writer serves a directory that is claimed for a session, at the latest when it is bound.
type writer struct {
	*bypath.Applier
	root *rooted.Root
	run  uint64
	life context.Context         // of the agent
	quit context.CancelCauseFunc // ends it

	watch sync.WaitGroup // looks out for a later run

	mu     sync.Mutex
	claims *claim
}

// Bind claims the directory if that was not done at the start, and notes the session there.
func (w *writer) Bind(ctx context.Context, session string, adopt bool) (wire.BindResult, error) {
	if err := w.claim(ctx, session); err != nil {
		return wire.BindResult{}, err
	}
	return w.Applier.Bind(ctx, session, adopt)
}

// claim makes the directory this session's for as long as the process lives.
func (w *writer) claim(ctx context.Context, session string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.claims != nil {
		if w.claims.session != session {
			return &apply.Refusal{Errno: syscall.EBUSY, Detail: "this connection belongs to session " + w.claims.session}
		}
		return nil
	}
	if err := w.Prepare(); err != nil {
		return err
	}
	c, err := takeClaim(ctx, w.root, session, w.run, w.Sweep)
	if err != nil {
		return err
	}
	w.claims = c
	w.watch.Go(func() {
		if err := c.superseded(w.life); err != nil {
			w.quit(err)
		}
	})
	return nil
}

// close may be called when no request is carried out any more.
func (w *writer) close() error {
	w.quit(nil)
	w.watch.Wait()
	err := w.Applier.Close()
	if w.claims != nil {
		err = errors.Join(err, w.claims.release())
	}
	return errors.Join(err, w.root.Close())
}

// reader serves a directory in which nothing may change.
type reader struct {
	applier *bypath.Applier
	root    *rooted.Root
}

func readOnly() change.Result {
	return change.Result{Status: change.Failed, Errno: syscall.EROFS, Call: "apply", Detail: "the agent was started with --read-only"}
}

// Apply refuses.
func (*reader) Apply(context.Context, *wire.Request) change.Result { return readOnly() }

// Write refuses.
func (*reader) Write(context.Context, *wire.Request, wire.Stream) change.Result { return readOnly() }

// Look lists a directory.
func (r *reader) Look(ctx context.Context, d wire.Dir, entry func(wire.Entry) error) error {
	return r.applier.Look(ctx, d, entry)
}

// Commit has nothing to do.
func (*reader) Commit(context.Context, string, bool) error { return nil }

// Bind says what it finds and changes nothing.
func (r *reader) Bind(_ context.Context, session string, _ bool) (wire.BindResult, error) {
	return r.applier.Bound(session)
}

func (r *reader) close() error { return errors.Join(r.applier.Close(), r.root.Close()) }

// absent serves a directory that does not exist and may not be made.
type absent struct{ err error }

// Apply refuses.
func (absent) Apply(context.Context, *wire.Request) change.Result { return readOnly() }

// Write refuses.
func (absent) Write(context.Context, *wire.Request, wire.Stream) change.Result { return readOnly() }

// Look says that nothing is there.
func (a absent) Look(context.Context, wire.Dir, func(wire.Entry) error) error { return a.err }

// Commit has nothing to do.
func (absent) Commit(context.Context, string, bool) error { return nil }

// Bind says that nothing is there.
func (absent) Bind(context.Context, string, bool) (wire.BindResult, error) {
	return wire.BindResult{Empty: true}, nil
}

func (absent) close() error { return nil }
