package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"georep/internal/durable"
)

// claimState makes the state directory this process's own. A dry run gets a copy of it instead, which release removes: it may go on
// as if its plans were carried out, and must leave nothing.
func claimState(o *Options) (release func(), err error) {
	if o.DryRun {
		return copyState(o)
	}
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory (choose another with --state-dir): %w", err)
	}
	lock, err := lockState(o.StateDir)
	if err != nil {
		return nil, err
	}
	return func() { _ = lock.Unlock() }, nil // the end of the process unlocks it in any case
}

func lockState(dir string) (*durable.Held, error) {
	lock, err := durable.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("another georep mirrors this source to this destination: %w", err)
	}
	return lock, nil
}

func copyState(o *Options) (release func(), err error) {
	dir, err := os.MkdirTemp("", "georep-dry-run-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the dry run: %w", err)
	}
	release = func() { _ = os.RemoveAll(dir) } // what cannot be removed is a copy in the directory for temporary files
	if err := copyIndex(o.StateDir, dir); err != nil {
		release()
		return nil, err
	}
	o.StateDir = dir
	return release, nil
}

// copyIndex copies the index of a mirror that does not run, if there is one.
func copyIndex(from, to string) error {
	old, err := os.Open(IndexFile(from))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	defer old.Close()
	lock, err := lockState(from) // it is there: a mirror has run
	if err != nil {
		return err
	}
	defer lock.Unlock()
	copied, err := os.OpenFile(IndexFile(to), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = io.Copy(copied, old)
		err = errors.Join(err, copied.Close())
	}
	if err != nil {
		return fmt.Errorf("copy the index for the dry run: %w", err)
	}
	return nil
}

// The state's note of what was done with owners.
const (
	ownersKey  = "owners"
	ownersLeft = "left"
)

// checkOwners has everything compared again when owners shall be copied that were not copied before: the index says nothing of them.
func (w *worker) checkOwners(context.Context) error {
	noted, _, err := w.index.Value(ownersKey)
	if err != nil {
		return fmt.Errorf("read what was done with owners: %w", err)
	}
	now := ""
	if w.o.NoOwner {
		now = ownersLeft
	}
	if string(noted) == now {
		return nil
	}
	if !w.o.NoOwner {
		w.notice("owners were not copied before, with --no-owner: everything is compared again")
		if err := w.forget(); err != nil {
			return err
		}
		w.bound.fresh = false
	}
	if err := w.index.SetValue(ownersKey, []byte(now)); err != nil {
		return fmt.Errorf("note what is done with owners: %w", err)
	}
	return nil
}
