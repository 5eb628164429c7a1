// Package worker wires one mirror: the source, the index, the connections to the secondary, and the loop between them. It
// holds no logic of replication itself.
package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"georep/internal/change"
	"georep/internal/checkpoint"
	"georep/internal/dial"
	"georep/internal/index"
	"georep/internal/replicate"
	"georep/internal/rooted"
	"georep/internal/source"
	"georep/internal/status"
	"georep/internal/transfer"
	"georep/internal/wire"
)

// ErrHalted means that a person must decide something; its text says what.
var ErrHalted = errors.New("a person must decide")

// Options say what is mirrored where, and how.
type Options struct {
	Source        string // the directory, absolute
	StateDir      string // where the index is kept; made when missing
	Target        dial.Target
	Once          bool // end when all is acknowledged
	DryRun        bool // say what would be done
	Checksum      bool // compare contents where size and times are equal
	NoOwner       bool // leave owners and groups on the destination as they come
	AllowDelete   bool // a person has agreed to deletions, and to making a filled destination equal
	Patterns      []string
	BwLimit       int64 // bytes a second of all connections together; 0: no limit
	Compress      bool
	Patience      time.Duration // how long other changes wait for a large file that is under way; 0: 200 ms
	SyncJobs      int           // connections, and large files that travel at once; 0: 3
	Port          int
	Interactive   bool   // a person is there whom ssh may ask for a password
	SSHCommand    string // "": ssh
	Ciphers       string // that ssh offers; Run fills it in where it knows better ones than ssh itself would take, see chooseCiphers
	RemoteGeorep  string // "": georep
	SyncMethod    string // native, rsync or tarssh
	DeletePercent float64
	DeleteEntries int64
	ScanInterval  time.Duration // between full scans; 0: an hour
	Version       string
	Executable    string // this program, started as the agent of a local destination
	Log           *slog.Logger
	// Dial, if given, takes the place of ssh and of the local agent: it starts an agent with these arguments.
	Dial func(ctx context.Context, args []string) (Stream, error)
	// SourceFaults, if given, is asked before every system call on the source; for tests (see rooted.WithFaults).
	SourceFaults func(call, path string) error
}

// Summary is how a mirror ended.
type Summary struct {
	Snapshot   status.Snapshot
	Failures   []status.Failure
	Halted     bool
	HaltReason string
}

// Garbage is looked for when memory has grown by collectAt percent, and whenever it has reached memoryLimit bytes: the work needs
// less than half of that, and looking for garbage costs a tenth of it at Go's own settings.
const (
	memoryLimit = 192 << 20
	collectAt   = 200
)

// Delays between attempts to connect again.
const (
	firstDelay   = time.Second
	longestDelay = time.Minute
)

// Run mirrors until ctx ends (then what is in flight is finished and nil returned), all is done (Options.Once), or something
// needs a person. A link that breaks is made again with back-off, unless Options.Once; what was acknowledged is kept.
// report is called from one goroutine at a time.
func Run(ctx context.Context, o Options, report func(status.Event)) (Summary, error) {
	if o.SyncJobs <= 0 {
		o.SyncJobs = 3
	}
	if os.Getenv("GOMEMLIMIT") == "" && os.Getenv("GOGC") == "" {
		debug.SetMemoryLimit(memoryLimit)
		debug.SetGCPercent(collectAt)
	}
	release, err := claimState(&o)
	if err != nil {
		return Summary{}, err
	}
	defer release()
	var one sync.Mutex
	tell := report
	report = func(e status.Event) { // also while further connections are being made
		one.Lock()
		defer one.Unlock()
		tell(e)
	}
	delay := firstDelay
	for first := true; ; first = false {
		began := time.Now()
		w := &worker{o: o, report: report, first: first}
		o.Interactive = false // a person is asked at the start only, not when a connection breaks in the night
		sum, err := w.run(ctx)
		var link *LinkError
		if err == nil || o.Once || !errors.As(err, &link) || ctx.Err() != nil || !w.connected && !link.Transient {
			return sum, err
		}
		if time.Since(began) > longestDelay {
			delay = firstDelay
		}
		report(status.Event{Kind: status.LinkLost, Time: time.Now(), Snapshot: sum.Snapshot, Text: fmt.Sprintf("%v; connecting again in %s", err, delay)})
		select {
		case <-ctx.Done():
			return sum, nil
		case <-time.After(delay):
		}
		delay = min(2*delay, longestDelay)
	}
}

// LinkError means that the connection could not be made or ended.
type LinkError struct {
	Err       error
	Transient bool // trying again may help although it never worked
}

func (e *LinkError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *LinkError) Unwrap() error { return e.Err }

// worker is one attempt.
type worker struct {
	o         Options
	report    func(status.Event)
	first     bool // of this run
	connected bool

	root    *rooted.Root
	index   *index.Index
	ledger  *ledger
	session string
	// runNumber counts the attempts of this session. Agents of an earlier one that are still there make room for those of a later.
	runNumber uint64
	linksMu   sync.Mutex // guards links and closers while further connections are made
	links     []*link
	volume    *source.Volume
	forgot    bool              // the index was emptied since volume was made
	carry     *transfer.Carrier // nil: content travels by the connections
	limiter   *rate.Limiter
	bound     bound
	marks     marks
	closers   []func() error
}

// bound is what is known of the two ends before work begins.
type bound struct {
	fresh    bool          // the destination is known to be empty
	halted   string        // why deletions are halted from the start
	timeStep time.Duration // in which the destination keeps times; 0: exactly, or not known
}

func (w *worker) run(ctx context.Context) (sum Summary, err error) {
	defer func() {
		for i := len(w.closers) - 1; i >= 0; i-- {
			if cerr := w.closers[i](); err == nil && cerr != nil && ctx.Err() == nil {
				err = cerr
			}
		}
	}()
	for _, step := range []func(context.Context) error{w.openSource, w.openState, w.observeEarly, w.connect, w.bind, w.checkSource, w.checkOwners, w.greet, w.observe, w.openCarrier} {
		if err := step(ctx); err != nil {
			if ctx.Err() != nil {
				return Summary{}, nil
			}
			return Summary{}, err
		}
	}
	return w.loop(ctx)
}

func (w *worker) closeLater(f func() error) { w.closers = append(w.closers, f) }

func (w *worker) openSource(context.Context) error {
	var options []rooted.Option
	if w.o.SourceFaults != nil {
		options = append(options, rooted.WithFaults(w.o.SourceFaults))
	}
	root, err := rooted.Open(w.o.Source, options...)
	if err != nil {
		return fmt.Errorf("open the source %s: %w", w.o.Source, err)
	}
	w.root = root
	w.closeLater(root.Close)
	return nil
}

// openState opens the index.
func (w *worker) openState(context.Context) error {
	path := IndexFile(w.o.StateDir)
	x, err := index.Open(path, index.Options{})
	if err != nil {
		return fmt.Errorf("open the index: %w", err)
	}
	w.index = x
	w.closeLater(x.Close)
	l, err := checkpoint.NewLedger(x, checkpoint.LedgerOptions{})
	if err != nil {
		return fmt.Errorf("open the failure ledger: %w", err)
	}
	w.ledger = &ledger{l}
	id, found, err := x.Value("session")
	if err != nil {
		return fmt.Errorf("read the session: %w", err)
	}
	if !found {
		id = make([]byte, 16)
		_, _ = rand.Read(id) // never fails (crypto/rand)
		id = []byte(hex.EncodeToString(id))
		if err := x.SetValue("session", id); err != nil {
			return fmt.Errorf("note the session: %w", err)
		}
	}
	w.session = string(id)
	if err := w.count(); err != nil {
		return err
	}
	if w.o.BwLimit > 0 {
		w.limiter = wire.NewLimiter(w.o.BwLimit)
	}
	return nil
}

// count gives this attempt its number, durably: no later one may have the same.
func (w *worker) count() error {
	if w.o.DryRun {
		return nil
	}
	last, found, err := w.index.Value("run")
	if err != nil {
		return fmt.Errorf("read the number of the run: %w", err)
	}
	if found {
		if w.runNumber, err = strconv.ParseUint(string(last), 10, 64); err != nil {
			return fmt.Errorf("read the number of the run: %w", err)
		}
	}
	w.runNumber++
	if err := w.index.SetValue("run", strconv.AppendUint(nil, w.runNumber, 10)); err != nil {
		return fmt.Errorf("note the number of the run: %w", err)
	}
	return nil
}

// checkSource halts deletions when the source is not the directory that was mirrored before.
func (w *worker) checkSource(context.Context) error {
	self, err := w.root.Top().Self()
	if err != nil {
		return fmt.Errorf("read the source: %w", err)
	}
	id := self.ID.String()
	before, found, err := w.index.Value("source")
	if err != nil {
		return fmt.Errorf("read the source's identity: %w", err)
	}
	replaced := found && string(before) != id
	// The right source may be back after another one was mirrored: then the index is of that one.
	root, known, err := w.index.Get(change.Place{})
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	if replaced || known && root.ID != self.ID {
		if replaced && !w.o.AllowDelete {
			w.bound.halted = "the source is not the directory that was mirrored before (another file system is mounted there, or it was replaced or restored). Deletions are held back; if it is meant so, start with --allow-delete"
		}
		if err := w.forget(); err != nil {
			return err
		}
		w.bound.fresh = false
		if replaced && !w.o.AllowDelete {
			return nil // the old identity stays noted until a person agrees
		}
	}
	if w.o.DryRun {
		return nil
	}
	return w.index.SetValue("source", []byte(id))
}

// observeEarly starts the source, and its first comparison with the index, while the connection is still to be made. Only the first attempt
// does: while a destination is away for long, the source is left in peace.
func (w *worker) observeEarly(ctx context.Context) error {
	if !w.first {
		return nil
	}
	if err := w.observe(ctx); err != nil {
		return err
	}
	if err := w.volume.Begin(); err != nil {
		return fmt.Errorf("observe the source: %w", err)
	}
	return nil
}

// observe starts the source, anew if the index that it was compared with is not valid any more.
func (w *worker) observe(ctx context.Context) error {
	if w.volume != nil && !w.forgot {
		return nil
	}
	if err := w.stopObserving(); err != nil {
		return fmt.Errorf("observe the source anew: %w", err)
	}
	ignore, err := matcher(w.o.Patterns)
	if err != nil {
		return err
	}
	opts := source.Options{
		Root: w.root, Path: w.o.Source, Index: w.index, Ignore: ignore, ScanInterval: w.o.ScanInterval,
		Checksum: w.o.Checksum, Flush: w.o.Once && !w.o.DryRun, Jobs: 2, TempDir: w.o.StateDir, ScanRate: backgroundRate,
	}
	if w.o.Once {
		opts.Events = source.Auto
	}
	v, err := source.New(ctx, opts)
	if err != nil {
		return fmt.Errorf("observe the source: %w", err)
	}
	w.volume, w.forgot = v, false
	w.closeLater(w.stopObserving)
	return nil
}

// stopObserving ends the source, if it runs.
func (w *worker) stopObserving() error {
	v := w.volume
	if v == nil {
		return nil
	}
	w.volume = nil
	return v.Close()
}

// backgroundRate bounds the scans after the first one, in entries a second.
const backgroundRate = 20000

// loop runs the engine.
func (w *worker) loop(ctx context.Context) (Summary, error) {
	suspects, err := w.suspects()
	if err != nil {
		return Summary{}, err
	}
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	watch := func(l *link) {
		watchers.Go(func() {
			select {
			case <-l.client.Done():
				cancel(&LinkError{Err: l.explain(l.client.Wait()), Transient: true})
			case <-work.Done():
			}
		})
	}
	first := w.links[0]
	watch(first)
	defer cancel(nil)
	engine := replicate.New(w.engineOptions(ctx, suspects))
	watchers.Go(func() {
		w.connectMore(work, func(l *link) {
			watch(l)
			engine.Join(l.client)
		})
	})
	out, err := engine.Run(work)
	sum := Summary{Snapshot: out.Snapshot, Halted: out.Halted != "", HaltReason: out.Halted}
	if fails, ferr := w.ledger.failures(failuresMax); ferr == nil {
		sum.Failures = fails
	} else if err == nil {
		err = ferr
	}
	cause := context.Cause(work)
	var link *LinkError
	var peer *replicate.PeerError
	var answer *wire.RemoteError
	switch {
	case errors.As(cause, &link):
		return sum, link
	case errors.As(err, &peer) && errors.As(err, &answer): // the connection itself is well
		return sum, &LinkError{Err: fmt.Errorf("%s: %s answered: %s (see dmesg and df there); what it has not confirmed is sent again", peer.Doing, w.place(), answer.Detail), Transient: true}
	case errors.As(err, &peer) && ctx.Err() == nil:
		return sum, &LinkError{Err: first.explain(err), Transient: true}
	case errors.Is(err, source.ErrSourceReplaced):
		sum.Halted, sum.HaltReason = true, err.Error()
		return sum, fmt.Errorf("%w: %w: mount or restore it and start again", ErrHalted, err)
	case err != nil:
		return sum, err
	case sum.Halted && (w.o.Once || ctx.Err() == nil):
		return sum, fmt.Errorf("%w: %s", ErrHalted, sum.HaltReason)
	}
	return sum, nil
}

// failuresMax bounds the failing entries that a summary lists.
const failuresMax = 10_000
