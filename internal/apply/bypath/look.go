package bypath

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/rooted"
	"georep/internal/wire"
)

// listBuffer is how much of a directory is read at once, in bytes.
const listBuffer = 64 << 10

// Look lists a directory with all attributes, but not the reserved one. An entry that cannot be read has no identity: whoever
// declares something there learns why.
func (a *Applier) Look(ctx context.Context, d wire.Dir, entry func(wire.Entry) error) error {
	dir, err := a.openToList(d)
	if errors.Is(err, errStale) {
		return fmt.Errorf("look at %q: %w", d.Path, wire.ErrStale)
	}
	if err != nil {
		return fmt.Errorf("look at %q: %w", d.Path, err)
	}
	defer dir.Close()
	isRoot, isHold := d.Path == "", d.Path == apply.Hold
	return dir.Entries(make([]byte, listBuffer), func(name string, kind change.Kind, _ uint64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if isRoot && name == apply.Reserved {
			return nil
		}
		if isHold {
			if _, err := change.ParseID(name); err != nil {
				return nil
			}
		}
		o, err := dir.Stat(name)
		if errors.Is(err, syscall.ENOENT) {
			return nil
		}
		if err != nil {
			return entry(wire.Entry{Name: name, Object: change.Object{Kind: kind}})
		}
		if err := dir.ReadXattrs(name, &o); err != nil {
			o.Xattrs, o.HasXattrs = nil, false
		}
		return entry(wire.Entry{Name: name, Object: o})
	})
}

// openToList opens a directory for nobody else: a listing has a position.
func (a *Applier) openToList(d wire.Dir) (*rooted.Dir, error) {
	open, err := a.dir(d)
	if err != nil {
		return nil, err
	}
	defer open.release()
	path := d.Path
	if !open.isRoot && !open.isHold {
		if path, err = open.Path(); err != nil {
			return nil, errStale
		}
	}
	dir, err := a.root.OpenDir(path)
	if err != nil {
		return nil, notThere(err)
	}
	if d.Sec.IsZero() {
		return dir, nil
	}
	self, err := dir.Self()
	if err == nil && self.ID != d.Sec {
		err = errStale
	}
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	return dir, nil
}

// Commit makes durable all that was applied, and the mark if it is not empty. With purge it also clears away what was kept because something might still
// refer to it; what cannot be cleared is reported and tried again with the next purge.
func (a *Applier) Commit(ctx context.Context, mark string, purge bool) error {
	if mark != "" {
		if err := a.setMark(mark); err != nil {
			return fmt.Errorf("note the commit: %w", err)
		}
	}
	if purge {
		if err := a.purge(ctx); err != nil {
			a.report(err)
		}
	}
	return a.sync(ctx, purge)
}

// maxSession bounds the name of a session, in bytes.
const maxSession = 256

// Prepare makes the reserved directory and what belongs in it, which otherwise happens when they are first needed.
func (a *Applier) Prepare() error {
	for _, open := range []func() (*openDir, error){a.hold, a.part} {
		d, err := open()
		if err != nil {
			return fmt.Errorf("prepare %s: %w", apply.Reserved, err)
		}
		d.release()
	}
	return nil
}

// Bind notes at the root that it is the copy of that session. A root that has something in it, or another session's mark, is
// only taken with adopt.
func (a *Applier) Bind(ctx context.Context, session string, adopt bool) (wire.BindResult, error) {
	res, err := a.Bound(session)
	if err != nil || !res.Bound && !adopt && (res.Other != "" || !res.Empty) {
		return res, err
	}
	c, err := a.probe()
	if err != nil {
		return wire.BindResult{}, err
	}
	a.clock.Store(&c)
	res.TimeStep = c.step
	if err := a.findUnsafe(); err != nil {
		return wire.BindResult{}, fmt.Errorf("look into %s: %w", apply.Reserved, err)
	}
	if err := a.dropParts(ctx); err != nil {
		return wire.BindResult{}, err
	}
	if res.Bound {
		return res, nil
	}
	top, err := a.openTop()
	if err != nil {
		return res, fmt.Errorf("open %s: %w", apply.Reserved, err)
	}
	defer top.Close()
	// The mark of the last commit was of another session, which knew what is here.
	if err := top.Unlink(apply.LastMark); err != nil && !is(err, syscall.ENOENT) {
		return res, fmt.Errorf("mark the destination: %w", err)
	}
	if err := a.writeMarker(ctx, top, session); err != nil {
		return res, fmt.Errorf("mark the destination: %w", err)
	}
	res.Bound, res.Other, res.Mark = true, "", ""
	return res, nil
}

// Bound says what Bind would find, and changes nothing.
func (a *Applier) Bound(session string) (wire.BindResult, error) {
	var res wire.BindResult
	if session == "" || len(session) > maxSession || strings.ContainsFunc(session, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return res, apply.Refuse("%q cannot be the name of a session", session)
	}
	empty, err := a.empty()
	if err != nil {
		return res, fmt.Errorf("look into the destination: %w", err)
	}
	res.Empty = empty
	top, err := a.root.Top().OpenDir(apply.Reserved)
	if is(err, syscall.ENOENT) {
		return res, nil
	}
	if err != nil {
		return res, fmt.Errorf("open %s: %w", apply.Reserved, err)
	}
	defer top.Close()
	owner, err := readMarker(top, apply.Marker)
	if err == nil {
		res.Mark, err = readMarker(top, apply.LastMark)
	}
	if err != nil {
		return res, fmt.Errorf("read the mark of the destination: %w", err)
	}
	switch owner {
	case session:
		res.Bound = true
	case "":
	default:
		res.Other = owner
	}
	return res, nil
}

// empty says whether there is nothing in the root but what is ours, or what mkfs puts there. What waits in the stash is not nothing: all
// that is in the root may wait there when a worker ends.
func (a *Applier) empty() (bool, error) {
	empty, err := emptyBut(a.root, "", func(name string, kind change.Kind) bool {
		return name == apply.Reserved || name == "lost+found" && kind == change.Dir
	})
	if !empty || err != nil {
		return false, err
	}
	empty, err = emptyBut(a.root, apply.Hold, func(name string, _ change.Kind) bool {
		_, err := change.ParseID(name)
		return err != nil
	})
	if is(err, syscall.ENOENT) {
		return true, nil
	}
	return empty, err
}

// emptyBut says whether all entries of a directory are of those that do not count.
func emptyBut(root *rooted.Root, path string, skip func(name string, kind change.Kind) bool) (bool, error) {
	dir, err := root.OpenDir(path)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	err = dir.Entries(nil, func(name string, kind change.Kind, _ uint64) error {
		if skip(name, kind) {
			return nil
		}
		return errExists
	})
	if errors.Is(err, errExists) {
		return false, nil
	}
	return err == nil, err
}

// setMark notes the mark of a commit that follows. Should the power fail before that is done, the mark may be there without what was
// applied, and who set it has to look.
func (a *Applier) setMark(mark string) error {
	top, err := a.openTop()
	if err != nil {
		return err
	}
	defer top.Close()
	f, err := top.Create(apply.LastMark, 0o600)
	if is(err, syscall.EEXIST) {
		f, err = top.OpenRW(apply.LastMark)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(mark+"\n"), 0)
	if err == nil {
		err = f.Truncate(int64(len(mark)) + 1)
	}
	return errors.Join(err, f.Close())
}

func readMarker(top *rooted.Dir, name string) (string, error) {
	f, err := top.OpenFile(name)
	if is(err, syscall.ENOENT) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf := make([]byte, maxSession+2)
	n, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimSuffix(string(buf[:n]), "\n"), nil
}

// writeMarker replaces the mark so that a crash leaves the old one or the new.
func (a *Applier) writeMarker(ctx context.Context, top *rooted.Dir, session string) error {
	temp := a.tempName()
	f, err := top.Create(temp, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte(session+"\n"), 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = top.Rename(temp, top, apply.Marker, 0)
	}
	if err != nil {
		a.unlink(top, temp)
		return err
	}
	return a.sync(ctx, false)
}
