package inotify

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"georep/internal/change"
	"georep/internal/rooted"
)

// ErrLimit means that the user has no more watches left: directories without one are found by scanning only.
var ErrLimit = errors.New("the limit fs.inotify.max_user_watches is reached")

// Event is a place at which something happened.
type Event struct {
	Dir  change.ID // the watched directory
	Name string    // "" for the directory itself
	File change.ID // not zero: a watched file, under whatever name; Dir and Name are not set

	Created  bool   // the directory gained or lost the name
	Arrived  bool   // the name came by a rename, from wherever
	Content  bool   // the content may have changed
	Closed   bool   // a writer closed the file
	Attrib   bool   // its attributes or its number of names changed
	IsDir    bool   // the object is a directory
	Cookie   uint32 // joins the two events of a rename; 0 for others
	Overflow bool   // events were lost; nothing else is set
}

const (
	readSize = 64 << 10
	marked   = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB |
		unix.IN_ONLYDIR // not IN_EXCL_UNLINK: a file that lost the name by which it is open may have others
	// markedFile never takes anything from a watch that is there already.
	markedFile = unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_DONT_FOLLOW | unix.IN_MASK_ADD
)

// maxFiles bounds the files that have a watch of their own: each keeps an inode in the kernel's memory.
const maxFiles = 8 << 10

// Watcher is a set of watched directories. Its methods may be called by many goroutines, but Drain by one at a time.
type Watcher struct {
	file *os.File
	conn syscall.RawConn
	buf  []byte

	mu   sync.Mutex // guards what follows
	dirs map[int32]change.ID
	wds  map[change.ID]int32
	// files and fileWds are the same for files. noFiles says that their watches were needed for directories.
	files   map[int32]change.ID
	fileWds map[change.ID]int32
	noFiles bool
}

// Open makes a Watcher without any watch.
func Open() (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("inotify_init1: %w", err)
	}
	file := os.NewFile(uintptr(fd), "inotify")
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("poll inotify: %w", err)
	}
	return &Watcher{file: file, conn: conn, buf: make([]byte, readSize), dirs: make(map[int32]change.ID), wds: make(map[change.ID]int32),
		files: make(map[int32]change.ID), fileWds: make(map[change.ID]int32)}, nil
}

// Close drops all watches; a waiting Wait returns os.ErrClosed.
func (w *Watcher) Close() error { return w.file.Close() }

// Len is the number of watched directories.
func (w *Watcher) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.wds)
}

// Add watches dir, whose identity is id, until it is deleted or removed. Adding it again changes nothing. The error is ErrLimit
// when the user has no watch left.
func (w *Watcher) Add(dir *rooted.Dir, id change.ID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.wds[id]; ok {
		return nil
	}
	// The path through the descriptor names this very directory, whatever is renamed meanwhile.
	path := "/proc/self/fd/" + strconv.Itoa(dir.Fd())
	wd, err := w.add(path, marked)
	if errors.Is(err, ErrLimit) && len(w.files) > 0 {
		w.dropFiles()
		wd, err = w.add(path, marked)
	}
	if err != nil {
		return err
	}
	w.dirs[wd], w.wds[id] = id, wd
	return nil
}

// add asks the kernel for a watch. Called with mu held.
func (w *Watcher) add(path string, mask uint32) (int32, error) {
	var wd int
	var failed error
	if err := w.conn.Control(func(fd uintptr) { wd, failed = unix.InotifyAddWatch(int(fd), path, mask) }); err != nil {
		return 0, fmt.Errorf("add inotify watch: %w", err)
	}
	switch {
	case errors.Is(failed, unix.ENOSPC) || errors.Is(failed, unix.ENOMEM):
		return 0, ErrLimit
	case failed != nil:
		return 0, fmt.Errorf("inotify_add_watch: %w", failed)
	}
	return int32(wd), nil
}

// dropFiles ends the watches of all files: directories need them. Called with mu held.
func (w *Watcher) dropFiles() {
	w.noFiles = true
	for wd := range w.files {
		w.end(wd)
	}
	clear(w.files)
	clear(w.fileWds)
}

// end ends a watch. It fails when the kernel has ended it by itself, which is as good. Called with mu held.
func (w *Watcher) end(wd int32) {
	_ = w.conn.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(wd)) })
}

// AddFile watches what has the name in dir now, under all the names that it has anywhere and by which it is open, until it is
// deleted. It says whether there is a watch that was not there before: whether it is on the object id is for the caller to find out. There
// need not be room for it.
func (w *Watcher) AddFile(dir *rooted.Dir, name string, id change.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.fileWds[id]; ok || w.noFiles || len(w.files) >= maxFiles {
		return false
	}
	wd, err := w.add("/proc/self/fd/"+strconv.Itoa(dir.Fd())+"/"+name, markedFile)
	if err != nil {
		w.noFiles = errors.Is(err, ErrLimit)
		return false
	}
	if _, isDir := w.dirs[wd]; isDir { // it has the name by now
		return false
	}
	if old, ok := w.files[wd]; ok {
		delete(w.fileWds, old)
	}
	w.files[wd], w.fileWds[id] = id, wd
	return true
}

// RemoveFile ends the watch of a file.
func (w *Watcher) RemoveFile(id change.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if wd, ok := w.fileWds[id]; ok {
		delete(w.fileWds, id)
		delete(w.files, wd)
		w.end(wd)
	}
}

// Remove ends the watch of the directory id, and says whether there was one.
func (w *Watcher) Remove(id change.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	wd, ok := w.wds[id]
	if !ok {
		return false
	}
	delete(w.wds, id)
	delete(w.dirs, wd)
	w.end(wd)
	return true
}

// Wait blocks until at least one event can be read, or until Close.
func (w *Watcher) Wait() error {
	var failed error
	err := w.conn.Read(func(fd uintptr) bool {
		set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(set, 0)
		if errors.Is(err, unix.EINTR) {
			return false
		}
		failed = err
		return n > 0 || err != nil
	})
	return errors.Join(err, failed)
}

// Drain reads all that is queued at this moment, calling fn for each event, and returns without waiting for more.
func (w *Watcher) Drain(fn func(Event)) error {
	for {
		var n int
		var failed error
		err := w.conn.Control(func(fd uintptr) { n, failed = unix.Read(int(fd), w.buf) })
		switch {
		case err != nil:
			return fmt.Errorf("read inotify events: %w", err)
		case errors.Is(failed, unix.EAGAIN):
			return nil
		case errors.Is(failed, unix.EINTR):
			continue
		case failed != nil:
			return fmt.Errorf("read inotify events: %w", failed)
		case n <= 0:
			return nil
		}
		err = decode(w.buf[:n], func(r record) {
			if e, ok := w.event(r); ok {
				fn(e)
			}
		})
		if err != nil {
			return err
		}
	}
}

// event translates one record; ok is false when it tells nothing.
func (w *Watcher) event(r record) (e Event, ok bool) {
	if r.mask&unix.IN_Q_OVERFLOW != 0 {
		return Event{Overflow: true}, true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if id, known := w.files[r.watch]; known {
		return w.fileEvent(id, r)
	}
	id, known := w.dirs[r.watch]
	if !known {
		return Event{}, false
	}
	if r.mask&(unix.IN_IGNORED|unix.IN_UNMOUNT) != 0 {
		delete(w.dirs, r.watch)
		if w.wds[id] == r.watch {
			delete(w.wds, id)
		}
		return Event{}, false
	}
	return Event{
		Dir:     id,
		Name:    r.name,
		Created: r.mask&(unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVED_FROM|unix.IN_MOVED_TO) != 0,
		Arrived: r.mask&unix.IN_MOVED_TO != 0,
		Content: r.mask&(unix.IN_MODIFY|unix.IN_CLOSE_WRITE) != 0,
		Closed:  r.mask&unix.IN_CLOSE_WRITE != 0,
		Attrib:  r.mask&unix.IN_ATTRIB != 0,
		IsDir:   r.mask&unix.IN_ISDIR != 0,
		Cookie:  r.cookie,
	}, true
}

// fileEvent translates a record of a file's own watch. Called with mu held.
func (w *Watcher) fileEvent(id change.ID, r record) (e Event, ok bool) {
	if r.mask&(unix.IN_IGNORED|unix.IN_UNMOUNT) != 0 {
		delete(w.files, r.watch)
		if w.fileWds[id] == r.watch {
			delete(w.fileWds, id)
		}
		return Event{}, false
	}
	return Event{
		File:    id,
		Content: r.mask&(unix.IN_MODIFY|unix.IN_CLOSE_WRITE) != 0,
		Closed:  r.mask&unix.IN_CLOSE_WRITE != 0,
		Attrib:  r.mask&unix.IN_ATTRIB != 0,
	}, true
}
