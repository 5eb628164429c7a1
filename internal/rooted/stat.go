package rooted

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"georep/internal/change"
)

const (
	// liteMask asks for what change.Object holds and no more: a network file system may answer it from less.
	liteMask = unix.STATX_TYPE | unix.STATX_MODE | unix.STATX_NLINK | unix.STATX_UID | unix.STATX_GID | unix.STATX_MTIME |
		unix.STATX_CTIME | unix.STATX_INO | unix.STATX_SIZE | unix.STATX_BLOCKS | unix.STATX_MNT_ID
	fullMask  = liteMask | unix.STATX_BTIME
	placeMask = unix.STATX_TYPE | unix.STATX_INO | unix.STATX_NLINK | unix.STATX_MNT_ID
)

// cstring holds one name and its NUL, on the stack.
type cstring [256]byte

// set puts name, "" or one component, into c, which must be fresh.
func (c *cstring) set(name string) syscall.Errno {
	if len(name) >= len(c) {
		return unix.ENAMETOOLONG
	}
	for i := range len(name) {
		b := name[i]
		if b == 0 || b == '/' {
			return unix.EINVAL
		}
		c[i] = b
	}
	if name == "." || name == ".." {
		return unix.EINVAL
	}
	return 0
}

// statx is the system call without an allocation: scans live on it.
func statx(fd int, name string, flags, mask int, st *unix.Statx_t) syscall.Errno {
	var c cstring
	if no := c.set(name); no != 0 {
		return no
	}
	for {
		_, _, no := unix.Syscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(&c[0])), uintptr(flags), uintptr(mask),
			uintptr(unsafe.Pointer(st)), 0)
		if no != unix.EINTR {
			return no
		}
	}
}

func filesystemOf(st *unix.Statx_t) filesystem {
	on := filesystem{major: st.Dev_major, minor: st.Dev_minor}
	if st.Mask&unix.STATX_MNT_ID != 0 {
		on.mount = st.Mnt_id
	}
	return on
}

// elsewhere says whether st is about an object on another file system than the root.
func (r *Root) elsewhere(st *unix.Statx_t) bool {
	on := filesystemOf(st)
	if on.mount != r.on.mount && on.mount != 0 && r.on.mount != 0 {
		return true
	}
	sameDevice := on.major == r.on.major && on.minor == r.on.minor
	if st.Mode&unix.S_IFMT == unix.S_IFDIR || on.mount == 0 {
		return !sameDevice
	}
	return false // overlayfs shows files, not directories, with the device of the layer they are from
}

func objectOf(st *unix.Statx_t) change.Object {
	o := change.Object{
		ID:   change.NewID(st.Ino, 0),
		Kind: change.KindOfMode(uint32(st.Mode)),
		Attr: change.Attr{
			Mode:  uint32(st.Mode) & 0o7777,
			UID:   st.Uid,
			GID:   st.Gid,
			Mtime: change.Time{Sec: st.Mtime.Sec, Nsec: st.Mtime.Nsec},
		},
		Blocks: int64(st.Blocks),
		Nlink:  st.Nlink,
		Ctime:  change.Time{Sec: st.Ctime.Sec, Nsec: st.Ctime.Nsec},
	}
	switch o.Kind {
	case change.File:
		o.Size = int64(st.Size)
	case change.CharDev, change.BlockDev:
		o.Rdev = unix.Mkdev(st.Rdev_major, st.Rdev_minor)
	}
	return o
}

// statTries bounds how often an entry is asked for that is there and, a moment later, is not.
const statTries = 3

// stat is Stat for an entry of a directory (flags AT_SYMLINK_NOFOLLOW) or for an open object (name "", AT_EMPTY_PATH). ENOENT
// means that the entry itself was asked for and is not there, and no less: others act on it.
func (r *Root) stat(fd int, name string, flags int, w where) (o change.Object, err error) {
	for range statTries {
		if o, err = r.statOnce(fd, name, flags, w); !lostHandle(err) {
			return o, err
		}
	}
	return o, r.failed("name_to_handle_at", w, unix.ESTALE)
}

// lostHandle says whether an entry was there, and had no handle any more.
func lostHandle(err error) bool {
	var failed *Error
	return errors.As(err, &failed) && failed.Call == "name_to_handle_at" && failed.Err == unix.ENOENT
}

func (r *Root) statOnce(fd int, name string, flags int, w where) (change.Object, error) {
	var st unix.Statx_t
	if r.faults != nil {
		if err := r.faults("statx", w.String()); err != nil {
			return change.Object{}, r.failed("statx", w, err)
		}
	}
	if no := statx(fd, name, flags, fullMask, &st); no != 0 {
		return change.Object{}, r.failed("statx", w, no)
	}
	o := objectOf(&st)
	if r.elsewhere(&st) {
		return o, r.failed("statx", w, ErrOtherDevice)
	}
	id, err := r.identify(fd, name, flags&unix.AT_EMPTY_PATH, &st, w)
	if err != nil {
		return change.Object{}, err
	}
	o.ID = id
	return o, nil
}

// Self is the state of the directory itself.
func (d *Dir) Self() (change.Object, error) {
	return d.root.stat(d.fd, "", unix.AT_EMPTY_PATH, where{d: d})
}

// Stat is the state of the entry name with its identity, and the target of a symbolic link; without extended attributes.
// A mount point, or what lies on another device, gives ErrOtherDevice and the object without its identity. An entry that is
// exchanged at this very moment may get an identity that no object has.
func (d *Dir) Stat(name string) (change.Object, error) {
	w := where{d: d, name: name}
	if name == "" {
		return change.Object{}, d.root.failed("statx", w, unix.EINVAL)
	}
	for range statTries {
		o, err := d.root.stat(d.fd, name, unix.AT_SYMLINK_NOFOLLOW, w)
		if err != nil || o.Kind != change.Symlink {
			return o, err
		}
		o.Target, err = d.Readlink(name)
		switch {
		case err == nil:
			return o, nil
		case !is(err, unix.ENOENT) && !is(err, unix.EINVAL):
			return change.Object{}, err
		}
		// It was there, and a moment later was not, or was something else.
	}
	return change.Object{}, d.root.failed("readlinkat", w, unix.ESTALE)
}

// StatLite is Stat by one system call: of the identity only the inode number is given, and no target of a symbolic link.
func (d *Dir) StatLite(name string) (change.Object, error) {
	var st unix.Statx_t
	if d.root.faults != nil {
		w := where{d: d, name: name}
		if err := d.root.faults("statx", w.String()); err != nil {
			return change.Object{}, d.root.failed("statx", w, err)
		}
	}
	no := statx(d.fd, name, unix.AT_SYMLINK_NOFOLLOW, liteMask, &st)
	if no == 0 && d.root.elsewhere(&st) {
		return objectOf(&st), d.root.failed("statx", where{d: d, name: name}, ErrOtherDevice)
	}
	if no != 0 {
		return change.Object{}, d.root.failed("statx", where{d: d, name: name}, no)
	}
	return objectOf(&st), nil
}
