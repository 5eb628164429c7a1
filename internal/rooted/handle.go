package rooted

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"georep/internal/change"
)

// maxHandle is the most bytes a file handle has (MAX_HANDLE_SZ).
const maxHandle = 128

// Handle names an object of a file system for as long as the object exists, as name_to_handle_at(2) and fanotify(7) give it.
type Handle struct {
	Type  int32
	Bytes []byte // 1 to 128 of them
}

// Hash is the handle's part in an identity, never 0.
func (h Handle) Hash() uint64 { return hashHandle(h.Type, h.Bytes) }

func hashHandle(typ int32, b []byte) uint64 {
	var buf [4 + maxHandle]byte
	binary.LittleEndian.PutUint32(buf[:], uint32(typ))
	n := 4 + copy(buf[4:], b)
	return max(1, xxh3.Hash(buf[:n]))
}

// rawHandle is the kernel's struct file_handle with room for the longest.
type rawHandle struct {
	size uint32
	typ  int32
	data [maxHandle]byte
}

// get fills h with the handle of the entry name of the directory fd, not following links.
func (h *rawHandle) get(fd int, name string, flags int) syscall.Errno {
	var c cstring
	if no := c.set(name); no != 0 {
		return no
	}
	var mount int32
	for {
		h.size = maxHandle
		_, _, no := unix.Syscall6(unix.SYS_NAME_TO_HANDLE_AT, uintptr(fd), uintptr(unsafe.Pointer(&c[0])),
			uintptr(unsafe.Pointer(h)), uintptr(unsafe.Pointer(&mount)), uintptr(flags), 0)
		if no != unix.EINTR {
			return no
		}
	}
}

func (h *rawHandle) hash() uint64 { return hashHandle(h.typ, h.data[:min(h.size, maxHandle)]) }

// handlesRefused says whether err means that there are no handles here.
func handlesRefused(err error) bool {
	return is(err, unix.EOPNOTSUPP, unix.EOVERFLOW, unix.ENOSYS, unix.EPERM)
}

// hashBirth stands in for the handle where there is none.
func hashBirth(st *unix.Statx_t) uint64 {
	if st.Mask&unix.STATX_BTIME == 0 {
		return 1
	}
	var buf [12]byte
	binary.LittleEndian.PutUint64(buf[:], uint64(st.Btime.Sec))
	binary.LittleEndian.PutUint32(buf[8:], st.Btime.Nsec)
	return max(1, xxh3.Hash(buf[:]))
}

// Handle gives the file handle of the entry name; of the directory itself if name is "". EOPNOTSUPP: there are none here.
func (d *Dir) Handle(name string) (Handle, error) {
	flags := 0
	if name == "" {
		flags = unix.AT_EMPTY_PATH
	}
	var raw rawHandle
	err := d.root.try("name_to_handle_at", where{d: d, name: name}, func() error { return errnoOrNil(raw.get(d.fd, name, flags)) })
	if err != nil {
		return Handle{}, err
	}
	return Handle{Type: raw.typ, Bytes: append([]byte(nil), raw.data[:min(raw.size, maxHandle)]...)}, nil
}

// OpenHandle opens the directory with that handle on the file system of the root, which needs CAP_DAC_READ_SEARCH (EPERM without).
// It may lie outside of the root: ask Path before anything is done in it. ESTALE: it is gone; ENOTDIR: it is no directory.
func (r *Root) OpenHandle(h Handle) (*Dir, error) {
	w := where{fixed: "(directory by handle)"}
	if len(h.Bytes) == 0 || len(h.Bytes) > maxHandle {
		return nil, r.failed("open_by_handle_at", w, unix.EINVAL)
	}
	fd := -1
	open := func(flags int) error {
		return r.try("open_by_handle_at", w, func() (err error) {
			fd, err = unix.OpenByHandleAt(r.top.fd, unix.NewFileHandle(h.Type, h.Bytes), openDirFlags|flags)
			return err
		})
	}
	var failure error
	if r.noatime {
		failure = open(unix.O_NOATIME)
	}
	if !r.noatime || is(failure, unix.EPERM) {
		failure = open(0)
	}
	if failure != nil {
		return nil, failure
	}
	if fd, failure = r.inside(fd, w); failure != nil {
		return nil, failure
	}
	return &Dir{root: r, fd: fd, shown: fd, byHandle: true}, nil
}

// identify makes the identity of the object that st is about and that is the entry name of the directory fd.
func (r *Root) identify(fd int, name string, flags int, st *unix.Statx_t, w where) (change.ID, error) {
	if !r.handles {
		return change.NewID(st.Ino, hashBirth(st)), nil
	}
	var h rawHandle
	if r.faults != nil {
		if err := r.faults("name_to_handle_at", w.String()); err != nil {
			return change.ID{}, r.failed("name_to_handle_at", w, err)
		}
	}
	if no := h.get(fd, name, flags); no != 0 {
		return change.ID{}, r.failed("name_to_handle_at", w, no)
	}
	return change.NewID(st.Ino, h.hash()), nil
}
