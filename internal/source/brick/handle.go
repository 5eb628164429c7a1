// Package brick observes a volume by one of its bricks: what is there, from the brick's own handles, and what changes, from its
// journal.
//
// A journal's record is a hint of where to look; what is handed over is what a look found. A brick knows all directories of its
// volume, and the files whose data it holds with all their names. What it does not have may have been deleted, or be on another
// brick: only the mounted volume tells, and only while all of it can be reached.
package brick

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"georep/internal/change"
	"georep/internal/gluster"
)

// standing is what a brick has of an object.
type standing int

const (
	missing  standing = iota // nothing
	pointer                  // a link file: the data is on another brick
	here                     // the object itself
	unclear                  // it is changing just now, or its names are not all known
	internal                 // something of the volume's own, which is not mirrored
)

// object is what a brick says of one.
type object struct {
	change.Object
	standing standing
	names    []change.Place
	// elsewhere says that the brick cannot give the content: parts of it are on other bricks, or it is moving.
	elsewhere bool
	sharded   bool // only the first part is here
	// base is the file of which this is a part.
	base change.ID
}

// tree is a brick's file system.
type tree struct {
	root     string
	scratch  change.ID // the directory in which a replicated volume sets aside what is healed; zero: there is none
	indirect bool      // the volume stores content in parts (disperse), or this brick stores none (arbiter)
}

const scratchPrefix = ".glusterfs-anonymous-inode-"

// openTree begins to read the brick at a path.
func openTree(root string, indirect bool) (*tree, error) {
	t := &tree{root: filepath.Clean(root), indirect: indirect}
	if _, err := os.Lstat(filepath.Join(t.root, ".glusterfs", "00")); err != nil {
		return nil, fmt.Errorf("%s is not a brick that can be read: %w", root, err)
	}
	found, err := filepath.Glob(filepath.Join(t.root, scratchPrefix+"*"))
	if err != nil {
		return nil, err
	}
	for _, path := range found {
		if t.scratch, err = gfidOf(path, false); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
	}
	return t, nil
}

func (t *tree) handle(id change.ID) string {
	if id == gluster.Root {
		return t.root
	}
	text := gluster.GFID(id)
	return filepath.Join(t.root, ".glusterfs", text[0:2], text[2:4], text)
}

// shardDir is the directory in which a sharded volume keeps all parts of files but their first.
var shardDir = change.ID{0xbe, 0x31, 0x86, 0x38, 0xe8, 0xa0, 0x4c, 0x6d, 0x97, 0x7d, 0x7a, 0x93, 0x7a, 0xa8, 0x48, 0x06}

const linkto = "trusted.glusterfs.dht.linkto"

// settleTries bounds how often an object that is being renamed is read again, and settleWait is between.
const (
	settleTries = 20
	settleWait  = 3 * time.Millisecond
)

// read gives the state of an object, waiting a little for what is changing just now.
func (t *tree) read(ctx context.Context, id change.ID) (object, error) {
	for try := 0; ; try++ {
		o, err := t.readOnce(id)
		if err != nil || o.standing != unclear || try == settleTries {
			return o, err
		}
		timer := time.NewTimer(settleWait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return o, context.Cause(ctx)
		}
	}
}

func (t *tree) readOnce(id change.ID) (object, error) {
	var o object
	path := t.handle(id)
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return o, nil
	}
	if err != nil {
		return o, fmt.Errorf("read %s: %w", path, err)
	}
	if id == gluster.Root {
		return t.directory(id, path, change.Place{})
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK && st.Nlink == 1 {
		at, err := t.placeOfHandle(path)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoHandle) {
				return object{standing: unclear}, nil
			}
			return o, err
		}
		return t.directory(id, path, at)
	}
	return t.other(id, path, &st)
}

var errNoHandle = errors.New("not the handle of a directory")

// placeOfHandle reads where a directory is from its handle, ../../pp/qq/PARENT/NAME.
func (t *tree) placeOfHandle(path string) (change.Place, error) {
	target, err := os.Readlink(path)
	if err != nil {
		return change.Place{}, fmt.Errorf("read handle: %w", err)
	}
	parts := strings.Split(target, "/")
	if len(parts) != 6 || parts[0] != ".." || parts[1] != ".." {
		return change.Place{}, errNoHandle
	}
	parent, err := gluster.ParseGFID(parts[4])
	if err != nil || !change.ValidName(parts[5]) {
		return change.Place{}, errNoHandle
	}
	return change.Place{Dir: parent, Name: parts[5]}, nil
}

// directory reads a directory. Its place is as the handle says.
func (t *tree) directory(id change.ID, handle string, at change.Place) (object, error) {
	var o object
	if t.own(at) {
		o.standing = internal
		return o, nil
	}
	path := handle
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if errors.Is(err, unix.ELOOP) {
		if path, err = t.path(id); err == nil {
			err = unix.Stat(path, &st)
		}
	}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, fs.ErrNotExist):
		o.standing = unclear // it is being renamed, or removed
		return o, nil
	case err != nil:
		return o, fmt.Errorf("read directory %s: %w", path, err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return o, fmt.Errorf("read directory %s: %w", path, unix.ENOTDIR)
	}
	self, err := gfidOf(path+"/.", true)
	if err != nil || self != id {
		o.standing = unclear
		return o, nil
	}
	o.standing = here
	o.names = []change.Place{at}
	o.ID, o.Kind = id, change.Dir
	err = t.fill(&o, path+"/.", &st)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return object{standing: unclear}, nil
	}
	o.Size, o.Blocks = 0, 0
	return o, err
}

// path builds the path of a directory from the handles above it: for those that are nested deeper than the kernel follows.
func (t *tree) path(id change.ID) (string, error) {
	var names []string
	for id != gluster.Root {
		at, err := t.placeOfHandle(t.handle(id))
		if err != nil {
			return "", err
		}
		if names = append(names, at.Name); len(names) > 1<<16 {
			return "", errNoHandle
		}
		id = at.Dir
	}
	slices.Reverse(names)
	return filepath.Join(append([]string{t.root}, names...)...), nil
}

// at is the path of a name in a directory.
func (t *tree) at(p change.Place) string {
	path := filepath.Join(t.handle(p.Dir)) + "/" + p.Name
	if _, err := os.Lstat(path); errors.Is(err, unix.ELOOP) {
		if dir, err := t.path(p.Dir); err == nil {
			return dir + "/" + p.Name
		}
	}
	return path
}

// own says whether a place is one of the volume's own.
func (t *tree) own(at change.Place) bool {
	if at.Dir == shardDir || !t.scratch.IsZero() && at.Dir == t.scratch {
		return true
	}
	if at.Dir != gluster.Root {
		return false
	}
	switch at.Name {
	case ".glusterfs", ".trashcan", ".shard", ".georep":
		return true
	}
	return strings.HasPrefix(at.Name, scratchPrefix)
}

// other reads what is no directory.
func (t *tree) other(id change.ID, path string, st *unix.Stat_t) (object, error) {
	var o object
	o.ID, o.Kind = id, change.KindOfMode(st.Mode)
	o.standing = here
	if err := t.fill(&o, path, st); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return object{}, nil
		}
		return o, err
	}
	if o.standing == pointer {
		return o, nil
	}
	if o.Kind == change.Symlink {
		target, err := os.Readlink(path)
		if errors.Is(err, fs.ErrNotExist) {
			return object{}, nil
		}
		if err != nil {
			return o, fmt.Errorf("read symlink: %w", err)
		}
		o.Target = target
	}
	t.verify(&o, st)
	return o, nil
}

// verify keeps the names that lead to the object, and finds out whether these are all.
func (t *tree) verify(o *object, st *unix.Stat_t) {
	listed := len(o.names)
	kept := o.names[:0]
	own := 0
	for _, at := range o.names {
		var named unix.Stat_t
		if unix.Lstat(t.at(at), &named) != nil || named.Ino != st.Ino {
			continue
		}
		if t.own(at) {
			own++
			if base, ok := baseOf(at); ok {
				o.base = base
			}
			continue
		}
		kept = append(kept, at)
	}
	o.names = kept
	slices.SortFunc(o.names, comparePlaces)
	o.Nlink = uint32(len(kept))
	switch {
	case own > 0 && len(kept) == 0:
		o.standing = internal
	case listed != len(kept)+own || int(st.Nlink)-1 != listed:
		o.standing = unclear
	}
}

// baseOf is the file of which a part has that name in the shards' directory: GFID.NUMBER.
func baseOf(at change.Place) (change.ID, bool) {
	if at.Dir != shardDir || len(at.Name) < gluster.GFIDLen+2 {
		return change.ID{}, false
	}
	id, err := gluster.ParseGFID(at.Name[:gluster.GFIDLen])
	return id, err == nil
}

func comparePlaces(a, b change.Place) int {
	if n := slices.Compare(a.Dir[:], b.Dir[:]); n != 0 {
		return n
	}
	return strings.Compare(a.Name, b.Name)
}

// fill reads attributes.
func (t *tree) fill(o *object, path string, st *unix.Stat_t) error {
	o.Mode, o.UID, o.GID = st.Mode&0o7777, st.Uid, st.Gid
	o.Size, o.Blocks, o.Rdev = st.Size, st.Blocks, uint64(st.Rdev)
	o.Mtime = change.Time{Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)}
	o.Ctime = change.Time{Sec: st.Ctim.Sec, Nsec: uint32(st.Ctim.Nsec)}
	if o.Kind != change.File {
		o.Size, o.Blocks = 0, 0
	}
	if o.Kind != change.CharDev && o.Kind != change.BlockDev {
		o.Rdev = 0
	}
	names, err := xattrNames(path)
	if err != nil {
		return err
	}
	o.HasXattrs = true
	for _, name := range names {
		value, err := xattr(path, name)
		if errors.Is(err, unix.ENODATA) {
			continue // it went between
		}
		if err != nil {
			return fmt.Errorf("read %s of %s: %w", name, path, err)
		}
		t.take(o, name, value, st)
	}
	slices.SortFunc(o.Xattrs, func(a, b change.Xattr) int { return strings.Compare(a.Name, b.Name) })
	o.elsewhere = o.elsewhere || t.indirect && o.Kind == change.File || o.Kind == change.File && st.Mode&(unix.S_ISGID|unix.S_ISVTX) == unix.S_ISGID|unix.S_ISVTX
	return nil
}

// take interprets one extended attribute.
func (t *tree) take(o *object, name string, value []byte, st *unix.Stat_t) {
	switch {
	case strings.HasPrefix(name, "trusted.gfid2path."):
		if at, ok := placeOfXattr(value); ok {
			o.names = append(o.names, at)
		}
	case name == linkto && st.Mode&0o7777 == unix.S_ISVTX && st.Size == 0:
		o.standing = pointer
	case name == "trusted.glusterfs.mdata":
		if ctime, mtime, ok := times(value); ok {
			o.Ctime, o.Mtime = ctime, mtime
		}
	case name == "trusted.glusterfs.shard.file-size" && len(value) >= 8:
		if size := int64(binary.BigEndian.Uint64(value)); size >= 0 && o.Kind == change.File {
			o.Size, o.elsewhere, o.sharded = size, true, true
			if len(value) >= 24 {
				o.Blocks = int64(binary.BigEndian.Uint64(value[16:]))
			}
		}
	case name == "trusted.ec.size" && len(value) >= 8:
		if size := int64(binary.BigEndian.Uint64(value)); size >= 0 && o.Kind == change.File {
			o.Size, o.elsewhere = size, true
		}
	case !gluster.Internal(name):
		o.Xattrs = append(o.Xattrs, change.Xattr{Name: name, Value: value})
	}
}

func placeOfXattr(value []byte) (change.Place, bool) {
	if len(value) < gluster.GFIDLen+2 || value[gluster.GFIDLen] != '/' {
		return change.Place{}, false
	}
	dir, err := gluster.ParseGFID(string(value[:gluster.GFIDLen]))
	at := change.Place{Dir: dir, Name: string(value[gluster.GFIDLen+1:])}
	return at, err == nil && change.ValidName(at.Name)
}

// times reads the times that clients see: version, flags, then ctime, mtime and atime with 8 bytes of seconds and of nanoseconds each.
func times(value []byte) (ctime, mtime change.Time, ok bool) {
	if len(value) < 1+8+3*16 || value[0] != 1 {
		return ctime, mtime, false
	}
	read := func(b []byte) change.Time {
		return change.Time{Sec: int64(binary.BigEndian.Uint64(b)), Nsec: uint32(binary.BigEndian.Uint64(b[8:]))}
	}
	ctime, mtime = read(value[9:]), read(value[25:])
	return ctime, mtime, ctime.Nsec < 1e9 && mtime.Nsec < 1e9
}

// gfidOf reads the GFID of what is at a path.
func gfidOf(path string, follow bool) (change.ID, error) {
	var id change.ID
	get := unix.Lgetxattr
	if follow {
		get = unix.Getxattr
	}
	n, err := get(path, "trusted.gfid", id[:])
	if err == nil && n != len(id) {
		err = syscall.ENODATA
	}
	return id, err
}

func xattrNames(path string) ([]string, error) {
	buf := make([]byte, 1024)
	for {
		n, err := unix.Llistxattr(path, buf)
		if errors.Is(err, unix.ERANGE) {
			buf = make([]byte, 4*len(buf))
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list attributes of %s: %w", path, err)
		}
		if n == 0 {
			return nil, nil
		}
		return strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00"), nil
	}
}

func xattr(path, name string) ([]byte, error) {
	buf := make([]byte, 256)
	for {
		n, err := unix.Lgetxattr(path, name, buf)
		if errors.Is(err, unix.ERANGE) {
			buf = make([]byte, 16*len(buf))
			continue
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}
