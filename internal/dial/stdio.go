package dial

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Stdio is the other end of a Conn: the standard input and output of this process as one stream. Unlike os.Stdin and
// os.Stdout its Close makes a Read or Write that waits return.
type Stdio struct{ in, out *os.File }

// OpenStdio takes over standard input and output. Nothing else may use them from then on.
func OpenStdio() (*Stdio, error) {
	in, err := takeOver(os.Stdin, "stdin")
	if err != nil {
		return nil, err
	}
	out, err := takeOver(os.Stdout, "stdout")
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return &Stdio{in, out}, nil
}

// takeOver gives a file for f that can be waited for, where it is of a kind that can, and leaves f at the null device, so
// that a stray line printed somewhere does not get into the stream.
func takeOver(f *os.File, name string) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("take over %s: %w", name, err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("take over %s: %w", name, err), unix.Close(fd))
	}
	own := os.NewFile(uintptr(fd), name)
	enlarge(own)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("take over %s: %w", name, err), own.Close())
	}
	defer null.Close()
	if err := unix.Dup3(int(null.Fd()), int(f.Fd()), 0); err != nil {
		return nil, errors.Join(fmt.Errorf("take over %s: %w", name, err), own.Close())
	}
	return own, nil
}

// Read reads standard input.
func (s *Stdio) Read(p []byte) (int, error) { return s.in.Read(p) }

// Write writes standard output.
func (s *Stdio) Write(p []byte) (int, error) { return s.out.Write(p) }

// Close closes both, which tells the other end that this one is done.
func (s *Stdio) Close() error { return errors.Join(s.in.Close(), s.out.Close()) }
