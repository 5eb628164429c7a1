// Package rooted carries out file operations beneath one open directory, and nowhere else.
//
// A Root is an open handle on the top. A Dir is one open directory beneath it; what has a name is reached through the
// Dir that holds it, by a single name, and a File is one open regular file. No symbolic link is followed and no mount is
// entered: paths are opened with openat2(2) RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and RESOLVE_NO_XDEV where the kernel has it,
// and component by component where not. Names that are no single component (with a slash, NUL, "." or "..") are refused
// with EINVAL by every operation, so that foreign names can be passed in as they came.
//
// All operations but Close and Entries may be used by several goroutines at once on the same Dir or File.
package rooted

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Option changes how a Root works.
type Option func(*Root)

// WithFaults makes every system call ask first: f gets the name of the call and the path it is about (relative to the root),
// and a non-nil answer is returned in place of the call, as the errno that it holds (EIO if none). It is called by several
// goroutines at once. Closing is always carried out.
func WithFaults(f func(call, path string) error) Option { return func(r *Root) { r.faults = f } }

// WithScratch names the directory (relative to the root, existing when the first temporary file is made) for temporary files
// on file systems without unnamed ones. Their names begin with ScratchPrefix; after a crash some may be left over.
func WithScratch(dir string) Option { return func(r *Root) { r.scratch = dir } }

// ScratchPrefix begins the name of every temporary file in the scratch directory.
const ScratchPrefix = "temp-"

// Root is an open handle on the top directory.
type Root struct {
	top     Dir
	faults  func(call, path string) error
	scratch string
	on      filesystem
	fstype  int64
	handles bool // the file system gives file handles, so they make the identities
	noatime bool // O_NOATIME is allowed, at least at the top

	walk      atomic.Bool // openat2 is refused: paths are opened step by step
	named     atomic.Bool // O_TMPFILE is refused: temporary files get names
	procLink  atomic.Bool // linkat with AT_EMPTY_PATH is refused: by way of /proc
	copyPlain atomic.Bool // copy_file_range is refused
	noListAt  atomic.Bool // listxattrat is refused
	noClone   atomic.Bool // FICLONERANGE is refused
	xattrs    atomic.Bool // attributes were listed: that there are none here is an error since
}

// filesystem tells one mounted file system from another.
type filesystem struct {
	major, minor uint32
	mount        uint64 // 0 where the kernel does not say
}

// fuseMagic file systems hand out handles that are valid only as long as the object is cached: they make no identities.
const fuseMagic = unix.FUSE_SUPER_MAGIC

// Open opens the directory at path, following symbolic links in path itself this once.
func Open(path string, opts ...Option) (*Root, error) {
	r := &Root{}
	for _, o := range opts {
		o(r)
	}
	r.top = Dir{root: r, fd: -1}
	w := where{fixed: path}
	err := r.try("openat", w, func() (err error) {
		r.top.fd, err = unix.Openat(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := r.probe(w); err != nil {
		unix.Close(r.top.fd)
		return nil, err
	}
	return r, nil
}

// probe finds out what the file system and our rights allow.
func (r *Root) probe(w where) error {
	var fs unix.Statfs_t
	if err := r.try("fstatfs", w, func() error { return unix.Fstatfs(r.top.fd, &fs) }); err != nil {
		return err
	}
	r.fstype = int64(fs.Type)
	var st unix.Statx_t
	if err := r.try("statx", w, func() error { return errnoOrNil(statx(r.top.fd, "", unix.AT_EMPTY_PATH, liteMask, &st)) }); err != nil {
		return err
	}
	r.on = filesystemOf(&st)
	if r.fstype != fuseMagic {
		var h rawHandle
		err := r.try("name_to_handle_at", w, func() error { return errnoOrNil(h.get(r.top.fd, "", unix.AT_EMPTY_PATH)) })
		r.handles = err == nil
		if err != nil && !handlesRefused(err) {
			return err
		}
	}
	fd := -1
	err := r.try("openat", w, func() (err error) {
		fd, err = unix.Openat(r.top.fd, ".", openDirFlags|unix.O_NOATIME, 0)
		return err
	})
	if err == nil {
		r.noatime = true
		unix.Close(fd)
	}
	return nil
}

// Close closes the handle. Dirs and Files opened beneath stay usable.
func (r *Root) Close() error { return r.top.Close() }

// Top is the top directory itself. It belongs to the Root: do not close it.
func (r *Root) Top() *Dir { return &r.top }

// Handles says whether identities are made of file handles. If not (FUSE, overlayfs and other file systems without handles) they
// are made of inode number and time of birth. Identities of the two makings are not comparable.
func (r *Root) Handles() bool { return r.handles }

// SyncFS makes everything written to the file system of the root durable, whoever wrote it. It returns errors of writing
// back that occurred since the Root was opened or since the last call.
func (r *Root) SyncFS(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sync file system: %w", err)
	}
	return r.try("syncfs", where{d: &r.top}, func() error { return unix.Syncfs(r.top.fd) })
}

// Statfs tells the bytes free for us and in total, the file system's identity, and its type (a *_SUPER_MAGIC).
func (r *Root) Statfs() (free, total, fsid uint64, fstype int64, err error) {
	var fs unix.Statfs_t
	err = r.try("fstatfs", where{d: &r.top}, func() error { return unix.Fstatfs(r.top.fd, &fs) })
	if err != nil {
		return 0, 0, 0, 0, err
	}
	unit := uint64(fs.Frsize)
	if unit == 0 {
		unit = uint64(fs.Bsize)
	}
	fsid = uint64(uint32(fs.Fsid.Val[0])) | uint64(uint32(fs.Fsid.Val[1]))<<32
	return fs.Bavail * unit, fs.Blocks * unit, fsid, int64(fs.Type), nil
}

// OpenDir opens the directory at path, which is relative to the root and of any length; "" opens the top itself. A symbolic
// link or another object than a directory in path gives ENOTDIR, a mount point EXDEV.
func (r *Root) OpenDir(path string) (*Dir, error) {
	w := where{fixed: path}
	if path != "" && !validPath(path) {
		return nil, r.failed("openat", w, unix.EINVAL)
	}
	at, owned := r.top.fd, false
	for rest := path; ; {
		part, after := cutPath(rest)
		last := after == ""
		fd, pathOnly, err := r.openBeneath(at, part, last, w)
		if owned {
			unix.Close(at)
		}
		if err != nil {
			return nil, err
		}
		if last {
			return &Dir{root: r, fd: fd, path: path, pathOnly: pathOnly}, nil
		}
		at, owned, rest = fd, true, after
	}
}
