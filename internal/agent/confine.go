package agent

import (
	"errors"
	"path/filepath"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
)

// confine makes the kernel refuse this process everything outside of root that Landlock knows (contents and names, but neither modes,
// owners, times nor extended attributes), for good, and says whether it now does so. Where it cannot, the applier's own confinement has
// to do.
func confine(root string, readOnly bool) bool {
	rule := landlock.RWDirs(root).WithRefer()
	if readOnly {
		rule = landlock.RODirs(root)
	}
	if err := landlock.V11.BestEffort().Restrict(rule.IgnoreIfMissing()); err != nil {
		return false
	}
	return refused(root)
}

// refused tries what must not be possible any more: to open the directory above.
func refused(root string) bool {
	absolute, err := filepath.Abs(root)
	if err != nil {
		return false
	}
	if absolute, err = filepath.EvalSymlinks(absolute); err != nil {
		return false
	}
	fd, err := unix.Open(filepath.Dir(absolute), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
		return false
	}
	return errors.Is(err, unix.EACCES)
}
