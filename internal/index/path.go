package index

import (
	"fmt"
	"slices"

	"georep/internal/change"
)

// StashPath is where the stash of the secondary is, relative to its root.
const StashPath = ".georep/hold"

// deepest is how many directories above each other a path may have; a circle in a damaged index ends there.
const deepest = 1 << 16

// Path gives the path of a directory on the secondary, relative to its root (whose own is ""), and its identity there; false when the
// directory, or one above it, is unknown. The stash is known, without an identity.
func (x *Index) Path(dir change.ID) (path string, sec change.ID, found bool, err error) {
	if dir == change.StashID {
		return StashPath, change.ID{}, true, nil
	}
	if path, sec, found = x.cache.path(dir); found {
		return path, sec, true, nil
	}
	moves := x.cache.state()
	line, above, found, err := x.ancestry(dir)
	if err != nil {
		return "", change.ID{}, false, fmt.Errorf("get path of directory %s: %w", dir, err)
	}
	if !found {
		return "", change.ID{}, false, nil
	}
	return x.join(line, above, moves), line[0].sec, true, nil
}

// link is one directory on the way up, and what leads further.
type link struct {
	id, sec change.ID
	at      change.Place
}

// ancestry collects the directories from dir upwards until one whose path is known: a remembered one, the root, or the stash. Directories
// that moved into each other, told in batches of which one is still to come, may lead in a circle: it is left after as many steps as
// find it (Brent's way: the directory seen at the last power of two comes again).
func (x *Index) ancestry(dir change.ID) (line []link, above string, found bool, err error) {
	mark := dir
	for len(line) < deepest {
		l, found, err := x.link(dir)
		if err != nil || !found {
			return nil, "", false, err
		}
		line = append(line, l)
		if l.at.IsRoot() {
			return line, "", true, nil
		}
		dir = l.at.Dir
		if dir == change.StashID {
			return line, StashPath, true, nil
		}
		if path, _, ok := x.cache.path(dir); ok {
			return line, path, true, nil
		}
		if dir == mark {
			return nil, "", false, nil
		}
		if len(line)&(len(line)-1) == 0 {
			mark = dir
		}
	}
	return nil, "", false, nil
}

// link finds a directory's place and its identity on the secondary, remembered or in the file.
func (x *Index) link(dir change.ID) (l link, found bool, err error) {
	if l, found = x.cache.link(dir); found {
		return l, true, nil
	}
	l.id = dir
	err = x.withReader(func(r *reader) error {
		if err := r.places(dir, func(p change.Place) bool {
			l.at, found = p, true
			return false
		}); err != nil || !found {
			return err
		}
		v := r.record(l.at)
		if v == nil {
			return fmt.Errorf("%w (a name without a record)", ErrCorrupt)
		}
		head, err := decodeHead(v)
		l.sec, found = head.sec, head.kind == change.Dir
		return err
	})
	return l, found && err == nil, err
}

// join makes the path of the first of a line of directories, and remembers those of all.
func (x *Index) join(line []link, above string, moves uint64) string {
	whole := []byte(above)
	ends := make([]int, len(line))
	for i, l := range slices.Backward(line) {
		if !l.at.IsRoot() {
			if len(whole) > 0 {
				whole = append(whole, '/')
			}
			whole = append(whole, l.at.Name...)
		}
		ends[i] = len(whole)
	}
	path := string(whole)
	for i, l := range slices.Backward(line) {
		x.cache.put(l, path[:ends[i]], moves)
	}
	return path
}
