package bypath

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/rooted"
)

const (
	tempPrefix = "tmp-" // in the stash: objects that are about to take their name
	keptPrefix = "sec-" // in the stash: what was displaced without having been expected, by secondary identity
	// partAge is how long the part of a large file waits for its transfer to be resumed.
	partAge = 24 * time.Hour
)

// The keys of the reserved directories in their cache, which no object has.
var (
	holdKey = change.ID{1}
	partKey = change.ID{2}
)

// reserved keeps the reserved directories open.
type reserved struct {
	dirs dirCache
}

func (r *reserved) close() error {
	r.dirs.close()
	return nil
}

// forgetLost makes the reserved directories be opened anew if one was removed, and says whether that is so.
func (r *reserved) forgetLost() bool {
	lost := false
	for _, key := range []change.ID{holdKey, partKey} {
		r.dirs.mu.Lock()
		d := r.dirs.byID[key]
		if d != nil {
			d.users++
		}
		r.dirs.mu.Unlock()
		if d != nil {
			lost = !r.dirs.verify(d) || lost
			d.release()
		}
	}
	return lost
}

// hold opens the stash, making it if it is not there.
func (a *Applier) hold() (*openDir, error) { return a.openReserved(holdKey, apply.Hold) }

func (a *Applier) part() (*openDir, error) { return a.openReserved(partKey, apply.Part) }

func (a *Applier) openReserved(key change.ID, path string) (*openDir, error) {
	if d := a.reserved.dirs.take(key); d != nil {
		return d, nil
	}
	top, err := a.openTop()
	if err != nil {
		return nil, err
	}
	defer top.Close()
	_, name, _ := strings.Cut(path, "/")
	dir, err := madeDir(top, name)
	if err != nil {
		return nil, err
	}
	return a.reserved.dirs.add(key, dir, false), nil
}

// openTop opens the reserved directory itself, making it if it is not there.
func (a *Applier) openTop() (*rooted.Dir, error) { return madeDir(a.root.Top(), apply.Reserved) }

func madeDir(in *rooted.Dir, name string) (*rooted.Dir, error) {
	dir, err := in.OpenDir(name)
	if !is(err, syscall.ENOENT) {
		return dir, err
	}
	if err := in.Mkdir(name, 0o700); err != nil && !is(err, syscall.EEXIST) {
		return nil, err
	}
	return in.OpenDir(name)
}

// tempName gives a name in the stash that no other process uses.
func (a *Applier) tempName() string { return a.prefix + strconv.FormatUint(a.count.Add(1), 36) }

// keep puts o, which is at p and about to be displaced, into the stash under its identity. What is no directory keeps its
// name if the file system has hard links: left says whether.
func (a *Applier) keep(p place, o *change.Object) (left bool, err error) {
	hold, err := a.hold()
	if err != nil {
		return false, err
	}
	defer hold.release()
	name := keptPrefix + o.ID.String()
	if o.Kind != change.Dir {
		err := p.Link(p.name, hold.Dir, name)
		if err == nil || is(err, syscall.EEXIST) {
			return true, nil
		}
		if !is(err, syscall.EPERM, syscall.EMLINK, syscall.EOPNOTSUPP, syscall.ENOSYS) {
			return false, err
		}
	}
	return false, rename(p.Dir, p.name, hold.Dir, name)
}

// rename moves a name to one that is free; EEXIST if it is not.
func rename(from *rooted.Dir, name string, to *rooted.Dir, toName string) error {
	err := from.Rename(name, to, toName, rooted.NoReplace)
	if !is(err, syscall.EINVAL, syscall.ENOSYS) {
		return err
	}
	// The file system cannot refuse to replace. Nobody else makes entries here, so asking before is nearly as good.
	if _, other := to.StatLite(toName); !is(other, syscall.ENOENT) {
		if other == nil {
			other = &rooted.Error{Call: "renameat2", Path: toName, Err: syscall.EEXIST}
		}
		return other
	}
	return from.Rename(name, to, toName, 0)
}

// Sweep removes what processes that died have left in the reserved directory. No other process may be applying beneath the
// root. What cannot be removed is reported and stays.
func (a *Applier) Sweep(ctx context.Context) error {
	return a.clear(ctx, apply.Hold, func(_ *rooted.Dir, name string) bool {
		return strings.HasPrefix(name, tempPrefix) && !strings.HasPrefix(name, a.prefix) ||
			strings.HasPrefix(name, rooted.ScratchPrefix)
	})
}

// purge removes what was displaced, and parts of files that nobody has gone on with for long.
func (a *Applier) purge(ctx context.Context) error {
	kept := a.clear(ctx, apply.Hold, func(_ *rooted.Dir, name string) bool { return strings.HasPrefix(name, keptPrefix) })
	old := time.Now().Add(-partAge).Unix() // of the same host as the times of the files
	parts := a.clear(ctx, apply.Part, func(d *rooted.Dir, name string) bool {
		o, err := d.StatLite(name)
		return err == nil && o.Mtime.Sec < old && o.Ctime.Sec < old
	})
	return errors.Join(kept, parts)
}

// clear removes those entries of a reserved directory that match. Entries that cannot be removed are reported.
func (a *Applier) clear(ctx context.Context, path string, match func(d *rooted.Dir, name string) bool) error {
	dir, err := a.root.OpenDir(path)
	if is(err, syscall.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("clear %s: %w", path, err)
	}
	defer dir.Close()
	err = dir.Entries(nil, func(name string, _ change.Kind, _ uint64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !match(dir, name) {
			return nil
		}
		_, err := dir.RemoveAll(ctx, name, func(path string, err error) {
			a.report(fmt.Errorf("clear %s: %w", path, err))
		})
		if ctx.Err() != nil {
			return err
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("clear %s: %w", path, err)
	}
	return nil
}
