package rooted

import (
	"bytes"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"georep/internal/change"
)

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
	// maxXattr is the most bytes of one value, and of one list of names (XATTR_SIZE_MAX, XATTR_LIST_MAX).
	maxXattr = 64 << 10
)

// replicated says whether the attribute is part of what is mirrored: user.*, trusted.*, security.* and the two POSIX ACLs. Left
// out is what belongs to one host or file system: Gluster's own bookkeeping, the ACLs that XFS shows a second time, EVM's
// signatures (made with a key of the host), and the properties of Btrfs, Ceph and the like.
func replicated(name string) bool {
	space, rest, _ := strings.Cut(name, ".")
	switch space {
	case "user":
		return rest != ""
	case "trusted":
		return rest != "" && !strings.HasPrefix(rest, "glusterfs.") && !strings.HasPrefix(rest, "gfid") &&
			!strings.HasPrefix(rest, "SGI_ACL_")
	case "security":
		return rest != "" && rest != "evm"
	}
	return name == aclAccess || name == aclDefault
}

// sticky says whether the attribute is one that the kernel does not let us remove: the labels of security modules.
func sticky(name string) bool {
	return name == "security.selinux" || strings.HasPrefix(name, "security.SMACK64")
}

// xattrCalls are the system calls on the extended attributes of one object: by descriptor, or by a path that cannot be led
// elsewhere (/proc/self/fd/N, or /proc/self/fd/N/name for the entry of a directory).
type xattrCalls struct {
	root  *Root
	w     where
	fd    int    // of the object; of the directory if entry
	path  string // in place of fd, if not ""
	entry bool   // the object is the entry w.name, and path not made yet if ""
}

// byName reaches the attributes of an entry whatever its kind, without opening it.
func (d *Dir) byName(name string) xattrCalls {
	return xattrCalls{root: d.root, w: where{d: d, name: name}, fd: d.fd, entry: true}
}

// needPath makes the path of an entry, for calls that have no form for a directory and a name.
func (x *xattrCalls) needPath() {
	if x.entry && x.path == "" {
		x.path = procPath(x.fd) + "/" + x.w.name
	}
}

// listAt lists the attributes of an entry in one call without a path, and says whether the kernel has it (6.13).
func (x *xattrCalls) listAt(buf []byte) (n int, ok bool, err error) {
	var c cstring
	if no := c.set(x.w.name); no != 0 {
		return 0, true, no
	}
	for {
		got, _, no := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(x.fd), uintptr(unsafe.Pointer(&c[0])), unix.AT_SYMLINK_NOFOLLOW,
			uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0)
		switch no {
		case unix.EINTR:
			continue
		case 0:
			return int(got), true, nil
		case unix.ENOSYS, unix.EPERM: // EPERM: a seccomp filter that does not know the call
			x.root.noListAt.Store(true)
			return 0, false, no
		}
		return 0, true, no
	}
}

func (x *xattrCalls) list(buf []byte) (n int, err error) {
	err = x.root.try("listxattr", x.w, func() (err error) {
		if x.entry && !x.root.noListAt.Load() {
			var ok bool
			if n, ok, err = x.listAt(buf); ok {
				return err
			}
		}
		x.needPath()
		switch {
		case x.path == "":
			n, err = unix.Flistxattr(x.fd, buf)
		case x.entry:
			n, err = unix.Llistxattr(x.path, buf)
		default:
			n, err = unix.Listxattr(x.path, buf)
		}
		return err
	})
	return n, err
}

func (x *xattrCalls) get(name string, buf []byte) (n int, err error) {
	x.needPath()
	err = x.root.try("getxattr", x.w, func() (err error) {
		switch {
		case x.path == "":
			n, err = unix.Fgetxattr(x.fd, name, buf)
		case x.entry:
			n, err = unix.Lgetxattr(x.path, name, buf)
		default:
			n, err = unix.Getxattr(x.path, name, buf)
		}
		return err
	})
	return n, err
}

func (x *xattrCalls) set(name string, value []byte) error {
	x.needPath()
	return x.root.try("setxattr", x.w, func() error {
		switch {
		case x.path == "":
			return unix.Fsetxattr(x.fd, name, value, 0)
		case x.entry:
			return unix.Lsetxattr(x.path, name, value, 0)
		}
		return unix.Setxattr(x.path, name, value, 0)
	})
}

func (x *xattrCalls) remove(name string) error {
	x.needPath()
	return x.root.try("removexattr", x.w, func() error {
		switch {
		case x.path == "":
			return unix.Fremovexattr(x.fd, name)
		case x.entry:
			return unix.Lremovexattr(x.path, name)
		}
		return unix.Removexattr(x.path, name)
	})
}

// names lists the replicated attributes, sorted. A file system without any has none.
func (x *xattrCalls) names() ([]string, error) {
	var small [1024]byte
	buf := small[:]
	n, err := x.list(buf)
	if is(err, unix.ERANGE) {
		buf = make([]byte, maxXattr)
		n, err = x.list(buf)
	}
	if is(err, unix.ENOTSUP) && !x.root.xattrs.Load() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !x.root.xattrs.Load() {
		x.root.xattrs.Store(true)
	}
	var names []string
	for rest := buf[:n]; len(rest) > 0; {
		end := bytes.IndexByte(rest, 0)
		if end < 0 {
			end = len(rest)
		}
		if name := string(rest[:end]); replicated(name) {
			names = append(names, name)
		}
		rest = rest[min(end+1, len(rest)):]
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// value reads one attribute; ENODATA if there is none.
func (x *xattrCalls) value(name string) ([]byte, error) {
	var small [512]byte
	n, err := x.get(name, small[:])
	if err == nil {
		return bytes.Clone(small[:n]), nil
	}
	if !is(err, unix.ERANGE) {
		return nil, err
	}
	buf := make([]byte, maxXattr)
	if n, err = x.get(name, buf); err != nil {
		return nil, err
	}
	return bytes.Clone(buf[:n]), nil
}

// read fills the attributes of o.
func (x *xattrCalls) read(o *change.Object) error {
	names, err := x.names()
	if err != nil {
		return err
	}
	var all []change.Xattr
	for _, name := range names {
		value, err := x.value(name)
		if is(err, unix.ENODATA) { // removed since
			continue
		}
		if err != nil {
			return err
		}
		all = append(all, change.Xattr{Name: name, Value: value})
	}
	o.Xattrs, o.HasXattrs = all, true
	return nil
}

// match makes the replicated attributes be those of want and no others, and says whether an ACL was touched.
func (x *xattrCalls) match(want []change.Xattr) (acl bool, err error) {
	have, err := x.names()
	if err != nil {
		return false, err
	}
	for _, name := range have {
		if slices.ContainsFunc(want, func(a change.Xattr) bool { return a.Name == name }) || sticky(name) {
			continue
		}
		if err := x.remove(name); err != nil && !is(err, unix.ENODATA) {
			return acl, err
		}
		acl = acl || name == aclAccess
	}
	for _, a := range want {
		if _, found := slices.BinarySearch(have, a.Name); found {
			value, err := x.value(a.Name)
			if err == nil && bytes.Equal(value, a.Value) {
				continue
			}
			// What may be written need not be readable.
			if err != nil && !is(err, unix.ENODATA, unix.EACCES) {
				return acl, err
			}
		}
		if err := x.set(a.Name, a.Value); err != nil {
			return acl, err
		}
		acl = acl || a.Name == aclAccess
	}
	return acl, nil
}

// ReadXattrs fills o.Xattrs, sorted by name, with the attributes that are replicated: user.*, trusted.* and security.* without
// what belongs to one host (Gluster's, XFS's second ACLs, EVM), and the POSIX ACLs. A file system without extended attributes
// has none; trusted.* is seen by root only. ENOENT means that the entry itself is not there.
func (d *Dir) ReadXattrs(name string, o *change.Object) error {
	if err := checkName(name); err != nil {
		return d.root.failed("listxattr", where{d: d, name: name}, err)
	}
	x := d.byName(name)
	for range statTries {
		err := x.read(o)
		if !is(err, unix.ENOENT) {
			return err
		}
		if _, there := d.StatLite(name); there != nil {
			return err
		}
	}
	return d.root.failed("listxattr", where{d: d, name: name}, unix.ESTALE)
}

// SelfXattrs is ReadXattrs for the directory itself.
func (d *Dir) SelfXattrs(o *change.Object) error {
	x := xattrCalls{root: d.root, w: where{d: d}, fd: d.fd}
	if d.pathOnly {
		x.path = procPath(d.fd)
	}
	return x.read(o)
}
