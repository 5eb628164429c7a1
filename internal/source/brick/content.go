package brick

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"georep/internal/change"
)

// Content is an open file of the primary.
type Content struct {
	file *os.File
	src  *Source
	id   change.ID
	size int64
	was  object
}

// errChanged means that a file was written to while it was read.
var errChanged = errors.New("the file changed while it was read")

// Open gives the content of a file, from the brick or, where that has not all of it, from the mounted volume. fs.ErrNotExist: it is not here
// any more.
func (s *Source) Open(ctx context.Context, _ change.Place, o change.Object) (*Content, error) {
	now, err := s.tree.read(ctx, o.ID)
	if err != nil {
		return nil, err
	}
	if now.standing != here && now.standing != unclear || now.Kind != change.File {
		return nil, fmt.Errorf("open %s: %w", s.tree.handle(o.ID), fs.ErrNotExist)
	}
	var file *os.File
	if now.elsewhere {
		file, err = s.o.Volume.Open(ctx, o.ID)
	} else {
		file, err = os.OpenFile(s.tree.handle(o.ID), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NOATIME, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open content: %w", err)
	}
	return &Content{file: file, src: s, id: o.ID, size: now.Size, was: now}, nil
}

// ReadAt implements io.ReaderAt.
func (c *Content) ReadAt(p []byte, off int64) (int, error) { return c.file.ReadAt(p, off) }

// Size is the number of bytes that the file had when it was opened.
func (c *Content) Size() int64 { return c.size }

// FD is the descriptor, for a program that reads the file itself.
func (c *Content) FD() int { return int(c.file.Fd()) }

// Close closes the file.
func (c *Content) Close() error { return c.file.Close() }

// Unchanged is nil as long as size and times are what they were when the file was opened.
func (c *Content) Unchanged() error {
	now, err := c.src.tree.readOnce(c.id)
	if err != nil {
		return err
	}
	if now.Size != c.was.Size || now.Mtime != c.was.Mtime || now.Ctime != c.was.Ctime {
		return fmt.Errorf("read content: %w (%w)", errChanged, syscall.ESTALE)
	}
	return nil
}

// Extents tells where the file has data and where holes.
func (c *Content) Extents(size int64, fn func(off, n int64, hole bool) error) error {
	if c.was.elsewhere && c.was.Blocks*512 < size {
		return c.blanks(size, fn)
	}
	fd := int(c.file.Fd())
	for off := int64(0); off < size; {
		data, err := unix.Seek(fd, off, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO):
			return fn(off, size-off, true)
		case err != nil:
			return fn(off, size-off, false) // it cannot tell
		}
		if data = min(data, size); data > off {
			if err := fn(off, data-off, true); err != nil {
				return err
			}
		}
		if data == size {
			return nil
		}
		end, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			end = size
		}
		end = min(end, size)
		if err := fn(data, end-data, false); err != nil {
			return err
		}
		off = end
	}
	return nil
}

// blankSize is the unit in which blanks takes zeros for a hole, in bytes.
const blankSize = 128 << 10

// blanks is Extents for files whose holes nobody tells: what is all zeros is taken for one.
func (c *Content) blanks(size int64, fn func(off, n int64, hole bool) error) error {
	buf, zero := make([]byte, blankSize), make([]byte, blankSize)
	start, hole := int64(0), false
	for off := int64(0); off < size; {
		part := buf[:min(size-off, blankSize)]
		n, err := c.file.ReadAt(part, off)
		if n < len(part) {
			if err == nil || errors.Is(err, io.EOF) {
				err = errChanged
			}
			return fmt.Errorf("read content: %w", err)
		}
		if blank := bytes.Equal(part, zero[:len(part)]); blank != hole {
			if off > start {
				if err := fn(start, off-start, hole); err != nil {
					return err
				}
			}
			start, hole = off, blank
		}
		off += int64(len(part))
	}
	if start == size {
		return nil
	}
	return fn(start, size-start, hole)
}
