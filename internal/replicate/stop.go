package replicate

import (
	"context"
	"time"
)

// stopGrace is how long what is in flight may take to be finished after Options.Stop. Large content goes on, at the next start, where
// it is broken off then.
const stopGrace = 5 * time.Second

// watchStop bounds the time that a stop takes: after a while what waits is left out, and content that is on its way is broken
// off. Nothing of that is acknowledged, so the next start finds it.
func (e *Engine) watchStop(ctx context.Context) error {
	select {
	case <-e.o.Stop:
	case <-ctx.Done():
		return nil
	}
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-timer.C:
		e.leaving.Store(true)
		e.endStreams()
	case <-ctx.Done():
	}
	return nil
}

// leave ends a task that is not carried out because the loop ends. begun says that the secondary may have carried it out all the
// same: its directories stay noted as touched, so that the next start looks at them.
func (e *Engine) leave(t *task, begun bool) error {
	e.mu.Lock()
	e.stats.left++
	t.b.uncertain = t.b.uncertain || begun
	e.mu.Unlock()
	return e.skip(t, hindSuspect, nil)
}
