package brick

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"georep/internal/change"
	"georep/internal/gluster"
	"georep/internal/source/changelog"
)

// ErrBrick means that the brick cannot be read any more: its file system is gone, or it is another one.
var ErrBrick = errors.New("the brick cannot be read")

// Index is what the secondary has acknowledged of this brick's objects, and the directories. Its methods are called by one goroutine.
type Index interface {
	// Get tells what is at a place.
	Get(at change.Place) (change.Entry, bool, error)
	// List calls fn for the entries of a directory behind a name, in the order of their bytes.
	List(dir change.ID, after string, fn func(name string, e change.Entry) error) error
	// Names lists the places of an object.
	Names(id change.ID) ([]change.Place, error)
	// Assume notes something that the secondary may have although it was never acknowledged: it is dropped then like anything else.
	Assume(at change.Place, e change.Entry) error
	// Forget removes what was noted of a place: another worker has it now.
	Forget(at change.Place) error
}

// Volume is the primary volume as its clients see it, over all bricks.
type Volume interface {
	// Lookup gives the identity of what is at a place; false when there is nothing, or no such directory.
	Lookup(ctx context.Context, at change.Place) (change.ID, bool, error)
	// Attributes gives mode, owner and times of a directory, as all bricks together have it.
	Attributes(ctx context.Context, dir change.ID) (change.Attr, error)
	// Open opens a file's content for reading.
	Open(ctx context.Context, id change.ID) (*os.File, error)
	// Trigger has the brick that holds a file record that its content changed.
	Trigger(ctx context.Context, id change.ID) error
	// Whole says whether all of the volume can be reached.
	Whole(ctx context.Context) (bool, error)
}

// Options say what a Source observes.
type Options struct {
	Path     string    // of the brick
	VolumeID change.ID // of the volume; zero: what no journal tells is not looked for
	Index    Index
	Volume   Volume
	// After is the time, in seconds of the brick's clock, of the last journal that is done with; 0: the brick is crawled.
	After int64
	// Anchor is Progress.Anchor of the worker that ended at After.
	Anchor change.ID
	// Compare asks for the brick to be compared with the index even though the journals since After are there.
	Compare bool
	// Trusted says that the index has all that the secondary has of this brick, so that what is not in it needs no drop.
	Trusted bool
	// Indirect says that the brick holds no content that can be read (disperse, arbiter).
	Indirect bool
	// Spread says that the volume has several subvolumes, so that directories are on several bricks.
	Spread bool
	// XattrSum condenses extended attributes as the index does.
	XattrSum func([]change.Xattr) uint64
	// XtimeEvery is the time between two searches for what no journal tells; 0 means a minute.
	XtimeEvery time.Duration
}

// Problem is an object that could not be read.
type Problem struct {
	At    change.Place
	Path  string
	Call  string
	Errno syscall.Errno
}

// Batch is what Next hands over at once. See the fields of the same names of source.Batch.
type Batch struct {
	Seen       []change.Observation
	Problems   []Problem
	Gone       []change.Place
	AbsentMore bool
	Crawling   bool  // the brick is being compared
	Entries    int64 // compared so far in this crawl
	Equal      int64
	CaughtUp   bool
	At         time.Time // of CaughtUp
	History    bool      // journals of the past are being read
	Note       string
	Gap        bool // changes may have happened of which nothing was recorded: the brick is compared with the index
}

// batchSize is about how many observations one batch holds.
const batchSize = 4096

// Source observes one brick. Next is called by one goroutine, the other methods by any.
type Source struct {
	o      Options
	tree   *tree
	stream *changelog.Stream

	mu     sync.Mutex // guards what Again and Rescan leave
	again  []change.Place
	rescan []change.ID
	asked  bool
	wake   chan struct{}
	marks  []mark // moments that were handed out as caught up
	taken  Progress
	acked  Progress

	pending  *hints
	removed  map[change.Place]removal // names that may be gone
	removals []change.Place           // their order
	recent   *recent
	crawl    *crawl             // nil: none runs
	settling map[change.ID]bool // directories whose entries changed since the last journal ended; see settle
	shown    map[change.ID]bool // directories that were handed out and may not be in the index yet
	fresh    uint64
	past     Progress // up to what has been taken; taken is a copy
	barrier  bool     // a journal has ended: what it told is finished before more is read
	sharded  bool     // parts of files were seen
	news     bool     // something happened since CaughtUp was told
	current  time.Time
	history  bool
	note     string
	gap      bool
	told     time.Time // when CaughtUp was told last
	gone     []change.Place
	began    int64
	parted   time.Time // when a part of the volume could not be reached; zero: it could
	xtime    *xtimes
}

// mark is a moment at which all had been handed out, and what had been by then.
type mark struct {
	at   time.Time
	past Progress
}

// Progress is how far the journal was followed.
type Progress struct {
	Closed int64 // the last journal that has ended, by its time; 0: none
	// Anchor is the newest object whose creation was recorded until then. The journals of the other bricks with the same content have its
	// creation too, whatever their clocks say. Zero: none was seen.
	Anchor change.ID
	// Entries, Data and Metadata count records since the worker began.
	Entries, Data, Metadata int64
}

// removal is what a name was that may be gone.
type removal struct {
	id   change.ID
	kind change.Kind // 0: not known
}

// New begins to observe a brick. Close ends it.
func New(o Options) (*Source, error) {
	t, err := openTree(o.Path, o.Indirect)
	if err != nil {
		return nil, err
	}
	if o.XtimeEvery == 0 {
		o.XtimeEvery = time.Minute
	}
	s := &Source{
		o: o, tree: t, wake: make(chan struct{}, 1), pending: newHints(), removed: map[change.Place]removal{}, shown: map[change.ID]bool{}, settling: map[change.ID]bool{},
		past: Progress{Closed: o.After}, news: true, recent: newRecent(), history: o.After > 0,
	}
	s.began = time.Now().Unix()
	if s.past.Anchor = o.Anchor; o.After == 0 {
		if s.past.Anchor, err = changelog.Newest(t.root + "/" + changelog.Dir); err != nil {
			return nil, fmt.Errorf("follow the brick %s: %w", o.Path, err)
		}
	}
	s.acked.Anchor = o.Anchor
	after := o.After
	if after == 0 { // all is crawled: journals before this moment tell nothing more
		after = s.began - crawlMargin
		s.past.Closed = 0
	}
	if s.stream, err = changelog.Open(t.root+"/"+changelog.Dir, after, o.After > 0); err != nil {
		return nil, fmt.Errorf("follow the brick %s: %w", o.Path, err)
	}
	if o.After == 0 || o.Compare {
		s.startCrawl(gluster.Root)
	}
	s.xtime = newXtimes(o.XtimeEvery, o.VolumeID, s.began)
	return s, nil
}

// crawlMargin is how far before the begin of a crawl journals are read, in seconds: a journal's time is rounded.
const crawlMargin = 2

// Close releases the brick.
func (s *Source) Close() error {
	err := s.stream.Close()
	if s.xtime.dir != nil {
		err = errors.Join(err, s.xtime.dir.Close())
	}
	if s.crawl != nil && s.crawl.dir != nil {
		err = errors.Join(err, s.crawl.dir.Close())
	}
	return err
}

// Again asks for places to be looked at once more.
func (s *Source) Again(places ...change.Place) {
	s.mu.Lock()
	s.again = append(s.again, places...)
	s.asked = true
	s.mu.Unlock()
	s.nudge()
}

// Rescan asks for a directory and what is new below it to be compared with the index.
func (s *Source) Rescan(dir change.ID) {
	s.mu.Lock()
	s.rescan = append(s.rescan, dir)
	s.asked = true
	s.mu.Unlock()
	s.nudge()
}

func (s *Source) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Acknowledged says how far everything was acknowledged when all that was handed out until a moment (Batch.At of one that had caught up)
// is.
func (s *Source) Acknowledged(at time.Time) Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep := s.marks[:0]
	for _, m := range s.marks {
		if m.at.After(at) {
			keep = append(keep, m)
		} else {
			s.acked = m.past
		}
	}
	s.marks = keep
	return s.acked
}

// Taken says how far the journal has been read.
func (s *Source) Taken() Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

// Next waits for observations. Parents come before what is in them; absences come in batches of their own, after all that was
// recorded before them.
func (s *Source) Next(ctx context.Context) (Batch, error) {
	for {
		s.takeAsked()
		var b Batch
		did, err := s.step(ctx, &b)
		switch {
		case err != nil:
			return Batch{}, err
		case did == handOver:
			s.complete(&b)
			return b, nil
		case did == nothing:
			if len(s.gone) > 0 || s.note != "" {
				s.complete(&b)
				return b, nil
			}
			if err := s.wait(ctx); err != nil {
				return Batch{}, err
			}
		}
	}
}

// complete fills in how far the source is.
func (s *Source) complete(b *Batch) {
	s.mu.Lock()
	s.taken = s.past
	s.mu.Unlock()
	if s.crawl != nil {
		b.Crawling, b.Entries, b.Equal = true, s.crawl.entries, s.crawl.equal
	}
	b.History = s.history
	b.Note, s.note = s.note, ""
	b.Gap, s.gap = s.gap, false
	b.Gone = append(b.Gone, s.gone...)
	s.gone = nil
}

// doing is what a step has come to.
type doing int

const (
	nothing  doing = iota // there is nothing to do now
	goOn                  // there is more to do
	handOver              // the batch is to be handed out
)

// step does one piece of work.
func (s *Source) step(ctx context.Context, b *Batch) (doing, error) {
	if !s.barrier && s.pending.len() < batchSize {
		if err := s.gather(); err != nil {
			return nothing, err
		}
	}
	for _, id := range s.recent.due(s.tree) {
		s.pending.add(id, hint{content: true, compare: true})
	}
	if s.pending.ready() {
		err := s.observe(ctx, b)
		if len(b.Seen) > 0 || len(b.Problems) > 0 {
			return handOver, err
		}
		return goOn, err
	}
	if s.crawl != nil {
		return goOn, s.crawlOn()
	}
	if s.xtime.begin(s.tree); s.xtime.running() {
		return goOn, s.search()
	}
	if s.pending.len() > 0 {
		return nothing, nil // what is left is changing just now
	}
	if len(s.removals) > 0 && time.Since(s.parted) < partedWait {
		if s.barrier { // changes go on; that they were all handed out is said when the deletions were
			s.barrier = false
			return goOn, nil
		}
		return nothing, nil
	}
	if len(s.removals) > 0 {
		err := s.confirm(ctx, b)
		if len(b.Seen) > 0 {
			return handOver, err
		}
		return goOn, err
	}
	return s.catchUp(b)
}

// wait waits for something to happen.
func (s *Source) wait(ctx context.Context) error {
	timer := time.NewTimer(pollEvery)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.wake:
	case <-timer.C:
	}
	return nil
}

// pollEvery is how often the journal is looked at while nothing happens.
const pollEvery = 50 * time.Millisecond
