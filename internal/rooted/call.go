package rooted

import (
	"errors"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"georep/internal/change"
)

// Error is the failure of one system call. Every error of this package is one, but for ErrOutside, ErrDeleted, io.EOF, a done
// context, and errors of the caller's own functions.
type Error struct {
	Call string        // the system call, e.g. "openat"
	Path string        // what it was about, relative to the root; "" is the root itself
	Err  syscall.Errno // why
}

// Error is e.g. "openat a/b: permission denied".
func (e *Error) Error() string {
	if e.Path == "" {
		return e.Call + ": " + e.Err.Error()
	}
	return e.Call + " " + e.Path + ": " + e.Err.Error()
}

// Unwrap gives the errno, so that errors.Is knows it and fs.ErrNotExist and the like.
func (e *Error) Unwrap() error { return e.Err }

// ErrOtherDevice is what an object answers that lies on another file system than the root, or behind a mount point.
const ErrOtherDevice = syscall.EXDEV

// where names the object of a call for errors and faults. It is put together only when somebody asks.
type where struct {
	d     *Dir
	name  string
	fixed string // in place of both
}

func (w where) String() string {
	if w.d == nil {
		return w.fixed
	}
	return strings.TrimSuffix(change.Join(w.d.label(), w.name), "/")
}

// try carries out one call, again as long as signals interrupt it.
func (r *Root) try(call string, w where, f func() error) error {
	if r.faults != nil {
		if err := r.faults(call, w.String()); err != nil {
			return r.failed(call, w, err)
		}
	}
	for {
		err := f()
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return r.failed(call, w, err)
		}
	}
}

func (r *Root) failed(call string, w where, err error) error {
	var no syscall.Errno
	if !errors.As(err, &no) {
		no = unix.EIO
	}
	return &Error{Call: call, Path: w.String(), Err: no}
}

// is says whether err is one of these.
func is(err error, numbers ...syscall.Errno) bool {
	var no syscall.Errno
	if !errors.As(err, &no) {
		return false
	}
	for _, n := range numbers {
		if no == n {
			return true
		}
	}
	return false
}

// errnoOrNil keeps errno 0 from becoming an error that is not nil.
func errnoOrNil(no syscall.Errno) error {
	if no == 0 {
		return nil
	}
	return no
}

// checkName gives the errno for a name that is none, 0 for one that is.
func checkName(name string) error {
	switch {
	case change.ValidName(name):
		return nil
	case len(name) > 255:
		return unix.ENAMETOOLONG
	}
	return unix.EINVAL
}

// do carries out one call about the entry name of d.
func (d *Dir) do(call, name string, f func() error) error {
	w := where{d: d, name: name}
	if err := checkName(name); err != nil {
		return d.root.failed(call, w, err)
	}
	return d.root.try(call, w, f)
}
