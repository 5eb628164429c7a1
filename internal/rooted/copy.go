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
	return f.sharing(src, srcOff, dstOff, n, f.copyUnshared, nil)
}

// CopySeen is CopyRange for who has to see what was copied: seen is called for each piece, in order, with its bytes (which are valid
// during the call), or with none and the length of a hole. buf is space for that, not empty.
func (f *File) CopySeen(src *File, srcOff, dstOff, n int64, buf []byte, seen func(p []byte, hole int64)) error {
	through := func(src *File, srcOff, dstOff, n int64) error { return f.copySeen(src, srcOff, dstOff, n, buf, seen) }
	return f.sharing(src, srcOff, dstOff, n, through, func(off, n int64) error {
		for n > 0 {
			part := buf[:min(n, int64(len(buf)))]
			got, err := f.ReadAt(part, off)
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			clear(part[got:]) // a shared hole at the end need not have made the file longer
			seen(part, 0)
			off, n = off+int64(len(part)), n-int64(len(part))
		}
		return nil
	})
}

// cloneLeast is the number of bytes from which sharing blocks is worth its call.
const cloneLeast = 64 << 10

// sharing copies a range. The whole blocks in it are shared where the file system can, if they lie alike in both files; after that
// shared is called for them if it is given. The rest is copied by rest.
func (f *File) sharing(src *File, srcOff, dstOff, n int64, rest func(src *File, srcOff, dstOff, n int64) error, shared func(off, n int64) error) error {
	block := src.sparse.blockSize
	if n <= 0 {
		return nil
	}
	if f.root.noClone.Load() || n < cloneLeast || block <= 0 || block > cloneLeast/2 || (srcOff-dstOff)%block != 0 {
		return rest(src, srcOff, dstOff, n)
	}
	head := (block - srcOff%block) % block
	middle := (n - head) / block * block
	if head > 0 {
		if err := rest(src, srcOff, dstOff, head); err != nil {
			return err
		}
	}
	done, err := f.clone(src, srcOff+head, dstOff+head, middle)
	switch {
	case err != nil:
		return err
	case !done:
		return rest(src, srcOff+head, dstOff+head, n-head)
	case shared != nil:
		if err := shared(dstOff+head, middle); err != nil {
			return err
		}
	}
	if tail := n - head - middle; tail > 0 {
		return rest(src, srcOff+head+middle, dstOff+head+middle, tail)
	}
	return nil
}

// copySeen copies through memory.
func (f *File) copySeen(src *File, srcOff, dstOff, n int64, buf []byte, seen func(p []byte, hole int64)) error {
	data := func(off, n int64) error {
		for to := dstOff + off - srcOff; n > 0; {
			part := buf[:min(n, int64(len(buf)))]
			_, err := src.ReadAt(part, off)
			if errors.Is(err, io.EOF) {
				return f.root.failed("pread64", src.w, unix.ENODATA)
			}
			if err == nil {
				_, err = f.WriteAt(part, to)
			}
			if err != nil {
				return err
			}
			seen(part, 0)
			off, to, n = off+int64(len(part)), to+int64(len(part)), n-int64(len(part))
		}
		return nil
	}
	if src.sparse.dense {
		return data(srcOff, n)
	}
	return src.extents(srcOff, srcOff+n, func(off, length int64, hole bool) error {
		if !hole {
			return data(off, length)
		}
		err := src.reaches(off + length)
		if err == nil {
			err = f.Punch(dstOff+off-srcOff, length)
		}
		if err == nil {
			seen(nil, length)
		}
		return err
	})
}

func (f *File) copyUnshared(src *File, srcOff, dstOff, n int64) error {
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
