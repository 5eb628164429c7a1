package agent

import (
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// pipeSize is what pipes are enlarged to, in bytes: the usual maximum for accounts without privileges.
const pipeSize = 1 << 20

// stdio joins the standard streams. Closing it makes Read and Write return.
type stdio struct {
	in   io.Reader
	out  io.Writer
	once sync.Once
	err  error
}

// openStdio makes one stream of two.
func openStdio(in io.Reader, out io.Writer) (*stdio, error) {
	s := &stdio{in: in, out: out}
	var err error
	if f, ok := in.(*os.File); ok {
		if s.in, err = interruptible(f); err != nil {
			return nil, err
		}
	}
	if f, ok := out.(*os.File); ok {
		if s.out, err = interruptible(f); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// interruptible gives another handle on a pipe or socket whose Read and Write end when it is closed, which those of os.Stdin
// do not. Other files stay as they are.
func interruptible(f *os.File) (*os.File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return f, nil
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	if info.Mode()&os.ModeNamedPipe != 0 {
		// Larger is faster, but as it is will do.
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// Read reads from standard input.
func (s *stdio) Read(p []byte) (int, error) { return s.in.Read(p) }

// Write writes to standard output.
func (s *stdio) Write(p []byte) (int, error) { return s.out.Write(p) }

// Close closes both streams.
func (s *stdio) Close() error {
	s.once.Do(func() {
		for _, stream := range []any{s.in, s.out} {
			if c, ok := stream.(io.Closer); ok {
				s.err = errors.Join(s.err, c.Close())
			}
		}
	})
	return s.err
}
