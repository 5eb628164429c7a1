// Package durable keeps small files of state so that a crash leaves the old content or the new, and locks by which one process
// owns them.
package durable

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// WriteFile replaces the file at path by data, durably: when it returns nil, the new content survives a loss of power; when it
// fails, or the host does, the old content or the new one is there, whole. The file gets these permission bits, whatever the
// umask says and the old file had. A symbolic link at path is replaced.
func WriteFile(path string, data []byte, perm os.FileMode) error {
	dir := filepath.Dir(path)
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(dir), renameio.WithPermissions(0o600), renameio.WithStaticPermissions(perm))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.CloseAtomicallyReplace() // syncs before it renames
	}
	if other := f.Cleanup(); err == nil {
		err = other
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return SyncDir(dir)
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	err = d.Sync()
	if other := d.Close(); err == nil {
		err = other
	}
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
