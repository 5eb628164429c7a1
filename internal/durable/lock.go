package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrLocked says that somebody else holds a lock; the error that wraps it is a LockedError.
var ErrLocked = errors.New("locked")

// LockedError tells who holds a lock.
type LockedError struct {
	Path string
	PID  int // of the holder; 0 if not known
}

// Error names the file, and the holder if it is known.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s is locked by another process", e.Path)
	}
	return fmt.Sprintf("%s is locked by process %d", e.Path, e.PID)
}

// Unwrap gives ErrLocked.
func (e *LockedError) Unwrap() error { return ErrLocked }

// Held is a lock that we hold. It ends with Unlock or with the process, however that ends, and is not inherited by its children.
type Held struct {
	file *os.File
	path string
}

// lockTries bounds how often the lock is taken on a file that is removed at the same moment.
const lockTries = 16

// Lock takes the lock of the file at path, which is made if missing and holds the process number of the owner. It does
// not wait: if the lock is taken, by another process or by this one, the error is a LockedError.
func Lock(path string) (*Held, error) {
	for range lockTries {
		l, err := tryLock(path)
		if err != nil || l != nil {
			return l, err
		}
	}
	return nil, fmt.Errorf("lock %s: the file is removed again and again", path)
}

// tryLock gives neither lock nor error if the file it locked is not the one at path any more.
func tryLock(path string) (*Held, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	keep := false
	defer func() {
		if !keep {
			f.Close()
		}
	}()
	// A lock of the open file description, not of the process: closing another descriptor of the same file does not drop it.
	whole := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &whole)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, &LockedError{Path: path, PID: holder(f)}
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	ours, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if now, err := os.Lstat(path); err != nil || !os.SameFile(ours, now) {
		return nil, nil
	}
	if err := f.Truncate(0); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	keep = true
	return &Held{file: f, path: path}, nil
}

// Locked says whether somebody holds the lock of the file at path, without touching it. A file that is missing is not locked. Locks of this
// kind and those of POSIX, as other programs take them, count alike.
func Locked(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask for a lock: %w", err)
	}
	defer f.Close()
	whole := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &whole); err != nil {
		return false, fmt.Errorf("ask for the lock of %s: %w", path, err)
	}
	return whole.Type != unix.F_UNLCK, nil
}

// File is the open file that carries the lock. A child that gets it keeps the lock when we end, and calls Inherit.
func (l *Held) File() *os.File { return l.file }

// Inherit takes over a lock whose open file we were given when we were started, as this file descriptor, and writes our process number
// into the file.
func Inherit(fd uintptr, path string) (*Held, error) {
	syscall.CloseOnExec(int(fd)) // our own children must not keep the lock alive
	f := os.NewFile(fd, path)
	if f == nil {
		return nil, fmt.Errorf("inherit the lock of %s: there is no descriptor %d", path, fd)
	}
	number := []byte(strconv.Itoa(os.Getpid()) + "\n")
	_, err := f.WriteAt(number, 0)
	if err == nil {
		err = f.Truncate(int64(len(number)))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("inherit the lock of %s: %w", path, err)
	}
	return &Held{file: f, path: path}, nil
}

// holder reads who says to hold the lock.
func holder(f *os.File) int {
	buf := make([]byte, 32)
	n, _ := f.ReadAt(buf, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

// Unlock gives the lock up. The file stays, empty.
func (l *Held) Unlock() error {
	if err := l.file.Truncate(0); err != nil {
		l.file.Close()
		return fmt.Errorf("unlock: %w", err)
	}
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	return nil
}
