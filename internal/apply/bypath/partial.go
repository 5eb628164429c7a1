package bypath

import (
	"strings"
	"syscall"

	"georep/internal/change"
	"georep/internal/rooted"
	"georep/internal/wire"
)

// The bits of a mode that would mean something else with another owner.
const (
	setuid = 0o4000
	setgid = 0o2000
)

// lenient runs an operation, and when the account that we run as may not set the owner or an attribute, again without: that is
// no reason to leave out all the rest. Such a result is applied, and names what was not done.
func (a *Applier) lenient(r *wire.Request, run func(r *wire.Request) change.Result) change.Result {
	if a.noOwner {
		r = without(r, func(o *change.Object) { leaveUser(o); leaveGroup(o) })
	}
	var missed change.Result
	for {
		res := run(r)
		less := lesser(r, &res)
		if less == nil {
			if res.Status == change.Applied && missed.Status != 0 {
				res.Errno, res.Call, res.Detail = missed.Errno, missed.Call, missed.Detail
			}
			return res
		}
		if missed.Status == 0 {
			missed = res
		}
		r = less
	}
}

// without is the request for an object that is changed by f.
func without(r *wire.Request, f func(*change.Object)) *wire.Request {
	less := *r
	f(&less.Object)
	return &less
}

func leaveUser(o *change.Object) {
	o.UID = rooted.KeepOwner
	if o.Kind != change.Dir {
		o.Mode &^= setuid
	}
}

func leaveGroup(o *change.Object) {
	o.GID = rooted.KeepOwner
	if o.Kind != change.Dir {
		o.Mode &^= setgid
	}
}

// lesser is what may still be tried when r ended with res; nil: nothing, that is the end.
func lesser(r *wire.Request, res *change.Result) *wire.Request {
	if res.Status != change.Failed || res.Errno != syscall.EPERM {
		return nil
	}
	switch {
	case strings.Contains(res.Call, "chown") && r.Object.UID != rooted.KeepOwner:
		return without(r, leaveUser)
	case strings.Contains(res.Call, "chown") && r.Object.GID != rooted.KeepOwner:
		return without(r, leaveGroup)
	case strings.HasSuffix(res.Call, "setxattr") || strings.HasSuffix(res.Call, "removexattr"):
		return withoutXattrs(r)
	}
	return nil
}

// withoutXattrs leaves out first the attributes that only root may set, then all. ACLs stay: without them the mode would allow
// more than it should.
func withoutXattrs(r *wire.Request) *wire.Request {
	var kept []change.Xattr
	acl := false
	for _, x := range r.Object.Xattrs {
		if !strings.HasPrefix(x.Name, "trusted.") && !strings.HasPrefix(x.Name, "security.") {
			kept = append(kept, x)
		}
		acl = acl || strings.HasPrefix(x.Name, "system.")
	}
	switch {
	case !r.Object.HasXattrs:
		return nil
	case len(kept) < len(r.Object.Xattrs):
		return without(r, func(o *change.Object) { o.Xattrs = kept })
	case acl:
		return nil
	}
	return without(r, func(o *change.Object) { o.Xattrs, o.HasXattrs = nil, false })
}
