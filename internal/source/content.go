package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"georep/internal/change"
	"georep/internal/rooted"
	"georep/internal/source/scan"
)

// ErrChanging means that a file was written to, or its attributes were changed, while it was read.
var ErrChanging = errors.New("the file changed while it was read")

// Content is an open file of the source. ReadAt and Extents may be called by many goroutines at once.
type Content struct {
	file *rooted.File
	was  change.Object
}

// Open gives the content of the regular file o that is at a place. fs.ErrNotExist: it is not there any more, or another object
// is. Any other error is one of reading. The caller closes the Content.
func (v *Volume) Open(ctx context.Context, at change.Place, o change.Object) (*Content, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, err := v.opened.get(at.Dir, func() (*rooted.Dir, error) {
		d, _, err := v.dirs.open(at.Dir, "")
		return d, err
	})
	if errors.Is(err, scan.ErrGone) {
		return nil, fmt.Errorf("open the directory of %q: %w: %w", at.Name, err, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("open the directory of %q: %w", at.Name, err)
	}
	file, was, err := dir.OpenFileStat(at.Name)
	v.opened.put(dir, err != nil)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENXIO) {
		return nil, fmt.Errorf("%w: another object has its name: %w", err, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	if was.ID != o.ID {
		file.Close()
		return nil, fmt.Errorf("open file %q: another object has its name: %w", at.Name, fs.ErrNotExist)
	}
	if err := v.flushedFile(ctx, file, &was); err != nil {
		file.Close()
		return nil, err
	}
	return &Content{file: file, was: was}, nil
}

// Size is the size in bytes when the file was opened.
func (c *Content) Size() int64 { return c.was.Size }

// ReadAt reads as io.ReaderAt says.
func (c *Content) ReadAt(p []byte, off int64) (int, error) { return c.file.ReadAt(p, off) }

// Extents calls fn for the parts of the first size bytes that hold data and those that are holes, in order.
func (c *Content) Extents(size int64, fn func(off, n int64, hole bool) error) error {
	return c.file.Extents(size, fn)
}

// Unchanged is nil as long as the file is what it was when it was opened, else ErrChanging.
func (c *Content) Unchanged() error {
	now, err := c.file.StatLite()
	if err != nil {
		return fmt.Errorf("check file: %w", err)
	}
	if now.Size != c.was.Size || now.Mtime != c.was.Mtime || now.Ctime != c.was.Ctime {
		return ErrChanging
	}
	return nil
}

// FD is the file's descriptor, which is open until Close.
func (c *Content) FD() int { return c.file.Fd() }

// Object is the state of the file when it was opened, without extended attributes.
func (c *Content) Object() change.Object { return c.was }

// Close releases the file.
func (c *Content) Close() error { return c.file.Close() }
