package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"georep/internal/change"
	"georep/internal/checkpoint"
	"georep/internal/dial"
	"georep/internal/durable"
	"georep/internal/gluster"
	"georep/internal/index"
	"georep/internal/plan"
	"georep/internal/replicate"
	"georep/internal/source/brick"
	"georep/internal/status"
	"georep/internal/wire"
)

// Brick is one brick of a volume that is mirrored to another volume, and how.
type Brick struct {
	Volume     string // the primary volume
	VolumeID   change.ID
	Path       string // of the brick, on this host
	NodeID     string // of this host, as glusterd names it
	Subvolume  int    // which of the volume's subvolumes the brick belongs to, from 1
	Subvolumes int    // how many the volume has; 0: 1
	Replicas   int    // bricks that hold the same as this one, with it; 0: 1
	Indirect   bool   // the brick holds no content that can be read: disperse, or arbiter

	SecondaryVolume string
	SecondaryID     change.ID
	User            string   // on the secondary; "": as ssh says
	Hosts           []string // of the secondary, in the order in which they are tried
	Port            int
	SSH             []string // the ssh command; empty: ssh
	KeepGroup       bool     // see dial.Options
	// Command is the command that starts the agent on a host of the secondary.
	Command func(host string) []string

	WorkDir      string // the index is kept here; made when missing
	LogFile      string // of the mount of the primary volume
	LogLevel     string
	GlusterFS    string // the program glusterfs; "": it is looked for
	SyncJobs     int    // large files that travel at once; 0: 3
	BwLimit      int64  // bytes a second; 0: no limit
	Compress     bool
	IgnoreDelete bool   // nothing is deleted on the secondary
	MetaMount    string // where the shared volume is mounted, whose locks decide who is active; "": the node identities do
	Checkpoint   time.Time
	XtimeEvery   time.Duration // between two searches for what no journal tells; 0: a minute
	Version      string
	Log          *slog.Logger
	// Report is told how the brick is doing: with each change, and about twice a second. It is called from one goroutine at a time.
	Report func(BrickReport)
	// Dial, if given, takes the place of ssh.
	Dial func(ctx context.Context, host string) (Stream, error)
}

// BrickState is what a worker of a brick does.
type BrickState string

// The states, as Gluster prints them.
const (
	BrickInitializing BrickState = "Initializing..."
	BrickActive       BrickState = "Active"
	BrickPassive      BrickState = "Passive"
)

// BrickReport is how a brick is doing.
type BrickReport struct {
	State    BrickState
	Crawl    status.Crawl // "" while passive
	Host     string       // of the secondary, while connected
	Synced   time.Time    // what was recorded before this moment of the brick's clock is on the secondary; zero: not known
	Snapshot status.Snapshot
	Event    status.Event // what led to this report
}

// brickWorker is one attempt.
type brickWorker struct {
	b     *Brick
	tell  sync.Mutex
	state BrickReport

	index   *index.Index
	ledger  *ledger
	marks   marks
	source  *brick.Source
	mount   *gluster.Mount
	limiter *rate.Limiter
	link    *link
	fresh   bool // the secondary has nothing of this brick
	closers []func() error
}

// RunBrick mirrors one brick until ctx ends, then what is in flight is finished and nil returned, or until the brick, the primary volume or the
// connection is lost. It never connects again: who started it starts it again.
func RunBrick(ctx context.Context, b Brick) (err error) {
	w := &brickWorker{b: &b, state: BrickReport{State: BrickInitializing}}
	if b.Subvolumes == 0 {
		b.Subvolumes = 1
	}
	if b.SyncJobs == 0 {
		b.SyncJobs = 3
	}
	if b.Report == nil {
		b.Report = func(BrickReport) {}
	}
	defer func() {
		for i := len(w.closers) - 1; i >= 0; i-- {
			if cerr := w.closers[i](); err == nil && cerr != nil && ctx.Err() == nil {
				err = cerr
			}
		}
	}()
	for _, step := range []func(context.Context) error{w.openState, w.openVolume, w.connect, w.bind, w.observe} {
		if err := step(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	return w.loop(ctx)
}

func (w *brickWorker) closeLater(f func() error) { w.closers = append(w.closers, f) }

// report tells how the brick is doing.
func (w *brickWorker) report(change func(*BrickReport)) {
	w.tell.Lock()
	defer w.tell.Unlock()
	w.state.Event = status.Event{}
	change(&w.state)
	w.b.Report(w.state)
}

// openState opens the index.
func (w *brickWorker) openState(context.Context) error {
	if err := os.MkdirAll(w.b.WorkDir, 0o700); err != nil {
		return fmt.Errorf("make the work directory: %w", err)
	}
	lock, err := durable.Lock(filepath.Join(w.b.WorkDir, "lock"))
	if err != nil {
		return fmt.Errorf("another worker has this brick: %w", err)
	}
	w.closeLater(lock.Unlock)
	path := IndexFile(w.b.WorkDir)
	if w.index, err = index.Open(path, index.Options{}); errors.Is(err, index.ErrCorrupt) {
		// It can be built again, and nobody is there to do that by hand.
		w.notice("the index is damaged and is built again")
		if err := os.Rename(path, path+".damaged"); err != nil {
			return fmt.Errorf("put the damaged index aside: %w", err)
		}
		w.index, err = index.Open(path, index.Options{})
	}
	if err != nil {
		return fmt.Errorf("open the index: %w", err)
	}
	w.closeLater(w.index.Close)
	l, err := checkpoint.NewLedger(w.index, checkpoint.LedgerOptions{})
	if err != nil {
		return fmt.Errorf("open the failure ledger: %w", err)
	}
	w.ledger = &ledger{l}
	if w.b.BwLimit > 0 {
		w.limiter = wire.NewLimiter(w.b.BwLimit)
	}
	return nil
}

func (w *brickWorker) notice(text string) {
	if w.b.Log != nil {
		w.b.Log.Info(text)
	}
	w.report(func(r *BrickReport) { r.Event = status.Event{Kind: status.Notice, Time: time.Now(), Text: text} })
}

// openVolume mounts the primary volume, by which is learnt what other bricks have.
func (w *brickWorker) openVolume(ctx context.Context) error {
	m, err := gluster.Open(ctx, gluster.MountOptions{Volume: w.b.Volume, LogFile: w.b.LogFile, Level: w.b.LogLevel, Program: w.b.GlusterFS})
	if err != nil {
		return err
	}
	w.mount = m
	w.closeLater(m.Close)
	return nil
}

// connect starts the agent on the first host of the secondary that answers.
func (w *brickWorker) connect(ctx context.Context) error {
	var errs []error
	for _, host := range w.b.Hosts {
		err := w.connectTo(ctx, host)
		if err == nil {
			w.report(func(r *BrickReport) { r.Host = host })
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		errs = append(errs, fmt.Errorf("connect to %s: %w", host, err))
	}
	return &LinkError{Err: errors.Join(errs...), Transient: true}
}

func (w *brickWorker) connectTo(ctx context.Context, host string) error {
	start := w.b.Dial
	if start == nil {
		start = w.ssh
	}
	stream, err := start(ctx, host)
	if err != nil {
		return err
	}
	l := &link{stream: stream}
	l.client, err = wire.NewClient(ctx, stream, wire.ClientOptions{Version: w.b.Version, Compress: w.b.Compress, Limiter: w.limiter})
	if err != nil {
		return l.explain(err)
	}
	w.link = l
	w.closeLater(l.client.Close)
	return nil
}

func (w *brickWorker) ssh(ctx context.Context, host string) (Stream, error) {
	return dial.Command(ctx, dial.Options{
		SSH: w.b.SSH, User: w.b.User, Host: host, Port: w.b.Port, Args: w.b.Command(host), KeepGroup: w.b.KeepGroup,
	})
}

// session names what this worker has on the secondary.
func (w *brickWorker) session() string {
	return w.b.VolumeID.String() + "." + strconv.Itoa(w.b.Subvolume)
}

// The keys among the index's values.
const (
	keyClosed  = "closed"  // the last journal that is done with
	keyTrusted = "trusted" // the index has all that the secondary has of this brick
)

// bind learns what the secondary has of this brick.
func (w *brickWorker) bind(ctx context.Context) error {
	r, err := w.link.client.Bind(ctx, w.session(), true)
	if err != nil {
		return &LinkError{Err: fmt.Errorf("look into the secondary volume: %w", w.link.explain(err)), Transient: true}
	}
	w.fresh = r.Empty
	last, _, err := w.index.Value(keyMark)
	if err != nil {
		return err
	}
	next, _, err := w.index.Value(keyNext)
	if err != nil {
		return err
	}
	if r.Empty || r.Mark == "" || r.Mark != string(last) && r.Mark != string(next) {
		// Another worker has been at work since, or the secondary is another one: the index says nothing of it.
		if err := w.forget(r.Empty); err != nil {
			return err
		}
	}
	w.marks.next = newMark()
	return w.index.Update(func(tx *index.Tx) error {
		setMarks(tx, r.Mark, w.marks.next)
		return nil
	})
}

// forget empties the index. fresh says that there is nothing on the secondary, so that it is complete all the same.
func (w *brickWorker) forget(fresh bool) error {
	if err := w.index.Forget(); err != nil {
		return err
	}
	trusted := ""
	if fresh {
		trusted = "1"
		if err := w.index.SetValue(keyClosed, nil); err != nil {
			return err
		}
	}
	return w.index.SetValue(keyTrusted, []byte(trusted))
}

// observe starts the source where the last worker ended.
func (w *brickWorker) observe(context.Context) error {
	after, err := w.number(keyClosed)
	if err != nil {
		return err
	}
	trusted, _, err := w.index.Value(keyTrusted)
	if err != nil {
		return err
	}
	w.source, err = brick.New(brick.Options{
		Path: w.b.Path, Index: brickIndex{w.index}, Volume: w.mount, After: after, Trusted: len(trusted) > 0, Indirect: w.b.Indirect,
		Spread: w.b.Subvolumes > 1, XattrSum: plan.XattrSum, XtimeEvery: w.b.XtimeEvery,
	})
	if err != nil {
		return err
	}
	w.closeLater(w.source.Close)
	return nil
}

func (w *brickWorker) number(key string) (int64, error) {
	text, _, err := w.index.Value(key)
	if err != nil || len(text) == 0 {
		return 0, err
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %q of the index: %w", key, err)
	}
	return n, nil
}

// loop runs the engine.
func (w *brickWorker) loop(ctx context.Context) error {
	suspects, err := w.index.Intents()
	if err != nil {
		return fmt.Errorf("read what was in flight: %w", err)
	}
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	var watcher sync.WaitGroup
	defer watcher.Wait()
	defer cancel(nil)
	watcher.Go(func() {
		select {
		case <-w.link.client.Done():
			cancel(&LinkError{Err: w.link.explain(w.link.client.Wait()), Transient: true})
		case <-work.Done():
		}
	})
	w.report(func(r *BrickReport) { r.State = BrickActive })
	engine := replicate.New(replicate.Options{
		Source: brickSource{w.source, w}, Peers: []replicate.Peer{&brickPeer{Client: w.link.client, w: w}},
		Store: store{Index: w.index, marks: &w.marks}, Ledger: w.ledger, Report: w.event, Log: w.b.Log, Streams: w.b.SyncJobs, Fresh: w.fresh, SameIDs: true,
		Suspects: suspects, Guard: replicate.Guard{Allow: true}, Wire: func() (int64, int64) { return w.link.client.BytesOut(), w.link.client.BytesIn() },
		Events: status.EventsNone, Stop: ctx.Done(), Patience: -1,
	})
	_, err = engine.Run(work)
	var peer *replicate.PeerError
	var broken *LinkError
	switch {
	case errors.As(context.Cause(work), &broken):
		return broken
	case errors.As(err, &peer) && ctx.Err() == nil:
		return &LinkError{Err: w.explain(err), Transient: true}
	}
	return err
}

// explain says why a request failed: because the connection ended, if it did.
func (w *brickWorker) explain(err error) error {
	select {
	case <-w.link.client.Done():
		return w.link.explain(err)
	default:
		return err
	}
}

// event follows what the engine tells.
func (w *brickWorker) event(ev status.Event) {
	var synced time.Time
	if ev.Kind == status.CaughtUp {
		if closed := w.source.Acknowledged(ev.Caught); closed > 0 {
			if err := w.acknowledge(closed); err != nil {
				w.notice("the progress cannot be noted: " + err.Error())
			}
		}
		synced = ev.Caught
	}
	w.report(func(r *BrickReport) {
		r.Event, r.Snapshot = ev, ev.Snapshot
		if !synced.IsZero() {
			r.Synced = synced
		}
	})
}

// acknowledge notes durably up to which journal all is on the secondary.
func (w *brickWorker) acknowledge(closed int64) error {
	before, err := w.number(keyClosed)
	if err != nil || closed <= before {
		return err
	}
	if err := w.index.SetValue(keyClosed, strconv.AppendInt(nil, closed, 10)); err != nil {
		return err
	}
	return nil
}
