package brick

import (
	"time"

	"golang.org/x/sys/unix"

	"georep/internal/change"
)

// The journal that is being written tells of an object only once that its content changed, and once that its attributes did. So those that it
// has told of are looked at again until it is closed, by the one call that shows whether anything happened since.

// recentEvery is how often they are looked at, and recentMax how many of them, the newest: what falls out is looked at when the journal is closed.
const (
	recentEvery = 700 * time.Millisecond
	recentMax   = 10_000
)

// recent are the objects of the journal that is being written.
type recent struct {
	seen  map[change.ID]unix.Timespec // when they changed last, by the brick's file system
	order []change.ID
	next  time.Time
}

func newRecent() *recent { return &recent{seen: map[change.ID]unix.Timespec{}} }

// add notes an object.
func (r *recent) add(id change.ID) {
	if _, known := r.seen[id]; known {
		return
	}
	if len(r.order) >= recentMax {
		delete(r.seen, r.order[0])
		r.order = r.order[1:]
	}
	r.seen[id] = unix.Timespec{}
	r.order = append(r.order, id)
}

func (r *recent) clear() {
	clear(r.seen)
	r.order = nil
}

// due gives those that changed since they were looked at last, if it is time.
func (r *recent) due(t *tree) []change.ID {
	if len(r.order) == 0 || time.Now().Before(r.next) {
		return nil
	}
	r.next = time.Now().Add(recentEvery)
	var changed []change.ID
	for _, id := range r.order {
		var st unix.Stat_t
		if unix.Lstat(t.handle(id), &st) != nil || r.seen[id] == st.Ctim {
			continue
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK && st.Nlink == 1 && unix.Stat(t.handle(id), &st) != nil {
			continue
		}
		if r.seen[id] != st.Ctim {
			r.seen[id] = st.Ctim
			changed = append(changed, id)
		}
	}
	return changed
}
