package bypath

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/rooted"
)

// When a sync fails, the kernel has given up writing some pages to the disk, and keeps them in memory as if they were written: whoever
// reads them sees what never will be there again after they left memory. So what was not acknowledged by then must be written once more,
// however right it looks. The file .georep/unsafe says so to the processes that follow. It need not survive a power failure: nor does what
// is in memory.

// setUnsafe notes that a sync has failed.
func (a *Applier) setUnsafe() {
	top, err := a.openTop()
	if err == nil {
		defer top.Close()
		if err = a.unlinked(top, apply.Unsafe); err == nil { // its time is to be that of the last failure
			var f *rooted.File
			if f, err = top.Create(apply.Unsafe, 0o600); err == nil {
				err = f.Close()
			}
		}
	}
	if err == nil {
		err = a.findUnsafe()
	}
	if err != nil {
		a.report(fmt.Errorf("note that a sync failed: %w", err))
	}
}

// unlinked removes a name if it is there.
func (a *Applier) unlinked(d *rooted.Dir, name string) error {
	if err := d.Unlink(name); err != nil && !is(err, syscall.ENOENT) {
		return err
	}
	return nil
}

// findUnsafe learns whether a sync has failed, and when.
func (a *Applier) findUnsafe() error {
	top, err := a.root.Top().OpenDir(apply.Reserved)
	if is(err, syscall.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer top.Close()
	o, err := top.StatLite(apply.Unsafe)
	switch {
	case is(err, syscall.ENOENT):
		a.unsafe.Store(nil)
	case err != nil:
		return err
	default:
		a.unsafe.Store(&o.Ctime)
	}
	return nil
}

// trusts says whether what is read of a file is what is on the disk, or will be with the next sync.
func (a *Applier) trusts(o *change.Object) bool {
	since := a.unsafe.Load()
	return since == nil || o.Ctime.Sec > since.Sec || o.Ctime.Sec == since.Sec && o.Ctime.Nsec > since.Nsec
}

// dropParts removes the parts of large files that a failed sync has left.
func (a *Applier) dropParts(ctx context.Context) error {
	if a.unsafe.Load() == nil {
		return nil
	}
	return a.clear(ctx, apply.Part, func(d *rooted.Dir, name string) bool {
		o, err := d.StatLite(name)
		return err == nil && !a.trusts(&o)
	})
}

// sync makes everything durable. With settled nothing is left that was written before an earlier sync and not acknowledged.
func (a *Applier) sync(ctx context.Context, settled bool) error {
	if err := a.root.SyncFS(ctx); err != nil {
		if ctx.Err() == nil {
			a.setUnsafe()
		}
		return fmt.Errorf("make durable: %w", err)
	}
	if !settled || a.unsafe.Load() == nil {
		return nil
	}
	top, err := a.openTop()
	if err == nil {
		err = errors.Join(a.unlinked(top, apply.Unsafe), top.Close())
	}
	if err != nil {
		a.report(fmt.Errorf("note that a sync has not failed: %w", err)) // then some files are written once more
		return nil
	}
	a.unsafe.Store(nil)
	return nil
}
