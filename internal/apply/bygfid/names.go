package bygfid

import (
	"strings"

	"golang.org/x/sys/unix"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/gluster"
	"georep/internal/wire"
)

// nameTries bounds how often a name may change hands while it is being taken.
const nameTries = 8

func errBusy() error {
	return &apply.Refusal{Errno: unix.EBUSY, Detail: "the name keeps changing hands: something else writes to the volume"}
}

// giveWay frees a place that another object has, if the request allows that. atomic says that the object may be left there, to be replaced in one
// step.
func (a *Applier) giveWay(r *wire.Request, at place, o *occupant) (atomic bool, err error) {
	expected := !r.Over.IsZero() && o.is(r.Over)
	if !expected && !r.Replace {
		return false, errExists
	}
	if o.kind() == change.Dir && !r.MayRemove {
		return false, &apply.Refusal{Errno: unix.EISDIR, Detail: "a directory is in the way, and nothing may be deleted now"}
	}
	if expected && o.kind() != change.Dir {
		return true, nil
	}
	return false, a.setAside(at)
}

// link gives an object another name.
func (a *Applier) link(r *wire.Request, at place) (change.Result, error) {
	for range nameTries {
		now, ok, err := a.look(at)
		if err != nil {
			return change.Result{}, err
		}
		if ok && now.is(r.Sec) {
			return applied(r.Sec)
		}
		if !ok {
			err := a.linkTo(r.Sec, at)
			if is(err, unix.EEXIST) {
				continue
			}
			if err != nil {
				return change.Result{}, stale(err)
			}
			return applied(r.Sec)
		}
		atomic, err := a.giveWay(r, at, &now)
		if err != nil {
			return change.Result{}, err
		}
		if atomic {
			if err := a.linkOver(r.Sec, at); err != nil {
				return change.Result{}, stale(err)
			}
			return applied(r.Sec)
		}
	}
	return change.Result{}, errBusy()
}

func (a *Applier) linkTo(id change.ID, at place) error {
	return failed("link", at.show, unix.Link(a.m.Object(id), at.path))
}

// linkOver replaces what is at a place by a further name of an object in one step.
func (a *Applier) linkOver(id change.ID, at place) error {
	return a.inStash(func() error {
		temp, err := a.temp()
		if err != nil {
			return err
		}
		if err := a.linkTo(id, temp); err != nil {
			return err
		}
		err = a.rename(temp, at)
		// When the place had become the same object meanwhile, the rename has done nothing.
		if other := unix.Unlink(temp.path); err == nil && other != nil && !is(other, unix.ENOENT) {
			err = failed("unlink", temp.show, other)
		}
		return err
	})
}

// move brings a directory to its place, from wherever it is.
func (a *Applier) move(r *wire.Request, at place) (change.Result, error) {
	from, err := a.place(r.From)
	if err != nil {
		return change.Result{}, err
	}
	return a.bring(r, r.Sec, from, at)
}

// bring renames an object to a place. from is where it should be.
func (a *Applier) bring(r *wire.Request, id change.ID, from, at place) (change.Result, error) {
	for range nameTries {
		now, ok, err := a.look(at)
		if err != nil {
			return change.Result{}, err
		}
		if ok && now.is(id) {
			return applied(id)
		}
		if ok {
			if _, err := a.giveWay(r, at, &now); err != nil {
				return change.Result{}, err
			}
		}
		is, there, err := a.look(from)
		if err != nil && from.path != "" {
			return change.Result{}, err
		}
		if !there || !is.is(id) {
			if from, there, err = a.whereIs(id); err != nil || !there {
				if err == nil {
					err = errStale
				}
				return change.Result{}, err
			}
		}
		err = a.rename(from, at)
		if err == nil {
			return applied(id)
		}
		if !isRetry(err) {
			return change.Result{}, err
		}
	}
	return change.Result{}, errBusy()
}

func isRetry(err error) bool {
	return is(err, unix.ENOENT, unix.ESTALE, unix.EEXIST, unix.ENOTEMPTY, unix.ENOTDIR, unix.EISDIR)
}

// whereIs finds the place of a directory.
func (a *Applier) whereIs(id change.ID) (place, bool, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Getxattr(a.m.Object(id), "glusterfs.gfidtopath", buf)
	if is(err, unix.ENOENT, unix.ESTALE, unix.ENODATA) {
		return place{}, false, nil
	}
	if err != nil {
		return place{}, false, failed("getxattr", gluster.GFID(id), err)
	}
	path := strings.TrimRight(string(buf[:n]), "\x00")
	i := strings.LastIndexByte(path, '/')
	if i < 0 || i == len(path)-1 {
		return place{}, false, nil
	}
	p := place{name: path[i+1:], path: a.m.Top() + path, show: path[1:]}
	now, ok, err := a.look(p)
	if err != nil || !ok || !now.is(id) {
		return place{}, false, err
	}
	return p, true, nil
}

// drop takes a name away, if it is still that object's. A directory may hold what belongs to other workers, who may be about to move it out: it is
// set aside with all that is in it.
func (a *Applier) drop(r *wire.Request, at place) (change.Result, error) {
	now, ok, err := a.look(at)
	if err != nil {
		return change.Result{}, err
	}
	if !ok || !r.Sec.IsZero() && !now.is(r.Sec) {
		return applied(r.Sec) // the name is not that object's any more
	}
	if now.kind() != change.Dir {
		if err := unix.Unlink(at.path); err != nil && !is(err, unix.ENOENT) {
			return change.Result{}, failed("unlink", at.show, err)
		}
		return applied(r.Sec)
	}
	err = unix.Rmdir(at.path)
	if is(err, unix.ENOTEMPTY, unix.EEXIST) && r.MayRemove {
		err = a.setAside(at)
	}
	if err != nil && !is(err, unix.ENOENT) {
		return change.Result{}, failed("rmdir", at.show, err)
	}
	return applied(r.Sec)
}
