// Package source observes a directory tree of the primary: what is there at start, and from then on what changes, without a gap.
//
// Events (fanotify, or inotify where that is not allowed) and a pass over the whole tree only say where to look; what is
// handed over is what a look found. Every place that was touched is looked at after its event was read, so that the last
// observation of a place is never older than its last change.
//
// Absence is the weak spot, because it leads to deletions. A name that is not there becomes an observation only after all events
// that were queued when it was missed have been looked at and handed out (a renamed object has been seen under its new name by
// then), after the running pass has ended if a pass has found it missing, when a second look agrees, and while the root
// is the directory that it was at start.
package source

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"georep/internal/change"
	"georep/internal/rooted"
	"georep/internal/source/scan"
)

// ErrSourceReplaced means that the root is no longer the directory that it was: unmounted, moved away, or another one in its place.
var ErrSourceReplaced = errors.New("the source directory is not the one that it was at start: it was unmounted or replaced")

// Index is what the secondary has acknowledged. Its methods are called by many goroutines at once.
type Index interface {
	// Get tells what is at a place.
	Get(at change.Place) (change.Entry, bool, error)
	// List calls fn for the entries of a directory behind a name, in the order of their bytes.
	List(dir change.ID, after string, fn func(name string, e change.Entry) error) error
	// Names lists the places of an object.
	Names(id change.ID) ([]change.Place, error)
}

// Matcher says which entries are left out. It is called by many goroutines at once.
type Matcher interface {
	// Excluded judges an entry whose parents are not excluded. path is relative to the root.
	Excluded(path string, dir bool) bool
	// Empty says that nothing is ever excluded.
	Empty() bool
}

// Events is a way to learn of changes while they happen.
type Events int

// The ways. Auto takes the first that works: Fanotify, Inotify, None.
const (
	Auto Events = iota
	Fanotify
	Inotify
	None
)

func (e Events) String() string {
	return [...]string{Auto: "auto", Fanotify: "fanotify", Inotify: "inotify", None: "none"}[e]
}

// Options say what a Volume observes, and how.
type Options struct {
	Root *rooted.Root // stays open until Close has returned; the caller closes it
	// Path is where Root was opened. Before absences are handed out it is opened again, and must lead to the same directory.
	// "" leaves that out.
	Path  string
	Index Index
	// Ignore tells what is left out; nil: nothing. The name ".georep" in the root is always left out.
	Ignore Matcher
	Events Events
	// ScanInterval is the time between the end of a pass and the next; 0 means an hour, negative never.
	ScanInterval time.Duration
	// ScanRate bounds the passes after the first one, in entries a second; 0 means no bound.
	ScanRate int
	// Checksum declares the content of every file doubtful in the first pass.
	Checksum bool
	// Flush has what mappings (mmap) hold written to the disk before any content is read. A page that is changed again before it was written
	// moves the file's times once only; so what a mapping writes after a file was read moves them, and is found by the next pass.
	Flush bool
	Jobs  int // goroutines that scan; 0 means 4
	// TempDir is where lists that do not fit into memory are kept; "" means the system's directory.
	TempDir string
	// XattrSum condenses extended attributes as the index does. With it a pass tells apart why a file's ctime changed: the
	// content of one whose other attributes are all equal is declared doubtful. nil: it is not.
	XattrSum func([]change.Xattr) uint64
	// Coalesce is how long events are gathered before they are looked at; 0 means 30 ms.
	Coalesce time.Duration
}

// Problem is an entry that could not be read. Whatever is at or below it is not known: no absence is reported there.
type Problem struct {
	// At is where it is. The name "." stands for the entries of the directory At.Dir as a whole, which cannot be listed; Again
	// takes such a place too, and answers by Batch.Gone when the problem is gone.
	At    change.Place
	Path  string // relative to the root, for people
	Call  string // the call that failed, e.g. "openat"
	Errno syscall.Errno
}

// ScanState tells how far the pass over the whole tree is.
type ScanState struct {
	Running        bool
	Done           bool  // with this batch the pass has been handed out wholly
	Pass           int   // 1 is the one at start
	Entries, Bytes int64 // compared in this pass so far; bytes are the sizes of files
	// Equal and EqualBytes are how many of these were as the index has them, and are not handed out.
	Equal, EqualBytes int64
}

// Batch is what Next hands over at once.
type Batch struct {
	// Seen are the observations, at most about 4096. A directory comes before what is in it. Absent ones come in batches of
	// their own.
	Seen     []change.Observation
	Problems []Problem
	// Gone are places of which nothing is to be known any more: their directory is not in the tree, or another file system is
	// mounted there. Whoever waits for them need not.
	Gone []change.Place
	// AbsentMore says that the next batch goes on with the absences of this one.
	AbsentMore bool
	// Empty says that absences come while the root holds nothing at all.
	Empty bool
	Scan  ScanState
	// CaughtUp says that nothing is pending: all that happened before At has been handed out, and (unless Scan.Running)
	// compared. Where not every directory is watched, At is no later than the begin of the last pass.
	CaughtUp bool
	At       time.Time // of CaughtUp, by this host's clock
	// Note is something that an operator should know, such as the limit of watches; "" mostly.
	Note string
}

// The passes that may be due.
const (
	wantNone  int32 = iota
	wantPass        // compare all
	wantDoubt       // compare all, as events were lost
)

// batchSize is about how many observations one batch holds.
const batchSize = 4096

// Volume is a directory tree that is observed. Next is called by one goroutine; the other methods by any.
type Volume struct {
	o       Options
	rootID  change.ID
	device  uint64 // file system of the root
	dirs    *directories
	opened  opened // where files are being read
	walker  *scan.Walker
	watch   watcher // nil: scanning only
	events  Events  // that are in use
	pending *pending
	fresh   atomic.Uint64
	wake    chan struct{} // something has come; capacity 1
	limiter *rate.Limiter

	drain sync.Mutex // held while events are read, so that they are treated in their order

	flushed chan struct{} // closed when the flush of Options.Flush has ended; nil without
	flushAt time.Time     // when that began

	stop    context.CancelFunc
	running sync.WaitGroup
	failure chan error // why a goroutine ended; capacity 2

	unread    *recent[uint64, struct{}]          // places that could not be looked at, hashed: what is below them, if anything, was not compared
	troubled  *recent[change.ID, struct{}]       // directories that could not be listed
	known     *recent[change.ID, struct{}]       // directories that were handed out and scanned
	away      *recent[change.ID, struct{}]       // directories that were moved out of the tree
	doubts    doubts                             // objects that were written to and not looked at since
	strangers doubts                             // the same by events that told no name in the tree
	mounts    *recent[string, struct{}]          // paths of other file systems that were spoken of
	handed    *recent[uint64, struct{}]          // places that were handed out, hashed
	links     *recent[change.ID, []change.Place] // names of objects with several that were handed out
	linkAt    *recent[uint64, change.ID]         // objects of those, by the hash of the place
	looked    *recent[uint64, uint64]            // places, hashed, that were looked at while something was compared, and when (as Fresh counts)
	placed    *recent[change.ID, uint64]         // directories that were handed out, and when they were seen
	seed      maphash.Seed                       // of those hashes
	want      atomic.Int32                       // a pass that is due: wantNone, wantPass or wantDoubt
	passing   atomic.Bool                        // a pass is running, or its end has not been dealt with
	blind     atomic.Bool                        // since the begin of the last pass that has ended, a directory could not be watched
	blinded   atomic.Bool                        // the same, since the begin of the pass that runs, or ran last
	stopped   <-chan struct{}                    // closed by Close
	notes     chan string                        // for Batch.Note; capacity 4
	next      nextState                          // of Next alone
}

// New begins to observe. ctx bounds the start only; Close ends everything. With Events Fanotify or Inotify an error of it is
// returned, with Auto the next way is taken.
func New(ctx context.Context, o Options) (*Volume, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	o.fill()
	root, err := o.Root.Top().Self()
	if err != nil {
		return nil, fmt.Errorf("read source root: %w", err)
	}
	_, _, device, _, err := o.Root.Statfs()
	if err != nil {
		return nil, fmt.Errorf("read source file system: %w", err)
	}
	v := &Volume{
		o: o, rootID: root.ID, device: device, pending: newPending(), wake: make(chan struct{}, 1), failure: make(chan error, 2),
		unread: newRecent[uint64, struct{}](64 << 10), troubled: newRecent[change.ID, struct{}](4096), known: newRecent[change.ID, struct{}](64 << 10),
		away: newRecent[change.ID, struct{}](4096), notes: make(chan string, 4),
		links: newRecent[change.ID, []change.Place](64 << 10), linkAt: newRecent[uint64, change.ID](64 << 10),
		mounts: newRecent[string, struct{}](256), handed: newRecent[uint64, struct{}](128 << 10), seed: maphash.MakeSeed(),
		looked: newRecent[uint64, uint64](64 << 10), placed: newRecent[change.ID, uint64](64 << 10),
	}
	v.want.Store(wantPass)
	v.next.init(o.TempDir)
	v.dirs = newDirectories(o.Root, root.ID, o.Index)
	if o.ScanRate > 0 {
		v.limiter = rate.NewLimiter(rate.Limit(o.ScanRate), max(o.ScanRate/10, 1024))
	}
	if err := v.openWatcher(); err != nil {
		return nil, err
	}
	v.walker = scan.New(scan.Options{
		Index: o.Index, Open: v.openForScan, Enter: v.entered, Excluded: v.excluded, Fresh: v.tick,
		XattrSum: o.XattrSum, Jobs: o.Jobs, TempDir: o.TempDir, Changed: v.nudge, Linked: v.linkWatcher(),
	})
	v.start()
	return v, nil
}

// fill sets the defaults.
func (o *Options) fill() {
	if o.ScanInterval == 0 {
		o.ScanInterval = time.Hour
	}
	if o.Jobs <= 0 {
		o.Jobs = 4
	}
	if o.Coalesce <= 0 {
		o.Coalesce = 30 * time.Millisecond
	}
	if o.Ignore != nil && o.Ignore.Empty() {
		o.Ignore = nil
	}
}

// start runs the goroutines that Close waits for.
func (v *Volume) start() {
	ctx, cancel := context.WithCancel(context.Background())
	v.stop, v.stopped = cancel, ctx.Done()
	v.flush(ctx)
	v.running.Go(func() {
		if err := v.walker.Run(ctx); err != nil && ctx.Err() == nil {
			v.fail(fmt.Errorf("scan source: %w", err))
		}
	})
	if v.watch != nil {
		v.running.Go(func() {
			if err := v.pump(); err != nil && ctx.Err() == nil {
				v.fail(fmt.Errorf("watch source: %w", err))
			}
		})
	}
}

// fail makes Next return err.
func (v *Volume) fail(err error) {
	select {
	case v.failure <- err:
	default:
	}
	v.nudge()
}

// Close ends the observation and waits until nothing of it runs. Next must not be called any more.
func (v *Volume) Close() error {
	v.stop()
	var err error
	if v.watch != nil {
		err = v.watch.Close()
	}
	v.running.Wait()
	v.opened.clear()
	v.next.close()
	return err
}

// Events tells which way of learning of changes is in use: never Auto.
func (v *Volume) Events() Events { return v.events }

// Again asks for places to be looked at once more; each is handed out, or reported as a problem, changed or not.
func (v *Volume) Again(places ...change.Place) {
	for _, at := range places {
		v.pending.add(at, look{again: true, now: true})
	}
	v.next.asked.Store(true)
	v.nudge()
}

// Rescan asks for a directory and all that is below it to be compared with the index.
func (v *Volume) Rescan(dir change.ID) {
	v.pending.addScan(dir)
	v.next.asked.Store(true)
	v.nudge()
}

// RescanAll asks for a pass over the whole tree, after the one that may be running.
func (v *Volume) RescanAll() {
	v.want.CompareAndSwap(wantNone, wantPass)
	v.next.asked.Store(true)
	v.nudge()
}

// tick counts readings.
func (v *Volume) tick() uint64 { return v.fresh.Add(1) }

// nudge wakes Next.
func (v *Volume) nudge() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// note passes a remark to Next, or drops it when nobody has taken the earlier ones.
func (v *Volume) note(text string) {
	select {
	case v.notes <- text:
		v.nudge()
	default:
	}
}
