// Package bypath carries declarations out on a directory of a local file system.
//
// What is new comes into being beside its place (unnamed, or in the reserved directory) and takes its name in one step, so a
// reader sees the old object or the new one. What a declaration displaces without having expected it is kept in the
// reserved directory until the worker says that nothing more can refer to it. There is no state but the directory itself: any
// request may be carried out again after a crash at any point, by this process or another.
package bypath

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/rooted"
	"georep/internal/wire"
)

// Options say where and how to apply.
type Options struct {
	Root *rooted.Root // stays the caller's; must outlive the Applier
	// Dirs bounds the directories that are kept open; 0: 512.
	Dirs int
	// NoOwner leaves owner and group of what is made as they come, and setuid and setgid off.
	NoOwner bool
	// Report is told of what went wrong without concerning any request, such as remains that could not be cleared. May be nil.
	Report func(error)
}

// Applier applies requests beneath one root. It implements wire.Handler and wire.Binder, and its methods may be called at the
// same time.
type Applier struct {
	root     *rooted.Root
	self     change.ID // of the root
	dirs     dirCache
	reserved reserved
	access   access
	prefix   string // of temporary names, unlike any other process's
	count    atomic.Uint64
	report   func(error)
	uid      int // of this process, when it is not root; else -1
	noOwner  bool
	unsafe   atomic.Pointer[change.Time] // when a sync failed last; nil: none has
	clock    atomic.Pointer[clock]       // of the file system, when it was probed
	folds    func(*rooted.Dir) bool      // whether a directory takes different names for the same
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

// New begins to apply beneath o.Root. The reserved directory is made when it is first needed.
func New(o Options) (*Applier, error) {
	self, err := o.Root.Top().Self()
	if err != nil {
		return nil, fmt.Errorf("identify the destination: %w", err)
	}
	var token [8]byte
	if _, err := rand.Read(token[:]); err != nil {
		return nil, fmt.Errorf("choose a name for temporary files: %w", err)
	}
	a := &Applier{root: o.Root, self: self.ID, report: o.Report, prefix: tempPrefix + hex.EncodeToString(token[:]) + "-", uid: -1, noOwner: o.NoOwner, folds: (*rooted.Dir).Folds}
	if a.report == nil {
		a.report = func(error) {}
	}
	if uid := os.Geteuid(); uid != 0 {
		a.uid = uid
	}
	a.dirs.limit = o.Dirs
	if a.dirs.limit <= 0 {
		a.dirs.limit = 512
	}
	return a, nil
}

// Close releases all directories. No other method may run or be called after it.
func (a *Applier) Close() error {
	a.dirs.close()
	return a.reserved.close()
}

// Apply carries out a request whose content, if any, is inline.
func (a *Applier) Apply(ctx context.Context, r *wire.Request) change.Result {
	res := a.lenient(r, func(r *wire.Request) change.Result {
		return a.retried(r, func() change.Result { return a.apply(ctx, r) })
	})
	return a.timely(r, res)
}

// retried runs an operation, again if it failed only because of an open directory that was removed or moved out meanwhile, or
// because the account that we run as has taken its own right to write from a directory.
func (a *Applier) retried(r *wire.Request, run func() change.Result) change.Result {
	res := run()
	if res.Status != change.Failed && res.Status != change.Stale {
		return res
	}
	// Which errno a removed directory gives depends on the file system, so all are asked about.
	if a.dirs.forgetLost(dirsOf(r)) || a.reserved.forgetLost() {
		res = run()
	}
	if res.Status == change.Failed && res.Errno == syscall.EACCES {
		if restore := a.grant(r); restore != nil {
			defer restore()
			return run()
		}
	}
	return res
}

func dirsOf(r *wire.Request) []wire.Dir {
	dirs := []wire.Dir{r.At.Dir}
	if r.From.Name != "" {
		dirs = append(dirs, r.From.Dir)
	}
	for i := range r.Names {
		dirs = append(dirs, r.Names[i].Dir)
	}
	return dirs
}

func (a *Applier) apply(ctx context.Context, r *wire.Request) change.Result {
	if err := ctx.Err(); err != nil {
		return apply.Failed(err)
	}
	if err := check(r); err != nil {
		return apply.Failed(err)
	}
	if r.At.IsRoot() {
		return result(a.onRoot(r))
	}
	at, err := a.place(r.At)
	if err != nil {
		return result(change.Result{}, err)
	}
	defer at.release()
	switch r.Op {
	case change.Make:
		return result(a.make(r, at))
	case change.Link:
		return result(a.link(r, at))
	case change.Move:
		return result(a.move(r, at))
	case change.Write:
		return result(a.rewrite(r, at))
	case change.Set:
		return result(a.set(r, at))
	case change.Adopt:
		return result(a.adopt(ctx, r, at))
	case change.Drop:
		return result(a.drop(ctx, r, at))
	case change.Times:
		return result(a.times(r, at))
	}
	return apply.Failed(apply.Refuse("operation %d is unknown", r.Op))
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

// check refuses what no worker asks for.
func check(r *wire.Request) error {
	o := &r.Object
	switch {
	case o.Size < 0:
		return apply.Refuse("a size of %d bytes", o.Size)
	case r.HasInline && (o.Kind != change.File || int64(len(r.Inline)) != o.Size):
		return apply.Refuse("%d bytes of content for a %s of %d bytes", len(r.Inline), o.Kind, o.Size)
	case o.Mode&^0o7777 != 0:
		return apply.Refuse("mode %#o", o.Mode)
	}
	switch o.Kind {
	case change.File, change.Dir, change.Symlink, change.FIFO, change.Socket, change.CharDev, change.BlockDev:
		return nil
	case 0:
		if r.Op == change.Drop || r.Op == change.Move {
			return nil
		}
	}
	return apply.Refuse("an object of %s", o.Kind)
}

// onRoot carries out what can be asked of the root itself.
func (a *Applier) onRoot(r *wire.Request) (change.Result, error) {
	if r.Object.Kind != change.Dir {
		return change.Result{}, apply.Refuse("the root as a %s", r.Object.Kind)
	}
	if !r.Sec.IsZero() && r.Sec != a.self {
		return change.Result{}, errStale
	}
	var err error
	switch r.Op {
	case change.Make, change.Adopt, change.Set:
		err = a.root.Top().SetSelf(r.Object.Attr, r.Object.HasXattrs, true)
	case change.Times:
		err = a.root.Top().SetTimes("", r.Object.Mtime)
	default:
		err = apply.Refuse("%s of the root", r.Op)
	}
	if err != nil {
		return change.Result{}, err
	}
	return applied(a.self)
}
