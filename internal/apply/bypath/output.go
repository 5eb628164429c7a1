package bypath

import (
	"io"
	"syscall"

	"georep/internal/rooted"
	"georep/internal/wire"
)

// output is the file that content is written to: without a name, or, if it is large, one in the reserved directory that stays
// when the transfer is interrupted.
type output struct {
	file      *rooted.File
	fresh     *fresh // holds the file when it has no name
	part      place  // its name otherwise
	had       int64  // bytes that an earlier transfer left in it
	placed    bool   // it has its name
	worthless bool   // not to be kept
}

// openOutput opens what the content of a request is written to. A part of a smaller file, which nobody but another program can
// have left, is used when it is asked for.
func (a *Applier) openOutput(at place, r *wire.Request, asked bool) (*output, error) {
	large := r.Object.Size >= partSize
	if (large || asked) && !r.Object.ID.IsZero() {
		out, err := a.openPart(r.Object.ID.String(), large)
		if out != nil || err != nil {
			return out, err
		}
	}
	f := &fresh{a: a, build: func(*rooted.File) error { return nil }}
	if err := f.make(at); err != nil {
		return nil, err
	}
	return &output{file: f.file, fresh: f}, nil
}

// partTries bounds how often a part may change hands while it is being opened.
const partTries = 4

// openPart opens the part of that name, or makes it. Nothing without an error: another transfer is writing it, or it is not there
// and not to be made.
func (a *Applier) openPart(name string, create bool) (*output, error) {
	dir, err := a.part()
	if err != nil {
		return nil, err
	}
	out := &output{part: place{openDir: dir, name: name}}
	for range partTries {
		if create {
			out.file, err = dir.Create(name, 0o600)
		}
		if !create || is(err, syscall.EEXIST) {
			out.file, err = dir.OpenRW(name)
		}
		switch {
		case is(err, syscall.ENOENT) && create:
			continue
		case is(err, syscall.ENOENT):
			dir.release()
			return nil, nil
		case is(err, syscall.EACCES, syscall.ELOOP, syscall.EISDIR, syscall.ENXIO):
			a.unlink(dir.Dir, name) // nothing that we could go on with
			continue
		case err != nil:
			dir.release()
			return nil, err
		}
		if err := syscall.Flock(out.file.Fd(), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			break
		}
		if ok, err := out.usable(a); ok || err != nil {
			if err != nil {
				_ = out.file.Close()
				dir.release()
				return nil, err
			}
			return out, nil
		}
		_ = out.file.Close()
		out.file = nil
	}
	if out.file != nil {
		_ = out.file.Close()
	}
	dir.release()
	return nil, nil
}

// usable says whether the file that was just opened and locked still is the part, and no other name shows it.
func (o *output) usable(a *Applier) (bool, error) {
	self, err := o.file.Stat()
	if err != nil {
		return false, err
	}
	there, ok, err := o.part.stat()
	if err != nil || !ok || there.ID != self.ID {
		return false, err
	}
	if self.Nlink != 1 {
		a.unlink(o.part.Dir, o.part.name)
		return false, nil
	}
	o.had = self.Size
	return true, nil
}

// begin prepares the file for content of which the first keep bytes that it has may be used.
func (o *output) begin(keep int64) error {
	if o.had <= keep {
		return nil
	}
	o.had = keep
	return o.file.Truncate(keep)
}

// newcomer is the complete file on its way to a name.
func (o *output) newcomer() newcomer {
	if o.fresh != nil {
		return o.fresh
	}
	return &finished{o}
}

// finished is a part that is complete.
type finished struct{ *output }

func (f *finished) take(at place) error { return f.done(mover{f.part}.take(at)) }
func (f *finished) over(at place) error { return f.done(mover{f.part}.over(at)) }

func (f *finished) done(err error) error {
	f.placed = f.placed || err == nil
	return err
}

// close releases the file. A part is kept if something arrived and can be used later.
func (o *output) close(a *Applier) {
	if o.fresh != nil {
		o.fresh.close()
		return
	}
	if !o.placed && (o.worthless || o.empty()) {
		a.unlink(o.part.Dir, o.part.name)
	}
	o.part.release()
	if err := o.file.Close(); err != nil {
		a.report(err)
	}
}

func (o *output) empty() bool {
	self, err := o.file.Stat()
	return err != nil || self.Size == 0
}

// basis is what is here of a file before its content arrives. Where a part was left, it stands before the old file: first the
// bytes of the part, then those of the old file that lie behind it, at their own places both, and last the bytes of the old file
// for which the part stands.
type basis struct {
	part, old         *rooted.File
	partSize, oldSize int64
}

func (b *basis) size() int64 { return b.partSize + b.oldSize }

func (b *basis) close() {
	if b.old != nil {
		_ = b.old.Close()
	}
}

// piece is a stretch of a basis that lies in one file.
type piece struct {
	file   *rooted.File
	off, n int64 // in file
}

// pieces calls f for the stretches that n bytes at off consist of.
func (b *basis) pieces(off, n int64, f func(piece) error) error {
	for n > 0 {
		var p piece
		body := max(b.partSize, b.oldSize)
		switch {
		case off < b.partSize:
			p = piece{b.part, off, b.partSize - off}
		case off < body:
			p = piece{b.old, off, b.oldSize - off}
		case off < b.size():
			p = piece{b.old, off - body, b.size() - off}
		default:
			return io.EOF
		}
		p.n = min(p.n, n)
		if err := f(p); err != nil {
			return err
		}
		off, n = off+p.n, n-p.n
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (b *basis) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	err := b.pieces(off, int64(len(p)), func(part piece) error {
		n, err := part.file.ReadAt(p[done:done+int(part.n)], part.off)
		done += n
		return err
	})
	return done, err
}

// Extents tells the holes of a basis that is one file, so that they need not be read.
func (b *basis) Extents(size int64, fn func(off, n int64, hole bool) error) error {
	if b.partSize == 0 && b.old != nil {
		return b.old.Extents(size, fn)
	}
	if size == 0 {
		return nil
	}
	return fn(0, size, false)
}

// target is the output of a patch.
type target struct {
	out   *output
	basis *basis
	buf   []byte
}

// WriteAt implements delta.Output.
func (t *target) WriteAt(p []byte, off int64) (int, error) { return t.out.file.WriteAt(p, off) }

// Truncate implements delta.Output.
func (t *target) Truncate(size int64) error { return t.out.file.Truncate(size) }

// spareHole is the size in bytes from which a hole where nothing is yet is worth a system call: some file systems set space aside
// behind what is written, and keep it when the file goes on behind the hole.
const spareHole = 64 << 10

// hole makes n bytes at off a hole.
func (t *target) hole(off, n, size int64) error {
	if n <= 0 || n > size-off || off >= t.out.had && n < spareHole {
		return nil // nothing, or a step that the patch refuses
	}
	return t.out.file.Punch(off, n)
}

// CopyRange implements delta.Output.
func (t *target) CopyRange(from, off, n int64) error {
	return t.CopySeen(from, off, n, func([]byte, int64) {})
}

// CopySeen implements delta.SeenOutput. What a part has at its place already stays. Content that moved within a part may have been
// overwritten before it is copied; the hash of the whole finds that, and the next try has it right.
func (t *target) CopySeen(from, off, n int64, seen func(p []byte, hole int64)) error {
	if int64(len(t.buf)) < min(n, bufferSize) {
		t.buf = make([]byte, min(max(n, 16<<10), bufferSize))
	}
	return t.basis.pieces(from, n, func(p piece) error {
		to := off
		off += p.n
		if p.file != t.out.file {
			return t.out.file.CopySeen(p.file, p.off, to, p.n, t.buf, seen)
		}
		return t.shift(p.off, to, p.n, seen)
	})
}

// shift copies within the output, also where source and target overlap. What is at its place already is only shown.
func (t *target) shift(from, to, n int64, seen func(p []byte, hole int64)) error {
	for n > 0 {
		part := t.buf[:min(n, int64(len(t.buf)))]
		if _, err := t.out.file.ReadAt(part, from); err != nil {
			return err
		}
		if from != to {
			if _, err := t.out.file.WriteAt(part, to); err != nil {
				return err
			}
		}
		seen(part, 0)
		from, to, n = from+int64(len(part)), to+int64(len(part)), n-int64(len(part))
	}
	return nil
}
