package rooted

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"georep/internal/change"
)

// direntHeader is the size of struct linux_dirent64 before the name: inode, position of the next, length, type.
const direntHeader = 19

// listBuffer is the size of a buffer that we make ourselves; about a thousand entries.
const listBuffer = 32 << 10

// dirent is one entry of a block that getdents64 filled.
type dirent struct {
	name []byte // in the block
	kind change.Kind
	ino  uint64
	next int64 // position in the directory after this entry
}

// nextDirent cuts the first entry off block. ok is false when the block is not well-formed.
func nextDirent(block []byte) (e dirent, rest []byte, ok bool) {
	if len(block) < direntHeader {
		return e, nil, false
	}
	size := int(binary.NativeEndian.Uint16(block[16:]))
	if size < direntHeader || size > len(block) {
		return e, nil, false
	}
	e.ino = binary.NativeEndian.Uint64(block)
	e.next = int64(binary.NativeEndian.Uint64(block[8:]))
	e.kind = change.Kind(block[18])
	e.name = block[direntHeader:size]
	if n := bytes.IndexByte(e.name, 0); n >= 0 {
		e.name = e.name[:n]
	}
	return e, block[size:], true
}

func (e *dirent) isDots() bool {
	return len(e.name) == 0 || e.name[0] == '.' && (len(e.name) == 1 || len(e.name) == 2 && e.name[1] == '.')
}

// Entries calls fn for each entry but "." and ".." in the order of the file system, always from the start, until fn returns an error,
// which it then returns. buf is the buffer to read into; nil makes one. Entries that come or go meanwhile may or may not be
// seen. A directory that was removed gives ENOENT. Only one Entries at a time may run on a Dir; fn may do anything else with it.
func (d *Dir) Entries(buf []byte, fn func(name string, kind change.Kind, ino uint64) error) error {
	if len(buf) < 1024 {
		buf = make([]byte, listBuffer)
	}
	fd, err := d.listable()
	if err != nil {
		return err
	}
	if fd != d.fd {
		defer unix.Close(fd)
	}
	if err := d.seek(fd, 0); err != nil {
		return err
	}
	for {
		block, err := d.readBlock(fd, buf)
		if err != nil || len(block) == 0 {
			return err
		}
		for len(block) > 0 {
			e, rest, ok := nextDirent(block)
			if !ok {
				return d.root.failed("getdents64", where{d: d}, unix.EIO)
			}
			block = rest
			if e.isDots() {
				continue
			}
			name := string(e.name)
			if e.kind == 0 { // some file systems leave the type to stat
				o, err := d.StatLite(name)
				if is(err, unix.ENOENT) {
					continue
				}
				if err != nil && !is(err, ErrOtherDevice) {
					return err
				}
				e.kind = o.Kind
			}
			if err := fn(name, e.kind, e.ino); err != nil {
				return err
			}
		}
	}
}

// listable gives the descriptor to list by: another one if d can only be passed through.
func (d *Dir) listable() (int, error) {
	if !d.pathOnly {
		return d.fd, nil
	}
	fd := -1
	err := d.root.try("openat", where{d: d}, func() (err error) {
		fd, err = unix.Openat(d.fd, ".", openDirFlags, 0)
		return err
	})
	return fd, err
}

func (d *Dir) seek(fd int, to int64) error {
	return d.root.try("lseek", where{d: d}, func() error {
		_, err := unix.Seek(fd, to, unix.SEEK_SET)
		return err
	})
}

// readBlock reads the next entries into buf; none at the end.
func (d *Dir) readBlock(fd int, buf []byte) ([]byte, error) {
	n := 0
	err := d.root.try("getdents64", where{d: d}, func() (err error) {
		n, err = unix.Getdents(fd, buf)
		return err
	})
	return buf[:max(n, 0)], err
}
