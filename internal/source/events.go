package source

import (
	"errors"
	"fmt"
	"os"
	"time"

	"georep/internal/change"
	"georep/internal/rooted"
	"georep/internal/source/fanotify"
	"georep/internal/source/inotify"
	"georep/internal/source/scan"
)

// watcher is a queue of events of the kernel, already tied to a Volume.
type watcher interface {
	// Wait blocks until there is an event, or the watcher is closed (os.ErrClosed).
	Wait() error
	// drain reads all that is queued and notes where to look.
	drain() error
	Close() error
}

// breath is how long the pump lets events gather in the kernel's queue, where many of them merge.
const breath = 5 * time.Millisecond

// openWatcher takes the way of learning of changes that was asked for, or the best that works.
func (v *Volume) openWatcher() error {
	v.events = None
	if v.o.Events == None {
		return nil
	}
	var reason error
	if v.o.Events == Auto || v.o.Events == Fanotify {
		w, err := v.openFanotify()
		if err == nil {
			v.watch, v.events = w, Fanotify
			return nil
		}
		if v.o.Events == Fanotify {
			return fmt.Errorf("watch source: %w", err)
		}
		reason = err
	}
	w, err := inotify.Open()
	if err == nil {
		v.watch, v.events = &inotifyWatch{Watcher: w, v: v}, Inotify
		return nil
	}
	if v.o.Events == Inotify {
		return fmt.Errorf("watch source: %w", err)
	}
	v.note(fmt.Sprintf("changes are found by scanning only: %v; %v", reason, err))
	return nil
}

func (v *Volume) openFanotify() (watcher, error) {
	if !v.dirs.byHandle {
		return nil, errors.New("directories cannot be opened by handle")
	}
	w, err := fanotify.Open(v.o.Root.Top())
	if err != nil {
		return nil, err
	}
	return &fanotifyWatch{Watcher: w, v: v, members: newRecent[handleKey, membership](16 << 10)}, nil
}

// pump notes events as they come, so that the kernel's queue stays short however slow the taker of batches is.
func (v *Volume) pump() error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if err := v.watch.Wait(); err != nil {
			if errors.Is(err, os.ErrClosed) {
				return nil
			}
			return err
		}
		if err := v.drainEvents(); err != nil {
			if errors.Is(err, os.ErrClosed) {
				return nil
			}
			return err
		}
		v.nudge()
		timer.Reset(breath)
		select {
		case <-timer.C:
		case <-v.stopped:
			return nil
		}
	}
}

// drainEvents notes all events that are queued at this moment.
func (v *Volume) drainEvents() error {
	if v.watch == nil {
		return nil
	}
	v.drain.Lock()
	defer v.drain.Unlock()
	began := time.Now()
	if err := v.watch.drain(); err != nil {
		return err
	}
	v.pending.read(began)
	return nil
}

// lose begins anew after events were lost.
func (v *Volume) lose() { v.want.Store(wantDoubt) }

// busy says whether directories are being compared, so that one that moves meanwhile may be missed.
func (v *Volume) busy() bool {
	if v.passing.Load() {
		return true
	}
	_, jobs := v.walker.Oldest()
	return jobs
}

// fanotifyWatch turns events of the whole file system into places of the tree.
type fanotifyWatch struct {
	*fanotify.Watcher
	v       *Volume
	epoch   uint64 // counts renames of directories: each may change what is in the tree
	members *recent[handleKey, membership]
}

// handleKey is a handle as the key of a map.
type handleKey struct {
	kind  int32
	bytes string
}

// membership is what a directory's handle stands for.
type membership struct {
	id     change.ID
	epoch  uint64 // when inside was found out
	inside bool
}

func (w *fanotifyWatch) drain() error { return w.Drain(w.event) }

func (w *fanotifyWatch) event(e fanotify.Event) {
	if e.Overflow {
		w.v.lose()
		return
	}
	if e.IsDir && e.Renamed {
		w.epoch++
	}
	if len(e.Dir.Bytes) == 0 {
		w.doubt(e, true, false)
	}
	if len(e.Dir.Bytes) == 0 && len(e.ToDir.Bytes) == 0 {
		w.nameless(e, 1)
		return
	}
	l := look{content: e.Content, entry: e.Created, lazy: e.Content && !e.Closed && !e.Created && !e.Attrib}
	from, fromInside := w.resolve(e.Dir)
	if len(e.Dir.Bytes) > 0 && (e.Content || e.Attrib && fromInside && !e.IsDir) {
		w.doubt(e, e.Content, fromInside)
	}
	if fromInside {
		w.v.pending.add(change.Place{Dir: from, Name: e.Name}, l)
	} else if !e.IsDir && (e.Content || e.Attrib) {
		w.nameless(e, 1) // somebody may have opened it by that name long ago: even the only name that it has may be in the tree now
	}
	if e.Renamed {
		w.renamed(e, fromInside)
	}
}

// doubt notes the object of an event. find says that it is to be found, should the name of the event not lead to it.
func (w *fanotifyWatch) doubt(e fanotify.Event, content, find bool) {
	if len(e.Target.Bytes) == 0 {
		return
	}
	n := doubt{content: content}
	n.ticket, n.since = w.v.pending.moment()
	if find {
		n.handle = e.Target
	}
	if !find {
		w.v.strangers.add(e.Target, n) // most are not in the tree at all: when there is no room, only those are forgotten
		return
	}
	if !w.v.doubts.add(e.Target, n) {
		w.v.lose()
	}
}

// renamed notes the new place of an object, and decides whether a directory must be compared with all that is below it: it
// was outside, or may have been, or a directory that is being compared has lost it.
func (w *fanotifyWatch) renamed(e fanotify.Event, fromInside bool) {
	v := w.v
	to, toInside := w.resolve(e.ToDir)
	var moved change.ID
	if e.IsDir && len(e.Target.Bytes) > 0 {
		moved, _ = w.resolve(e.Target)
	}
	if !toInside {
		if e.IsDir && fromInside && !moved.IsZero() {
			v.away.put(moved, struct{}{})
		}
		return
	}
	doubt := e.IsDir && (!fromInside || !v.away.none() || v.o.Ignore != nil || v.busy())
	if e.IsDir && !moved.IsZero() {
		v.dirs.saw(moved, to, e.ToName)
	}
	v.pending.add(change.Place{Dir: to, Name: e.ToName}, look{entry: true, deep: doubt})
}

// nameless notes all known names of an object that has at least so many, when the event tells none (its number of links changed)
// or one that is outside.
func (w *fanotifyWatch) nameless(e fanotify.Event, atLeast uint64) {
	if len(e.Target.Bytes) == 0 {
		return
	}
	w.lookUp(e.Target, atLeast, e.Content)
}

// lookUp notes all known names of an object that has at least so many, and says how many.
func (w *fanotifyWatch) lookUp(h rooted.Handle, atLeast uint64, content bool) int {
	id, links, err := w.Object(h)
	if err != nil || links < atLeast {
		return 0 // it is gone, and its last name with an event of its own
	}
	names, err := w.v.namesOf(id)
	if err != nil {
		w.v.RescanAll()
		return 1
	}
	for _, at := range names {
		w.v.pending.add(at, look{content: content, follow: true})
	}
	return len(names)
}

// pursue has those objects looked at that were changed under a name that is another's now. It gives false when there are any. Of
// what may still be looked at anyway it gives a moment before which it did not happen. waiting says that some places wait for
// their files to be closed.
func (v *Volume) pursue(ticket uint64, now time.Time, waiting bool) (settled bool, bound time.Time) {
	after := now.Add(time.Hour) // whatever came before the ticket
	if waiting {
		after = now.Add(-2 * lazyDelay)
	}
	v.strangers.settle(ticket, after)
	w, ok := v.watch.(*fanotifyWatch)
	if !ok {
		return true, time.Time{}
	}
	left, bound := v.doubts.settle(ticket, after)
	found := 0
	for _, n := range left {
		found += w.lookUp(n.handle, 1, n.content)
	}
	if found > 0 {
		v.nudge()
	}
	return found == 0, bound
}

// resolve tells which directory a handle stands for, and whether it is in the tree now.
func (w *fanotifyWatch) resolve(h rooted.Handle) (change.ID, bool) {
	key := handleKey{h.Type, string(h.Bytes)}
	m, ok := w.members.get(key)
	if ok && m.epoch == w.epoch {
		return m.id, m.inside
	}
	d, err := reach(w.v.o.Root, h)
	if stale(err) {
		return m.id, false // the event of its own name is what counts
	}
	if err == nil {
		defer d.Close()
		m.inside, err = w.join(d, &m.id)
	}
	if err != nil {
		if !ok {
			w.v.lose()
		}
		return m.id, ok // when in doubt it is worth a look
	}
	m.epoch = w.epoch
	w.members.put(key, m)
	if m.inside {
		w.v.dirs.sawHandle(m.id, h)
	}
	return m.id, m.inside
}

// join finds out which directory d is, and whether it is in the tree.
func (w *fanotifyWatch) join(d *rooted.Dir, id *change.ID) (inside bool, err error) {
	if id.IsZero() {
		self, err := d.Self()
		if err != nil {
			return false, err
		}
		*id = self.ID
	}
	_, err = d.Path()
	if errors.Is(err, rooted.ErrOutside) || errors.Is(err, rooted.ErrDeleted) {
		return false, nil
	}
	return err == nil, err
}

// inotifyWatch turns events of single directories into places.
type inotifyWatch struct {
	*inotify.Watcher
	v      *Volume
	moving map[uint32]bool // files that are between the two events of their rename: whether their content is in doubt
}

func (w *inotifyWatch) drain() error { return w.Drain(w.event) }

func (w *inotifyWatch) event(e inotify.Event) {
	if e.Overflow {
		w.v.lose()
		return
	}
	if !e.File.IsZero() {
		w.v.fileChanged(e)
		return
	}
	if e.Name == "" {
		e.Name = scan.Itself
	}
	l := look{
		content: e.Content, entry: e.Created, lazy: e.Content && !e.Closed && !e.Created && !e.Attrib,
		// What happened in it while it was away, or before it was watched, has left no event.
		deep: e.IsDir && e.Arrived,
	}
	at := change.Place{Dir: e.Dir, Name: e.Name}
	if e.Cookie != 0 && !e.IsDir {
		l.content = w.move(e, at) || l.content
	}
	w.v.pending.add(at, l)
}

// moving is about how many renames the kernel may mix at a time.
const moving = 1024

// move carries the doubt about a file's content from its old name to its new one.
func (w *inotifyWatch) move(e inotify.Event, at change.Place) bool {
	if e.Arrived {
		doubt := w.moving[e.Cookie]
		delete(w.moving, e.Cookie)
		return doubt
	}
	if !w.v.pending.doubts(at) {
		return false
	}
	if w.moving == nil || len(w.moving) >= moving {
		w.moving = make(map[uint32]bool) // those were moved out of the tree
	}
	w.moving[e.Cookie] = true
	return false
}

// mayBeThere says whether a directory that was not found along the names that are known may be in the tree nevertheless: then only a pass
// can tell what the events in it were about.
func (v *Volume) mayBeThere(id change.ID) bool {
	switch w := v.watch.(type) {
	case *inotifyWatch:
		// The kernel ends the watch of a directory that is deleted. One that was moved out of the tree keeps it, and leads here once: the
		// pass watches it again if it finds it.
		return w.Remove(id)
	case *fanotifyWatch:
		return v.dirs.forgot(id)
	}
	return false
}

// entered is called by the walker before it lists a directory: from then on no change in it may be missed.
func (v *Volume) entered(at scan.Dir, dir *rooted.Dir) {
	if at.Path != "" {
		v.dirs.saw(at.ID, at.Parent, at.Name())
	}
	w, ok := v.watch.(*inotifyWatch)
	if !ok {
		return
	}
	err := w.Add(dir, at.ID)
	if self, err := dir.Self(); err != nil || self.Ctime != at.Seen {
		// Its entries changed between the look at it and the begin of its watch.
		v.pending.add(scan.Listing(at.ID), look{})
	}
	if err != nil && !vanished(err) {
		v.unwatched(err, w.Len())
	}
}

// unwatched says once a pass that what happens in some directories is found by scanning only.
func (v *Volume) unwatched(err error, watched int) {
	v.blind.Store(true)
	if !v.blinded.CompareAndSwap(false, true) {
		return
	}
	how := "by scanning only"
	if v.o.ScanInterval > 0 {
		how = fmt.Sprintf("by scanning only, every %v", v.o.ScanInterval)
	}
	v.note(fmt.Sprintf("changes in some directories are found %s: %v (%d directories are watched)", how, err, watched))
}
