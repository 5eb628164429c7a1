package bypath

import (
	"context"
	"errors"
	"io"
	"syscall"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/delta"
	"georep/internal/rooted"
	"georep/internal/wire"
)

// partSize is the size, in bytes, from which a file that is not complete is kept, so that its transfer can be resumed.
const partSize = 8 << 20

// Write makes a file's content and attributes so, as they come by the stream, under all the names of the request.
func (a *Applier) Write(ctx context.Context, r *wire.Request, s wire.Stream) change.Result {
	w := &writing{a: a, r: r, s: s}
	defer w.close()
	// The content comes once. Only what is before and after it may be tried again.
	res := a.retried(r, func() change.Result { return result(w.open(ctx)) })
	if res.Status == change.Applied {
		res = result(w.receive(ctx))
	}
	if res.Status == change.Applied {
		if final := s.Final(); final != nil {
			w.r, r = final, final
		}
		if err := writable(r); err != nil {
			return result(change.Result{}, err)
		}
		res = a.lenient(r, func(r *wire.Request) change.Result {
			w.r = r
			return a.retried(r, func() change.Result { return result(w.finish(ctx)) })
		})
	}
	return a.timely(r, res)
}

// writing is one file on its way.
type writing struct {
	a      *Applier
	r      *wire.Request
	s      wire.Stream
	out    *output
	basis  basis
	placed bool
}

func (w *writing) close() {
	w.basis.close()
	if w.out != nil {
		w.out.close(w.a)
	}
}

// open opens what the content is written to, and what is here of it already.
func (w *writing) open(ctx context.Context) (change.Result, error) {
	r := w.r
	if err := ctx.Err(); err != nil {
		return change.Result{}, err
	}
	if err := writable(r); err != nil {
		return change.Result{}, err
	}
	at, err := w.a.place(r.At)
	if err != nil {
		return change.Result{}, err
	}
	defer at.release()
	there, ok, err := at.stat()
	if err == nil && ok {
		err = w.hopeless(&there)
	}
	if err == nil && w.out == nil {
		w.out, err = w.a.openOutput(at, r, w.s.Basis())
	}
	if err == nil {
		err = w.openBasis(at, ok && there.Kind == change.File && w.a.trusts(&there))
	}
	if err != nil {
		return change.Result{}, err
	}
	return applied(change.ID{})
}

// writable refuses requests that are none for content that comes by a stream.
func writable(r *wire.Request) error {
	if r.Object.Kind != change.File || r.Op != change.Make && r.Op != change.Write && r.Op != change.Adopt || r.At.IsRoot() {
		return apply.Refuse("%s of a %s by a content stream", r.Op, r.Object.Kind)
	}
	return check(r)
}

// hopeless says whether an occupant would not give way, so that the content need not be sent.
func (w *writing) hopeless(o *change.Object) error {
	known := w.expected(o)
	switch {
	case o.Kind == change.Dir && (known || w.r.Replace) && !w.r.MayRemove:
		return errDirInTheWay()
	case known || w.r.Replace || o.Kind == change.File && o.Size == w.r.Object.Size:
		return nil
	}
	return errExists
}

func (w *writing) expected(o *change.Object) bool { return givenUp(w.r, o) }

// openBasis gathers what is here of the file already.
func (w *writing) openBasis(at place, old bool) error {
	if !w.s.Basis() {
		return w.out.begin(0)
	}
	if old {
		// If the old file cannot be read it is of no use, but nothing is lost.
		if f, err := at.OpenFile(at.name); err == nil {
			w.basis.old = f
			if o, err := f.Stat(); err == nil {
				w.basis.oldSize = o.Size
			}
		}
	}
	w.basis.part, w.basis.partSize = w.out.file, min(w.out.had, w.r.Object.Size)
	return w.out.begin(w.basis.partSize)
}

// receive carries out the steps of the stream and checks the result.
func (w *writing) receive(ctx context.Context) (change.Result, error) {
	b := &w.basis
	if size := b.size(); size > 0 && w.s.Basis() {
		err := w.s.Offer(size, func(to io.Writer, p delta.Params) error { return delta.Sign(ctx, b, size, p, to) })
		if err != nil {
			return change.Result{}, err
		}
	}
	target := &target{out: w.out, basis: b}
	hash := delta.NewHash(w.s.Seed())
	var source io.ReaderAt
	if b.size() > 0 {
		source = b
	}
	patch := delta.NewPatcher(target, source, b.size(), w.r.Object.Size, hash)
	for {
		// The end of the connection ends Next when all that has arrived is taken: it need not come again.
		op, err := w.s.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && op.Kind == delta.Hole {
			err = target.hole(patch.Written(), op.Len, w.r.Object.Size)
		}
		if err == nil {
			err = patch.Apply(op)
		}
		if err != nil {
			return change.Result{}, w.spoiled(err)
		}
	}
	sum, err := patch.Finish()
	if err != nil {
		return change.Result{}, w.spoiled(err)
	}
	if sum != w.s.Sum() {
		return w.s.Mismatch(), nil
	}
	return applied(change.ID{})
}

// spoiled decides whether what arrived so far is worth keeping.
func (w *writing) spoiled(err error) error {
	switch {
	case is(err, syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG):
		w.out.worthless = true // it stands in its own way, and in that of others
	case errors.Is(err, wire.ErrAborted):
		return &apply.Refusal{Errno: syscall.ECANCELED, Detail: "the primary gave up sending the content"}
	case errors.Is(err, delta.ErrOp):
		return &apply.Refusal{Errno: syscall.EBADMSG, Detail: err.Error()}
	}
	return err
}

// finish brings the complete file to its names.
func (w *writing) finish(ctx context.Context) (change.Result, error) {
	if err := ctx.Err(); err != nil {
		return change.Result{}, err
	}
	at, err := w.a.place(w.r.At) // again: this may be a second try
	if err != nil {
		return change.Result{}, err
	}
	defer at.release()
	if err := w.out.file.SetAttr(w.r.Object.Attr, w.r.Object.HasXattrs, true); err != nil {
		return change.Result{}, err
	}
	there, err := w.a.put(at, w.out.newcomer(), occupancy{
		request:  w.r,
		occupied: w.placed || w.r.Op != change.Make || !w.r.Over.IsZero(),
		expected: w.expected,
		same:     func(o *change.Object, expected bool) (bool, error) { return w.same(ctx, at, o, expected) },
	})
	if err != nil {
		return change.Result{}, err
	}
	var o change.Object
	if there != nil {
		o = *there
		w.out.worthless = true
		if res, err := setAttr(w.r, at, o.ID); err != nil {
			return res, err
		}
	} else if o, err = w.out.file.Stat(); err != nil {
		return change.Result{}, err
	}
	w.placed = true
	return w.a.otherNames(w.r, at, o.ID, w.expected)
}

// same says whether an occupant that is not known is the file that was received, as when it was received before. It may have
// names that are no further names of the request only if it is the received file itself.
func (w *writing) same(ctx context.Context, at place, o *change.Object, expected bool) (bool, error) {
	if self, err := w.out.file.Stat(); err != nil || o.ID == self.ID {
		return err == nil, err
	}
	if expected || o.Kind != change.File || o.Size != w.r.Object.Size || !w.a.trusts(o) {
		return false, nil
	}
	if o.Nlink != w.a.namesOf(w.r, o.ID) {
		return false, nil
	}
	f, err := at.OpenFile(at.name)
	if err != nil {
		return false, nil
	}
	defer f.Close()
	return equalFiles(ctx, f, w.out.file, o.Size)
}

func equalFiles(ctx context.Context, f, g *rooted.File, size int64) (bool, error) {
	buf, other := make([]byte, min(size, bufferSize)), make([]byte, min(size, bufferSize))
	off, equal := int64(0), true
	err := eachChunk(ctx, f, buf, 0, size, func(p []byte) error {
		if _, err := g.ReadAt(other[:len(p)], off); err != nil {
			return err
		}
		off += int64(len(p))
		if string(p) != string(other[:len(p)]) {
			equal = false
			return io.EOF
		}
		return nil
	})
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return equal, err
}
