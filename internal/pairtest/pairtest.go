// Package pairtest holds two trees, a worker and an agent in one process, and the pipe between them, so that tests can cut the pipe
// at any byte, fail any call, and compare the trees. It is never shipped.
package pairtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"georep/internal/apply"
	"georep/internal/apply/bypath"
	"georep/internal/dial"
	"georep/internal/rooted"
	"georep/internal/status"
	"georep/internal/treetest"
	"georep/internal/wire"
	"georep/internal/worker"
)

// ErrCut is what both ends see when the pipe is cut.
var ErrCut = errors.New("the pipe was cut")

// Pair is a primary and a secondary tree with the state of the mirror between them.
type Pair struct {
	Primary, Secondary, State string
	Options                   worker.Options // Source, Target, StateDir and Dial are filled in by Run
	// Faults and SourceFaults, if given, are asked before every system call of the agent and on the source (see rooted.WithFaults).
	Faults, SourceFaults func(call, path string) error
	// Watch, if given, is told of every event of a live mirror, progress included, one after the other.
	Watch func(status.Event)

	mu      sync.Mutex
	events  []status.Event
	traffic int64
}

// New makes the directories of a pair below dir.
func New(dir string) (*Pair, error) {
	p := &Pair{Primary: filepath.Join(dir, "primary"), Secondary: filepath.Join(dir, "secondary"), State: filepath.Join(dir, "state")}
	for _, d := range []string{p.Primary, p.Secondary, p.State} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("make pair: %w", err)
		}
	}
	p.Options = worker.Options{Once: true, SyncJobs: 2, DeletePercent: 100, DeleteEntries: 1 << 40, Version: "test"}
	return p, nil
}

// Run mirrors. After limit bytes over the pipe, in both directions together, it is cut; 0 leaves it whole.
func (p *Pair) Run(ctx context.Context, limit int64) (worker.Summary, error) {
	cut := newCutter(limit)
	o := p.Options
	o.Source, o.Target, o.StateDir = p.Primary, dial.Target{Path: p.Secondary}, p.State
	o.Dial = func(ctx context.Context, _ []string) (worker.Stream, error) { return p.start(ctx, cut), nil }
	o.SourceFaults = p.SourceFaults
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.traffic = cut.traffic()
	}()
	return worker.Run(ctx, o, p.note)
}

// Traffic is how many bytes the last Run sent and received, greetings included.
func (p *Pair) Traffic() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.traffic
}

func (p *Pair) note(e status.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Kind != status.Progress && e.Kind != status.ScanProgress {
		p.events = append(p.events, e)
	}
}

// Events are what the worker has told, but for progress.
func (p *Pair) Events() []status.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]status.Event(nil), p.events...)
}

// Compare lists how the secondary differs from the primary.
func (p *Pair) Compare() ([]treetest.Difference, error) {
	return treetest.Compare(p.Primary, p.Secondary, treetest.Options{})
}

// cutter cuts all streams of a run when its bytes are used up.
type cutter struct {
	mu      sync.Mutex
	left    int64
	passed  int64
	endless bool
	pipes   []io.Closer
}

func newCutter(limit int64) *cutter { return &cutter{left: limit, endless: limit <= 0} }

// spend takes n bytes, and gives how many of them may pass.
func (c *cutter) spend(n int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.endless || int64(n) <= c.left {
		c.left -= int64(n)
		c.passed += int64(n)
		return n, nil
	}
	pass := int(c.left)
	c.left = 0
	c.passed += int64(pass)
	for _, p := range c.pipes {
		_ = p.Close()
	}
	return pass, ErrCut
}

func (c *cutter) traffic() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passed
}

func (c *cutter) add(p io.Closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pipes = append(c.pipes, p)
}

// stream is the worker's end of a pipe to an agent in this process.
type stream struct {
	cut     *cutter
	r       *os.File
	w       *os.File
	ended   chan struct{}
	problem error
	once    sync.Once
}

// start runs an agent on the other end of a new pipe.
func (p *Pair) start(ctx context.Context, cut *cutter) *stream {
	theirIn, w, err := os.Pipe()
	if err != nil {
		panic(err) // a test's machine without file descriptors
	}
	r, theirOut, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	s := &stream{cut: cut, r: r, w: w, ended: make(chan struct{})}
	for _, f := range []*os.File{theirIn, theirOut, r, w} {
		cut.add(f)
	}
	go func() {
		defer close(s.ended)
		s.problem = p.serve(context.WithoutCancel(ctx), ends{theirIn, theirOut})
	}()
	return s
}

// ends are the agent's ends of two pipes.
type ends struct{ in, out *os.File }

func (e ends) Read(p []byte) (int, error)  { return e.in.Read(p) }
func (e ends) Write(p []byte) (int, error) { return e.out.Write(p) }
func (e ends) Close() error                { return errors.Join(e.in.Close(), e.out.Close()) }

// serve is an agent.
func (p *Pair) serve(ctx context.Context, rw io.ReadWriteCloser) error {
	options := []rooted.Option{rooted.WithScratch(apply.Hold)}
	if p.Faults != nil {
		options = append(options, rooted.WithFaults(p.Faults))
	}
	root, err := rooted.Open(p.Secondary, options...)
	if err != nil {
		return errors.Join(err, rw.Close())
	}
	defer root.Close()
	applier, err := bypath.New(bypath.Options{Root: root})
	if err != nil {
		return errors.Join(err, rw.Close())
	}
	return errors.Join(wire.Serve(ctx, rw, wire.ServerOptions{Version: "test"}, applier), applier.Close())
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if n > 0 {
		pass, cut := s.cut.spend(n)
		if cut != nil {
			return pass, cut
		}
	}
	return n, err
}

// Write implements io.Writer.
func (s *stream) Write(p []byte) (int, error) {
	pass, cut := s.cut.spend(len(p))
	n, err := s.w.Write(p[:pass])
	if cut != nil {
		return n, cut
	}
	return n, err
}

// Close ends the agent and waits for it.
func (s *stream) Close() error {
	s.once.Do(func() {
		_ = s.w.Close()
		select {
		case <-s.ended:
		case <-time.After(30 * time.Second):
			s.problem = errors.New("the agent did not end within 30 seconds")
		}
		_ = s.r.Close()
	})
	return nil
}

// Explain implements worker.Stream.
func (s *stream) Explain() error {
	_ = s.Close()
	return s.problem
}
