package bygfid

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/delta"
	"georep/internal/wire"
)

// make brings an object to its place, with content, if that came with the request, and attributes.
func (a *Applier) make(ctx context.Context, r *wire.Request, at place) (change.Result, error) {
	o := &r.Object
	content := o.Kind == change.File
	if content && !r.HasInline && o.Size > 0 {
		if r.Op != change.Adopt || !r.HasHash {
			return change.Result{}, apply.Refuse("a file of %d bytes comes without its content", o.Size)
		}
		return a.adopt(ctx, r, at)
	}
	made, err := a.put(r, at)
	if err != nil {
		return change.Result{}, err
	}
	if content {
		err = a.fill(r, made)
	} else if !made || o.Kind == change.Dir || o.HasXattrs && len(o.Xattrs) > 0 || o.Mode&0o7000 != 0 {
		err = a.setAttr(at.path, at.show, o, nil, true)
	} else {
		err = a.setMade(at, o)
	}
	if err != nil {
		return change.Result{}, stale(err)
	}
	if made {
		if res, err := a.otherNames(r, at); err != nil || res.Status != change.Applied {
			return res, err
		}
	}
	return change.Result{Status: change.Applied, Sec: o.ID, Created: made && o.Kind == change.Dir}, nil
}

// setMade completes an object that was created with owner and mode. A directory whose group is inherited may have given it another one.
func (a *Applier) setMade(at place, o *change.Object) error {
	return a.setAttr(at.path, at.show, o, nil, true)
}

// put brings an object to its place: it is there, or it is elsewhere, or it is made.
func (a *Applier) put(r *wire.Request, at place) (made bool, err error) {
	o := &r.Object
	for range nameTries {
		there, ok, err := a.find(o.ID)
		if err != nil {
			return false, err
		}
		if ok && there.kind() != o.Kind {
			// A directory that could not be made on all bricks at once has no kind without its name, by which it is completed.
			now, named, err := a.look(at)
			if err == nil && named && now.is(o.ID) && now.kind() == o.Kind {
				return false, nil
			}
			if err != nil {
				return false, err
			}
		}
		if ok {
			return false, a.putExisting(r, at, &there)
		}
		err = a.create(at, o)
		switch {
		case err == nil:
			return true, nil
		case is(err, unix.ENOENT, unix.ESTALE):
			return false, errStale // its directory is not there
		case is(err, unix.ENODATA):
			continue // somebody has just created it elsewhere
		case !is(err, unix.EEXIST):
			return false, err
		}
		now, ok, err := a.look(at)
		if err != nil {
			return false, err
		}
		if !ok || now.is(o.ID) {
			continue
		}
		atomic, err := a.giveWay(r, at, &now)
		if err != nil {
			return false, err
		}
		if atomic {
			return true, a.createOver(r, at)
		}
	}
	return false, errBusy()
}

// createOver makes an object beside and then replaces what is at its place in one step. Its content comes after that: it has it, but for a
// moment.
func (a *Applier) createOver(r *wire.Request, at place) error {
	return a.inStash(func() error {
		temp, err := a.temp()
		if err != nil {
			return err
		}
		if err := a.create(temp, &r.Object); err != nil && !is(err, unix.EEXIST) {
			return err
		}
		if r.Object.Kind == change.File {
			if err := a.fill(r, true); err != nil {
				return err
			}
		}
		return a.rename(temp, at)
	})
}

// putExisting gives an object that exists its place.
func (a *Applier) putExisting(r *wire.Request, at place, there *occupant) error {
	o := &r.Object
	if there.kind() != o.Kind {
		return &apply.Refusal{Errno: unix.EEXIST, Detail: "the volume has a " + there.kind().String() + " with the GFID of this " + o.Kind.String()}
	}
	if o.Kind == change.Dir {
		_, err := a.bring(r, o.ID, at, at)
		return err
	}
	if r.Op == change.Write || r.Over == o.ID { // it has the name already, or the worker is mistaken about its names
		now, ok, err := a.look(at)
		if err == nil && (!ok || !now.is(o.ID)) {
			err = errStale
		}
		return err
	}
	sub := *r
	sub.Sec = o.ID
	_, err := a.link(&sub, at)
	return err
}

// fill writes the content that came with a request, and sets attributes.
func (a *Applier) fill(r *wire.Request, made bool) error {
	o := &r.Object
	path := a.m.Object(o.ID)
	if made && o.Size == 0 {
		return a.setAttr(path, r.At.Path(), o, nil, true)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return failed("open", r.At.Path(), err)
	}
	if err = writeSparse(f, r.Inline, o.Blocks*512 < o.Size); err == nil && (!made || o.Blocks*512 < o.Size) {
		err = f.Truncate(o.Size)
	}
	now := &occupant{}
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &now.st)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return failed("write", r.At.Path(), err)
	}
	if made && !o.HasXattrs || made && len(o.Xattrs) == 0 {
		plain := *o
		plain.HasXattrs = false
		if now.mtime() == o.Mtime {
			now.st.Mtim.Nsec++ // what was written sets the time again when it arrives
		}
		return a.setAttr(path, r.At.Path(), &plain, now, true)
	}
	return a.setAttr(path, r.At.Path(), o, now, true)
}

// page is the unit in which holes are left out of small files, in bytes.
const page = 4 << 10

// writeSparse writes small content; of sparse content only what is not zero, after what was there was cut off.
func writeSparse(f *os.File, data []byte, sparse bool) error {
	if !sparse {
		if len(data) == 0 {
			return nil
		}
		_, err := f.WriteAt(data, 0)
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	var blank [page]byte
	for off := 0; off < len(data); off += page {
		part := data[off:min(off+page, len(data))]
		if bytes.Equal(part, blank[:len(part)]) {
			continue
		}
		if _, err := f.WriteAt(part, int64(off)); err != nil {
			return err
		}
	}
	return nil
}

// adopt keeps the content that an object has, if it is what it shall have.
func (a *Applier) adopt(ctx context.Context, r *wire.Request, at place) (change.Result, error) {
	o := &r.Object
	there, ok, err := a.find(o.ID)
	if err != nil {
		return change.Result{}, err
	}
	if !ok || there.kind() != o.Kind || there.size() != o.Size {
		return change.Result{}, errExists
	}
	sum, err := a.hash(ctx, r)
	if err != nil || sum != r.Hash {
		if err == nil {
			err = errExists
		}
		return change.Result{}, err
	}
	if err := a.putExisting(r, at, &there); err != nil {
		return change.Result{}, err
	}
	if err := a.setAttr(a.m.Object(o.ID), at.show, o, nil, true); err != nil {
		return change.Result{}, stale(err)
	}
	return applied(o.ID)
}

func (a *Applier) hash(ctx context.Context, r *wire.Request) (sum [16]byte, err error) {
	f, err := os.Open(a.m.Object(r.Object.ID))
	if err != nil {
		return sum, failed("open", r.At.Path(), err)
	}
	defer f.Close()
	h := delta.NewHash(r.HashSeed)
	buf := make([]byte, 256<<10)
	for ctx.Err() == nil {
		n, err := f.Read(buf)
		_, _ = h.Write(buf[:n]) // a hash does not fail
		if errors.Is(err, io.EOF) {
			return h.Sum(), nil
		}
		if err != nil {
			return sum, failed("read", r.At.Path(), err)
		}
	}
	return sum, ctx.Err()
}

// otherNames gives a file its further names: each must be free, or its own, or what the request gives up.
func (a *Applier) otherNames(r *wire.Request, at place) (change.Result, error) {
	for i := range r.Names {
		to, err := a.place(r.Names[i])
		if err != nil {
			return change.Result{}, err
		}
		if to == at {
			continue
		}
		sub := *r
		sub.Sec, sub.Replace = r.Object.ID, false
		if res, err := a.link(&sub, to); err != nil || res.Status != change.Applied {
			if errors.Is(err, errExists) {
				err = errStale
			}
			return res, err
		}
	}
	return applied(r.Object.ID)
}
