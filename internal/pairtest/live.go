package pairtest

import (
	"context"
	"fmt"
	"time"

	"georep/internal/dial"
	"georep/internal/status"
	"georep/internal/worker"
)

// Live is a mirror that goes on until it is stopped.
type Live struct {
	p      *Pair
	stop   context.CancelFunc
	ended  chan struct{}
	events chan status.Event
	err    error
}

// Start mirrors until Stop. limit is asked for the bytes after which each connection is cut; 0 leaves it whole.
func (p *Pair) Start(ctx context.Context, limit func() int64) *Live {
	ctx, cancel := context.WithCancel(ctx)
	l := &Live{p: p, stop: cancel, ended: make(chan struct{}), events: make(chan status.Event, 1)}
	o := p.Options
	o.Once = false
	o.Source, o.Target, o.StateDir = p.Primary, dial.Target{Path: p.Secondary}, p.State
	o.Dial = func(ctx context.Context, _ []string) (worker.Stream, error) {
		return p.start(ctx, newCutter(limit())), nil
	}
	go func() {
		defer close(l.ended)
		_, l.err = worker.Run(ctx, o, l.note)
	}()
	return l
}

// note keeps the latest event for those who wait.
func (l *Live) note(e status.Event) {
	l.p.note(e)
	if l.p.Watch != nil {
		l.p.Watch(e)
	}
	select {
	case <-l.events:
	default:
	}
	l.events <- e
}

// Equal waits until the mirror says that the secondary equals the primary as of a time after since, with nothing failing.
func (l *Live) Equal(ctx context.Context, since time.Time) error {
	return l.Until(ctx, func(s status.Snapshot) bool { return s.RecoveryPoint.After(since) && s.Failing == 0 })
}

// Until waits until the mirror says something that fits. Only the latest of what it says is sure to be asked about.
func (l *Live) Until(ctx context.Context, fits func(status.Snapshot) bool) error {
	for {
		select {
		case e := <-l.events:
			if fits(e.Snapshot) {
				return nil
			}
		case <-l.ended:
			return fmt.Errorf("the mirror ended: %w", l.err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Stop ends the mirror in good order.
func (l *Live) Stop() error {
	l.stop()
	<-l.ended
	return l.err
}
