package status

import (
	"strings"
	"syscall"
)

// Hint says what a person can do about an entry that failed: errno as the system call named call returned it on that side.
// An errno of 0 or an unknown one gets a general answer, so the result is never empty.
func Hint(errno int, side Side, call string) string {
	e := syscall.Errno(errno)
	if h := hintForCall(e, side, call); h != "" {
		return h
	}
	if h := hintForSpace(e, side); h != "" {
		return h
	}
	if h := hintForName(e, side); h != "" {
		return h
	}
	return hintForRest(e, side)
}

// hintForCall knows the errnos whose meaning depends on the call: permissions above all.
func hintForCall(e syscall.Errno, side Side, call string) string {
	switch {
	case e == syscall.EPERM && strings.Contains(call, "chown"):
		return "run the remote georep as root, or give --no-owner to leave owners as they come"
	case e == syscall.EPERM && strings.Contains(call, "mknod"):
		return "run the remote georep as root, or --exclude the path"
	case e == syscall.EPERM && strings.Contains(call, "xattr"):
		return "only root can set trusted.* and security.* attributes: run the remote georep as root"
	case e == syscall.EOPNOTSUPP && strings.Contains(call, "xattr"):
		return "the destination's file system cannot store this extended attribute or ACL: use one that can, or remove it at the source"
	case (e == syscall.ENOSPC || e == syscall.E2BIG || e == syscall.ERANGE) && strings.Contains(call, "xattr"):
		return "the destination's file system has no room for attributes this large: use XFS there, or shrink the attributes"
	case e == syscall.EOVERFLOW && strings.Contains(call, "utime"):
		return "set another time at the source (touch), or use a file system for the destination that keeps such times"
	case e == syscall.EPERM && side == Destination && strings.Contains(call, "link"):
		return "the file or its directory is immutable or append-only, or the file system has no hard links: see lsattr, then chattr -i -a"
	case e == syscall.EPERM && side == Destination:
		return "the entry is immutable or append-only, or belongs to another user: see lsattr, then chattr -i -a, or run the remote georep as root"
	case e == syscall.EPERM:
		return "run georep as root to read this entry, or --exclude the path"
	case e == syscall.EACCES && side == Source:
		return "georep may not read this entry: run it as root, change the mode, or --exclude the path"
	case e == syscall.EACCES:
		return "the remote user may not write here: run the remote georep as root, or change owner or mode of the directory"
	}
	return ""
}

// hintForSpace knows the errnos of a place that is full, worn or closed.
func hintForSpace(e syscall.Errno, side Side) string {
	switch e {
	case syscall.ENOSPC:
		return "the " + string(side) + " is full: free space or inodes there (df, df -i)"
	case syscall.EDQUOT:
		return "the quota of the " + string(side) + " is used up: raise it or free space"
	case syscall.EFBIG:
		return "the destination's file system, or the remote user's ulimit -f, does not allow files this large"
	case syscall.EROFS:
		return "the " + string(side) + " is mounted read-only: see dmesg for the reason, then remount it read-write"
	case syscall.EIO, syscall.EUCLEAN, syscall.ENODATA:
		return "the disk or file system of the " + string(side) + " reports damage: see dmesg, then check the file system"
	case syscall.ENOMEM:
		return "the " + string(side) + " host is out of memory"
	case syscall.EMFILE, syscall.ENFILE:
		return "too many open files on the " + string(side) + ": raise ulimit -n or fs.file-max"
	case syscall.ESTALE, syscall.ENOTCONN, syscall.ENXIO, syscall.ENODEV:
		return "the file system of the " + string(side) + " has gone: mount it again"
	}
	return ""
}

// hintForName knows the errnos about names, links and kinds.
func hintForName(e syscall.Errno, side Side) string {
	switch e {
	case syscall.ENAMETOOLONG:
		return "the " + string(side) + "'s file system does not allow names this long: shorten the name at the source"
	case syscall.EILSEQ, syscall.EINVAL:
		return "the " + string(side) + "'s file system refuses this name or value: change it at the source, or --exclude the path"
	case syscall.EMLINK:
		return "the destination's file system allows no more hard links to this file (ext4: 65,000): use XFS or Btrfs there"
	case syscall.ELOOP:
		return "a symlink stands where a directory was expected, so nothing was written through it: remove the symlink on the " + string(side)
	case syscall.EXDEV:
		return "a mirror keeps to one file system: unmount what is mounted here on the " + string(side) + ", or --exclude the path"
	case syscall.EEXIST:
		return "something else took this name on the destination meanwhile: nothing to do, it is looked at again"
	case syscall.ENOTEMPTY:
		return "the destination's directory holds entries that are not from here: remove them, or keep the directory at the source"
	case syscall.ENOENT, syscall.ENOTDIR, syscall.EISDIR:
		return "the entry changed meanwhile: nothing to do, it is looked at again"
	}
	return ""
}

// hintForRest answers for everything else.
func hintForRest(e syscall.Errno, side Side) string {
	switch e {
	case 0:
		return "nothing to do yet: it is tried again by itself"
	case syscall.EBUSY, syscall.ETXTBSY:
		return "the entry is in use on the " + string(side) + ": it is tried again by itself"
	case syscall.EAGAIN, syscall.EINTR, syscall.ETIMEDOUT:
		return "the " + string(side) + " was busy: it is tried again by itself"
	case syscall.EOPNOTSUPP, syscall.ENOSYS:
		return "the " + string(side) + "'s file system or kernel cannot do this: use another file system, or --exclude the path"
	}
	return "it is tried again by itself; when it persists, see dmesg on the " + string(side)
}
