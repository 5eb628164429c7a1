package bygfid

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/gluster"
)

// The stash is a directory on the volume itself, so that objects enter and leave it by rename. It is there only while it is needed. Its two
// levels have identities of their own, so that it does not matter how many make it at once.
var (
	reservedID = change.ID{0x67, 0x65, 0x6f, 0x72, 0x65, 0x70, 0x40, 0x00, 0x80, 0, 0, 0, 0, 0, 0, 1}
	holdID     = change.ID{0x67, 0x65, 0x6f, 0x72, 0x65, 0x70, 0x40, 0x00, 0x80, 0, 0, 0, 0, 0, 0, 2}
)

// newMode is what a directory of the stash is made with: nobody else is to look.
const newMode = 0o700

// held is a place in the stash, which is made if it is not there.
func (a *Applier) held(name string) (place, error) {
	if !a.stash.Load() {
		if err := a.makeStash(); err != nil {
			return place{}, err
		}
		a.stash.Store(true)
	}
	return place{dir: holdID, name: name, path: a.m.At(holdID, name), show: apply.Hold + "/" + name}, nil
}

// quietly changes entries of the volume's root without leaving a trace in its times, which are mirrored.
func (a *Applier) quietly(change func() error) error {
	root := a.m.Top() + "/."
	var before, after unix.Stat_t
	if err := unix.Lstat(root, &before); err != nil {
		return failed("lstat", ".", err)
	}
	if err := change(); err != nil {
		return err
	}
	if err := unix.Lstat(root, &after); err != nil || before.Mtim == after.Mtim {
		return failed("lstat", ".", err)
	}
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, before.Mtim}
	return failed("utimensat", ".", unix.UtimesNanoAt(unix.AT_FDCWD, root, ts, 0))
}

func (a *Applier) makeStash() error { return a.quietly(a.makeStashDirs) }

func (a *Applier) makeStashDirs() error {
	_, name, _ := strings.Cut(apply.Hold, "/")
	for _, d := range []struct {
		parent, id change.ID
		name       string
	}{{gluster.Root, reservedID, apply.Reserved}, {reservedID, holdID, name}} {
		o := change.Object{ID: d.id, Kind: change.Dir, Attr: change.Attr{Mode: newMode, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}}
		if a.uid >= 0 {
			o.UID, o.GID = 0, 0
		}
		err := a.create(place{dir: d.parent, name: d.name, path: a.m.At(d.parent, d.name), show: d.name}, &o)
		if err != nil && !is(err, unix.EEXIST) {
			return err
		}
		// Where it was made before it must be this one: another would not be found by its identity.
		id, err := a.m.Identity(a.m.At(d.parent, d.name))
		if err != nil {
			return failed("getxattr", d.name, err)
		}
		if id != d.id {
			return &apply.Refusal{Errno: unix.EEXIST, Detail: "the name " + apply.Reserved + " in the volume's root is georep's own, and something else has it: rename that"}
		}
	}
	return nil
}

// inStash runs what uses the stash, again if another worker has just removed it because it was empty.
func (a *Applier) inStash(use func() error) error {
	err := use()
	if is(err, unix.ENOENT, unix.ESTALE) {
		a.stash.Store(false)
		if err := a.makeStash(); err != nil {
			return err
		}
		a.stash.Store(true)
		err = use()
	}
	return err
}

// setAside brings what is at a place, and was not expected there, to the stash, where whoever wants it finds it by its GFID.
func (a *Applier) setAside(at place) error {
	return a.inStash(func() error {
		to, err := a.temp()
		if err != nil {
			return err
		}
		return a.rename(at, to)
	})
}

// rename renames after the client was made to look at the source by that very path: else it may mistake a directory for one that it knows
// by another.
func (a *Applier) rename(from, to place) error {
	var st unix.Stat_t
	if err := unix.Lstat(from.path, &st); err != nil {
		return failed("lstat", from.show, err)
	}
	return failed("rename", from.show, unix.Rename(from.path, to.path))
}

// create makes a new object with its GFID, owner and mode, but without content and times.
func (a *Applier) create(at place, o *change.Object) error {
	blob := binary.BigEndian.AppendUint32(nil, o.UID)
	blob = binary.BigEndian.AppendUint32(blob, o.GID)
	blob = append(append(blob, gluster.GFID(o.ID)...), 0)
	blob = binary.BigEndian.AppendUint32(blob, o.Kind.Mode()|o.Mode)
	blob = append(append(blob, at.name...), 0)
	switch o.Kind {
	case change.Symlink:
		blob = append(append(blob, o.Target...), 0)
	case change.Dir:
		blob = binary.BigEndian.AppendUint32(blob, o.Mode)
		blob = binary.BigEndian.AppendUint32(blob, 0)
	default:
		blob = binary.BigEndian.AppendUint32(blob, o.Mode)
		blob = binary.BigEndian.AppendUint32(blob, uint32(o.Rdev))
		blob = binary.BigEndian.AppendUint32(blob, 0)
	}
	return failed("create", at.show, unix.Setxattr(a.m.Object(at.dir), "glusterfs.gfid.newfile", blob, 0))
}

// purge removes what was set aside and is wanted by nobody, and the stash itself when it is empty.
func (a *Applier) purge(ctx context.Context) error {
	top := a.m.Top() + "/" + apply.Hold
	entries, err := os.ReadDir(top)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if strings.HasPrefix(e.Name(), "tmp-") {
			if err := os.RemoveAll(top + "/" + e.Name()); err != nil {
				return err
			}
		}
	}
	a.stash.Store(false)
	return a.quietly(func() error {
		for _, dir := range []string{top, a.m.Top() + "/" + apply.Reserved} {
			if err := unix.Rmdir(dir); err != nil && !is(err, unix.ENOTEMPTY, unix.ENOENT) {
				return failed("rmdir", dir, err)
			}
		}
		return nil
	})
}
