package rooted

import (
	"io"

	"golang.org/x/sys/unix"

	"georep/internal/change"
)

// File is one open regular file.
type File struct {
	root   *Root
	fd     int
	w      where
	sparse sparseness
	temp   *tempName // of a temporary file that has a name already
}

// Advice tells the kernel how a file will be read (posix_fadvise).
type Advice int

// The kinds of advice.
const (
	Sequential Advice = unix.FADV_SEQUENTIAL // from start to end
	Random     Advice = unix.FADV_RANDOM     // here and there
	DontNeed   Advice = unix.FADV_DONTNEED   // not again: its pages may go
)

// fileFlags keep a FIFO from being waited for, and a terminal from becoming ours.
const fileFlags = unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC

// OpenFile opens the regular file name for reading, without touching its time of access where that is allowed. It never waits. A
// symbolic link gives ELOOP, a directory EISDIR, any other kind ENXIO, a file mounted there EXDEV.
func (d *Dir) OpenFile(name string) (*File, error) {
	var st unix.Statx_t
	return d.openQuietly(name, liteMask, &st)
}

// OpenFileStat is OpenFile and Stat of the file in one call less.
func (d *Dir) OpenFileStat(name string) (*File, change.Object, error) {
	var st unix.Statx_t
	f, err := d.openQuietly(name, fullMask, &st)
	if err != nil {
		return nil, change.Object{}, err
	}
	o := objectOf(&st)
	if o.ID, err = d.root.identify(f.fd, "", unix.AT_EMPTY_PATH, &st, f.w); err != nil {
		unix.Close(f.fd)
		return nil, change.Object{}, err
	}
	return f, o, nil
}

// openQuietly opens a file for reading, leaving its time of access alone where that is allowed, and fills st.
func (d *Dir) openQuietly(name string, mask int, st *unix.Statx_t) (*File, error) {
	if d.root.noatime {
		f, err := d.openFile(name, unix.O_RDONLY|unix.O_NOATIME, mask, st)
		if !is(err, unix.EPERM) {
			return f, err
		}
	}
	return d.openFile(name, unix.O_RDONLY, mask, st)
}

// OpenRW opens the regular file name for reading and writing; errors as with OpenFile.
func (d *Dir) OpenRW(name string) (*File, error) {
	var st unix.Statx_t
	return d.openFile(name, unix.O_RDWR, liteMask, &st)
}

func (d *Dir) openFile(name string, flags, mask int, st *unix.Statx_t) (*File, error) {
	fd := -1
	err := d.do("openat", name, func() (err error) {
		fd, err = unix.Openat(d.fd, name, fileFlags|flags, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	f := &File{root: d.root, fd: fd, w: where{d: d, name: name}}
	if err := f.checkRegular(mask, st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return f, nil
}

func (f *File) checkRegular(mask int, st *unix.Statx_t) error {
	err := f.root.try("statx", f.w, func() error { return errnoOrNil(statx(f.fd, "", unix.AT_EMPTY_PATH, mask, st)) })
	if err != nil {
		return err
	}
	switch {
	case f.root.elsewhere(st):
		return f.root.failed("openat", f.w, ErrOtherDevice)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return f.root.failed("openat", f.w, unix.EISDIR)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return f.root.failed("openat", f.w, unix.ENXIO)
	}
	f.sparse.learn(st)
	return nil
}

// Create makes the file name, which must not exist (EEXIST), with these permission bits less the umask's, for reading and writing.
func (d *Dir) Create(name string, mode uint32) (*File, error) {
	fd := -1
	err := d.do("openat", name, func() (err error) {
		fd, err = unix.Openat(d.fd, name, fileFlags|unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, mode)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &File{root: d.root, fd: fd, w: where{d: d, name: name}}, nil
}

// Fd is the descriptor; it stays owned by f.
func (f *File) Fd() int { return f.fd }

// Close releases the file; a temporary one that was never linked is gone. Closing it again does nothing.
func (f *File) Close() error {
	if f.fd < 0 {
		return nil
	}
	fd := f.fd
	f.fd = -1
	if f.temp != nil {
		f.temp.remove()
	}
	if err := unix.Close(fd); err != nil && err != unix.EINTR {
		return f.root.failed("close", f.w, err)
	}
	return nil
}

// ReadAt reads len(p) bytes at off; fewer with io.EOF at the end of the file.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n := 0
		err := f.root.try("pread64", f.w, func() (err error) {
			n, err = unix.Pread(f.fd, p[done:], off+int64(done))
			return err
		})
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, io.EOF
		}
		done += n
	}
	return done, nil
}

// writePiece is the most that is written at once, in bytes. For more, a file system with large folios takes memory in blocks of more than
// eight pages, which the kernel does not keep at hand: on a virtual machine whose host has yet to give them, that costs several times as much.
const writePiece = 32 << 10

// WriteAt writes all of p at off.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		piece := p[done:min(len(p), done+int(writePiece-at%writePiece))]
		n := 0
		err := f.root.try("pwrite64", f.w, func() (err error) {
			n, err = unix.Pwrite(f.fd, piece, at)
			return err
		})
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, f.root.failed("pwrite64", f.w, unix.EIO)
		}
		done += n
	}
	return done, nil
}

// Stat is the state of the file with its identity, without extended attributes.
func (f *File) Stat() (change.Object, error) {
	return f.root.stat(f.fd, "", unix.AT_EMPTY_PATH, f.w)
}

// StatLite is Stat by one system call: of the identity only the inode number is given.
func (f *File) StatLite() (change.Object, error) {
	var st unix.Statx_t
	err := f.root.try("statx", f.w, func() error { return errnoOrNil(statx(f.fd, "", unix.AT_EMPTY_PATH, liteMask, &st)) })
	return objectOf(&st), err
}

// ReadXattrs fills o.Xattrs like Dir.ReadXattrs.
func (f *File) ReadXattrs(o *change.Object) error {
	x := xattrCalls{root: f.root, w: f.w, fd: f.fd}
	return x.read(o)
}

// SetAttr is Dir.SetAttr for the open file. It comes after the last write: writing takes away capabilities and sets the time.
func (f *File) SetAttr(a change.Attr, setXattrs, times bool) error {
	n := node{xattrCalls: xattrCalls{root: f.root, w: f.w, fd: f.fd}}
	return n.apply(a, setXattrs, times)
}

// Truncate sets the size in bytes; what is new reads as zeros and takes no space.
func (f *File) Truncate(size int64) error {
	return f.root.try("ftruncate", f.w, func() error { return unix.Ftruncate(f.fd, size) })
}

// Sync makes the file durable, content and attributes. Its name is another matter: that is the directory's.
func (f *File) Sync() error {
	return f.root.try("fsync", f.w, func() error { return unix.Fsync(f.fd) })
}

// Fadvise tells how the whole file will be read.
func (f *File) Fadvise(a Advice) error {
	return f.root.try("fadvise64", f.w, func() error { return unix.Fadvise(f.fd, 0, 0, int(a)) })
}

// Readahead asks for n bytes at off to be brought into memory in the background.
func (f *File) Readahead(off, n int64) error {
	return f.root.try("fadvise64", f.w, func() error { return unix.Fadvise(f.fd, off, n, unix.FADV_WILLNEED) })
}
