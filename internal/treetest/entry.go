package treetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// entry is what was seen at one name.
type entry struct {
	st     unix.Stat_t
	target string
	xattrs map[string]string
}

func (e entry) kind() uint32 { return e.st.Mode & unix.S_IFMT }

func (e entry) kindName() string {
	switch e.kind() {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR:
		return "character device"
	case unix.S_IFBLK:
		return "block device"
	}
	return fmt.Sprintf("kind %o", e.kind())
}

// list returns the sorted names of an open directory, whose descriptor stays open.
func list(fd int) ([]string, error) {
	again, err := unix.Openat(fd, ".", openFlags|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(again), "directory")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	sort.Strings(names)
	return names, err
}

// look reads all about one name without following a symlink.
func look(dirfd int, name string) (entry, error) {
	var e entry
	if err := unix.Fstatat(dirfd, name, &e.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return e, err
	}
	if e.kind() == unix.S_IFLNK {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dirfd, name, buf)
		if err != nil {
			return e, err
		}
		e.target = string(buf[:n])
	}
	var err error
	e.xattrs, err = readXattrs(filepath.Join("/proc/self/fd", strconv.Itoa(dirfd), name), false)
	return e, err
}

// readXattrs returns the extended attributes that belong to the mirrored state: not those in which XFS shows ACLs a second
// time, nor the private ones of a brick.
func readXattrs(path string, follow bool) (map[string]string, error) {
	listCall, getCall := unix.Llistxattr, unix.Lgetxattr
	if follow {
		listCall, getCall = unix.Listxattr, unix.Getxattr
	}
	names := make([]byte, 64<<10) // the kernel's limit of a list
	n, err := listCall(path, names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list attributes: %w", err)
	}
	values := map[string]string{}
	value := make([]byte, 64<<10) // and of a value
	for raw := range bytes.SplitSeq(names[:n], []byte{0}) {
		name := string(raw)
		if name == "" || strings.HasPrefix(name, "trusted.SGI_ACL_") || strings.HasPrefix(name, "trusted.glusterfs.") ||
			strings.HasPrefix(name, "trusted.gfid") {
			continue
		}
		size, err := getCall(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("read attribute %s: %w", name, err)
		}
		values[name] = string(value[:size])
	}
	return values, nil
}

// file compares size, content and allocation.
func (c *comparison) file(dir handles, path, name string, a, b entry) error {
	if a.st.Size != b.st.Size {
		return c.add(path, Size, fmt.Sprint(a.st.Size), fmt.Sprint(b.st.Size))
	}
	open, err := c.openBoth(dir, path, name, 0)
	if err != nil {
		return err
	}
	fileA, fileB := os.NewFile(uintptr(open.a), "a"), os.NewFile(uintptr(open.b), "b")
	defer fileA.Close()
	defer fileB.Close()
	off, err := firstDifference(fileA, fileB, a.st.Size)
	if err != nil {
		return fmt.Errorf("compare content of %q: %w", path, err)
	}
	if off >= 0 {
		if err := c.add(path, Content, "other bytes", fmt.Sprintf("differs from byte %d on", off)); err != nil {
			return err
		}
	}
	used, allowed := b.st.Blocks*512, a.st.Blocks*512
	if allowed += allowed/20 + c.Slack; used > allowed {
		return c.add(path, Blocks, fmt.Sprintf("at most %d bytes", allowed), fmt.Sprintf("%d bytes allocated", used))
	}
	return nil
}

// firstDifference returns the first offset at which the files differ, or -1. Where both have a hole nothing is read.
func firstDifference(a, b *os.File, size int64) (int64, error) {
	bufA, bufB := make([]byte, 256<<10), make([]byte, 256<<10)
	for off := int64(0); off < size; {
		data := min(nextData(a, off, size), nextData(b, off, size))
		if data > off {
			off = data
			continue
		}
		n := min(int64(len(bufA)), size-off)
		if _, err := a.ReadAt(bufA[:n], off); err != nil && err != io.EOF {
			return 0, err
		}
		if _, err := b.ReadAt(bufB[:n], off); err != nil && err != io.EOF {
			return 0, err
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			i := int64(0)
			for bufA[i] == bufB[i] {
				i++
			}
			return off + i, nil
		}
		off += n
	}
	return -1, nil
}

// nextData returns where the next data at or after off begins; size when there is none, off when it cannot be known.
func nextData(f *os.File, off, size int64) int64 {
	data, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size
	}
	if err != nil {
		return off
	}
	return data
}

func timeText(ts unix.Timespec) string {
	return fmt.Sprintf("%d.%09d (%s)", ts.Sec, ts.Nsec, time.Unix(ts.Unix()).UTC().Format(time.RFC3339Nano))
}

func deviceText(dev uint64) string { return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)) }

func linkText(path, first string) string {
	if path == first {
		return "an object not seen before"
	}
	return fmt.Sprintf("linked with %q", first)
}

// xattrText shows a value; ACLs as their entries.
func xattrText(value string, present bool) string {
	if !present {
		return "absent"
	}
	raw := []byte(value)
	if len(raw) >= 4 && (len(raw)-4)%8 == 0 && binary.LittleEndian.Uint32(raw) == 2 {
		var acl []string
		for i := 4; i < len(raw); i += 8 {
			tag, perm, id := binary.LittleEndian.Uint16(raw[i:]), binary.LittleEndian.Uint16(raw[i+2:]), binary.LittleEndian.Uint32(raw[i+4:])
			acl = append(acl, fmt.Sprintf("%d:%d:%d", tag, int32(id), perm))
		}
		return "acl " + strings.Join(acl, ",")
	}
	if len(raw) > 80 {
		return fmt.Sprintf("%q... (%d bytes)", raw[:80], len(raw))
	}
	return strconv.Quote(value)
}
