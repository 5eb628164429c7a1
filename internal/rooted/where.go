package rooted

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"georep/internal/change"
)

// ErrOutside says that a directory does not lie beneath the root (any more).
var ErrOutside = errors.New("directory is not beneath the root")

// ErrDeleted says that a directory has been removed.
var ErrDeleted = errors.New("directory was removed")

const deletedMark = " (deleted)"

func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// Path is where the directory is now, relative to the root and "" for the root itself; ErrOutside if it is not beneath, ErrDeleted
// if it was removed. It may be of any length.
func (d *Dir) Path() (string, error) {
	r := d.root
	var st unix.Statx_t
	w := where{fixed: "(path of a directory)"}
	if err := r.try("statx", w, func() error { return errnoOrNil(statx(d.fd, "", unix.AT_EMPTY_PATH, placeMask, &st)) }); err != nil {
		return "", err
	}
	if st.Nlink == 0 {
		return "", ErrDeleted
	}
	top, err := r.absolute(r.top.fd, w)
	if err != nil {
		return "", err
	}
	path, err := r.absolute(d.fd, w)
	if is(err, unix.ENAMETOOLONG) {
		return r.climb(d.fd, top, w)
	}
	if err != nil {
		return "", err
	}
	if strings.HasSuffix(path, deletedMark) && !samePlace(path, &st) {
		return "", ErrDeleted
	}
	return beneath(top, path)
}

// now is Path for messages, as far as the kernel tells it. It asks past the fault layer, which asks for messages itself.
func (d *Dir) now() string {
	var top, path [unix.PathMax]byte
	n, err := unix.Readlink(procPath(d.root.top.fd), top[:])
	m, other := unix.Readlink(procPath(d.shown), path[:])
	if err == nil && other == nil && !d.closed.Load() {
		if rest, err := beneath(string(top[:n]), string(path[:m])); err == nil {
			return rest
		}
	}
	return "(directory by handle)"
}

// absolute asks the kernel for the path of an open directory; ENAMETOOLONG if it does not fit.
func (r *Root) absolute(fd int, w where) (string, error) {
	var buf [unix.PathMax]byte
	n := 0
	err := r.try("readlinkat", w, func() (err error) {
		n, err = unix.Readlinkat(unix.AT_FDCWD, procPath(fd), buf[:])
		return err
	})
	if err == nil && n == len(buf) {
		err = r.failed("readlinkat", w, unix.ENAMETOOLONG)
	}
	return string(buf[:max(n, 0)]), err
}

// samePlace says whether path leads to the object of st: a directory may be named as if it were deleted.
func samePlace(path string, st *unix.Statx_t) bool {
	var there unix.Stat_t
	return unix.Lstat(path, &there) == nil && there.Ino == st.Ino && there.Dev == unix.Mkdev(st.Dev_major, st.Dev_minor)
}

func beneath(top, path string) (string, error) {
	if path == top {
		return "", nil
	}
	if top != "/" {
		top += "/"
	}
	rest, ok := strings.CutPrefix(path, top)
	if !ok {
		return "", ErrOutside
	}
	return rest, nil
}

// climb goes up from a directory whose path is too long for the kernel, finding the names by looking for the inode in each
// parent, until the kernel can say the rest.
func (r *Root) climb(fd int, top string, w where) (string, error) {
	var names []string
	at, owned := fd, false
	defer func() {
		if owned {
			unix.Close(at)
		}
	}()
	for {
		var st unix.Statx_t
		if no := statx(at, "", unix.AT_EMPTY_PATH, placeMask, &st); no != 0 {
			return "", r.failed("statx", w, no)
		}
		up := -1
		err := r.try("openat", w, func() (err error) {
			up, err = unix.Openat(at, "..", openDirFlags, 0)
			return err
		})
		if err != nil {
			return "", err
		}
		name, err := r.nameIn(up, &st, w)
		if owned {
			unix.Close(at)
		}
		at, owned = up, true
		if err != nil {
			return "", err
		}
		names = append(names, name)
		above, err := r.absolute(at, w)
		if is(err, unix.ENAMETOOLONG) {
			continue
		}
		if err != nil {
			return "", err
		}
		path, err := beneath(top, above)
		for i := len(names) - 1; i >= 0 && err == nil; i-- {
			path = change.Join(path, names[i])
		}
		return path, err
	}
}

// nameIn finds the name of the object of st in the directory fd.
func (r *Root) nameIn(fd int, st *unix.Statx_t, w where) (string, error) {
	parent := Dir{root: r, fd: fd, path: w.fixed}
	found := errors.New("found")
	var result string
	err := parent.Entries(nil, func(name string, _ change.Kind, ino uint64) error {
		if ino != st.Ino {
			return nil
		}
		var there unix.Statx_t
		if no := statx(fd, name, unix.AT_SYMLINK_NOFOLLOW, placeMask, &there); no != 0 || filesystemOf(&there) != filesystemOf(st) {
			return nil
		}
		result = name
		return found
	})
	if err == found {
		return result, nil
	}
	if err == nil {
		err = ErrDeleted
	}
	return "", err
}
