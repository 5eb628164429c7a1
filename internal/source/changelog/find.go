package changelog

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"georep/internal/change"
)

// Find looks for the record of an object's creation, from the newest journal back, and gives the time from which the journals are to be read so
// that all that came after that record, on whichever of the bricks with the same content, is read. Not found: that is not known.
func Find(dir string, id change.ID) (after int64, found bool, err error) {
	closed, err := listClosed(dir, 0)
	if err != nil {
		return 0, false, fmt.Errorf("list the journals: %w", err)
	}
	// Bricks record changes that happen at the same time in an order of their own, and end their journals at times of their own.
	const before = 2
	h, err := openHTime(dir, 0)
	if err != nil {
		return 0, false, err
	}
	from := func(i int) int64 {
		if i -= before + 1; i >= 0 {
			return closed[i].time
		}
		if len(closed) > 0 {
			return closed[0].time - 1
		}
		return h.names[len(h.names)-1]
	}
	if len(h.names) == 0 {
		return 0, false, nil
	}
	is := func(found change.ID) bool { return found == id }
	if _, has, err := created(dir+"/CHANGELOG", is); err != nil || has {
		return from(len(closed)), has, err
	}
	for i, f := range slices.Backward(closed) {
		if _, has, err := created(f.path, is); err != nil || has {
			return from(i), has, err
		}
	}
	return 0, false, nil
}

// newestIn is in how many journals Newest looks.
const newestIn = 200

// Newest gives the object whose creation was recorded last; zero if that was long ago.
func Newest(dir string) (change.ID, error) {
	closed, err := listClosed(dir, 0)
	if err != nil {
		return change.ID{}, fmt.Errorf("list the journals: %w", err)
	}
	any := func(change.ID) bool { return true }
	if id, has, err := created(dir+"/CHANGELOG", any); err != nil || has {
		return id, err
	}
	for _, f := range slices.Backward(closed[max(0, len(closed)-newestIn):]) {
		if id, has, err := created(f.path, any); err != nil || has {
			return id, err
		}
	}
	return change.ID{}, nil
}

// created gives the last object that fits whose creation a journal records.
func created(path string, fits func(change.ID) bool) (last change.ID, found bool, err error) {
	j, err := openJournal(path)
	if errors.Is(err, fs.ErrNotExist) {
		return last, false, nil
	}
	if err != nil {
		return last, false, fmt.Errorf("open the journal: %w", err)
	}
	defer j.file.Close()
	for !j.done {
		c, err := j.read(true)
		if err != nil {
			return last, false, err
		}
		for i := range c.Records {
			r := &c.Records[i]
			if (r.Fop == Create || r.Fop == Mkdir || r.Fop == Symlink) && r.Kind == Entry && fits(r.ID) {
				last, found = r.ID, true
			}
		}
	}
	return last, found, nil
}
