package rooted

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"georep/internal/change"
)

const (
	openFrames = 32   // directories held open on the way down
	wideBatch  = 1024 // subdirectories remembered per directory near the top
	deepBatch  = 8    // and further down, so that depth costs little memory
	maxPasses  = 4    // over a directory that others go on filling
)

// remover clears a tree depth first with a bounded number of descriptors: far ancestors are closed and found again by "..".
type remover struct {
	ctx     context.Context
	root    *Root
	base    *Dir
	failed  func(path string, err error)
	frames  []frame
	buf     []byte
	removed int64
	first   error
}

// frame is one directory on the way down.
type frame struct {
	dir      *Dir // nil while closed
	name     string
	id       uint64   // inode number
	next     int64    // position to read on from
	pending  []string // subdirectories read and not yet entered
	done     bool     // read to the end
	widened  bool     // we tried to give ourselves the permission to clear it
	failures int
	passes   int
}

// RemoveAll removes the entry name and, if it is a directory, all beneath it that it can, calling failed (may be nil) with the path
// relative to the root of each object that stays because of an error of its own. It does not enter mounts. It returns how many
// names were removed and the first error, nil if all is gone. Nothing there is no error.
func (d *Dir) RemoveAll(ctx context.Context, name string, failed func(path string, err error)) (int64, error) {
	r := &remover{ctx: ctx, root: d.root, base: d, failed: failed}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("remove %s: %w", where{d: d, name: name}, err)
	}
	err := d.Unlink(name)
	switch {
	case err == nil:
		return 1, nil
	case is(err, unix.ENOENT):
		return 0, nil
	case !is(err, unix.EISDIR, unix.EPERM):
		r.report(name, err)
		return 0, r.first
	}
	if other := d.Rmdir(name); other == nil {
		return 1, nil
	} else if is(other, unix.ENOTDIR) { // it was a file after all, that we may not remove
		r.report(name, err)
		return 0, r.first
	}
	r.buf = make([]byte, listBuffer)
	r.enter(name)
	err = r.run()
	return r.removed, err
}

func (r *remover) run() error {
	for len(r.frames) > 0 {
		if err := r.ctx.Err(); err != nil {
			err = fmt.Errorf("remove %s: %w", r.trail(len(r.frames)), err)
			for i := range r.frames {
				if dir := r.frames[i].dir; dir != nil {
					dir.Close()
				}
			}
			return err
		}
		f := &r.frames[len(r.frames)-1]
		if n := len(f.pending); n > 0 {
			name := f.pending[n-1]
			f.pending = f.pending[:n-1]
			r.enter(name)
			continue
		}
		if !f.done {
			r.read(f)
			continue
		}
		r.leave()
	}
	return r.first
}

// trail is the path of the first n frames.
func (r *remover) trail(n int) string {
	var b strings.Builder
	b.WriteString(r.base.label())
	for _, f := range r.frames[:n] {
		if b.Len() > 0 {
			b.WriteByte('/')
		}
		b.WriteString(f.name)
	}
	return b.String()
}

// report notes that name in the innermost frame stays.
func (r *remover) report(name string, err error) {
	n := len(r.frames)
	if n > 0 {
		r.frames[n-1].failures++
	}
	if r.first == nil {
		r.first = err
	}
	if r.failed != nil {
		r.failed(change.Join(r.trail(n), name), err)
	}
}

// holder is the directory of the innermost frame, or the base.
func (r *remover) holder() *Dir {
	if n := len(r.frames); n > 0 {
		return r.frames[n-1].dir
	}
	return r.base
}

// enter goes down into the subdirectory name.
func (r *remover) enter(name string) {
	depth := len(r.frames)
	parent := r.holder()
	w := where{d: parent, name: name}
	fd, pathOnly, err := r.root.openBeneath(parent.fd, name, true, w)
	if is(err, unix.EACCES) && r.widen() {
		fd, pathOnly, err = r.root.openBeneath(parent.fd, name, true, w)
	}
	if is(err, unix.ENOENT) {
		return
	}
	if is(err, unix.ENOTDIR) { // exchanged meanwhile
		r.unlink(name)
		return
	}
	if err != nil {
		r.report(name, err)
		return
	}
	dir := &Dir{root: r.root, fd: fd, pathOnly: pathOnly}
	dir.trail = func() string { return r.trail(min(depth+1, len(r.frames))) }
	r.frames = append(r.frames, frame{dir: dir, name: name})
	f := &r.frames[depth]
	if f.id, err = dir.inode(); err == nil && pathOnly {
		err = r.reopen(f)
	}
	if err != nil {
		dir.Close()
		r.frames = r.frames[:depth]
		r.report(name, err)
		return
	}
	if far := depth - openFrames; far >= 0 && r.frames[far].dir != nil {
		r.frames[far].dir.Close()
		r.frames[far].dir = nil
	}
}

// reopen gets at a directory of our own that has no permission to be read.
func (r *remover) reopen(f *frame) error {
	if !r.widen() {
		return r.root.failed("openat", where{d: f.dir}, unix.EACCES)
	}
	fd, pathOnly, err := r.root.openBeneath(f.dir.fd, "", true, where{d: f.dir})
	if err != nil {
		return err
	}
	f.dir.Close()
	f.dir.fd, f.dir.pathOnly = fd, pathOnly
	return nil
}

func (d *Dir) inode() (uint64, error) {
	var st unix.Statx_t
	err := d.root.try("statx", where{d: d}, func() error { return errnoOrNil(statx(d.fd, "", unix.AT_EMPTY_PATH, placeMask, &st)) })
	return st.Ino, err
}

// widen gives the owner, if that is us, all permissions on the innermost directory, once; it says whether to try again.
func (r *remover) widen() bool {
	n := len(r.frames)
	if n == 0 || r.frames[n-1].widened {
		return false
	}
	f := &r.frames[n-1]
	f.widened = true
	node := node{xattrCalls: xattrCalls{root: r.root, w: where{d: f.dir}, fd: f.dir.fd, path: procPath(f.dir.fd)}}
	return node.chmod(0o700) == nil
}

// unlink removes one name that is no directory from the innermost one.
func (r *remover) unlink(name string) {
	dir := r.holder()
	err := dir.Unlink(name)
	if is(err, unix.EACCES) && r.widen() {
		err = dir.Unlink(name)
	}
	switch {
	case err == nil:
		r.removed++
	case !is(err, unix.ENOENT):
		r.report(name, err)
	}
}

// read goes on reading a directory: names go at once, subdirectories are noted.
func (r *remover) read(f *frame) {
	err := f.dir.seek(f.dir.fd, f.next)
	var block []byte
	if err == nil {
		block, err = f.dir.readBlock(f.dir.fd, r.buf)
	}
	if is(err, unix.ENOENT) { // removed by another
		f.done = true
		return
	}
	if err != nil {
		r.report("", err)
		f.done = true
		return
	}
	f.done = len(block) == 0
	limit := wideBatch
	if len(r.frames) > 2*openFrames {
		limit = deepBatch
	}
	for len(block) > 0 && len(f.pending) < limit {
		e, rest, ok := nextDirent(block)
		if !ok {
			r.report("", r.root.failed("getdents64", where{d: f.dir}, unix.EIO))
			f.done = true
			return
		}
		block, f.next = rest, e.next
		if e.isDots() {
			continue
		}
		if e.kind == 0 {
			if o, err := f.dir.StatLite(string(e.name)); err == nil {
				e.kind = o.Kind
			}
		}
		if e.kind == change.Dir {
			f.pending = append(f.pending, string(e.name))
		} else {
			r.unlink(string(e.name))
		}
	}
}

// leave removes the innermost directory and goes back up, or starts over if others have filled it.
func (r *remover) leave() {
	n := len(r.frames) - 1
	f := &r.frames[n]
	up, err := r.parent(n)
	if err == nil && f.failures == 0 {
		err = r.rmdir(up, f.name)
		if is(err, unix.ENOTEMPTY, unix.EEXIST) && f.passes < maxPasses {
			f.passes++
			f.next, f.done = 0, false
			return
		}
	}
	name, failures := f.name, f.failures
	f.dir.Close()
	r.frames = r.frames[:n]
	switch {
	case err != nil && !is(err, unix.ENOENT):
		r.report(name, err)
	case failures > 0 && n > 0:
		r.frames[n-1].failures++
	case failures == 0 && err == nil:
		r.removed++
	}
	if up == nil { // the way back is lost: the rest cannot be told from what is foreign
		r.abandon()
	}
}

func (r *remover) rmdir(up *Dir, name string) error {
	err := up.Rmdir(name)
	if !is(err, unix.EACCES) || len(r.frames) < 2 {
		return err
	}
	inner := r.frames[len(r.frames)-1]
	r.frames = r.frames[:len(r.frames)-1]
	if r.widen() {
		err = up.Rmdir(name)
	}
	r.frames = append(r.frames, inner)
	return err
}

// parent is the directory that holds frame n, opened again by way of ".." if it was closed, and then only if it is the same.
func (r *remover) parent(n int) (*Dir, error) {
	if n == 0 {
		return r.base, nil
	}
	p := &r.frames[n-1]
	if p.dir != nil {
		return p.dir, nil
	}
	child := r.frames[n].dir
	dir := &Dir{root: r.root, fd: -1}
	dir.trail = func() string { return r.trail(min(n, len(r.frames))) }
	err := r.root.try("openat", where{d: dir}, func() (err error) {
		dir.fd, err = unix.Openat(child.fd, "..", openDirFlags, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	id, err := dir.inode()
	if err == nil && id != p.id {
		err = r.root.failed("openat", where{d: dir}, unix.ESTALE)
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	p.dir = dir
	return dir, nil
}

// abandon gives up all frames, none of which is open any more but the outermost ones.
func (r *remover) abandon() {
	for i := range r.frames {
		if dir := r.frames[i].dir; dir != nil {
			dir.Close()
		}
	}
	r.frames = nil
}
