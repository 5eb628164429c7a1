package gsyncd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"georep/internal/session"
)

// mountDir is where the worker of a brick makes its mount points for the moment until they are hidden. It is not below a directory that is
// ever removed with all that is in it.
func mountDir(s *session.Session, brick string) string {
	name := strings.Join([]string{s.Primary, s.Secondary.Host, s.Secondary.Volume, session.BrickNames(brick, "")["local_id"]}, "_")
	return filepath.Join(s.Path("gluster-rundir"), "georep-mounts", name)
}

// clearMounts makes the directory, and takes away what a worker has left there that was killed before it could hide its mount.
func clearMounts(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of mounts: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return fmt.Errorf("look for mounts that were left: %w", err)
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		path := unescape(fields[1])
		for _, prefix := range []string{dir, strings.Replace(dir, "/var/run/", "/run/", 1)} { // the one is a link to the other
			if strings.HasPrefix(path, prefix+"/") {
				if err := syscall.Unmount(path, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
					return fmt.Errorf("unmount what was left at %s: %w", path, err)
				}
				break
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for mounts that were left: %w", err)
	}
	for _, entry := range entries {
		if err := syscall.Rmdir(filepath.Join(dir, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the mount point that was left at %s: %w", filepath.Join(dir, entry.Name()), err)
		}
	}
	return nil
}

// unescape reads a path as the kernel writes it in its table of mounts.
func unescape(text string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(text)
}
