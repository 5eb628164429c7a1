package brick

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"georep/internal/change"
	"georep/internal/gluster"
)

// xtimes searches for what no journal tells: space that is allocated, and holes. The volume's marker leaves the time of each change, by the brick's
// clock, on the object and on all directories above it, so that a search enters only what has changed since the last one.
type xtimes struct {
	name  string // of the marker's attribute; "": it is not known
	every time.Duration
	next  time.Time
	since uint64 // what was marked before has been searched
	found uint64 // the newest mark that the search under way has met
	stack []change.ID
	dir   *os.File
	at    change.ID
	// heard are the objects of which the journal told since the search before the last began, in two parts, and when it was read, in the form of a mark.
	// What has a later mark, or was not told of, has changed in a way that may not be recorded.
	heard, before map[change.ID]uint64
	full          bool // there were more
}

// heardMax bounds the objects of heard.
const heardMax = 1 << 17

// tell notes that the journal told of an object.
func (x *xtimes) tell(id change.ID) {
	if x.name == "" {
		return
	}
	if len(x.heard) >= heardMax {
		x.full = true
		return
	}
	now := time.Now()
	x.heard[id] = uint64(now.Unix())<<32 | uint64(now.Nanosecond()/1000)
}

// unrecorded says whether a change that is marked may not have been told of by the journal.
func (x *xtimes) unrecorded(id change.ID, marked uint64) bool {
	return !x.full && marked > max(x.heard[id], x.before[id])
}

// xtimeMargin is how far a search looks back before the newest mark of the one before, in seconds: marks are set before the change is made.
const xtimeMargin = 5

func newXtimes(every time.Duration, volume change.ID, began int64) *xtimes {
	x := &xtimes{every: every, next: time.Now().Add(every), heard: map[change.ID]uint64{}}
	if !volume.IsZero() {
		x.name = "trusted.glusterfs." + gluster.GFID(volume) + ".xtime"
	}
	x.since = mark64(began)
	return x
}

func mark64(second int64) uint64 { return uint64(max(second-xtimeMargin, 0)) << 32 }

// of reads the mark of what is at a path: seconds and microseconds, of 32 bits each.
func (x *xtimes) of(path string) (uint64, bool) {
	var value [8]byte
	n, err := unix.Lgetxattr(path, x.name, value[:])
	return binary.BigEndian.Uint64(value[:]), err == nil && n == len(value)
}

// begin starts a search if it is time, and anything has changed.
func (x *xtimes) begin(t *tree) {
	if x.name == "" || x.running() || time.Now().Before(x.next) {
		return
	}
	x.next = time.Now().Add(x.every)
	if newest, ok := x.of(t.root); ok && newest > x.since && newest != x.found {
		x.found = newest
		x.stack = append(x.stack, gluster.Root)
	}
}

func (x *xtimes) running() bool { return x.dir != nil || len(x.stack) > 0 }

// search goes on with the search that is under way: one part of one directory. Objects that changed become hints.
func (s *Source) search() error {
	x := s.xtime
	if x.dir == nil {
		id := x.stack[len(x.stack)-1]
		x.stack = x.stack[:len(x.stack)-1]
		path, err := s.tree.path(id)
		if err == nil {
			x.dir, err = os.Open(path)
		}
		x.at = id
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNoHandle) {
			return fmt.Errorf("%w: %w", ErrBrick, err)
		}
		s.searched()
		return nil
	}
	entries, err := x.dir.ReadDir(crawlChunk)
	for _, e := range entries {
		s.mayHaveChanged(change.Place{Dir: x.at, Name: e.Name()}, x.dir.Name()+"/"+e.Name(), e.IsDir())
	}
	if err == nil {
		return nil
	}
	closing := x.dir.Close()
	x.dir = nil
	s.searched()
	if !errors.Is(err, io.EOF) && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%w: %w", ErrBrick, err), closing)
	}
	return closing
}

// searched notes the end of a search, if this is it.
func (s *Source) searched() {
	if x := s.xtime; !x.running() {
		x.before, x.heard, x.full = x.heard, map[change.ID]uint64{}, false
		x.since = mark64(int64(x.found >> 32))
	}
}

func (s *Source) mayHaveChanged(at change.Place, path string, dir bool) {
	if s.tree.own(at) {
		return
	}
	marked, ok := s.xtime.of(path)
	if !ok || marked <= s.xtime.since {
		return
	}
	id, err := gfidOf(path, false)
	if err != nil {
		return // it has gone since, which the journal tells
	}
	if dir {
		s.xtime.stack = append(s.xtime.stack, id)
		return
	}
	s.pending.add(id, hint{content: true, compare: true, part: s.xtime.unrecorded(id, marked)})
}
