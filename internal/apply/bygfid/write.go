package bygfid

import (
	"context"
	"errors"
	"io"
	"os"
	"sort"

	"golang.org/x/sys/unix"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/delta"
	"georep/internal/wire"
)

// Write makes a file's content and attributes so, as they come by the stream. The file keeps its identity, so its content is changed in place.
func (a *Applier) Write(ctx context.Context, r *wire.Request, s wire.Stream) change.Result {
	if err := check(r); err != nil {
		return apply.Failed(err)
	}
	if r.Object.Kind != change.File || r.At.IsRoot() {
		return apply.Failed(apply.Refuse("%s of a %s by a content stream", r.Op, r.Object.Kind))
	}
	at, err := a.place(r.At)
	if err != nil {
		return result(change.Result{}, err)
	}
	made, err := a.put(&wire.Request{ // its content comes below
		Op: r.Op, At: r.At, Object: emptied(r.Object), Over: r.Over, Replace: r.Replace, MayRemove: r.MayRemove, HasInline: true,
	}, at)
	if err != nil {
		return result(change.Result{}, err)
	}
	return result(a.receive(ctx, r, s, at, made))
}

// emptied is a file before it has content.
func emptied(o change.Object) change.Object {
	o.Size, o.Blocks = 0, 0
	return o
}

// receive carries out the steps of the stream and checks the result.
func (a *Applier) receive(ctx context.Context, r *wire.Request, s wire.Stream, at place, made bool) (_ change.Result, err error) {
	f, err := os.OpenFile(a.m.Object(r.Object.ID), os.O_RDWR, 0)
	if err != nil {
		return change.Result{}, stale(failed("open", at.show, err))
	}
	closed := false
	defer func() {
		if !closed {
			err = errors.Join(err, failed("close", at.show, f.Close()))
		}
	}()
	sum, res, err := a.patch(ctx, r, s, f, made)
	if err != nil || res.Status != 0 {
		return res, err
	}
	if sum != s.Sum() {
		return s.Mismatch(), nil
	}
	closed = true
	if err := f.Close(); err != nil { // what the client has kept back fails here
		return change.Result{}, failed("close", at.show, err)
	}
	if err := a.setAttr(a.m.Object(r.Object.ID), at.show, &r.Object, nil, true); err != nil {
		return change.Result{}, stale(err)
	}
	if !made {
		return applied(r.Object.ID) // its other names show the same object
	}
	return a.otherNames(r, at)
}

func (a *Applier) patch(ctx context.Context, r *wire.Request, s wire.Stream, f *os.File, made bool) (sum [16]byte, res change.Result, err error) {
	b := &basis{file: f}
	if info, err := f.Stat(); err == nil && !made && s.Basis() {
		b.size = info.Size()
	}
	if b.size > 0 {
		if err := s.Offer(b.size, func(to io.Writer, p delta.Params) error { return delta.Sign(ctx, b, b.size, p, to) }); err != nil {
			return sum, res, err
		}
	}
	hash := delta.NewHash(s.Seed())
	var source io.ReaderAt
	if b.size > 0 {
		source = b
	}
	out := &target{basis: b, f: f}
	if !made && b.size == 0 {
		if err := f.Truncate(0); err != nil {
			return sum, res, failed("truncate", r.At.Path(), err)
		}
	}
	p := delta.NewPatcher(out, source, b.size, r.Object.Size, hash)
	for {
		op, err := s.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && op.Kind == delta.Hole {
			err = out.hole(p.Written(), op.Len, r.Object.Size)
		}
		if err == nil {
			err = p.Apply(op)
		}
		switch {
		case errors.Is(err, wire.ErrAborted):
			return sum, res, &apply.Refusal{Errno: unix.ECANCELED, Detail: "the primary gave up sending the content"}
		case errors.Is(err, delta.ErrOp):
			return sum, res, &apply.Refusal{Errno: unix.EBADMSG, Detail: err.Error()}
		case errors.Is(err, errOverwritten):
			res, err := a.drain(s)
			return sum, res, err
		case err != nil:
			return sum, res, failed("write", r.At.Path(), err)
		}
	}
	sum, err = p.Finish()
	return sum, res, failed("truncate", r.At.Path(), err)
}

// drain takes what is left of a stream that cannot be used, and asks for the content once more.
func (a *Applier) drain(s wire.Stream) (change.Result, error) {
	for {
		_, err := s.Next()
		if errors.Is(err, io.EOF) {
			return s.Mismatch(), nil
		}
		if err != nil {
			return change.Result{}, err
		}
	}
}

// errOverwritten means that content is to be copied which was overwritten before, as the file is changed in place.
var errOverwritten = errors.New("the content to be copied has been overwritten")

// basis is the file as it was: what has been overwritten is remembered for a while. The file is written from its beginning to its end.
type basis struct {
	file *os.File
	size int64
	old  []kept // by offset
	held int
	lost int64 // below this what was overwritten is not known any more
}

// kept is a stretch that was overwritten.
type kept struct {
	off  int64
	data []byte
}

// keptMax is how much of what was overwritten is remembered, in bytes: by so much the content may have moved towards its end.
const keptMax = 16 << 20

// ReadAt implements io.ReaderAt.
func (b *basis) ReadAt(p []byte, off int64) (int, error) { return b.file.ReadAt(p, off) }

// keep remembers what is about to be overwritten.
func (b *basis) keep(off, n int64) error {
	n = min(n, b.size-off)
	if n <= 0 {
		return nil
	}
	if n > keptMax {
		b.lost, b.old, b.held = off+n, nil, 0
		return nil
	}
	data := make([]byte, n)
	if _, err := b.file.ReadAt(data, off); err != nil {
		return err
	}
	b.old = append(b.old, kept{off, data})
	for b.held += len(data); b.held > keptMax; b.old = b.old[1:] {
		b.lost = b.old[0].off + int64(len(b.old[0].data))
		b.held -= len(b.old[0].data)
	}
	return nil
}

// before reads what the file held before it was written to.
func (b *basis) before(p []byte, off int64) error {
	if off < b.lost {
		return errOverwritten
	}
	if _, err := b.file.ReadAt(p, off); err != nil {
		return err
	}
	end := off + int64(len(p))
	i := sort.Search(len(b.old), func(i int) bool { return b.old[i].off+int64(len(b.old[i].data)) > off })
	for ; i < len(b.old) && b.old[i].off < end; i++ {
		k := &b.old[i]
		from := max(k.off, off)
		copy(p[from-off:], k.data[from-k.off:])
	}
	return nil
}

// target is the output of a patch.
type target struct {
	basis *basis
	f     *os.File
	buf   []byte
}

// WriteAt implements delta.Output.
func (t *target) WriteAt(p []byte, off int64) (int, error) {
	if err := t.basis.keep(off, int64(len(p))); err != nil {
		return 0, err
	}
	return t.f.WriteAt(p, off)
}

// Truncate implements delta.Output.
func (t *target) Truncate(size int64) error { return t.f.Truncate(size) }

// CopyRange implements delta.Output.
func (t *target) CopyRange(from, off, n int64) error {
	return t.CopySeen(from, off, n, func([]byte, int64) {})
}

// copyBuffer is how much is copied at once, in bytes.
const copyBuffer = 1 << 20

// CopySeen implements delta.SeenOutput: it shows what it copies. What stays at its place is not written.
func (t *target) CopySeen(from, off, n int64, seen func(p []byte, hole int64)) error {
	if t.buf == nil {
		t.buf = make([]byte, copyBuffer)
	}
	for n > 0 {
		part := t.buf[:min(n, copyBuffer)]
		var err error
		if from == off {
			_, err = t.f.ReadAt(part, from)
		} else if err = t.basis.before(part, from); err == nil {
			_, err = t.WriteAt(part, off)
		}
		if err != nil {
			return err
		}
		seen(part, 0)
		from, off, n = from+int64(len(part)), off+int64(len(part)), n-int64(len(part))
	}
	return nil
}

// hole makes n bytes at off a hole.
func (t *target) hole(off, n, size int64) error {
	if n <= 0 || n > size-off || off >= t.basis.size {
		return nil // nothing, or where nothing is yet
	}
	if err := t.basis.keep(off, n); err != nil {
		return err
	}
	err := unix.Fallocate(int(t.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if is(err, unix.EOPNOTSUPP) {
		return t.blank(off, min(n, t.basis.size-off))
	}
	return err
}

func (t *target) blank(off, n int64) error {
	zero := make([]byte, min(n, copyBuffer))
	for n > 0 {
		part := zero[:min(n, int64(len(zero)))]
		if _, err := t.f.WriteAt(part, off); err != nil {
			return err
		}
		off, n = off+int64(len(part)), n-int64(len(part))
	}
	return nil
}
