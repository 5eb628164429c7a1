// Package monitor keeps one worker process a brick running: it starts them, watches them, and starts them again with a growing delay.
//
// All workers are in the monitor's process group, because a pause or a stop from outside is a signal to that group.
package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Worker is how one worker is started.
type Worker struct {
	Argv   []string
	Env    []string
	Stderr *os.File // what it says besides its log, such as the trace of a crash; nil: nobody reads it
}

// Options are what a monitor does not know by itself.
type Options struct {
	// Prepare is asked before each start of a brick's worker. An error is a failure like that of the worker itself.
	Prepare func(ctx context.Context, brick string) (Worker, error)
	// Starting and Failed are told what happens; Failed with the reason, and with how long it is until the next start.
	Starting func(brick string)
	Failed   func(brick string, reason error, again time.Duration)
	// Confirm is how long a worker may take until it has closed the descriptor FeedbackFD; it is killed then.
	Confirm time.Duration
	// Grace is how long workers may take to end when they are asked to; they are killed then.
	Grace time.Duration
	// FirstDelay is the time until a failed worker is started again. It doubles up to MaxDelay, and begins anew after a worker has run
	// for long.
	FirstDelay, MaxDelay time.Duration
	Log                  *slog.Logger
}

// FeedbackFD is the descriptor that a worker closes when it has its connection and its mounts.
const FeedbackFD = 3

// longLife is how long a worker must have run so that its end does not count as one more in a row.
const longLife = time.Minute

// Run keeps a worker for each brick until ctx ends, and waits until all have ended.
func Run(ctx context.Context, bricks []string, o Options) {
	var all sync.WaitGroup
	for _, brick := range bricks {
		all.Go(func() { o.tend(ctx, brick) })
	}
	all.Wait()
}

// errQuiet is the end of a worker that has asked to be started again without a fuss.
var errQuiet = errors.New("it asked to be started again")

// tend keeps one brick's worker.
func (o Options) tend(ctx context.Context, brick string) {
	delay := o.FirstDelay
	for ctx.Err() == nil {
		began := time.Now()
		err := o.once(ctx, brick)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > longLife {
			delay = o.FirstDelay
		}
		if errors.Is(err, errQuiet) {
			o.Log.Info("the worker ended to be started again", "brick", brick)
		} else {
			o.Failed(brick, err, delay)
		}
		// Workers that lost the same link do not all come back at one moment.
		timer := time.NewTimer(delay + rand.N(delay/4+1))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		delay = min(2*delay, o.MaxDelay)
	}
}

// once starts a worker and waits for its end, which it gives the reason of.
func (o Options) once(ctx context.Context, brick string) error {
	o.Starting(brick)
	w, err := o.Prepare(ctx, brick)
	if err != nil {
		return err
	}
	feedback, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer feedback.Close()
	p, err := start(w, theirs)
	theirs.Close()
	if err != nil {
		return err
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = feedback.Read(make([]byte, 1)) // the end is what is waited for
	}()
	defer func() { feedback.Close(); <-read }()
	confirmed := read
	late := time.NewTimer(o.Confirm)
	defer late.Stop()
	for {
		select {
		case <-p.ended:
			return p.reason()
		case <-confirmed:
			confirmed = nil
			late.Stop()
		case <-late.C:
			p.kill(syscall.SIGKILL)
			<-p.ended
			return fmt.Errorf("it had no connection after %v and was killed", o.Confirm)
		case <-ctx.Done():
			p.stop(o.Grace)
			return ctx.Err()
		}
	}
}

// process is a running worker.
type process struct {
	process *os.Process
	ended   chan struct{}
	state   *os.ProcessState // valid when ended is closed
	err     error            // of waiting
}

// start starts a worker. The thread that starts it is kept until it ends, because the kernel takes the end of that thread for our death,
// at which the worker is to end too.
func start(w Worker, feedback *os.File) (*process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	defer null.Close()
	said := w.Stderr
	if said == nil {
		said = null
	}
	p := &process{ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var err error
		p.process, err = os.StartProcess(w.Argv[0], w.Argv, &os.ProcAttr{
			Dir: "/", Env: w.Env, Files: []*os.File{null, null, said, feedback}, Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM},
		})
		started <- err
		if err == nil {
			p.state, p.err = p.process.Wait()
		}
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	return p, nil
}

func (p *process) kill(signal syscall.Signal) {
	_ = p.process.Signal(signal) // it may have ended just now
}

// stop asks the worker to end, and kills it when it does not within the grace.
func (p *process) stop(grace time.Duration) {
	p.kill(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.ended:
		return
	case <-timer.C:
	}
	p.kill(syscall.SIGKILL)
	<-p.ended
}

// reason says how a worker has ended.
func (p *process) reason() error {
	if p.err != nil {
		return fmt.Errorf("wait for the worker: %w", p.err)
	}
	status, ok := p.state.Sys().(syscall.WaitStatus)
	switch {
	case ok && status.Signaled() && status.Signal() == syscall.SIGUSR1:
		return errQuiet
	case ok && status.Signaled():
		return fmt.Errorf("it was ended by the signal %v", status.Signal())
	case p.state.ExitCode() == 0:
		return errors.New("it ended by itself")
	}
	return fmt.Errorf("it ended with status %d", p.state.ExitCode())
}
