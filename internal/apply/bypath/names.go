package bypath

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/wire"
)

// link gives an object a further name.
func (a *Applier) link(r *wire.Request, at place) (change.Result, error) {
	from, o, err := a.source(r, at)
	if err != nil || from.openDir == nil {
		return result(change.Result{Status: change.Applied, Sec: r.Sec}, err), nil
	}
	defer from.release()
	if o.Kind == change.Dir {
		return change.Result{}, apply.Refuse("a further name for a directory")
	}
	_, err = a.put(at, another{a, from}, occupancy{
		request:  r,
		occupied: !r.Over.IsZero(),
		expected: func(now *change.Object) bool { return givenUp(r, now) },
		same:     func(now *change.Object, _ bool) (bool, error) { return now.ID == o.ID, nil },
	})
	if err != nil {
		return change.Result{}, err
	}
	return applied(o.ID)
}

// move renames an object.
func (a *Applier) move(r *wire.Request, at place) (change.Result, error) {
	from, o, err := a.source(r, at)
	if err != nil || from.openDir == nil {
		return result(change.Result{Status: change.Applied, Sec: r.Sec}, err), nil
	}
	defer from.release()
	if from.id == at.id && from.name == at.name {
		return applied(o.ID)
	}
	there, err := a.put(at, mover{from}, occupancy{
		request: r,
		same:    func(now *change.Object, _ bool) (bool, error) { return now.ID == o.ID, nil },
	})
	if err != nil {
		return change.Result{}, err
	}
	if there != nil && there.Kind != change.Dir && there.Nlink > 1 {
		// It has both names, as when it was linked: the old one goes.
		if err := from.Unlink(from.name); err != nil && !is(err, syscall.ENOENT) {
			return change.Result{}, err
		}
	}
	return applied(o.ID)
}

// source finds the object that a link or a move is about: at From, or where it was put when it was displaced. When it is at its
// new place already, the place that is given has no directory. errStale: it is nowhere.
func (a *Applier) source(r *wire.Request, at place) (place, change.Object, error) {
	from, err := a.place(r.From)
	switch {
	case err == nil:
		if o, ok, err := from.stat(); err != nil || ok && (r.Sec.IsZero() || o.ID == r.Sec) {
			if err != nil {
				from.release()
			}
			return from, o, err
		}
		from.release()
	case err != errStale:
		return place{}, change.Object{}, err
	}
	if r.Sec.IsZero() {
		return place{}, change.Object{}, errStale
	}
	hold, err := a.hold()
	if err != nil {
		return place{}, change.Object{}, err
	}
	for _, name := range []string{keptPrefix + r.Sec.String(), r.Object.ID.String()} {
		kept := place{openDir: hold, name: name}
		o, ok, err := kept.stat()
		if err != nil {
			hold.release()
			return place{}, o, err
		}
		if ok && o.ID == r.Sec {
			return kept, o, nil
		}
	}
	hold.release()
	o, ok, err := at.stat()
	if err == nil && (!ok || o.ID != r.Sec) {
		err = errStale
	}
	return place{}, o, err
}

// expect gives what is at a name, which must be of that identity.
func expect(r *wire.Request, at place) (change.Object, error) {
	o, ok, err := at.stat()
	if err == nil && (!ok || !r.Sec.IsZero() && o.ID != r.Sec || o.Kind != r.Object.Kind) {
		err = errStale
	}
	return o, err
}

func (a *Applier) set(r *wire.Request, at place) (change.Result, error) {
	o, err := expect(r, at)
	if err != nil {
		return change.Result{}, err
	}
	return setAttr(r, at, o.ID)
}

func (a *Applier) times(r *wire.Request, at place) (change.Result, error) {
	o, err := expect(r, at)
	if err != nil {
		return change.Result{}, err
	}
	if o.Mtime != r.Object.Mtime {
		if err := at.SetTimes(at.name, r.Object.Mtime); err != nil {
			return change.Result{}, err
		}
	}
	return applied(o.ID)
}

// drop removes a name; of a directory with all that is left in it, if that is allowed.
func (a *Applier) drop(ctx context.Context, r *wire.Request, at place) (change.Result, error) {
	o, ok, err := at.stat()
	switch {
	case err != nil:
		return change.Result{}, err
	case !ok:
		return applied(change.ID{})
	case !r.Sec.IsZero() && o.ID != r.Sec:
		return change.Result{}, errStale
	}
	switch {
	case o.Kind != change.Dir:
		err = at.Unlink(at.name)
	case r.MayRemove:
		return a.dropTree(ctx, at, &o)
	default:
		err = at.Rmdir(at.name)
		a.dirs.forget(o.ID)
	}
	if is(err, syscall.ENOENT) { // it left by itself, or so it is said
		err = stillThere(at)
	}
	if err != nil {
		return change.Result{}, err
	}
	return applied(change.ID{})
}

// stillThere gives an error if something is at a place that has left.
func stillThere(at place) error {
	_, ok, err := at.stat()
	if ok && err == nil {
		err = &apply.Refusal{Errno: syscall.ESTALE, Detail: "it is listed, but when it is to be removed the file system says that it is not there"}
	}
	return err
}

func (a *Applier) dropTree(ctx context.Context, at place, o *change.Object) (change.Result, error) {
	failures, first := 0, ""
	_, err := at.RemoveAll(ctx, at.name, func(path string, _ error) {
		if failures++; failures == 1 {
			first = path
		}
	})
	a.dirs.forget(o.ID)
	if err == nil {
		err = stillThere(at)
	}
	if err == nil {
		return applied(change.ID{})
	}
	res := apply.Failed(err)
	if failures > 0 && res.Detail == "" {
		res.Detail = fmt.Sprintf("%q stays", first)
		if failures > 1 {
			res.Detail += fmt.Sprintf(", and %d others", failures-1)
		}
	}
	return res, nil
}

// namesOf counts the names in a request that show the object id: the one at At, which is taken for granted, and the further ones.
func (a *Applier) namesOf(r *wire.Request, id change.ID) uint32 {
	names := uint32(1)
	for i := range r.Names {
		p, err := a.place(r.Names[i])
		if err != nil {
			continue
		}
		if o, ok, err := p.stat(); err == nil && ok && o.ID == id && r.Names[i] != r.At {
			names++
		}
		p.release()
	}
	return names
}

// otherNames gives the file id, which is at a place, the further names of a request. Each is replaced in one step if it is
// what is expected; one that is another object stays as it is and makes the result stale.
func (a *Applier) otherNames(r *wire.Request, at place, id change.ID, expected func(*change.Object) bool) (change.Result, error) {
	var failure error
	stale := ""
	for i := range r.Names {
		ref := r.Names[i]
		if ref == r.At {
			continue
		}
		err := a.otherName(r, at, ref, id, expected)
		switch {
		case errors.Is(err, errStale) || errors.Is(err, errExists):
			stale = ref.Path()
		case err != nil && failure == nil:
			failure = err
		}
	}
	switch {
	case failure != nil:
		return change.Result{}, failure
	case stale != "":
		return change.Result{Status: change.Stale, Sec: id, Detail: fmt.Sprintf("%q is another object", stale)}, nil
	}
	return applied(id)
}

func (a *Applier) otherName(r *wire.Request, at place, ref wire.Ref, id change.ID, expected func(*change.Object) bool) error {
	to, err := a.place(ref)
	if err != nil {
		return err
	}
	defer to.release()
	strict := *r
	strict.Replace = false
	_, err = a.put(to, another{a, at}, occupancy{
		request:  &strict,
		occupied: true,
		expected: expected,
		same:     func(now *change.Object, _ bool) (bool, error) { return now.ID == id, nil },
	})
	return err
}
