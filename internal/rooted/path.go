package rooted

import (
	"strings"

	"golang.org/x/sys/unix"
)

// pathMax is the longest path that one system call takes, without its NUL.
const pathMax = unix.PathMax - 1

const openDirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// validPath says whether path is components joined by single slashes.
func validPath(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." || strings.IndexByte(part, 0) >= 0 {
			return false
		}
	}
	return true
}

// cutPath cuts off as many components as one system call takes.
func cutPath(path string) (part, rest string) {
	if len(path) <= pathMax {
		return path, ""
	}
	if i := strings.LastIndexByte(path[:pathMax+1], '/'); i > 0 {
		return path[:i], path[i+1:]
	}
	return path, "" // one component that is too long: the kernel says so
}

// openBeneath opens the directory at path ("" for at itself) beneath the directory at. If last is false it is only to pass
// through. With search but without read permission it is opened for its path only, which is enough to work in it.
func (r *Root) openBeneath(at int, path string, last bool, w where) (fd int, pathOnly bool, err error) {
	if !last {
		fd, err = r.openOnce(at, path, unix.O_PATH, w)
		return fd, true, err
	}
	if r.noatime {
		fd, err = r.openOnce(at, path, unix.O_NOATIME, w)
		if err == nil || !is(err, unix.EPERM, unix.EACCES) {
			return fd, false, err
		}
	}
	fd, err = r.openOnce(at, path, 0, w)
	if is(err, unix.EACCES) {
		if fd, other := r.openOnce(at, path, unix.O_PATH, w); other == nil {
			return fd, true, nil
		}
	}
	return fd, false, err
}

// openOnce opens a directory with these flags besides the usual ones.
func (r *Root) openOnce(at int, path string, flags int, w where) (int, error) {
	if path == "" {
		path = "."
	}
	if r.walk.Load() {
		return r.openSteps(at, path, flags, w)
	}
	fd := -1
	err := r.try("openat2", w, func() (err error) {
		how := unix.OpenHow{
			Flags:   uint64(openDirFlags | flags),
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
		}
		fd, err = unix.Openat2(at, path, &how)
		return err
	})
	switch {
	case err == nil:
		return r.inside(fd, w)
	case is(err, unix.ELOOP): // as the way step by step says it
		return -1, r.failed("openat2", w, unix.ENOTDIR)
	case is(err, unix.ENOSYS):
		r.walk.Store(true)
		return r.openSteps(at, path, flags, w)
	case is(err, unix.EPERM, unix.EAGAIN): // a seccomp filter that does not know the call; a race with a rename
		return r.openSteps(at, path, flags, w)
	}
	return -1, err
}

// openSteps opens the directory component by component, each without following a link.
func (r *Root) openSteps(at int, path string, flags int, w where) (int, error) {
	owned := false
	for rest := path; ; {
		name, after, more := strings.Cut(rest, "/")
		step := flags
		if more {
			step = unix.O_PATH
		}
		fd := -1
		err := r.try("openat", w, func() (err error) {
			fd, err = unix.Openat(at, name, openDirFlags|step, 0)
			return err
		})
		if owned {
			unix.Close(at)
		}
		if is(err, unix.ELOOP) {
			err = r.failed("openat", w, unix.ENOTDIR)
		}
		if err == nil {
			fd, err = r.inside(fd, w)
		}
		if err != nil {
			return -1, err
		}
		if !more {
			return fd, nil
		}
		at, owned, rest = fd, true, after
	}
}

// inside lets the directory just opened pass if it lies on the file system of the root. openat2 has refused mount points, but
// a subvolume of Btrfs is another device without being one: objects cannot be linked or moved across.
func (r *Root) inside(fd int, w where) (int, error) {
	var st unix.Statx_t
	err := r.try("statx", w, func() error { return errnoOrNil(statx(fd, "", unix.AT_EMPTY_PATH, placeMask, &st)) })
	if err == nil && r.elsewhere(&st) {
		err = r.failed("openat", w, ErrOtherDevice)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
