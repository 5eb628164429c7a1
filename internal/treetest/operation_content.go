package treetest

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// size picks a file size; small ones, block edges and empty files are frequent.
func (s *Storm) size() int64 {
	switch s.rng.IntN(8) {
	case 0:
		return 0
	case 1:
		return min(s.o.MaxSize, int64(s.rng.IntN(3)-1)+4096*int64(1+s.rng.IntN(4)))
	case 2:
		return s.rng.Int64N(s.o.MaxSize + 1)
	}
	return s.rng.Int64N(min(s.o.MaxSize, 3000) + 1)
}

// data makes n bytes: random, of one letter, or zeros.
func (s *Storm) data(n int64) []byte {
	p := make([]byte, n)
	switch s.rng.IntN(6) {
	case 0:
		letter := byte('a' + s.rng.IntN(26))
		for i := range p {
			p[i] = letter
		}
	case 1:
	default:
		s.bytes.Read(p) // never fails
	}
	return p
}

func (s *Storm) create() (string, error) {
	path := s.place()
	detail, err := s.createAt(s.below(path))
	return fmt.Sprintf("%q %s", path, detail), err
}

// createAt makes a new file at a free path, plain or sparse.
func (s *Storm) createAt(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, os.FileMode(s.mode(false)&0o777))
	if err != nil {
		return "", err
	}
	defer f.Close()
	data := s.data(s.size())
	if s.rng.IntN(50) == 0 {
		off := s.rng.Int64N(s.o.MaxSize * 64)
		_, err = f.WriteAt(data, off)
		return fmt.Sprintf("%d bytes at %d", len(data), off), err
	}
	_, err = f.Write(data)
	return fmt.Sprintf("%d bytes", len(data)), err
}

// onFile runs do with an existing file, open for writing.
func (s *Storm) onFile(flags int, do func(f *os.File, size int64) (string, error)) (string, error) {
	return s.on(isFile, func(path string) (string, error) {
		f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return "", err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return "", err
		}
		if !info.Mode().IsRegular() {
			return "", errNothing
		}
		return do(f, info.Size())
	})
}

func (s *Storm) rewrite() (string, error) {
	return s.onFile(os.O_WRONLY|os.O_TRUNC, func(f *os.File, _ int64) (string, error) {
		data := s.data(s.size())
		_, err := f.Write(data)
		return fmt.Sprintf("%d bytes", len(data)), err
	})
}

func (s *Storm) append() (string, error) {
	return s.onFile(os.O_WRONLY|os.O_APPEND, func(f *os.File, size int64) (string, error) {
		data := s.data(1 + s.rng.Int64N(5000))
		if size > s.o.MaxSize {
			return "", errNothing
		}
		_, err := f.Write(data)
		return fmt.Sprintf("%d bytes at %d", len(data), size), err
	})
}

// part picks a range within a file of that size, which is not empty.
func (s *Storm) part(size int64) (off, n int64) {
	off = s.rng.Int64N(size)
	return off, min(1+s.rng.Int64N(20_000), size-off)
}

func (s *Storm) overwrite() (string, error) {
	return s.onFile(os.O_WRONLY, func(f *os.File, size int64) (string, error) {
		if size == 0 {
			return "", errNothing
		}
		off, n := s.part(size)
		_, err := f.WriteAt(s.data(n), off)
		return fmt.Sprintf("%d bytes at %d of %d", n, off, size), err
	})
}

// overwriteQuietly leaves size and mtime as they were.
func (s *Storm) overwriteQuietly() (string, error) {
	return s.onFile(os.O_WRONLY, func(f *os.File, size int64) (string, error) {
		if size == 0 {
			return "", errNothing
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return "", err
		}
		off, n := s.part(size)
		if _, err := f.WriteAt(s.data(n), off); err != nil {
			return "", err
		}
		err := unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), []unix.Timespec{{Nsec: unix.UTIME_OMIT}, st.Mtim}, 0)
		return fmt.Sprintf("%d bytes at %d of %d", n, off, size), err
	})
}

func (s *Storm) writeMapped() (string, error) {
	return s.onFile(os.O_RDWR, func(f *os.File, size int64) (string, error) {
		if size == 0 || size > s.o.MaxSize {
			return "", errNothing
		}
		window, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return "", err
		}
		off, n := s.part(size)
		copy(window[off:off+n], s.data(n))
		return fmt.Sprintf("%d bytes at %d of %d", n, off, size), unix.Munmap(window)
	})
}

// hold opens a file and keeps it open over later steps; at most four are held.
func (s *Storm) hold() (string, error) {
	if len(s.held) == 4 {
		err := s.held[0].Close()
		s.held = s.held[1:]
		return "closed the oldest", err
	}
	return s.on(isFile, func(path string) (string, error) {
		f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return "", err
		}
		s.held = append(s.held, f)
		return "", nil
	})
}

func (s *Storm) writeHeld() (string, error) {
	if len(s.held) == 0 {
		return "", errNothing
	}
	f := s.held[s.rng.IntN(len(s.held))]
	data, off := s.data(1+s.rng.Int64N(3000)), s.rng.Int64N(s.o.MaxSize)
	_, err := f.WriteAt(data, off)
	return fmt.Sprintf("%d bytes at %d, opened as %q", len(data), off, f.Name()), err
}

// truncate goes by path half of the time: then no close of a writer follows the change.
func (s *Storm) truncate() (string, error) {
	size := s.size()
	if s.rng.IntN(2) == 0 {
		return s.on(isFile, func(path string) (string, error) {
			return fmt.Sprintf("by path to %d", size), unix.Truncate(path, size)
		})
	}
	return s.onFile(os.O_WRONLY, func(f *os.File, old int64) (string, error) {
		return fmt.Sprintf("from %d to %d", old, size), f.Truncate(size)
	})
}

func (s *Storm) punch() (string, error) {
	return s.onFile(os.O_WRONLY, func(f *os.File, size int64) (string, error) {
		if size == 0 {
			return "", errNothing
		}
		off, n := s.part(size)
		if s.rng.IntN(2) == 0 {
			off, n = off&^4095, (n+4095)&^4095
		}
		return fmt.Sprintf("%d bytes at %d of %d", n, off, size),
			unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

// fill writes where the first hole is, or zeroes a range that keeps its space.
func (s *Storm) fill() (string, error) {
	return s.onFile(os.O_RDWR, func(f *os.File, size int64) (string, error) {
		if size == 0 {
			return "", errNothing
		}
		hole, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_HOLE)
		if err != nil {
			return "", err
		}
		if hole < size {
			n := min(size-hole, 1+s.rng.Int64N(20_000))
			_, err := f.WriteAt(s.data(n), hole)
			return fmt.Sprintf("the hole at %d with %d bytes", hole, n), err
		}
		off, n := s.part(size)
		return fmt.Sprintf("%d zeros at %d", n, off), unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

// linkUnnamed makes a file without a name and gives it one when it is complete.
func (s *Storm) linkUnnamed() (string, error) {
	path := s.below(s.place())
	fd, err := unix.Open(s.root, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), "unnamed")
	defer f.Close()
	data := s.data(s.size())
	if _, err := f.Write(data); err != nil {
		return "", err
	}
	err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	return fmt.Sprintf("%q %d bytes", path[len(s.root)+1:], len(data)), err
}
