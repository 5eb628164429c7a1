package rooted

import (
	"crypto/rand"

	"golang.org/x/sys/unix"
)

// tempName is the name that a temporary file has in the scratch directory until it is linked.
type tempName struct {
	dir  *Dir
	name string
}

func (t *tempName) remove() {
	// It may fail like any call; what stays is recognised by its prefix.
	_ = t.dir.Unlink(t.name)
	_ = t.dir.Close()
}

// OpenTemp makes a file without a name on the file system of d, to be linked when it is complete. Its permission bits are those
// of mode, less the umask's and those above 0777; nobody else can open it before it has a name. Where there are no such files it
// gets a name in the scratch directory, and is for its owner alone.
func (d *Dir) OpenTemp(mode uint32) (*File, error) {
	w := where{d: d, name: "(new file)"}
	if !d.root.named.Load() {
		fd := -1
		err := d.root.try("openat", w, func() (err error) {
			fd, err = unix.Openat(d.fd, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, mode&0o777)
			return err
		})
		if err == nil {
			return &File{root: d.root, fd: fd, w: w}, nil
		}
		if d.root.scratch == "" || !is(err, unix.EOPNOTSUPP, unix.EISDIR) {
			return nil, err
		}
		d.root.named.Store(true)
	}
	return d.root.openScratch()
}

// openScratch makes a file with a random name in the scratch directory.
func (r *Root) openScratch() (*File, error) {
	if r.scratch == "" {
		return nil, r.failed("openat", where{fixed: "(new file)"}, unix.EOPNOTSUPP)
	}
	dir, err := r.OpenDir(r.scratch)
	if err != nil {
		return nil, err
	}
	name := ScratchPrefix + rand.Text()
	f, err := dir.Create(name, 0o600)
	if err != nil {
		dir.Close()
		return nil, err
	}
	f.temp = &tempName{dir: dir, name: name}
	return f, nil
}

// LinkTo gives the file the name in d, which must be free (EEXIST). It may be called again for further names.
func (f *File) LinkTo(d *Dir, name string) error {
	w := where{d: d, name: name}
	if err := checkName(name); err != nil {
		return f.root.failed("linkat", w, err)
	}
	if f.temp != nil {
		return f.leaveScratch(d, name)
	}
	if !f.root.procLink.Load() {
		err := f.root.try("linkat", w, func() error { return unix.Linkat(f.fd, "", d.fd, name, unix.AT_EMPTY_PATH) })
		// Without CAP_DAC_READ_SEARCH the kernel says ENOENT, as it does when d was removed: the other way tells them apart.
		if !is(err, unix.ENOENT) {
			f.named(err, w)
			return err
		}
	}
	err := f.root.try("linkat", w, func() error {
		return unix.Linkat(unix.AT_FDCWD, procPath(f.fd), d.fd, name, unix.AT_SYMLINK_FOLLOW)
	})
	if err == nil {
		f.root.procLink.Store(true)
	}
	f.named(err, w)
	return err
}

func (f *File) leaveScratch(d *Dir, name string) error {
	err := f.temp.dir.Rename(f.temp.name, d, name, NoReplace)
	if is(err, unix.EINVAL, unix.ENOSYS) { // the file system cannot rename without replacing: link, then take away
		if err = f.temp.dir.Link(f.temp.name, d, name); err == nil {
			err = f.temp.dir.Unlink(f.temp.name)
		}
	}
	if err == nil {
		f.temp.dir.Close()
		f.temp = nil
		f.named(nil, where{d: d, name: name})
	}
	return err
}

// named notes the first name a new file got, for messages.
func (f *File) named(err error, w where) {
	if err == nil {
		f.w = w
	}
}
