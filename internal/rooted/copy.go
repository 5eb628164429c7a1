package rooted

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// copyBuffer is the size of the pieces that are copied through memory.
const copyBuffer = 128 << 10

// sparseness is what is known about the holes of a file when it was opened.
type sparseness struct {
	dense     bool  // every byte is allocated: there is no need to look for holes
	blockSize int64 // 0: not known
}

func (s *sparseness) learn(st *unix.Statx_t) {
	s.dense = st.Size > 0 && st.Blocks*512 >= st.Size
	s.blockSize = int64(st.Blksize)
}

// Extents calls fn for the first size bytes of the file, piece after piece without a gap: what is data and what is a hole (or
// lies behind the end). Where the file system cannot tell, all is data. An error of fn ends it and is returned.
func (f *File) Extents(size int64, fn func(off, length int64, hole bool) error) error {
	return f.extents(0, size, fn)
}

func (f *File) extents(start, end int64, fn func(off, length int64, hole bool) error) error {
	for off := start; off < end; {
		data, err := f.seek(off, unix.SEEK_DATA)
		switch {
		case is(err, unix.ENXIO):
			return fn(off, end-off, true)
		case is(err, unix.EINVAL, unix.EOPNOTSUPP):
			return fn(off, end-off, false)
		case err != nil:
			return err
		}
		data = min(max(data, off), end)
		if data > off {
			if err := fn(off, data-off, true); err != nil {
				return err
			}
			off = data
			continue
		}
		hole, err := f.seek(off, unix.SEEK_HOLE)
		if is(err, unix.ENXIO) { // it was cut off meanwhile
			continue
		}
		if err != nil {
			return err
		}
		if hole = min(hole, end); hole <= off { // a file system that contradicts itself
			hole = end
		}
		if err := fn(off, hole-off, false); err != nil {
			return err
		}
		off = hole
	}
	return nil
}

func (f *File) seek(off int64, whence int) (to int64, err error) {
	err = f.root.try("lseek", f.w, func() (err error) {
		to, err = unix.Seek(f.fd, off, whence)
		return err
	})
	return to, err
}

// CopyRange copies n bytes at srcOff of src to dstOff of f, inside the kernel where it can, sharing the blocks where the file
// system can. Holes of src become holes. ENODATA: src is shorter.
func (f *File) CopyRange(src *File, srcOff, dstOff, n int64) error {
	if n <= 0 {
		return nil
	}
	if !f.root.noClone.Load() {
		done, err := f.clone(src, srcOff, dstOff, n)
		if done || err != nil {
			return err
		}
	}
	if src.sparse.dense {
		return f.copyData(src, srcOff, dstOff, n)
	}
	return src.extents(srcOff, srcOff+n, func(off, length int64, hole bool) error {
		to := dstOff + off - srcOff
		if !hole {
			return f.copyData(src, off, to, length)
		}
		if err := src.reaches(off + length); err != nil {
			return err
		}
		return f.Punch(to, length)
	})
}

// reaches gives an error if the file is shorter than size.
func (f *File) reaches(size int64) error {
	has, err := f.seek(0, unix.SEEK_END)
	if err == nil && has < size {
		err = f.root.failed("copy_file_range", f.w, unix.ENODATA)
	}
	return err
}

// clone shares whole blocks and says whether all was done that way.
func (f *File) clone(src *File, srcOff, dstOff, n int64) (bool, error) {
	block := src.sparse.blockSize
	if block <= 0 || srcOff%block != 0 || dstOff%block != 0 || n%block != 0 {
		return false, nil
	}
	err := f.root.try("ficlonerange", f.w, func() error {
		return unix.IoctlFileCloneRange(f.fd, &unix.FileCloneRange{
			Src_fd: int64(src.fd), Src_offset: uint64(srcOff), Src_length: uint64(n), Dest_offset: uint64(dstOff),
		})
	})
	switch {
	case err == nil:
		return true, nil
	case is(err, unix.EOPNOTSUPP, unix.ENOTTY, unix.ENOSYS):
		f.root.noClone.Store(true)
		return false, nil
	case is(err, unix.EINVAL, unix.EXDEV, unix.EPERM, unix.ETXTBSY): // not these two files or this range
		return false, nil
	}
	return false, err
}

func (f *File) copyData(src *File, srcOff, dstOff, n int64) error {
	for n > 0 && !f.root.copyPlain.Load() {
		moved, from, to := 0, srcOff, dstOff
		err := f.root.try("copy_file_range", f.w, func() (err error) {
			moved, err = unix.CopyFileRange(src.fd, &from, f.fd, &to, int(min(n, 1<<30)), 0)
			return err
		})
		if is(err, unix.ENOSYS, unix.EOPNOTSUPP) {
			f.root.copyPlain.Store(true)
		}
		if is(err, unix.ENOSYS, unix.EOPNOTSUPP, unix.EXDEV, unix.EINVAL, unix.EPERM, unix.ETXTBSY) {
			break
		}
		if err != nil {
			return err
		}
		if moved == 0 { // the end, or a file system that does not want to: reading decides
			break
		}
		srcOff, dstOff, n = srcOff+int64(moved), dstOff+int64(moved), n-int64(moved)
	}
	return f.copyThrough(src, srcOff, dstOff, n)
}

// copyThrough copies by reading and writing.
func (f *File) copyThrough(src *File, srcOff, dstOff, n int64) error {
	if n == 0 {
		return nil
	}
	buf := make([]byte, min(n, copyBuffer))
	for n > 0 {
		part := buf[:min(n, int64(len(buf)))]
		got, err := src.ReadAt(part, srcOff)
		if errors.Is(err, io.EOF) {
			return f.root.failed("copy_file_range", src.w, unix.ENODATA)
		}
		if err != nil {
			return err
		}
		if _, err := f.WriteAt(part[:got], dstOff); err != nil {
			return err
		}
		srcOff, dstOff, n = srcOff+int64(got), dstOff+int64(got), n-int64(got)
	}
	return nil
}

// Punch makes n bytes at off read as zeros, without space where the file system can; the size stays as it is.
func (f *File) Punch(off, n int64) error {
	if n <= 0 {
		return nil
	}
	err := f.root.try("fallocate", f.w, func() error {
		return unix.Fallocate(f.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if !is(err, unix.EOPNOTSUPP, unix.ENOSYS) {
		return err
	}
	size, err := f.seek(0, unix.SEEK_END)
	if err != nil {
		return err
	}
	zeros := make([]byte, min(n, copyBuffer))
	for end := min(off+n, size); off < end; {
		part := zeros[:min(end-off, int64(len(zeros)))]
		if _, err := f.WriteAt(part, off); err != nil {
			return err
		}
		off += int64(len(part))
	}
	return nil
}
