package fanotify

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"georep/internal/change"
	"georep/internal/rooted"
)

// readSize is the size of one read: the kernel fills it with as many events as fit.
const readSize = 256 << 10

// marked are the events that are asked for. FAN_MODIFY is among them because truncate(2) by path gives nothing else.
const marked = unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_RENAME | unix.FAN_MODIFY | unix.FAN_CLOSE_WRITE | unix.FAN_ATTRIB | unix.FAN_ONDIR

// Watcher is a mark on the file system that holds a directory. Wait and Drain may be called by different goroutines, but Drain
// by one at a time.
type Watcher struct {
	file *os.File
	conn syscall.RawConn
	root int // descriptor of the directory, owned by the caller
	buf  []byte
}

// Open marks the file system that top lies on. It fails when the kernel, the file system, or the privileges of the process do
// not allow that: EPERM (no CAP_SYS_ADMIN), EINVAL (older kernel), EXDEV (btrfs subvolume), EOPNOTSUPP or ENODEV (no handles).
// top must stay open until Close.
func Open(top *rooted.Dir) (*Watcher, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_REPORT_DFID_NAME_TARGET|unix.FAN_NONBLOCK|unix.FAN_CLOEXEC|
		unix.FAN_UNLIMITED_QUEUE|unix.FAN_UNLIMITED_MARKS, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fanotify_init: %w", err)
	}
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, marked, top.Fd(), ""); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("fanotify_mark: %w", err)
	}
	file := os.NewFile(uintptr(fd), "fanotify")
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("poll fanotify: %w", err)
	}
	return &Watcher{file: file, conn: conn, root: top.Fd(), buf: make([]byte, readSize)}, nil
}

// Close ends the mark; a waiting Wait returns os.ErrClosed.
func (w *Watcher) Close() error { return w.file.Close() }

// Wait blocks until at least one event can be read, or until Close.
func (w *Watcher) Wait() error {
	var failed error
	err := w.conn.Read(func(fd uintptr) bool {
		ready, err := readable(int(fd))
		failed = err
		return ready || err != nil
	})
	return errors.Join(err, failed)
}

// readable asks whether a read of fd would give something.
func readable(fd int) (bool, error) {
	set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(set, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("poll fanotify: %w", err)
		}
		return n > 0, nil
	}
}

// Drain reads all that is queued at this moment, calling fn for each event, and returns without waiting for more.
func (w *Watcher) Drain(fn func(Event)) error {
	for {
		var n int
		var failed error
		err := w.conn.Control(func(fd uintptr) { n, failed = unix.Read(int(fd), w.buf) })
		switch {
		case err != nil:
			return fmt.Errorf("read fanotify events: %w", err)
		case errors.Is(failed, unix.EAGAIN):
			return nil
		case errors.Is(failed, unix.EINTR):
			continue
		case failed != nil:
			return fmt.Errorf("read fanotify events: %w", failed)
		case n <= 0:
			return nil
		}
		err = Decode(w.buf[:n], func(e Event) error {
			fn(e)
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// Object gives the identity of the object, of whatever kind, that h stands for, and how many names it has. Its error is ESTALE
// when it is gone.
func (w *Watcher) Object(h rooted.Handle) (id change.ID, links uint64, err error) {
	fd, err := unix.OpenByHandleAt(w.root, unix.NewFileHandle(h.Type, h.Bytes), unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return change.ID{}, 0, fmt.Errorf("open_by_handle_at: %w", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return change.ID{}, 0, fmt.Errorf("fstat by handle: %w", err)
	}
	return change.NewID(st.Ino, h.Hash()), uint64(st.Nlink), nil
}
