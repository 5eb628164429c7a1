package bygfid

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"georep/internal/change"
	"georep/internal/gluster"
	"georep/internal/wire"
)

// setAttr gives what is at a path owner, attributes, mode and times, in the order in which none of them undoes another. now, if given, is what it
// has.
func (a *Applier) setAttr(path, show string, o *change.Object, now *occupant, times bool) error {
	if now == nil {
		now = &occupant{}
		if err := unix.Lstat(path, &now.st); err != nil {
			return failed("lstat", show, err)
		}
	}
	owned := now.owned(o.Attr)
	if !owned {
		if err := unix.Fchownat(unix.AT_FDCWD, path, int(o.UID), int(o.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return failed("chown", show, err)
		}
	}
	if o.HasXattrs {
		if err := a.setXattrs(path, show, o); err != nil {
			return err
		}
	}
	if o.Kind != change.Symlink && (!owned && o.Mode&0o6000 != 0 || now.mode() != o.Mode || hasACL(o)) {
		if err := unix.Fchmodat(unix.AT_FDCWD, path, o.Mode, 0); err != nil {
			return failed("chmod", show, err)
		}
	}
	if !times || owned && now.mtime() == o.Mtime && !o.HasXattrs {
		return nil
	}
	return a.setTimes(path, show, o.Mtime)
}

func hasACL(o *change.Object) bool {
	for i := range o.Xattrs {
		if o.Xattrs[i].Name == "system.posix_acl_access" {
			return true
		}
	}
	return false
}

func (a *Applier) setTimes(path, show string, mtime change.Time) error {
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: mtime.Sec, Nsec: int64(mtime.Nsec)}}
	return failed("utimensat", show, unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW))
}

// setXattrs makes the extended attributes what they shall be, and removes others.
func (a *Applier) setXattrs(path, show string, o *change.Object) error {
	have, err := a.xattrs(path)
	if err != nil {
		return failed("listxattr", show, err)
	}
	want := map[string]bool{}
	for i := range o.Xattrs {
		x := &o.Xattrs[i]
		want[x.Name] = true
		if old, ok := have[x.Name]; ok && string(old) == string(x.Value) {
			continue
		}
		if err := unix.Lsetxattr(path, x.Name, x.Value, 0); err != nil {
			return failed("setxattr "+x.Name, show, err)
		}
	}
	for name := range have {
		if !want[name] {
			if err := unix.Lremovexattr(path, name); err != nil && !errors.Is(err, unix.ENODATA) {
				return failed("removexattr "+name, show, err)
			}
		}
	}
	return nil
}

// xattrs reads the extended attributes that are mirrored.
func (a *Applier) xattrs(path string) (map[string][]byte, error) {
	have := map[string][]byte{}
	buf := make([]byte, 4096)
	var n int
	for {
		var err error
		n, err = unix.Llistxattr(path, buf)
		if errors.Is(err, unix.ERANGE) {
			buf = make([]byte, 4*len(buf))
			continue
		}
		if errors.Is(err, unix.ENOTSUP) {
			return have, nil
		}
		if err != nil {
			return nil, err
		}
		break
	}
	if n == 0 {
		return have, nil
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if gluster.Internal(name) {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
			continue
		}
		if err != nil {
			return nil, err
		}
		have[name] = append([]byte{}, value[:n]...)
	}
	return have, nil
}

// set gives an object that is where it should be its attributes.
func (a *Applier) set(r *wire.Request, at place) (change.Result, error) {
	now, ok, err := a.look(at)
	if err != nil {
		return change.Result{}, err
	}
	if !ok || !now.is(r.Object.ID) || now.kind() != r.Object.Kind {
		return change.Result{}, errStale
	}
	if err := a.setAttr(at.path, at.show, &r.Object, &now, true); err != nil {
		return change.Result{}, stale(err)
	}
	return applied(r.Object.ID)
}

// stale makes errStale of what a call says when the object has gone between.
func stale(err error) error {
	if is(err, unix.ENOENT, unix.ESTALE) {
		return errStale
	}
	return err
}

func (a *Applier) times(r *wire.Request, at place) (change.Result, error) {
	now, ok, err := a.look(at)
	if err != nil {
		return change.Result{}, err
	}
	if !ok || !r.Sec.IsZero() && !now.is(r.Sec) || now.kind() != change.Dir {
		return change.Result{}, errStale
	}
	if err := a.setTimes(at.path, at.show, r.Object.Mtime); err != nil {
		return change.Result{}, stale(err)
	}
	return applied(r.Sec)
}
