// Package scan compares directories of the primary with the index: in parallel, depth first, with bounded memory.
//
// A pass covers the whole tree, a job one subtree; the jobs come before the pass, because somebody waits for them. What is equal
// costs one statx and nothing else. What is read is handed over in chunks, a directory's own observation always before
// those of its entries. A name that the index has and the directory has not is a candidate only: whoever takes the
// chunks must confirm it when all that moved meanwhile has been seen.
package scan

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/time/rate"

	"georep/internal/change"
	"georep/internal/rooted"
	"georep/internal/source/spill"
)

// ErrGone is what Options.Open returns for a directory that is not in the tree any more: it is left out without a word.
var ErrGone = errors.New("the directory is not in the tree any more")

// Index is what the secondary has acknowledged. Its methods are called by many goroutines at once.
type Index interface {
	// Get tells what is at a place.
	Get(at change.Place) (change.Entry, bool, error)
	// List calls fn for the entries of a directory behind a name, in the order of their bytes.
	List(dir change.ID, after string, fn func(name string, e change.Entry) error) error
}

// Dir is a directory to be compared.
type Dir struct {
	ID     change.ID
	Parent change.ID // zero for the root
	Path   string    // relative to the root, as far as known; "" for the root
	// Seen is the ctime that the directory had when it was observed, or that the index has; zero: unknown.
	Seen change.Time
}

// Name is the last component of the path.
func (d Dir) Name() string { return d.Path[strings.LastIndexByte(d.Path, '/')+1:] }

// Problem is an entry that could not be read.
type Problem struct {
	At    change.Place // or Listing
	Path  string       // relative to the root, for people
	Call  string       // the call that failed
	Errno syscall.Errno
}

// Itself is the name in a place that stands for the directory itself.
const Itself = "."

// Listing is the place that stands for the entries of a directory as a whole.
func Listing(dir change.ID) change.Place { return change.Place{Dir: dir, Name: Itself} }

// Chunk is a part of what a job found. Whoever has handed it on calls Done.
type Chunk struct {
	Job      *Job
	Seen     []change.Observation
	Absent   []change.Place // candidates
	Problems []Problem
}

// Options say what a Walker works on. The functions are called by many goroutines at once.
type Options struct {
	Index Index
	// Open opens a directory wherever it is now, and says where that is; ErrGone when it is not in the tree.
	Open func(Dir) (*rooted.Dir, Dir, error)
	// Enter is called with each directory before it is listed; may be nil.
	Enter func(Dir, *rooted.Dir)
	// Linked is called with each file that has several names, as it was just seen at a place of an open directory; may be nil.
	Linked func(dir *rooted.Dir, at change.Place, o *change.Object)
	// Excluded says whether the entry name of the directory at a path is left out, together with all that is below it.
	Excluded func(dir, name string, isDir bool) bool
	// Fresh counts readings.
	Fresh func() uint64
	// XattrSum condenses extended attributes as the index does; nil: they are not compared.
	XattrSum func([]change.Xattr) uint64
	Jobs     int    // goroutines that compare at once, at least 1; there is one more, for jobs only
	TempDir  string // for what does not fit into memory; "" is the system's
	// Changed is called when a chunk waits, or a job has ended.
	Changed func()
}

// Manner says how a tree is compared.
type Manner struct {
	// Doubt: events were lost, so that a file whose ctime alone differs may have other content.
	Doubt bool
	// Checksum: the content of every file is doubtful.
	Checksum bool
	// Shallow: a directory that the index has at the same place is not entered.
	Shallow bool
	// Limit bounds the entries a second; nil: nothing does.
	Limit *rate.Limiter
}

// Job is one subtree, or the pass, that is being compared.
type Job struct {
	Seq  uint64 // of the one who added it
	Full bool   // it is the pass
	Manner

	Entries, Bytes atomic.Int64 // compared so far
	// Equal and EqualBytes are how many of these were as the index has them.
	Equal, EqualBytes atomic.Int64

	stack   *spill.Stack // guarded by Walker.mu
	pending int64        // directories and chunks that are not done with; guarded by Walker.mu
}

// memory for the directories that wait, for the pass and for one job.
const (
	passMemory = 8 << 20
	jobMemory  = 256 << 10
)

// Walker runs jobs. Add, Pass and Done may be called by any goroutine.
type Walker struct {
	o    Options
	live chan Chunk
	bulk chan Chunk

	mu     sync.Mutex
	cond   *sync.Cond // work has come, or closed
	jobs   []*Job     // not finished, oldest first
	pass   *Job       // nil when none runs
	closed bool
	failed error
}

// New makes a Walker; Run makes it work.
func New(o Options) *Walker {
	w := &Walker{o: o, live: make(chan Chunk, 8), bulk: make(chan Chunk, 8)}
	w.cond = sync.NewCond(&w.mu)
	return w
}

// Live gives the chunks of jobs, Bulk those of the pass.
func (w *Walker) Live() <-chan Chunk { return w.live }

// Bulk gives the chunks of the pass.
func (w *Walker) Bulk() <-chan Chunk { return w.bulk }

// Run works until ctx ends and all its goroutines have ended. Its error is that of the index or of the spill file.
func (w *Walker) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		w.mu.Lock()
		w.closed = true
		w.mu.Unlock()
		w.cond.Broadcast()
	})
	defer stop()
	var group sync.WaitGroup
	for i := range max(1, w.o.Jobs) + 1 {
		group.Go(func() {
			// One worker more is kept for jobs, so that a pass whose takers are slow does not hold them up.
			if err := newWorker(w, i > 0).run(ctx); err != nil && ctx.Err() == nil {
				w.fail(err)
				cancel()
			}
		})
	}
	group.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.release()
	if w.failed != nil {
		return w.failed
	}
	return ctx.Err()
}

// release closes the spill files of what was not finished.
func (w *Walker) release() {
	for _, j := range w.jobs {
		j.stack.Reset()
	}
	if w.pass != nil {
		w.pass.stack.Reset()
	}
}

func (w *Walker) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = err
	}
}

// Add begins a job for the tree below d.
func (w *Walker) Add(d Dir, seq uint64, m Manner) error {
	j := &Job{Seq: seq, Manner: m, stack: spill.New(w.o.TempDir, jobMemory)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.jobs = append(w.jobs, j)
	return w.push(j, d)
}

// Pass begins to compare the whole tree, and returns nil when a pass is running.
func (w *Walker) Pass(root Dir, m Manner) (*Job, error) {
	j := &Job{Full: true, Manner: m, stack: spill.New(w.o.TempDir, passMemory)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pass != nil {
		return nil, nil
	}
	w.pass = j
	return j, w.push(j, root)
}

// Running tells the pass that is not finished, if any.
func (w *Walker) Running() *Job {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pass
}

// Oldest gives the smallest number of a job that is not finished; ok is false when there is none.
func (w *Walker) Oldest() (seq uint64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.jobs) == 0 {
		return 0, false
	}
	seq = w.jobs[0].Seq
	for _, j := range w.jobs[1:] {
		seq = min(seq, j.Seq)
	}
	return seq, true
}

// Done says that a chunk has been handed on.
func (w *Walker) Done(c Chunk) { w.finish(c.Job) }

// push puts a directory before a job. The caller holds mu.
func (w *Walker) push(j *Job, d Dir) error {
	j.pending++
	err := j.stack.Push(encode(d))
	w.cond.Broadcast() // not Signal: one of those that wait does not take everything
	if err != nil {
		return fmt.Errorf("queue directory %q: %w", d.Path, err)
	}
	return nil
}

// finish counts one directory or chunk of j as done.
func (w *Walker) finish(j *Job) {
	w.mu.Lock()
	j.pending--
	ended := j.pending == 0
	if ended {
		if j == w.pass {
			w.pass = nil
		}
		for i, other := range w.jobs {
			if other == j {
				w.jobs = append(w.jobs[:i], w.jobs[i+1:]...)
				break
			}
		}
	}
	w.mu.Unlock()
	if ended {
		w.o.Changed()
	}
}

// next takes a directory to compare, waiting for one; ok is false when the walker is closed.
func (w *Walker) next(passToo bool) (j *Job, d Dir, ok bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.closed {
		if j = w.choose(passToo); j != nil {
			record, _, err := j.stack.Pop()
			if err != nil {
				return nil, Dir{}, false, err
			}
			return j, decode(record), true, nil
		}
		w.cond.Wait()
	}
	return nil, Dir{}, false, nil
}

// choose gives the job whose turn it is. The caller holds mu.
func (w *Walker) choose(passToo bool) *Job {
	for _, j := range w.jobs {
		if j.stack.Len() > 0 {
			return j
		}
	}
	if passToo && w.pass != nil && w.pass.stack.Len() > 0 {
		return w.pass
	}
	return nil
}

// send hands over a chunk, which then counts as pending until Done.
func (w *Walker) send(ctx context.Context, c Chunk) error {
	w.mu.Lock()
	c.Job.pending++
	w.mu.Unlock()
	out := w.live
	if c.Job.Full {
		out = w.bulk
	}
	select {
	case out <- c:
		w.o.Changed()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// encode is the form in which a directory waits.
func encode(d Dir) []byte {
	b := make([]byte, 0, len(d.ID)+len(d.Parent)+12+len(d.Path))
	b = append(append(b, d.ID[:]...), d.Parent[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(d.Seen.Sec))
	b = binary.LittleEndian.AppendUint32(b, d.Seen.Nsec)
	return append(b, d.Path...)
}

func decode(b []byte) (d Dir) {
	b = b[copy(d.ID[:], b):]
	b = b[copy(d.Parent[:], b):]
	d.Seen = change.Time{Sec: int64(binary.LittleEndian.Uint64(b)), Nsec: binary.LittleEndian.Uint32(b[8:])}
	d.Path = string(b[12:])
	return d
}
