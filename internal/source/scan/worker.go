package scan

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"georep/internal/change"
	"georep/internal/rooted"
	"georep/internal/source/spill"
)

const (
	// chunkSize is how many observations travel together.
	chunkSize = 1024
	// wideDir is the number of entries from which a directory is sorted outside of memory and compared piece by piece.
	wideDir = 32 << 10
	// pieceSize is the number of entries of such a piece.
	pieceSize = 8 << 10
	// sortMemory is what the sorting of a wide directory takes of memory, in bytes, without the places of the records.
	sortMemory = 2 << 20
)

// worker is one goroutine's state, reused from directory to directory.
type worker struct {
	w       *Walker
	passToo bool
	buf     []byte // of getdents
	entries []entry
	known   []known
	order   []int32

	// of the directory at hand
	job   *Job
	dir   *rooted.Dir
	at    Dir
	chunk Chunk
	below []Dir // directories found, to be pushed when chunk has been sent
}

// entry is one line of a directory's listing.
type entry struct {
	name  string
	ino   uint64
	kind  change.Kind
	known int32 // position in worker.known, or -1
}

// known is what the index has about an entry, as far as it is compared.
type known struct {
	id             change.ID
	kind           change.Kind
	racy           bool
	mode, uid, gid uint32
	nlink          uint32
	size           int64
	xattrs         uint64
	mtime, ctime   change.Time
}

func newWorker(w *Walker, passToo bool) *worker {
	return &worker{w: w, passToo: passToo, buf: make([]byte, 64<<10)}
}

func (k *worker) run(ctx context.Context) error {
	for {
		job, d, ok, err := k.w.next(k.passToo)
		if err != nil || !ok {
			return err
		}
		k.job = job
		if err := k.compare(ctx, d); err != nil {
			return err
		}
		k.w.finish(job)
	}
}

// compare works off one directory. Only errors of the index, the spill file and ctx are returned.
func (k *worker) compare(ctx context.Context, d Dir) error {
	dir, d, err := k.w.o.Open(d)
	if errors.Is(err, ErrGone) {
		return nil
	}
	k.at, k.dir, k.chunk = d, dir, Chunk{Job: k.job}
	if err != nil {
		k.problem(Listing(d.ID), d.Path, err)
		return k.flush(ctx)
	}
	defer dir.Close()
	if k.w.o.Enter != nil {
		k.w.o.Enter(d, dir)
	}
	err = k.compareListed(ctx)
	var unread *unreadable
	if errors.As(err, &unread) {
		// Without a complete listing nothing may be called absent. A directory that was removed says ENOENT.
		err = nil
		if !errors.Is(unread.err, fs.ErrNotExist) {
			k.problem(Listing(d.ID), d.Path, unread.err)
		}
	}
	k.release()
	if err != nil {
		return err
	}
	return k.flush(ctx)
}

// unreadable wraps the error of a listing.
type unreadable struct{ err error }

func (u *unreadable) Error() string { return u.err.Error() }

// release gives back buffers that a large directory has made.
func (k *worker) release() {
	clear(k.entries)
	k.entries, k.known = k.entries[:0], k.known[:0]
	if cap(k.entries) > wideDir {
		k.entries, k.known, k.order = nil, nil, nil
	}
}

// compareListed lists the directory and compares what is there. Of a wide one that cannot be listed to its end, what was listed.
func (k *worker) compareListed(ctx context.Context) error {
	wide, err := k.list()
	if wide == nil {
		if err != nil {
			return err
		}
		return k.matchAll(ctx)
	}
	defer wide.Close()
	var unread *unreadable
	if err != nil && !errors.As(err, &unread) {
		return err
	}
	if failed := k.matchWide(ctx, wide, err == nil); failed != nil {
		return failed
	}
	return err
}

// list reads the directory into k.entries, or, if it is wide, into a Sorter.
func (k *worker) list() (wide *spill.Sorter, err error) {
	k.entries = k.entries[:0]
	var inner error
	var record []byte
	err = k.dir.Entries(k.buf, func(name string, kind change.Kind, ino uint64) error {
		e := entry{name: name, ino: ino, kind: kind, known: -1}
		if wide == nil && len(k.entries) < wideDir {
			k.entries = append(k.entries, e)
			return nil
		}
		if wide == nil {
			wide = spill.NewSorter(k.w.o.TempDir, sortMemory)
			for i := range k.entries {
				record = appendListed(record[:0], &k.entries[i])
				if inner = wide.Add(record); inner != nil {
					return inner
				}
			}
			clear(k.entries)
			k.entries = k.entries[:0]
		}
		record = appendListed(record[:0], &e)
		inner = wide.Add(record)
		return inner
	})
	switch {
	case inner != nil:
		err = fmt.Errorf("sort directory: %w", inner)
	case err != nil:
		err = &unreadable{err}
	}
	return wide, err
}

// listedSize is what appendListed adds to a name, in bytes.
const listedSize = 1 + 1 + 8

// appendListed encodes a line of a listing so that the order of the bytes is that of the names, which hold no NUL.
func appendListed(b []byte, e *entry) []byte {
	b = append(append(b, e.name...), 0, byte(e.kind))
	return binary.BigEndian.AppendUint64(b, e.ino)
}

func parseListed(b []byte) entry {
	name, rest := b[:len(b)-listedSize], b[len(b)-listedSize:]
	return entry{name: string(name), kind: change.Kind(rest[1]), ino: binary.BigEndian.Uint64(rest[2:]), known: -1}
}

// problem notes that something could not be read.
func (k *worker) problem(at change.Place, path string, err error) {
	k.chunk.Problems = append(k.chunk.Problems, NewProblem(at, path, err))
}

// NewProblem describes an error of package rooted.
func NewProblem(at change.Place, path string, err error) Problem {
	p := Problem{At: at, Path: path, Call: "read", Errno: syscall.EIO}
	var failed *rooted.Error
	var errno syscall.Errno
	switch {
	case errors.As(err, &failed):
		p.Call, p.Errno = failed.Call, failed.Err
	case errors.As(err, &errno):
		p.Errno = errno
	}
	return p
}

// flush sends the chunk, then queues the directories that it spoke of.
func (k *worker) flush(ctx context.Context) error {
	c := k.chunk
	if len(c.Seen)+len(c.Absent)+len(c.Problems) > 0 {
		k.chunk = Chunk{Job: k.job}
		if err := k.w.send(ctx, c); err != nil {
			return err
		}
	}
	if len(k.below) == 0 {
		return nil
	}
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	for i := len(k.below) - 1; i >= 0; i-- { // the first is to be popped first
		if err := k.w.push(k.job, k.below[i]); err != nil {
			return err
		}
	}
	clear(k.below)
	k.below = k.below[:0]
	return nil
}

// full flushes when the chunk has become large.
func (k *worker) full(ctx context.Context) error {
	if len(k.chunk.Seen)+len(k.chunk.Absent) < chunkSize && len(k.below) < wideDir {
		return nil
	}
	return k.flush(ctx)
}

// inspect compares one entry with what the index has, and reports it when it differs.
func (k *worker) inspect(e *entry) {
	at := change.Place{Dir: k.at.ID, Name: e.name}
	var old *known
	if e.known >= 0 {
		old = &k.known[e.known]
	}
	if k.w.o.Excluded(k.at.Path, e.name, e.kind == change.Dir) {
		k.missing(at, old)
		return
	}
	fresh := k.w.o.Fresh()
	o, equal, err := k.differing(e.name, old)
	if err == nil && o.Nlink > 1 && o.Kind == change.File && k.w.o.Linked != nil {
		if equal {
			o.ID = old.id // of which the one call has told but a part
		}
		k.w.o.Linked(k.dir, at, &o)
	}
	if equal {
		if o.Kind == change.Dir && !k.job.Shallow {
			k.below = append(k.below, k.child(old.id, e.name, o.Ctime))
		}
		return
	}
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist):
		k.missing(at, old)
		return
	default:
		k.problem(at, change.Join(k.at.Path, e.name), err)
		return
	}
	k.chunk.Seen = append(k.chunk.Seen, change.Observation{At: at, Object: o, Fresh: fresh, Content: k.doubtful(old, &o)})
	if o.Kind == change.Dir && !(k.job.Shallow && old != nil && old.id == o.ID) {
		k.below = append(k.below, k.child(o.ID, e.name, o.Ctime))
	}
}

// differing reads the state of an entry: by a single call if that shows that it is as the index has it.
func (k *worker) differing(name string, old *known) (o change.Object, equal bool, err error) {
	if old != nil {
		if o, err = k.dir.StatLite(name); err != nil {
			return o, false, err
		}
		equal = old.same(&o) && !(k.job.Checksum && o.Kind == change.File)
	}
	if !equal {
		if o, err = k.read(name); err != nil {
			return o, false, err
		}
	} else {
		k.job.Equal.Add(1)
		k.job.EqualBytes.Add(o.Size)
	}
	k.job.Entries.Add(1)
	k.job.Bytes.Add(o.Size)
	return o, equal, nil
}

// child is a directory below the one at hand.
func (k *worker) child(id change.ID, name string, seen change.Time) Dir {
	return Dir{ID: id, Parent: k.at.ID, Path: change.Join(k.at.Path, name), Seen: seen}
}

// missing notes a name that the index has and the tree has not, or not any more.
func (k *worker) missing(at change.Place, old *known) {
	if old != nil {
		k.chunk.Absent = append(k.chunk.Absent, at)
	}
}

// read reads the whole state of an entry, always with its extended attributes: what is handed out may lead to a new object on the
// secondary, whatever the index said at this moment.
func (k *worker) read(name string) (change.Object, error) {
	o, err := k.dir.Stat(name)
	if err != nil {
		return o, err
	}
	if err := k.dir.ReadXattrs(name, &o); err != nil {
		return o, err
	}
	return o, nil
}

// doubtful says whether the content of a file may have changed although size and time are equal.
func (k *worker) doubtful(old *known, o *change.Object) bool {
	if o.Kind != change.File {
		return false
	}
	if k.job.Checksum {
		return true
	}
	if old == nil || old.racy || old.ctime == o.Ctime || k.job.Doubt {
		return old != nil && (old.racy || old.ctime != o.Ctime)
	}
	return k.w.o.XattrSum != nil && k.unexplained(old, o)
}

// unexplained says whether everything is equal but the ctime: somebody may have written to the file and put its times back.
func (k *worker) unexplained(old *known, o *change.Object) bool {
	return old.id == o.ID && old.size == o.Size && old.mtime == o.Mtime && old.mode == o.Mode && old.uid == o.UID && old.gid == o.GID &&
		old.nlink == o.Nlink && old.xattrs == k.w.o.XattrSum(o.Xattrs)
}

// same says whether o, of which only the inode part of the identity is known, is what the index has.
func (k *known) same(o *change.Object) bool {
	return k.id.Ino() == o.ID.Ino() && k.kind == o.Kind && k.mode == o.Mode && k.uid == o.UID && k.gid == o.GID &&
		k.mtime == o.Mtime && k.ctime == o.Ctime && (o.Kind != change.File || k.size == o.Size) && !k.racy
}

func newKnown(e *change.Entry) known {
	return known{
		id: e.ID, kind: e.Kind, racy: e.Racy, mode: e.Mode, uid: e.UID, gid: e.GID,
		nlink: e.Nlink, size: e.Size, xattrs: e.XattrSum, mtime: e.Mtime, ctime: e.Ctime,
	}
}

// limited waits until n more entries may be read.
func (k *worker) limited(ctx context.Context, n int) error {
	if k.job.Limit == nil {
		return nil
	}
	for burst := max(1, k.job.Limit.Burst()); n > 0; n -= burst {
		if err := k.job.Limit.WaitN(ctx, min(n, burst)); err != nil {
			return fmt.Errorf("limit scan: %w", err)
		}
	}
	return nil
}
