package rooted

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"georep/internal/change"
)

// Dir is one open directory beneath the root. It stays the same directory when it is moved or removed.
type Dir struct {
	root     *Root
	fd       int
	path     string        // where it was opened, for messages
	trail    func() string // in place of path
	byHandle bool          // opened by handle: its path is asked for when a message needs it
	shown    int           // the descriptor, for that; never changes
	closed   atomic.Bool   // files that were opened here name it in messages for as long as they are open
	pathOnly bool          // opened O_PATH: it cannot be listed
}

// The flags of Rename.
const (
	NoReplace uint = unix.RENAME_NOREPLACE // EEXIST if the new name is taken
	Exchange  uint = unix.RENAME_EXCHANGE  // both names exist and change places
)

// Close releases the directory. Closing it again does nothing.
func (d *Dir) Close() error {
	if d.fd < 0 {
		return nil
	}
	fd := d.fd
	d.fd = -1
	d.closed.Store(true)
	if err := unix.Close(fd); err != nil && err != unix.EINTR {
		return d.root.failed("close", where{d: d}, err)
	}
	return nil
}

// Fd is the descriptor; it stays owned by d.
func (d *Dir) Fd() int { return d.fd }

// label is the path for messages: where the directory was when it was opened.
func (d *Dir) label() string {
	if d.trail != nil {
		return d.trail()
	}
	if d.byHandle {
		return d.now()
	}
	return d.path
}

// OpenDir opens the entry name, which must be a directory on the same file system: else ENOTDIR, or EXDEV for a mount point.
func (d *Dir) OpenDir(name string) (*Dir, error) {
	w := where{d: d, name: name}
	if err := checkName(name); err != nil {
		return nil, d.root.failed("openat", w, err)
	}
	fd, pathOnly, err := d.root.openBeneath(d.fd, name, true, w)
	if err != nil {
		return nil, err
	}
	return &Dir{root: d.root, fd: fd, path: change.Join(d.label(), name), pathOnly: pathOnly}, nil
}

// Mkdir makes the directory name with these permission bits, less the umask's.
func (d *Dir) Mkdir(name string, mode uint32) error {
	return d.do("mkdirat", name, func() error { return unix.Mkdirat(d.fd, name, mode) })
}

// Symlink makes the symbolic link name.
func (d *Dir) Symlink(target, name string) error {
	return d.do("symlinkat", name, func() error { return unix.Symlinkat(target, d.fd, name) })
}

// Mknod makes the FIFO, socket or device name with these permission bits, less the umask's; rdev is of devices only.
func (d *Dir) Mknod(name string, kind change.Kind, mode uint32, rdev uint64) error {
	return d.do("mknodat", name, func() error {
		switch kind {
		case change.FIFO, change.Socket:
			rdev = 0
		case change.CharDev, change.BlockDev:
		default:
			return unix.EINVAL
		}
		return unix.Mknodat(d.fd, name, kind.Mode()|mode&0o7777, int(rdev))
	})
}

// Readlink is the target of the symbolic link name. EINVAL: it is none.
func (d *Dir) Readlink(name string) (string, error) {
	var target string
	err := d.do("readlinkat", name, func() error {
		for size := 256; ; size *= 4 {
			buf := make([]byte, size)
			n, err := unix.Readlinkat(d.fd, name, buf)
			if err != nil {
				return err
			}
			if n < size {
				target = string(buf[:n])
				return nil
			}
		}
	})
	return target, err
}

// Link gives the object name the further name toName in to. A symbolic link is itself linked. EEXIST: toName is taken.
func (d *Dir) Link(name string, to *Dir, toName string) error {
	return d.do("linkat", name, func() error {
		if err := checkName(toName); err != nil {
			return err
		}
		return unix.Linkat(d.fd, name, to.fd, toName, 0)
	})
}

// Rename moves the entry name to toName in to, replacing what is there if flags is 0. A file system that knows the flags
// not gives EINVAL, a kernel ENOSYS.
func (d *Dir) Rename(name string, to *Dir, toName string, flags uint) error {
	if flags == 0 {
		return d.do("renameat", name, func() error {
			if err := checkName(toName); err != nil {
				return err
			}
			return unix.Renameat(d.fd, name, to.fd, toName)
		})
	}
	return d.do("renameat2", name, func() error {
		if err := checkName(toName); err != nil {
			return err
		}
		return unix.Renameat2(d.fd, name, to.fd, toName, flags)
	})
}

// Unlink removes the name of anything but a directory (EISDIR).
func (d *Dir) Unlink(name string) error {
	return d.do("unlinkat", name, func() error { return unix.Unlinkat(d.fd, name, 0) })
}

// Rmdir removes the empty directory name (ENOTEMPTY, ENOTDIR).
func (d *Dir) Rmdir(name string) error {
	return d.do("unlinkat", name, func() error { return unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR) })
}
