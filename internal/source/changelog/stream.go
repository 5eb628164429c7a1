package changelog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Dir is where a brick keeps its journals, relative to its root.
const Dir = ".glusterfs/changelogs"

// Chunk is a part of the stream of records.
type Chunk struct {
	Records []Record
	// Live says that the records come from the journal that is being written: an object is recorded there once, at its first change.
	Live bool
	// Again says that records of a journal that was read live are handed out once more, because now they are final.
	Again bool
	// Closed is the time of the journal that ends with this chunk, in seconds of the brick's clock: all that was recorded up to then has
	// been handed out. 0: none ended.
	Closed int64
	// Current says that all that is in the journals now has been handed out.
	Current bool
	// Gap, if not empty, says why changes may have happened that no journal tells of.
	Gap string
}

// batchBytes is about how many bytes of a journal are parsed for one chunk.
const batchBytes = 512 << 10

// pollEvery is how often the journal that is being written is looked at. That costs two system calls.
const pollEvery = 50 * time.Millisecond

// Stream follows the journals of one brick from a moment on. It is for one goroutine.
type Stream struct {
	dir   string
	after int64 // the last journal that is done with
	todo  []closedFile
	live  *journal
	htime *htime
	again *journal // that was read live and has been closed since
	named int64    // the time of again
	gap   string
	shown bool // Chunk.Current was told since the last news
}

// closedFile is a journal that is complete.
type closedFile struct {
	path  string
	time  int64
	inode uint64
}

// Open begins to follow the journals in dir (see Dir) that were closed after a time, in seconds of the brick's clock. known says that all that
// happened before that time is known, so that it is a gap if no journal was kept from then on.
func Open(dir string, after int64, known bool) (*Stream, error) {
	s := &Stream{dir: dir, after: after}
	var err error
	if s.htime, err = openHTime(dir, after); err != nil {
		return nil, err
	}
	if known {
		s.gap = s.htime.gap
	}
	if err := s.refresh(); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// Close releases the files.
func (s *Stream) Close() error {
	var errs []error
	for _, j := range []*journal{s.live, s.again} {
		if j != nil {
			errs = append(errs, j.file.Close())
		}
	}
	return errors.Join(errs...)
}

// refresh opens the journal that is being written, and lists those that were closed before. In this order: one that is closed
// meanwhile is found by the descriptor.
func (s *Stream) refresh() error {
	if s.live == nil {
		live, err := openJournal(filepath.Join(s.dir, "CHANGELOG"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("open the journal: %w", err)
		}
		s.live = live
	}
	found, err := listClosed(s.dir, s.after)
	if err != nil {
		return fmt.Errorf("list the journals: %w", err)
	}
	s.todo = s.todo[:0]
	for _, f := range found {
		if s.live == nil || f.inode != s.live.inode {
			s.todo = append(s.todo, f)
		}
	}
	return nil
}

// Next gives the next chunk; it waits until there is one, or until ctx ends.
func (s *Stream) Next(ctx context.Context) (Chunk, error) {
	for {
		c, ok, err := s.step()
		if err != nil || ok {
			return c, err
		}
		timer := time.NewTimer(pollEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return Chunk{}, context.Cause(ctx)
		case <-timer.C:
		}
	}
}

// Poll gives the next chunk if there is one now.
func (s *Stream) Poll() (Chunk, bool, error) { return s.step() }

func (s *Stream) step() (Chunk, bool, error) {
	if s.gap != "" {
		c := Chunk{Gap: s.gap}
		s.gap, s.shown = "", false
		return c, true, nil
	}
	if s.again != nil {
		return s.readAgain()
	}
	if len(s.todo) > 0 {
		return s.readClosed()
	}
	c, ok, err := s.readLive()
	if ok {
		s.shown = false
	}
	if err != nil || ok {
		return c, ok, err
	}
	if !s.shown {
		s.shown = true
		return Chunk{Current: true}, true, nil
	}
	return Chunk{}, false, nil
}

// readAgain hands out once more what was recorded only once although it may have changed later in the same journal.
func (s *Stream) readAgain() (Chunk, bool, error) {
	c, err := s.again.read(true)
	if err != nil {
		return c, false, err
	}
	c.Again = true
	c.Records = slices.DeleteFunc(c.Records, func(r Record) bool { return r.Kind == Entry })
	if s.again.done {
		err = s.again.file.Close()
		s.again = nil
		s.done(&c, s.named)
	}
	return c, true, err
}

// done notes that a journal has been handed out wholly.
func (s *Stream) done(c *Chunk, at int64) {
	s.after = max(s.after, at)
	c.Closed = s.after
}

func (s *Stream) readClosed() (Chunk, bool, error) {
	next := s.todo[0]
	j, err := openJournal(next.path)
	if err != nil {
		return Chunk{}, false, fmt.Errorf("open the journal: %w", err)
	}
	s.todo = s.todo[1:]
	s.again, s.named = j, next.time
	c, err := j.read(true)
	if err != nil {
		return c, false, err
	}
	if c.Gap != "" {
		c.Gap = fmt.Sprintf("the journal %s is damaged", next.path)
	}
	if j.done {
		err = j.file.Close()
		s.again = nil
		s.done(&c, next.time)
	}
	return c, true, err
}

// readLive reads what was written since, and notices when the journal was closed.
func (s *Stream) readLive() (Chunk, bool, error) {
	if s.live == nil {
		if err := s.refresh(); err != nil || s.live == nil && len(s.todo) == 0 {
			return s.idle(err)
		}
		return Chunk{}, false, nil
	}
	over, err := s.live.replaced(filepath.Join(s.dir, "CHANGELOG"))
	if err != nil {
		return Chunk{}, false, err
	}
	c, err := s.live.read(over)
	if err != nil {
		return c, false, err
	}
	c.Live = true
	if over && s.live.done {
		return c, true, s.closeLive(&c)
	}
	if len(c.Records) > 0 || c.Gap != "" {
		return c, true, nil
	}
	if over {
		return c, true, nil
	}
	return s.idle(nil)
}

// idle sees how far the brick says that nothing was recorded.
func (s *Stream) idle(err error) (Chunk, bool, error) {
	if err != nil {
		return Chunk{}, false, err
	}
	until, gap, err := s.htime.advance()
	if err != nil || until <= s.after && gap == "" {
		return Chunk{}, false, err
	}
	if s.live == nil || gap != "" { // there may be journals that were closed since
		if err := s.refresh(); err != nil || len(s.todo) > 0 {
			s.gap = gap
			return Chunk{}, false, err
		}
	}
	c := Chunk{Gap: gap}
	if s.live == nil {
		s.done(&c, until)
		return c, true, nil
	}
	return c, gap != "", nil
}

// closeLive turns to the journals after the one that was being written.
func (s *Stream) closeLive(c *Chunk) error {
	old := s.live
	s.live = nil
	at, err := findClosed(s.dir, old.inode)
	if err != nil {
		return err
	}
	if at == 0 { // overwritten by another of the same second, or without records and so removed
		until, gap, err := s.htime.advance()
		if err != nil {
			return err
		}
		at = max(until, s.after)
		if gap != "" {
			s.gap = gap
		}
	}
	if err := s.refresh(); err != nil {
		return err
	}
	if !old.begun {
		s.done(c, at)
		return old.file.Close()
	}
	old.rewind()
	s.again, s.named = old, at
	// Those that were closed between are older, and read after it: order between journals does not matter, only that all are read.
	s.todo = slices.DeleteFunc(s.todo, func(f closedFile) bool { return f.inode == old.inode })
	return nil
}

// journal is one open file.
type journal struct {
	file   *os.File
	inode  uint64
	parser Parser
	buf    []byte
	off    int64
	begun  bool // it holds records
	done   bool
}

func openJournal(path string) (*journal, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &journal{file: f, inode: inodeOf(info)}, nil
}

func inodeOf(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

func (j *journal) rewind() {
	j.parser, j.buf, j.off, j.done = Parser{}, j.buf[:0], 0, false
}

// replaced says whether the path leads to this file no longer.
func (j *journal) replaced(path string) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the journal: %w", err)
	}
	return inodeOf(info) != j.inode, nil
}

// read parses the next part. final says that the file does not grow.
func (j *journal) read(final bool) (Chunk, error) {
	var c Chunk
	have := len(j.buf)
	j.buf = slices.Grow(j.buf, batchBytes)[:have+batchBytes]
	n, err := j.file.ReadAt(j.buf[have:], j.off)
	j.buf = j.buf[:have+n]
	j.off += int64(n)
	atEnd := errors.Is(err, io.EOF)
	if err != nil && !atEnd {
		return c, fmt.Errorf("read the journal %s: %w", j.file.Name(), err)
	}
	damage := j.parser.Damage
	used, err := j.parser.Parse(j.buf, final && atEnd, func(r *Record) error {
		c.Records = append(c.Records, *r)
		return nil
	})
	if errors.Is(err, ErrHeader) && len(j.buf) > 0 {
		c.Gap, used = fmt.Sprintf("the journal %s cannot be read: %v", j.file.Name(), err), len(j.buf)
	}
	j.begun = j.begun || len(c.Records) > 0
	j.buf = j.buf[:copy(j.buf, j.buf[used:])]
	if j.parser.Damage > damage {
		c.Gap = fmt.Sprintf("the journal %s is damaged", j.file.Name())
	}
	j.done = final && atEnd
	return c, nil
}

// listClosed finds the journals that were closed after a time, in order.
func listClosed(dir string, after int64) ([]closedFile, error) {
	var found []closedFile
	day := time.Unix(max(after, 0), 0).UTC().AddDate(0, 0, -1).Format("2006/01/02")
	err := eachDay(dir, func(name, path string) error {
		if name != "" && name < day {
			return nil
		}
		entries, err := os.ReadDir(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			at, ok := closedTime(e.Name())
			if !ok || at <= after {
				continue
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			found = append(found, closedFile{filepath.Join(path, e.Name()), at, inodeOf(info)})
		}
		return nil
	})
	slices.SortFunc(found, func(a, b closedFile) int { return int(a.time - b.time) })
	return found, err
}

// findClosed gives the time of the journal with an inode; 0: there is none.
func findClosed(dir string, inode uint64) (int64, error) {
	found, err := listClosed(dir, time.Now().AddDate(0, 0, -1).Unix())
	if err != nil {
		return 0, fmt.Errorf("list the journals: %w", err)
	}
	for _, f := range found {
		if f.inode == inode {
			return f.time, nil
		}
	}
	return 0, nil
}

func closedTime(name string) (int64, bool) {
	digits, ok := strings.CutPrefix(name, "CHANGELOG.")
	if !ok {
		return 0, false
	}
	at, err := strconv.ParseInt(digits, 10, 64)
	return at, err == nil && at >= 0
}

// eachDay calls f for the directory itself, where older versions kept the journals, and for those of the days, YYYY/MM/DD.
func eachDay(dir string, f func(day, path string) error) error {
	if err := f("", dir); err != nil {
		return err
	}
	days, err := filepath.Glob(filepath.Join(escape(dir), "[0-9][0-9][0-9][0-9]", "[0-9][0-9]", "[0-9][0-9]"))
	if err != nil {
		return err
	}
	for _, path := range days {
		day, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if err := f(day, path); err != nil {
			return err
		}
	}
	return nil
}

// escape makes a path one that a pattern matches as it is.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
