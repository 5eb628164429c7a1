package rooted

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"georep/internal/change"
)

// KeepOwner, as a user or group to be set, leaves it as it is. No file can belong to it: chown(2) takes it the same way.
const KeepOwner = ^uint32(0)

// node is one object held open, so that all its attributes are set on the same object whatever happens to its name.
type node struct {
	xattrCalls
	kind change.Kind
}

// openNode opens an entry of any kind without doing anything to it: no device is touched, no FIFO waited for.
func (d *Dir) openNode(name string) (node, error) {
	fd := -1
	err := d.do("openat", name, func() (err error) {
		fd, err = unix.Openat(d.fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return node{}, err
	}
	return node{xattrCalls: xattrCalls{root: d.root, w: where{d: d, name: name}, fd: fd, path: procPath(fd)}}, nil
}

// state is what the object has now.
func (n *node) state() (change.Object, error) {
	var st unix.Statx_t
	err := n.root.try("statx", n.w, func() error { return errnoOrNil(statx(n.fd, "", unix.AT_EMPTY_PATH, liteMask, &st)) })
	if err == nil && n.root.elsewhere(&st) {
		err = n.root.failed("statx", n.w, ErrOtherDevice)
	}
	return objectOf(&st), err
}

// apply makes the attributes of the object be a's. The order counts: a change of owner takes away setuid, setgid and
// capabilities; an ACL changes the mode; all of them come before the times.
func (n *node) apply(a change.Attr, xattrs, times bool) error {
	now, err := n.state()
	if err != nil {
		return err
	}
	if n.kind != 0 && n.kind != now.Kind {
		return n.root.failed("statx", n.w, unix.ESTALE)
	}
	remode := now.Mode != a.Mode
	if a.UID != KeepOwner && now.UID != a.UID || a.GID != KeepOwner && now.GID != a.GID {
		if err := n.chown(&now, &a); err != nil {
			return err
		}
		remode = true
	}
	if xattrs {
		touched, err := n.matchWritable(&now, a.Xattrs)
		if err != nil {
			return err
		}
		remode = remode || touched
	}
	if remode && now.Kind != change.Symlink { // a link's mode means nothing and cannot be set
		if err := n.chmod(a.Mode & 0o7777); err != nil {
			return err
		}
	}
	if times && now.Mtime != a.Mtime {
		return n.setMtime(a.Mtime)
	}
	return nil
}

// matchWritable makes the extended attributes be want, and says whether the mode may have changed with them. Without privileges, user.*
// attributes need the permission to write, which the owner has to give itself for a moment where the mode does not.
func (n *node) matchWritable(now *change.Object, want []change.Xattr) (touched bool, err error) {
	const mine = 0o600
	touched, err = n.match(want)
	if !is(err, unix.EACCES) || now.Mode&mine == mine || now.Kind != change.File && now.Kind != change.Dir {
		return touched, err
	}
	if n.chmod(now.Mode&0o777|mine) != nil {
		return touched, err // it is not ours
	}
	if _, err = n.match(want); err != nil {
		_ = n.chmod(now.Mode) // the error that counts is the one before
	}
	return true, err
}

// chown sets what differs of owner and group: without privileges a file may be given to another group but not to its own owner
// on every file system.
func (n *node) chown(now *change.Object, a *change.Attr) error {
	uid, gid := int(a.UID), int(a.GID)
	if now.UID == a.UID || a.UID == KeepOwner {
		uid = -1
	}
	if now.GID == a.GID || a.GID == KeepOwner {
		gid = -1
	}
	return n.root.try("fchownat", n.w, func() error { return unix.Fchownat(n.fd, "", uid, gid, unix.AT_EMPTY_PATH) })
}

func (n *node) chmod(mode uint32) error {
	return n.root.try("fchmod", n.w, func() error {
		if n.path != "" {
			return unix.Chmod(n.path, mode)
		}
		return unix.Fchmod(n.fd, mode)
	})
}

func (n *node) setMtime(t change.Time) error {
	return n.root.try("utimensat", n.w, func() error {
		if n.path != "" {
			ts := mtimeOnly(t)
			return unix.UtimesNanoAt(unix.AT_FDCWD, n.path, ts[:], 0)
		}
		return errnoOrNil(futimens(n.fd, t))
	})
}

// mtimeOnly is the pair of times for utimensat(2) that leaves the time of access alone.
func mtimeOnly(t change.Time) [2]unix.Timespec {
	return [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: t.Sec, Nsec: int64(t.Nsec)}}
}

// futimens sets the time of modification of an open object.
func futimens(fd int, t change.Time) syscall.Errno {
	ts := mtimeOnly(t)
	_, _, no := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	return no
}

// SetAttr makes owner, group and mode of the entry name be a's, the extended attributes if setXattrs, and the time of modification if
// times. Calls that would change nothing are left out. The entry must be of that kind, else ESTALE. The mode of a symbolic link is not
// touched. A user or group that is KeepOwner stays. It stops at the first call that fails, so that nothing becomes setuid for an owner
// that could not be set.
func (d *Dir) SetAttr(name string, kind change.Kind, a change.Attr, setXattrs, times bool) error {
	n, err := d.openNode(name)
	if err != nil {
		return err
	}
	defer unix.Close(n.fd)
	n.kind = kind
	return n.apply(a, setXattrs, times)
}

// SetSelf is SetAttr for the directory itself.
func (d *Dir) SetSelf(a change.Attr, setXattrs, times bool) error {
	n := node{xattrCalls: xattrCalls{root: d.root, w: where{d: d}, fd: d.fd}, kind: change.Dir}
	if d.pathOnly {
		n.path = procPath(d.fd)
	}
	return n.apply(a, setXattrs, times)
}

// SetTimes sets the time of modification of the entry name, or of the directory itself if name is "". The time of access stays.
func (d *Dir) SetTimes(name string, mtime change.Time) error {
	if name == "" {
		n := node{xattrCalls: xattrCalls{root: d.root, w: where{d: d}, fd: d.fd}}
		if d.pathOnly {
			n.path = procPath(d.fd)
		}
		return n.setMtime(mtime)
	}
	return d.do("utimensat", name, func() error {
		ts := mtimeOnly(mtime)
		return unix.UtimesNanoAt(d.fd, name, ts[:], unix.AT_SYMLINK_NOFOLLOW)
	})
}
