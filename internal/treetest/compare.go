package treetest

import (
	"errors"
	"fmt"
	"path/filepath"
	"sort"
	"strconv"

	"golang.org/x/sys/unix"
)

// reserved is the entry of a destination's top that belongs to the product and mirrors nothing.
const reserved = ".georep"

// errEnough ends a walk that has found Options.Max differences.
var errEnough = errors.New("enough differences")

// inode identifies an object within one walk.
type inode struct{ dev, ino uint64 }

// comparison is the state of one call of Compare.
type comparison struct {
	Options
	found []Difference
	// The first path seen of each object with several names, by side; only names that both sides have count.
	firstA, firstB map[inode]string
}

// Compare reports in what the tree b is not like the tree a, in the order of a walk. Both must be at rest: an entry that
// vanishes during the walk is an error. It holds one pair of descriptors for each level of depth.
func Compare(a, b string, o Options) ([]Difference, error) {
	if o.Slack == 0 {
		o.Slack = 128 << 10
	}
	if o.Max == 0 {
		o.Max = 1000
	}
	c := &comparison{Options: o, firstA: map[inode]string{}, firstB: map[inode]string{}}
	pair, err := openTops(a, b)
	if err != nil {
		return nil, err
	}
	defer pair.close()
	err = c.top(pair)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return c.found, err
}

// handles is a directory open on both sides.
type handles struct{ a, b int }

func (h handles) close() {
	unix.Close(h.a)
	unix.Close(h.b)
}

const openFlags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC

func openTops(a, b string) (handles, error) {
	fdA, err := unix.Open(a, openFlags|unix.O_DIRECTORY, 0)
	if err != nil {
		return handles{}, fmt.Errorf("open %s: %w", a, err)
	}
	fdB, err := unix.Open(b, openFlags|unix.O_DIRECTORY, 0)
	if err != nil {
		unix.Close(fdA)
		return handles{}, fmt.Errorf("open %s: %w", b, err)
	}
	return handles{fdA, fdB}, nil
}

func (c *comparison) add(path string, p Property, a, b string) error {
	c.found = append(c.found, Difference{path, p, a, b})
	if len(c.found) >= c.Max {
		return errEnough
	}
	return nil
}

// top compares the tops themselves and what is in them.
func (c *comparison) top(dir handles) error {
	var a, b entry
	for _, side := range []struct {
		fd int
		to *entry
	}{{dir.a, &a}, {dir.b, &b}} {
		if err := unix.Fstat(side.fd, &side.to.st); err != nil {
			return fmt.Errorf("stat the top: %w", err)
		}
		var err error
		if side.to.xattrs, err = readXattrs("/proc/self/fd/"+strconv.Itoa(side.fd), true); err != nil {
			return err
		}
	}
	if err := c.attributes(".", a, b); err != nil {
		return err
	}
	return c.directory(dir, "")
}

// directory compares the entries of one directory, which is already open on both sides.
func (c *comparison) directory(dir handles, path string) error {
	namesA, err := list(dir.a)
	if err != nil {
		return fmt.Errorf("list %q of a: %w", path, err)
	}
	namesB, err := list(dir.b)
	if err != nil {
		return fmt.Errorf("list %q of b: %w", path, err)
	}
	for len(namesA) > 0 || len(namesB) > 0 {
		var name string
		switch inA, inB := len(namesA) > 0, len(namesB) > 0; {
		case inA && (!inB || namesA[0] <= namesB[0]):
			name = namesA[0]
		default:
			name = namesB[0]
		}
		hasA := len(namesA) > 0 && namesA[0] == name
		hasB := len(namesB) > 0 && namesB[0] == name
		if hasA {
			namesA = namesA[1:]
		}
		if hasB {
			namesB = namesB[1:]
		}
		if err := c.name(dir, filepath.Join(path, name), name, hasA, hasB); err != nil {
			return err
		}
	}
	return nil
}

// name compares what is at one name on the sides that have it.
func (c *comparison) name(dir handles, path, name string, hasA, hasB bool) error {
	if path == reserved || c.Ignore != nil && c.Ignore(path) {
		return nil
	}
	switch {
	case !hasB:
		return c.add(path, Missing, "present", "absent")
	case !hasA:
		return c.add(path, Extra, "absent", "present")
	}
	a, err := look(dir.a, name)
	if err != nil {
		return fmt.Errorf("look at %q of a: %w", path, err)
	}
	b, err := look(dir.b, name)
	if err != nil {
		return fmt.Errorf("look at %q of b: %w", path, err)
	}
	if a.kind() != b.kind() {
		return c.add(path, Kind, a.kindName(), b.kindName())
	}
	if err := c.attributes(path, a, b); err != nil {
		return err
	}
	if err := c.substance(dir, path, name, a, b); err != nil {
		return err
	}
	if a.kind() == unix.S_IFDIR {
		return c.descend(dir, path, name)
	}
	return c.links(path, a, b)
}

func (c *comparison) descend(dir handles, path, name string) error {
	below, err := c.openBoth(dir, path, name, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer below.close()
	return c.directory(below, path)
}

func (c *comparison) openBoth(dir handles, path, name string, flags int) (handles, error) {
	flags |= openFlags | unix.O_NOFOLLOW
	fdA, err := unix.Openat(dir.a, name, flags, 0)
	if err != nil {
		return handles{}, fmt.Errorf("open %q of a: %w", path, err)
	}
	fdB, err := unix.Openat(dir.b, name, flags, 0)
	if err != nil {
		unix.Close(fdA)
		return handles{}, fmt.Errorf("open %q of b: %w", path, err)
	}
	return handles{fdA, fdB}, nil
}

// attributes compares mode, owner, time and extended attributes.
func (c *comparison) attributes(path string, a, b entry) error {
	type line struct {
		property Property
		a, b     string
	}
	lines := []line{{Mtime, timeText(a.st.Mtim), timeText(b.st.Mtim)}}
	if a.kind() != unix.S_IFLNK {
		lines = append(lines, line{Mode, fmt.Sprintf("%04o", a.st.Mode&07777), fmt.Sprintf("%04o", b.st.Mode&07777)})
	}
	if !c.NoOwner {
		lines = append(lines, line{UID, fmt.Sprint(a.st.Uid), fmt.Sprint(b.st.Uid)}, line{GID, fmt.Sprint(a.st.Gid), fmt.Sprint(b.st.Gid)})
	}
	for _, l := range lines {
		if l.a == l.b {
			continue
		}
		if err := c.add(path, l.property, l.a, l.b); err != nil {
			return err
		}
	}
	return c.xattrs(path, a.xattrs, b.xattrs)
}

func (c *comparison) xattrs(path string, a, b map[string]string) error {
	union := make([]string, 0, len(a))
	for name := range a {
		union = append(union, name)
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			union = append(union, name)
		}
	}
	sort.Strings(union)
	for _, name := range union {
		valueA, inA := a[name]
		valueB, inB := b[name]
		if inA == inB && valueA == valueB {
			continue
		}
		if err := c.add(path, Xattr+Property(":"+name), xattrText(valueA, inA), xattrText(valueB, inB)); err != nil {
			return err
		}
	}
	return nil
}

// substance compares what an object holds besides attributes: content, target, device number.
func (c *comparison) substance(dir handles, path, name string, a, b entry) error {
	switch a.kind() {
	case unix.S_IFREG:
		return c.file(dir, path, name, a, b)
	case unix.S_IFLNK:
		if a.target != b.target {
			return c.add(path, Target, strconv.Quote(a.target), strconv.Quote(b.target))
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if a.st.Rdev != b.st.Rdev {
			return c.add(path, Rdev, deviceText(a.st.Rdev), deviceText(b.st.Rdev))
		}
	}
	return nil
}

// links compares which names belong to one object: the first name of an object must be the same on both sides.
func (c *comparison) links(path string, a, b entry) error {
	if a.st.Nlink < 2 && b.st.Nlink < 2 {
		return nil
	}
	firstA, firstB := first(c.firstA, a, path), first(c.firstB, b, path)
	if firstA == firstB {
		return nil
	}
	return c.add(path, Links, linkText(path, firstA), linkText(path, firstB))
}

// first remembers path as the first name of the object unless another was, and returns the first.
func first(names map[inode]string, e entry, path string) string {
	id := inode{e.st.Dev, e.st.Ino}
	if known, ok := names[id]; ok {
		return known
	}
	names[id] = path
	return path
}
