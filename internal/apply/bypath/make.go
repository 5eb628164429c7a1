package bypath

import (
	"bytes"
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

// page is the unit in which holes are left out of small files, in bytes.
const page = 4 << 10

// make creates a new object, whose content, if it is a file, came with the request.
func (a *Applier) make(r *wire.Request, at place) (change.Result, error) {
	switch r.Object.Kind {
	case change.Dir:
		return a.makeDir(r, at)
	case change.File:
		if !r.HasInline && r.Object.Size > 0 {
			return change.Result{}, apply.Refuse("a file of %d bytes comes without its content", r.Object.Size)
		}
		return a.makeFile(r, at, false)
	}
	return a.makeNode(r, at, false)
}

// rewrite replaces the content of a file that came with the request.
func (a *Applier) rewrite(r *wire.Request, at place) (change.Result, error) {
	if r.Object.Kind != change.File || !r.HasInline && r.Object.Size > 0 {
		return change.Result{}, apply.Refuse("%s of a %s without a content stream", r.Op, r.Object.Kind)
	}
	return a.makeFile(r, at, true)
}

// freshDir is a directory that is new, or was made by the same request before.
type freshDir struct {
	want *change.Object
}

func (d freshDir) take(at place) error {
	if err := at.Mkdir(at.name, 0o700); err != nil {
		return err
	}
	err := at.SetAttr(at.name, change.Dir, d.want.Attr, d.want.HasXattrs, true)
	if err != nil {
		_ = at.Rmdir(at.name) // a later try shall find it new again
	}
	return err
}

// over is how a directory replaces another object: not in one step, which rename(2) cannot do.
func (d freshDir) over(at place) error {
	if err := at.Unlink(at.name); err != nil && !is(err, syscall.ENOENT) {
		return err
	}
	return d.take(at)
}

func (a *Applier) makeDir(r *wire.Request, at place) (change.Result, error) {
	there, err := a.put(at, freshDir{&r.Object}, occupancy{
		request:  r,
		occupied: r.Op == change.Adopt,
		expected: func(o *change.Object) bool { return givenUp(r, o) },
		same:     func(o *change.Object, _ bool) (bool, error) { return o.Kind == change.Dir, nil },
	})
	if err != nil {
		return change.Result{}, err
	}
	if there != nil {
		return setAttr(r, at, there.ID)
	}
	o, err := at.Stat(at.name)
	if err != nil {
		return change.Result{}, err
	}
	return change.Result{Status: change.Applied, Sec: o.ID, Created: true}, nil
}

// setAttr gives an object that was found at its place the attributes it shall have.
func setAttr(r *wire.Request, at place, id change.ID) (change.Result, error) {
	err := at.SetAttr(at.name, r.Object.Kind, r.Object.Attr, r.Object.HasXattrs, true)
	if is(err, syscall.ESTALE, syscall.ENOENT) { // exchanged meanwhile
		return change.Result{}, errStale
	}
	if err != nil {
		return change.Result{}, err
	}
	return applied(id)
}

func (a *Applier) makeNode(r *wire.Request, at place, occupied bool) (change.Result, error) {
	n := &node{a: a, want: &r.Object}
	defer n.close()
	there, err := a.put(at, n, occupancy{
		request:  r,
		occupied: occupied || !r.Over.IsZero(),
		expected: func(o *change.Object) bool { return givenUp(r, o) },
		same:     func(o *change.Object, expected bool) (bool, error) { return !expected && sameNode(o, &r.Object), nil },
	})
	if err != nil {
		return change.Result{}, err
	}
	if there != nil {
		return setAttr(r, at, there.ID)
	}
	return applied(n.id)
}

// sameNode says whether what is there differs from what is wanted in nothing but attributes, and no other name would see
// them change.
func sameNode(o, want *change.Object) bool {
	if o.Kind != want.Kind || o.Nlink > 1 {
		return false
	}
	switch o.Kind {
	case change.Symlink:
		return o.Target == want.Target
	case change.CharDev, change.BlockDev:
		return o.Rdev == want.Rdev
	}
	return true
}

func (a *Applier) makeFile(r *wire.Request, at place, occupied bool) (change.Result, error) {
	f := &fresh{a: a, mode: r.Object.Mode, build: func(file *rooted.File) error { return fill(file, r) }}
	defer f.close()
	expected := func(o *change.Object) bool { return givenUp(r, o) }
	there, err := a.put(at, f, occupancy{
		request:  r,
		occupied: occupied || !r.Over.IsZero(),
		expected: expected,
		same: func(o *change.Object, expected bool) (bool, error) {
			if expected || o.Kind != change.File || o.Size != r.Object.Size || !a.trusts(o) || o.Nlink > 1 && o.Nlink != a.namesOf(r, o.ID) {
				return false, nil
			}
			return equalTo(at, r.Inline)
		},
	})
	if err != nil {
		return change.Result{}, err
	}
	var id change.ID
	if there != nil {
		id = there.ID
		if res, err := setAttr(r, at, id); err != nil {
			return res, err
		}
	} else {
		o, err := f.file.Stat()
		if err != nil {
			return change.Result{}, err
		}
		id = o.ID
	}
	return a.otherNames(r, at, id, expected)
}

// givenUp says whether a request knows the object in its way and gives it up: as the one to be replaced or, if its content is
// written anew, as what it was.
func givenUp(r *wire.Request, o *change.Object) bool {
	return !r.Over.IsZero() && o.ID == r.Over || r.Op == change.Write && !r.Sec.IsZero() && o.ID == r.Sec
}

// fill writes a small file and sets its attributes.
func fill(f *rooted.File, r *wire.Request) error {
	data := r.Inline
	if r.Object.Blocks*512 < r.Object.Size && len(data) >= page {
		if err := fillSparse(f, data); err != nil {
			return err
		}
	} else if len(data) > 0 {
		if _, err := f.WriteAt(data, 0); err != nil {
			return err
		}
	}
	return f.SetAttr(r.Object.Attr, r.Object.HasXattrs, true)
}

// fillSparse writes what is not zero, page by page, and makes holes of the rest.
func fillSparse(f *rooted.File, data []byte) error {
	var blank [page]byte
	for off := 0; off < len(data); {
		end := off
		for end < len(data) && !bytes.Equal(data[end:min(end+page, len(data))], blank[:min(page, len(data)-end)]) {
			end = min(end+page, len(data))
		}
		if end > off {
			if _, err := f.WriteAt(data[off:end], int64(off)); err != nil {
				return err
			}
		}
		off = end + page
	}
	return f.Truncate(int64(len(data)))
}

// equalTo says whether the file at a name has just these bytes.
func equalTo(at place, want []byte) (bool, error) {
	f, err := at.OpenFile(at.name)
	if is(err, syscall.ENOENT, syscall.ELOOP, syscall.ENXIO, syscall.EISDIR) {
		return false, nil // exchanged meanwhile
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	have := make([]byte, len(want)+1)
	n, err := f.ReadAt(have, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return bytes.Equal(have[:n], want), nil
}

// adopt makes what is at a name equal to what is wanted without replacing it, if it can be.
func (a *Applier) adopt(ctx context.Context, r *wire.Request, at place) (change.Result, error) {
	switch r.Object.Kind {
	case change.Dir:
		return a.makeDir(r, at)
	case change.File:
		return a.adoptFile(ctx, r, at)
	}
	return a.makeNode(r, at, true)
}

func (a *Applier) adoptFile(ctx context.Context, r *wire.Request, at place) (change.Result, error) {
	o, ok, err := at.stat()
	if err != nil {
		return change.Result{}, err
	}
	if ok && o.Kind == change.File && o.Size == r.Object.Size && a.trusts(&o) {
		equal, err := a.sameContent(ctx, r, at)
		switch {
		case err != nil:
			return change.Result{}, err
		case equal && o.Nlink == a.namesOf(r, o.ID):
			if res, err := setAttr(r, at, o.ID); err != nil {
				return res, err
			}
			return a.otherNames(r, at, o.ID, func(now *change.Object) bool { return givenUp(r, now) })
		case equal:
			return a.separate(ctx, r, at, &o)
		}
	}
	if r.HasInline || r.Object.Size == 0 {
		return a.makeFile(r, at, ok)
	}
	return change.Result{}, errExists
}

// sameContent says whether the file at a name has the content that is wanted, as far as the request tells it.
func (a *Applier) sameContent(ctx context.Context, r *wire.Request, at place) (bool, error) {
	if r.HasInline || r.Object.Size == 0 {
		return equalTo(at, r.Inline)
	}
	if !r.HasHash {
		return false, nil
	}
	f, err := at.OpenFile(at.name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	h := delta.NewHash(r.HashSeed)
	buf := make([]byte, min(r.Object.Size, bufferSize))
	err = f.Extents(r.Object.Size, func(off, n int64, hole bool) error {
		if hole {
			h.Zeros(n)
			return ctx.Err()
		}
		return eachChunk(ctx, f, buf, off, n, func(p []byte) error {
			_, _ = h.Write(p) // a hash does not fail
			return nil
		})
	})
	if errors.Is(err, io.EOF) { // it was cut off meanwhile
		return false, nil
	}
	return err == nil && h.Sum() == r.Hash, err
}

// bufferSize is how much of a file is read at once, in bytes.
const bufferSize = 256 << 10

// eachChunk reads n bytes at off in pieces.
func eachChunk(ctx context.Context, f io.ReaderAt, buf []byte, off, n int64, do func([]byte) error) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buf[:min(n, int64(len(buf)))]
		got, err := f.ReadAt(part, off)
		if got < len(part) {
			if err == nil {
				err = io.ErrNoProgress
			}
			return err
		}
		if err := do(part); err != nil {
			return err
		}
		off, n = off+int64(got), n-int64(got)
	}
	return nil
}

// separate gives a name its own copy of a file that has other names, which may be other files on the primary.
func (a *Applier) separate(ctx context.Context, r *wire.Request, at place, o *change.Object) (change.Result, error) {
	old, err := at.OpenFile(at.name)
	if err != nil {
		return change.Result{}, err
	}
	defer old.Close()
	if err := ctx.Err(); err != nil {
		return change.Result{}, err
	}
	f := &fresh{a: a, build: func(file *rooted.File) error {
		if err := file.CopyRange(old, 0, 0, o.Size); err != nil {
			return err
		}
		if err := file.Truncate(o.Size); err != nil {
			return err
		}
		return file.SetAttr(r.Object.Attr, r.Object.HasXattrs, true)
	}}
	defer f.close()
	_, err = a.put(at, f, occupancy{request: r, occupied: true, expected: func(now *change.Object) bool { return now.ID == o.ID }})
	if err != nil {
		return change.Result{}, err
	}
	made, err := f.file.Stat()
	if err != nil {
		return change.Result{}, err
	}
	return a.otherNames(r, at, made.ID, func(now *change.Object) bool { return now.ID == o.ID })
}
