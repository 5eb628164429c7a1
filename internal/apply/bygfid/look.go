package bygfid

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/gluster"
	"georep/internal/wire"
)

// listChunk is how many entries of a directory are read at once, and listJobs how many of them are looked at.
const (
	listChunk = 512
	listJobs  = 8
)

// Look lists a directory with all attributes, but not the reserved one.
func (a *Applier) Look(ctx context.Context, d wire.Dir, entry func(wire.Entry) error) error {
	path, err := a.pathOf(d)
	if err != nil {
		return fmt.Errorf("look at %q: %w", d.Path, err)
	}
	dir, err := os.Open(path)
	if err != nil {
		if is(err, unix.ENOENT, unix.ENOTDIR, unix.ESTALE) {
			err = wire.ErrStale
		}
		return fmt.Errorf("look at %q: %w", d.Path, err)
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(listChunk)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look at %q: %w", d.Path, err)
		}
		if err := a.entries(ctx, d, path, names, entry); err != nil {
			return err
		}
	}
}

// pathOf is the path of a directory to be listed, of which it makes sure that it is the right one.
func (a *Applier) pathOf(d wire.Dir) (string, error) {
	id := d.Sec
	switch {
	case d.Path == apply.Hold:
		id = holdID
	case d.Path == "" && (id.IsZero() || id == gluster.Root):
		return a.m.Top() + "/.", nil
	case d.Path == "" || d.Path == apply.Reserved || strings.HasPrefix(d.Path, apply.Reserved+"/") && !strings.HasPrefix(d.Path, apply.Hold+"/"):
		return "", wire.ErrStale
	}
	path := a.m.Top() + "/" + d.Path
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && (id.IsZero() || st.Ino == gluster.Inode(id)) {
		return path, nil
	}
	if at, ok, err := a.whereIs(id); err != nil || ok {
		return at.path, err
	}
	return "", wire.ErrStale
}

// ofGluster says whether a name in a volume's root is Gluster's own. Some of them a mount for an unprivileged account shows, and others hide.
func ofGluster(name string) bool {
	return name == ".trashcan" || name == ".glusterfs" || strings.HasPrefix(name, ".glusterfs-anonymous-inode-")
}

func (a *Applier) entries(ctx context.Context, d wire.Dir, path string, names []string, entry func(wire.Entry) error) error {
	isRoot, isHold := d.Path == "", d.Path == apply.Hold
	names = slices.DeleteFunc(names, func(name string) bool {
		if isHold {
			_, err := change.ParseID(name)
			return err != nil
		}
		return isRoot && (name == apply.Reserved || ofGluster(name))
	})
	found := make([]wire.Entry, len(names))
	group, work := errgroup.WithContext(ctx)
	group.SetLimit(listJobs)
	for i, name := range names {
		group.Go(func() error {
			found[i] = wire.Entry{Name: name}
			o, err := a.object(path + "/" + name)
			if err == nil {
				found[i].Object = o
			} else if is(err, unix.ENOENT, unix.ESTALE) {
				found[i].Name = ""
			}
			return work.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, e := range found {
		if e.Name == "" {
			continue
		}
		if err := entry(e); err != nil {
			return err
		}
	}
	return nil
}

// object reads what is at a path.
func (a *Applier) object(path string) (change.Object, error) {
	var now occupant
	if err := unix.Lstat(path, &now.st); err != nil {
		return change.Object{}, err
	}
	id, err := a.m.Identity(path)
	if err != nil {
		return change.Object{}, err
	}
	o := change.Object{ID: id, Kind: now.kind(), Nlink: uint32(now.st.Nlink), HasXattrs: true}
	o.Mode, o.UID, o.GID, o.Mtime = now.mode(), now.st.Uid, now.st.Gid, now.mtime()
	switch o.Kind {
	case change.File:
		o.Size, o.Blocks = now.size(), now.st.Blocks
	case change.CharDev, change.BlockDev:
		o.Rdev = uint64(now.st.Rdev)
	case change.Symlink:
		if o.Target, err = os.Readlink(path); err != nil {
			return o, err
		}
	}
	have, err := a.xattrs(path)
	if err != nil {
		return o, err
	}
	for name, value := range have {
		o.Xattrs = append(o.Xattrs, change.Xattr{Name: name, Value: value})
	}
	slices.SortFunc(o.Xattrs, func(x, y change.Xattr) int { return strings.Compare(x.Name, y.Name) })
	return o, nil
}
