package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"georep/internal/change"
	"georep/internal/checkpoint"
	"georep/internal/durable"
	"georep/internal/gluster"
	"georep/internal/index"
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
	IgnoreDelete bool          // nothing is deleted on the secondary
	LockDir      string        // where bricks of one host that hold the same decide who is active; "": the system's directory for temporary files
	MetaMount    string        // where the shared volume is mounted, whose locks decide who is active; "": the node identities do
	Checkpoint   time.Time     // when all that was recorded before it is on the secondary, the report says so; zero: none is set
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
	State   BrickState
	Crawl   status.Crawl // "" while passive
	Host    string       // of the secondary, while connected
	Synced  time.Time    // what was recorded before this moment of the brick's clock is on the secondary; zero: not known
	Reached time.Time    // when Brick.Checkpoint was reached; zero: it was not
	// Entries, Data and Metadata are how many records of the journal, of each sort, are not acknowledged.
	Entries, Data, Metadata int64
	Snapshot                status.Snapshot
	Event                   status.Event // what led to this report
}

// brickWorker is what lasts over the times in which a brick is active.
type brickWorker struct {
	b     *Brick
	tell  sync.Mutex
	state BrickReport

	index   *index.Index
	ledger  *ledger
	mount   *gluster.Mount
	limiter *rate.Limiter
	elect   elector
	gap     bool // what other workers have left on the brick or the secondary does not say from where on to follow the journal
	closers []func() error
}

// Why an attempt ends although nothing is wrong.
var (
	errPassive = errors.New("another brick with the same content is active now")
	errAgain   = errors.New("the brick is compared from the beginning")
)

// RunBrick mirrors one brick until ctx ends, then what is in flight is finished and nil returned, or until the brick, the primary volume or the
// connection is lost. It never connects again: who started it starts it again. While another brick with the same content is active it waits.
func RunBrick(ctx context.Context, b Brick) (err error) {
	w := &brickWorker{b: &b, state: BrickReport{State: BrickInitializing}}
	b.Subvolumes, b.Replicas = max(b.Subvolumes, 1), max(b.Replicas, 1)
	if b.SyncJobs == 0 {
		b.SyncJobs = 3
	}
	if b.Report == nil {
		b.Report = func(BrickReport) {}
	}
	defer func() { err = closed(ctx, w.closers, err) }()
	for _, step := range []func(context.Context) error{w.openState, w.openVolume, w.openElection} {
		if err := step(ctx); err != nil {
			return unless(ctx, err)
		}
	}
	for {
		if err := w.awaitActive(ctx); err != nil {
			return unless(ctx, err)
		}
		a := &attempt{brickWorker: w}
		err := a.run(ctx)
		if ctx.Err() != nil || !errors.Is(err, errPassive) && !errors.Is(err, errAgain) {
			return unless(ctx, err)
		}
		w.log(err.Error())
	}
}

// unless gives an error unless ctx ended, which explains everything.
func unless(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// closed closes what was opened, the last first, and gives err or else what went wrong with that.
func closed(ctx context.Context, closers []func() error, err error) error {
	for i := len(closers) - 1; i >= 0; i-- {
		if cerr := closers[i](); err == nil && cerr != nil && ctx.Err() == nil {
			err = cerr
		}
	}
	return err
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

func (w *brickWorker) log(text string) {
	if w.b.Log != nil {
		w.b.Log.Info(text)
	}
}

func (w *brickWorker) notice(text string) {
	w.log(text)
	w.report(func(r *BrickReport) { r.Event = status.Event{Kind: status.Notice, Time: time.Now(), Text: text} })
}

// openVolume mounts the primary volume, by which is learnt what other bricks have.
func (w *brickWorker) openVolume(ctx context.Context) error {
	m, err := gluster.Open(ctx, gluster.MountOptions{Volume: w.b.Volume, LogFile: w.b.LogFile, Level: w.b.LogLevel, Program: w.b.GlusterFS, Reader: true})
	if err != nil {
		return err
	}
	w.mount = m
	w.closeLater(m.Close)
	return nil
}
