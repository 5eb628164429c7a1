// Package apply holds what every way of carrying out declarations on the secondary has in common: the reserved directory of
// the target and the form in which failures are answered.
//
// The ways themselves are packages below: bypath works on a directory. Each carries declarations out in parallel, and
// carrying the same one out twice ends the same. Nothing they do reaches beyond the root that they were given.
package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"georep/internal/change"
	"georep/internal/rooted"
)

// The reserved directory at the root of a target. It is never mirrored, and a peer can name nothing in it but objects of the stash.
const (
	Reserved = ".georep"          // at the root
	Hold     = Reserved + "/hold" // the stash: displaced objects under the hexadecimal form of their primary identity
	Part     = Reserved + "/part" // large files that are not complete yet
	Marker   = "volume"           // in Reserved: the session whose copy this is
	LastMark = "mark"             // in Reserved: of the last commit
	Unsafe   = "unsafe"           // in Reserved: since when it is not known what is on the disk, as its time of change
	LockFile = "lock"             // in Reserved: held by the agents that work here
)

// Stale answers that a directory or an object is not the expected one. detail may be empty.
func Stale(detail string) change.Result { return change.Result{Status: change.Stale, Detail: detail} }

// Refusal is a request that is not carried out because of what it asks, not because of what a call returned.
type Refusal struct {
	Errno  syscall.Errno
	Detail string // for a person
}

func (r *Refusal) Error() string { return r.Detail }

// Unwrap gives the errno.
func (r *Refusal) Unwrap() error { return r.Errno }

// Refuse makes a Refusal with EINVAL.
func Refuse(format string, args ...any) error {
	return &Refusal{Errno: syscall.EINVAL, Detail: fmt.Sprintf(format, args...)}
}

// Failed puts an error, which is not nil, into a result: the errno, the call that returned it, and for the causes that have
// nothing to do with the entry itself a word for a person.
func Failed(err error) change.Result {
	res := change.Result{Status: change.Failed}
	var call *rooted.Error
	var refused *Refusal
	var errno syscall.Errno
	switch {
	case errors.As(err, &call):
		res.Errno, res.Call = call.Err, call.Call
		res.Detail = explain(call)
	case errors.As(err, &refused):
		res.Errno, res.Call, res.Detail = refused.Errno, "apply", refused.Detail
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		res.Errno, res.Call, res.Detail = syscall.ECANCELED, "apply", "the connection ended before this was done"
	case errors.As(err, &errno):
		res.Errno, res.Call, res.Detail = errno, "apply", err.Error()
	default:
		res.Errno, res.Call, res.Detail = syscall.EIO, "apply", err.Error()
	}
	return res
}

func explain(e *rooted.Error) string {
	switch {
	case e.Err == syscall.EPERM && strings.Contains(e.Call, "chown"):
		return "only root can give files to other owners"
	case e.Err == syscall.EPERM && strings.HasPrefix(e.Call, "mknod"):
		return "only root can make device nodes"
	case e.Err == syscall.EXDEV:
		return "another file system is mounted in the destination at or above this place"
	}
	return ""
}
