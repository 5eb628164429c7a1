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
	if has, err := creates(dir+"/CHANGELOG", id); err != nil || has {
		return from(len(closed)), has, err
	}
	for i, f := range slices.Backward(closed) {
		if has, err := creates(f.path, id); err != nil || has {
			return from(i), has, err
		}
	}
	return 0, false, nil
}

// creates says whether a journal has the record of an object's creation.
func creates(path string, id change.ID) (bool, error) {
	j, err := openJournal(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open the journal: %w", err)
	}
	defer j.file.Close()
	for !j.done {
		c, err := j.read(true)
		if err != nil {
			return false, err
		}
		for i := range c.Records {
			r := &c.Records[i]
			if r.ID == id && (r.Fop == Create || r.Fop == Mkdir || r.Fop == Symlink) {
				return true, nil
			}
		}
	}
	return false, nil
}
