// Package bygfid carries declarations out on a Gluster volume, through a mount that reaches objects by their GFID.
//
// An object has the same GFID on both sides. So whatever a declaration says of where an object was, it is found by what it is: a file that is
// to be made and exists is linked, a directory that exists is moved, and only what does not exist is created. That is more than a
// convenience, since creating a second object with a GFID that exists succeeds on some volumes, and corrupts them.
//
// Several workers write to one volume, each of them for a part of the files, and all of them for the directories. What one of them finds in its way
// may be another's, so that nothing is removed that was not declared: it is set aside, where the other finds it by its GFID.
package bygfid

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/gluster"
	"georep/internal/rooted"
	"georep/internal/wire"
)

// Options say where to apply.
type Options struct {
	Mount *gluster.Mount // stays the caller's; must outlive the Applier
	// Report is told of what went wrong without concerning any request. May be nil.
	Report func(error)
}

// Applier applies requests on one volume. It implements wire.Handler and wire.Binder, and its methods may be called at the same time.
type Applier struct {
	m      *gluster.Mount
	report func(error)
	token  string // of temporary names, unlike any other process's
	count  atomic.Uint64
	stash  atomic.Bool            // the stash is known to exist
	uid    int                    // of this process, when it is not root; else -1
	key    atomic.Pointer[string] // of the mark; nil before Bind
	owner  atomic.Pointer[string] // of the applier that works for the session; nil before Bind
}

var (
	_ wire.Handler = (*Applier)(nil)
	_ wire.Binder  = (*Applier)(nil)
)

// Errors by which the steps of an operation say how it ends.
var (
	errStale  = errors.New("not the expected object")
	errExists = errors.New("occupied by an object that was not expected")
)

// New begins to apply.
func New(o Options) *Applier {
	a := &Applier{m: o.Mount, report: o.Report, token: rand.Text()[:10], uid: -1}
	if a.report == nil {
		a.report = func(error) {}
	}
	if uid := syscall.Geteuid(); uid != 0 {
		a.uid = uid
	}
	return a
}

// Apply carries out a request whose content, if any, is inline.
func (a *Applier) Apply(ctx context.Context, r *wire.Request) change.Result {
	if err := ctx.Err(); err != nil {
		return apply.Failed(err)
	}
	res, err := a.apply(ctx, r)
	for try := 0; try < 2 && transient(err); try++ { // what another worker is just changing
		res, err = a.apply(ctx, r)
	}
	return result(res, err)
}

func transient(err error) bool { return is(err, unix.ESTALE, unix.EBUSY, unix.ENODATA) }

func (a *Applier) apply(ctx context.Context, r *wire.Request) (change.Result, error) {
	if r.At.IsRoot() {
		return a.onRoot(r)
	}
	if err := check(r); err != nil {
		return change.Result{}, err
	}
	at, err := a.place(r.At)
	if err != nil {
		return change.Result{}, err
	}
	switch r.Op {
	case change.Make, change.Adopt, change.Write:
		return a.make(ctx, r, at)
	case change.Link:
		return a.link(r, at)
	case change.Move:
		return a.move(r, at)
	case change.Set:
		return a.set(r, at)
	case change.Drop:
		return a.drop(r, at)
	case change.Times:
		return a.times(r, at)
	}
	return change.Result{}, apply.Refuse("operation %d is unknown", r.Op)
}

// check refuses what no worker asks for.
func check(r *wire.Request) error {
	switch r.Op {
	case change.Drop, change.Times:
		return nil
	case change.Link, change.Move:
		if r.Sec.IsZero() {
			return apply.Refuse("%s of nothing", r.Op)
		}
		return nil
	}
	if r.Object.ID.IsZero() || r.Object.ID == gluster.Root {
		return apply.Refuse("%s of an object with the GFID %s", r.Op, gluster.GFID(r.Object.ID))
	}
	return nil
}

// result is the answer of an operation that ended with res or err.
func result(res change.Result, err error) change.Result {
	switch {
	case err == nil:
		return res
	case errors.Is(err, errStale):
		return change.Result{Status: change.Stale}
	case errors.Is(err, errExists):
		return change.Result{Status: change.Exists}
	}
	return apply.Failed(err)
}

func applied(id change.ID) (change.Result, error) {
	return change.Result{Status: change.Applied, Sec: id}, nil
}

// failed wraps what a call returned, for the answer.
func failed(call, path string, err error) error {
	var errno syscall.Errno
	if err == nil || !errors.As(err, &errno) {
		return err
	}
	return &rooted.Error{Call: call, Path: path, Err: errno}
}

// is says whether err holds one of these numbers.
func is(err error, numbers ...syscall.Errno) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	for _, n := range numbers {
		if errno == n {
			return true
		}
	}
	return false
}

// place is one name in a directory that is addressed by its GFID.
type place struct {
	dir  change.ID
	name string
	path string // of the process
	show string // for people
}

// place resolves a reference, and refuses names that are not the worker's to use.
func (a *Applier) place(ref wire.Ref) (place, error) {
	if !change.ValidName(ref.Name) {
		return place{}, apply.Refuse("%q is no name", ref.Name)
	}
	dir := ref.Dir.Sec
	switch {
	case ref.Dir.Path == apply.Hold:
		if _, err := change.ParseID(ref.Name); err != nil {
			return place{}, apply.Refuse("%q is no name in the stash", ref.Name)
		}
		return a.held(ref.Name)
	case ref.Dir.Path == apply.Reserved || strings.HasPrefix(ref.Dir.Path, apply.Reserved+"/") && !strings.HasPrefix(ref.Dir.Path, apply.Hold+"/"):
		return place{}, apply.Refuse("%q is reserved", ref.Dir.Path)
	case ref.Dir.Path == "":
		dir = gluster.Root
		if ref.Name == apply.Reserved {
			return place{}, apply.Refuse("%q is reserved", ref.Name)
		}
	case dir.IsZero():
		return place{}, apply.Refuse("the directory %q comes without its GFID", ref.Dir.Path)
	}
	return place{dir: dir, name: ref.Name, path: a.m.At(dir, ref.Name), show: ref.Path()}, nil
}

// occupant is what is at a place.
type occupant struct {
	st unix.Stat_t
}

func (o *occupant) kind() change.Kind    { return change.KindOfMode(o.st.Mode) }
func (o *occupant) is(id change.ID) bool { return o.st.Ino == gluster.Inode(id) }
func (o *occupant) size() int64          { return o.st.Size }
func (o *occupant) mode() uint32         { return o.st.Mode & 0o7777 }
func (o *occupant) mtime() change.Time {
	return change.Time{Sec: o.st.Mtim.Sec, Nsec: uint32(o.st.Mtim.Nsec)}
}
func (o *occupant) owned(by change.Attr) bool { return o.st.Uid == by.UID && o.st.Gid == by.GID }

// look tells what is at a place; ok is false when nothing is.
func (a *Applier) look(at place) (o occupant, ok bool, err error) {
	err = unix.Lstat(at.path, &o.st)
	switch {
	case err == nil:
		return o, true, nil
	case is(err, unix.ENOENT):
		return o, false, nil
	}
	return o, false, failed("lstat", at.show, err)
}

// find tells what has a GFID, wherever it is; ok is false when nothing has it. Of a directory only kind and attributes are right.
func (a *Applier) find(id change.ID) (o occupant, ok bool, err error) {
	err = unix.Lstat(a.m.Object(id), &o.st)
	switch {
	case err == nil:
		return o, true, nil
	case is(err, unix.ENOENT, unix.ESTALE):
		return o, false, nil
	}
	return o, false, failed("lstat", gluster.GFID(id), err)
}

// temp is an unused name in the stash.
func (a *Applier) temp() (place, error) {
	return a.held("tmp-" + a.token + "-" + hex.EncodeToString(binary.BigEndian.AppendUint64(nil, a.count.Add(1))))
}

// onRoot carries out what can be asked of the root itself.
func (a *Applier) onRoot(r *wire.Request) (change.Result, error) {
	if r.Object.Kind != change.Dir {
		return change.Result{}, apply.Refuse("the root as a %s", r.Object.Kind)
	}
	if !r.Sec.IsZero() && r.Sec != gluster.Root {
		return change.Result{}, errStale
	}
	at := place{dir: gluster.Root, path: a.m.Top() + "/.", show: "."}
	switch r.Op {
	case change.Make, change.Adopt, change.Set:
		if err := a.setAttr(at.path, at.show, &r.Object, nil, true); err != nil {
			return change.Result{}, err
		}
	case change.Times:
		if err := a.setTimes(at.path, at.show, r.Object.Mtime); err != nil {
			return change.Result{}, err
		}
	default:
		return change.Result{}, apply.Refuse("%s of the root", r.Op)
	}
	return applied(gluster.Root)
}
