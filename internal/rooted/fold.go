package rooted

import "golang.org/x/sys/unix"

// caseFold is the flag FS_CASEFOLD_FL of linux/fs.h.
const caseFold = 0x40000000

// Folds says whether the directory is marked as one that does not tell upper case from lower (chattr +F), which some file systems know
// of single directories. What cannot be asked is not marked.
func (d *Dir) Folds() bool {
	if d.pathOnly {
		return false
	}
	var flags uint32
	err := d.root.try("ioctl", where{d: d}, func() (err error) {
		flags, err = unix.IoctlGetUint32(d.fd, unix.FS_IOC_GETFLAGS)
		return err
	})
	return err == nil && flags&caseFold != 0
}
