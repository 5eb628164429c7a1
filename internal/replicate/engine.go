package replicate

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"georep/internal/change"
	"georep/internal/status"
)

// maxOpen bounds the batches that are under way or wait for their commit.
const maxOpen = 8

// senders is how many goroutines read small files and hand requests to connections.
const senders = 6

// onceTries is how often a failing entry is tried again before a run that shall end ends with it, and onceWait how long that run
// waits for the next try at the most.
const (
	onceTries = 2
	onceWait  = 10 * time.Second
)

// errStopped ends the loop in good order.
var errStopped = errors.New("stopped")

// Engine is one running loop.
type Engine struct {
	o    Options
	seed uint64

	mu        sync.Mutex
	cond      *sync.Cond // open, looks and dead change
	over      *overlay
	dirs      map[change.ID]whereabouts    // directories known to be on the secondary
	making    map[change.ID]*task          // directories on their way
	makingAt  map[change.Place]*task       // the same by place
	settles   map[change.ID]int            // directories whose attributes open batches set
	behind    []*task                      // skipped because of another task: what becomes of them is decided by who ended that one
	lost      map[change.ID]bool           // directories that could not be made while something below them was to be: compared when they are
	treesGone bool                         // directories were dropped since all was last handed out: what the source has compared with the store meanwhile may be outdated
	hinted    []change.Place               // files whose content is in doubt for a reason that only their observation told, and that was put off
	putOff    []change.Place               // failing entries whose observation was put off because their directory is in doubt
	places    map[change.Place]int         // places in open batches
	ids       map[change.ID]int            // objects in open batches
	touched   map[change.ID]int            // directories whose entries open batches change
	open      int                          // batches not fully answered
	kept      int                          // batches not yet committed
	suspect   map[change.ID]bool           // directories that must be looked at before anything below is sent
	strayed   map[change.ID]int            // how often a directory turned out to be another one when it was looked at
	blind     map[change.Place]change.ID   // directories that could not be looked at, by the place under which the ledger has them
	dead      error                        // why the loop ends
	ready     *queue                       // tasks that may be sent
	bulk      *queue                       // tasks whose content is streamed
	small     *queue                       // the same, of small files
	streaming map[*task]context.CancelFunc // whose content waits in bulk or is on its way, and may be detached; nil: it waits
	detached  map[change.ID]*detached      // by the file
	lacking   map[change.ID]time.Time      // what of the files that are, or were, detached may not be on the secondary is younger than this
	settledAt time.Time                    // all that was known then is acknowledged, fails, is held back, or is detached
	turn      atomic.Uint64                // of the connections, to stream content
	buffers   sync.Pool                    // *[]byte, of at most inlineMax bytes, for content that travels within requests
	stats     counters
	failing   map[change.Place]*attempts // a copy of the ledger's keys, at most failingMax
	unlisted  []news                     // what waits to be written into the ledger, see list
	halted    string
	recent    []deletion
	sweep     *sweep
	gen       uint64
	caught    time.Time // all that was known then is acknowledged, fails, or is held back
	point     time.Time // the secondary equals the source as of then
	fetched   time.Time // newest At of a source that has caught up
	purged    uint64    // Engine.gen when the secondary was last told to forget what it kept
	purgedAt  time.Time // when that was
	started   time.Time

	surprisesIn map[change.Place]int // how often a place was not as the store says
	retried     time.Time            // when failing entries were last asked for again; of the driving goroutine alone

	peers atomic.Pointer[[]Peer] // Options.Peers and those that have joined
	asked atomic.Int64           // requests to observe again

	streams     context.Context // of content on its way; ends before the loop does, see watchStop
	endStreams  context.CancelFunc
	moreStreams func()      // starts one more goroutine that streams large files
	leaving     atomic.Bool // what is not sent yet is left out
	finished    chan *batch
	wake        chan struct{}
	lister      sync.Mutex // of who writes failures into the ledger; taken before mu
	reporter    sync.Mutex
}

// New prepares a loop.
func New(o Options) *Engine {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	e := &Engine{
		o: o, seed: binary.LittleEndian.Uint64(b[:]),
		over: newOverlay(o.Store), dirs: map[change.ID]whereabouts{}, making: map[change.ID]*task{}, makingAt: map[change.Place]*task{}, settles: map[change.ID]int{},
		places: map[change.Place]int{}, ids: map[change.ID]int{}, touched: map[change.ID]int{},
		suspect: map[change.ID]bool{}, lost: map[change.ID]bool{}, blind: map[change.Place]change.ID{}, ready: newQueue(), bulk: newQueue(), small: newQueue(), failing: map[change.Place]*attempts{}, strayed: map[change.ID]int{},
		streaming: map[*task]context.CancelFunc{}, detached: map[change.ID]*detached{}, lacking: map[change.ID]time.Time{},
		halted: o.Guard.Halted, finished: make(chan *batch, 2*maxOpen), wake: make(chan struct{}, 1), started: time.Now(),
	}
	e.cond = sync.NewCond(&e.mu)
	e.buffers.New = func() any { return new([]byte) }
	e.peers.Store(&o.Peers)
	for _, id := range o.Suspects {
		e.suspect[id], e.suspect[change.StashID] = true, true
	}
	return e
}

// Join adds a connection to those over which a running loop sends. It must not be called by two at once.
func (e *Engine) Join(p Peer) {
	more := append(slices.Clip(*e.peers.Load()), p)
	e.peers.Store(&more)
}

// peer gives one connection after the other.
func (e *Engine) peer(n uint64) Peer {
	peers := *e.peers.Load()
	return peers[n%uint64(len(peers))]
}

// Run works until ctx ends (its error is returned), Options.Stop is closed, all is done (Options.Once), or the link, the
// store or the source breaks. It can be called once.
func (e *Engine) Run(ctx context.Context) (Outcome, error) {
	if e.halted != "" {
		e.report(status.Event{Kind: status.Halted, Text: e.halted})
	}
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	group, work := errgroup.WithContext(work)
	var loops sync.WaitGroup
	start := func(n int, f func(context.Context) error) {
		for range n {
			loops.Add(1)
			group.Go(func() error { defer loops.Done(); return f(work) })
		}
	}
	e.streams, e.endStreams = context.WithCancel(work)
	defer e.endStreams()
	stopWatch := context.AfterFunc(work, func() { e.die(context.Cause(work)) })
	defer stopWatch()
	start(senders, e.sendLoop)
	start(max(1, e.o.Streams), func(ctx context.Context) error { return e.streamLoop(ctx, e.bulk) })
	start(smallStreams*max(1, e.o.Streams), func(ctx context.Context) error { return e.streamLoop(ctx, e.small) })
	e.moreStreams = func() { start(1, func(ctx context.Context) error { return e.streamLoop(ctx, e.bulk) }) }
	start(1, e.commitLoop)
	batches := make(chan fetched)
	group.Go(func() error { return e.fetchLoop(work, batches) })
	group.Go(func() error { return e.reportLoop(work) })
	group.Go(func() error { return e.watchStop(work) })
	group.Go(func() error {
		err := e.drive(work, batches)
		if err == nil {
			err = errStopped
		}
		return err
	})
	err := group.Wait()
	if errors.Is(err, errStopped) {
		err = nil
	}
	if listed := e.list(); listed != nil { // of batches that were not committed, too
		err = errors.Join(err, listed)
	}
	snap := e.snapshot()
	e.mu.Lock()
	halted := e.halted
	e.mu.Unlock()
	return Outcome{Snapshot: snap, Halted: halted}, err
}

// die wakes everybody who waits, with the reason to give up.
func (e *Engine) die(err error) {
	e.mu.Lock()
	if e.dead == nil {
		e.dead = err
	}
	e.mu.Unlock()
	e.cond.Broadcast()
	e.ready.close()
	e.bulk.close()
	e.small.close()
}

type fetched struct {
	batch Batch
	asked int64 // what had been asked of the source before this batch was fetched
}

func (e *Engine) fetchLoop(ctx context.Context, out chan<- fetched) error {
	for {
		asked := e.asked.Load()
		b, err := e.o.Source.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("read source: %w", err)
		}
		select {
		case out <- fetched{b, asked}:
		case <-ctx.Done():
			return nil
		}
	}
}

// drive is the loop's own goroutine: it alone plans, and so decides what overlaps.
func (e *Engine) drive(ctx context.Context, batches <-chan fetched) error {
	if err := e.begin(); err != nil {
		return err
	}
	stop, stopping := e.o.Stop, false
	for {
		if stopping && (e.leaving.Load() || !e.anyDetached()) {
			return e.finish()
		}
		if err := e.lookAround(ctx); err != nil {
			return err
		}
		next, err := e.retry()
		if err != nil {
			return err
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-stop:
			stop, stopping = nil, true // detached content is in flight too, and needs the loop to be placed
		case <-e.wake:
		case <-timer.C:
		case f := <-batches:
			if err := e.take(f.batch); err != nil {
				timer.Stop()
				return err
			}
			if f.batch.CaughtUp {
				done, err := e.caughtUp(ctx, f)
				if done || err != nil {
					timer.Stop()
					return err
				}
			}
		}
		timer.Stop()
	}
}

// begin tries again what was failing before: whoever starts a mirror anew has perhaps removed the cause.
func (e *Engine) begin() error {
	failing, _, err := e.o.Ledger.Due(time.Unix(1<<40, 0), failingMax)
	if err != nil || len(failing) == 0 || e.o.DryRun {
		return err
	}
	e.mu.Lock()
	for _, at := range failing {
		e.failing[at] = &attempts{}
	}
	e.mu.Unlock()
	e.retried = time.Now()
	return e.retryAll(failing)
}

// caughtUp handles the moment at which everything that the source knew was handed out.
func (e *Engine) caughtUp(ctx context.Context, f fetched) (done bool, err error) {
	e.mu.Lock()
	e.fetched = f.batch.At
	quiet := e.open == 0 && e.kept == 0
	e.mu.Unlock()
	if !e.o.Once && !quiet && f.asked != e.asked.Load() {
		e.o.Source.Again() // something is to be seen again: the next time. It may have been handed out with this batch already
		return false, nil
	}
	wait := func() error { return e.drain(true) }
	if e.o.Once {
		wait = e.idle // nothing else waits
	}
	steps := []func() error{wait, func() error { return e.lookAround(ctx) }, e.list}
	if !f.batch.Scan.Running {
		steps = append(steps, e.emptyStash, func() error { return e.purge(ctx) })
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return false, err
		}
		e.mu.Lock()
		doubt := len(e.suspect) > 0 || e.leaving.Load() // what was left out is not acknowledged
		e.mu.Unlock()
		if doubt || f.asked != e.asked.Load() {
			e.o.Source.Again()
			return false, nil
		}
	}
	if e.settled(f.batch.At) {
		e.unclaimed()
		return false, nil // the end of what is detached is heard of
	}
	e.report(status.Event{Kind: status.CaughtUp, Caught: f.batch.At})
	if !e.o.Once || f.batch.Scan.Running {
		return false, nil
	}
	return !e.retryOnce(), nil
}

// settled notes that all that the source knew at a time is acknowledged, fails, is held back, or is detached, and says whether
// anything is detached.
func (e *Engine) settled(at time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.settledAt, e.treesGone = at, false
	for id := range e.lacking {
		if e.detached[id] == nil {
			delete(e.lacking, id) // it is applied, gone, or fails
		}
	}
	more := len(e.detached) > 0
	if !more {
		e.caught = at
		clear(e.stats.linked)
	}
	if point := e.oldestLacking(at); e.halted == "" && e.o.Ledger.Count() == 0 && !e.o.DryRun && point.After(e.point) {
		e.point = point
	}
	return more
}

// finish ends the loop in good order: nothing new is begun, what is in flight is awaited (see watchStop) and committed. Detached
// content goes on at the next start.
func (e *Engine) finish() error {
	e.giveUpAll()
	return e.idle()
}

// idle waits until nothing is in flight but what is detached, and detaches nothing.
func (e *Engine) idle() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.dead == nil && e.open+e.kept > 0 {
		e.cond.Wait()
	}
	return e.dead
}

// drain waits until nothing is in flight but what is detached, and with commit until all is committed.
func (e *Engine) drain(commit bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.await(func() bool { return e.open == 0 && (!commit || e.kept == 0) })
}

// nudge wakes the driving goroutine.
func (e *Engine) nudge() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// again asks the source to observe places once more. It is called while a batch is open, or by the driving goroutine: so that
// whoever waits for the batches to end waits for this too. The request is counted when it has been made: a source that says
// that it has handed out all, having been asked before that, does not speak of it.
func (e *Engine) again(places ...change.Place) {
	if len(places) == 0 {
		return
	}
	keep := places[:0:0]
	for _, at := range places {
		if at.Dir != change.StashID {
			keep = append(keep, at)
		}
	}
	e.o.Source.Again(keep...)
	e.asked.Add(1)
}

// rescan asks the source to compare a directory with the store. See again for when to call it.
func (e *Engine) rescan(dir change.ID) {
	e.o.Source.Rescan(dir)
	e.asked.Add(1)
}
