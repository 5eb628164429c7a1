package index

import (
	"encoding/binary"
	"fmt"
	"math"

	"georep/internal/change"
)

// A record is the value of one place: a version byte; kind and flags; the identities on the primary and the secondary; then
// numbers as varints, but nanoseconds as four bytes little endian. Optional fields come last, in the order of their flags.
const (
	recordVersion = 1

	recordKindMask = 0x0f
	recordRacy     = 0x10
	recordXattrs   = 0x20 // eight bytes XattrSum follow
	recordRdev     = 0x40 // a varint Rdev follows
	recordTarget   = 0x80 // a varint length and Target follow

	recordIDEnd   = 2 + idSize
	recordFixed   = recordIDEnd + idSize
	recordAtMost  = recordFixed + 10*binary.MaxVarintLen64 + 8 + 8 // without the target
	maxTargetSize = 1 << 16
)

// checkEntry says whether e can be kept: what it rejects is a bug of the caller.
func checkEntry(e *change.Entry) error {
	switch {
	case e.ID.IsZero() || e.ID == change.StashID:
		return fmt.Errorf("identity %s is reserved", e.ID)
	case !validKind(e.Kind):
		return fmt.Errorf("unknown %s", e.Kind)
	case e.Mode > 0o7777:
		return fmt.Errorf("mode %o is out of range", e.Mode)
	case e.Size < 0 || e.Blocks < 0:
		return fmt.Errorf("size %d or blocks %d is negative", e.Size, e.Blocks)
	case e.Mtime.Nsec > 999_999_999 || e.Ctime.Nsec > 999_999_999:
		return fmt.Errorf("nanoseconds out of range")
	case len(e.Target) > maxTargetSize:
		return fmt.Errorf("symlink target of %d bytes is too long", len(e.Target))
	}
	return nil
}

func validKind(k change.Kind) bool {
	switch k {
	case change.FIFO, change.CharDev, change.Dir, change.BlockDev, change.File, change.Symlink, change.Socket:
		return true
	}
	return false
}

// appendRecord encodes an entry that checkEntry accepts.
func appendRecord(b []byte, e *change.Entry) []byte {
	flags := byte(e.Kind) & recordKindMask
	if e.Racy {
		flags |= recordRacy
	}
	if e.XattrSum != 0 {
		flags |= recordXattrs
	}
	if e.Rdev != 0 {
		flags |= recordRdev
	}
	if e.Target != "" {
		flags |= recordTarget
	}
	b = append(b, recordVersion, flags)
	b = append(b, e.ID[:]...)
	b = append(b, e.Sec[:]...)
	b = binary.AppendUvarint(b, uint64(e.Mode))
	b = binary.AppendUvarint(b, uint64(e.UID))
	b = binary.AppendUvarint(b, uint64(e.GID))
	b = binary.AppendVarint(b, e.Mtime.Sec)
	b = binary.LittleEndian.AppendUint32(b, e.Mtime.Nsec)
	b = binary.AppendVarint(b, e.Ctime.Sec-e.Mtime.Sec) // may wrap; the sum wraps back
	b = binary.LittleEndian.AppendUint32(b, e.Ctime.Nsec)
	b = binary.AppendUvarint(b, uint64(e.Size))
	b = binary.AppendUvarint(b, uint64(e.Blocks))
	b = binary.AppendUvarint(b, uint64(e.Nlink))
	if e.XattrSum != 0 {
		b = binary.LittleEndian.AppendUint64(b, e.XattrSum)
	}
	if e.Rdev != 0 {
		b = binary.AppendUvarint(b, e.Rdev)
	}
	if e.Target != "" {
		b = binary.AppendUvarint(b, uint64(len(e.Target)))
		b = append(b, e.Target...)
	}
	return b
}

// recordReader takes fields from a record. After the first one that is missing or malformed it stays bad.
type recordReader struct {
	b   []byte
	bad bool
}

func (r *recordReader) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > limit {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *recordReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *recordReader) nanoseconds() uint32 {
	if len(r.b) < 4 {
		r.bad = true
		return 0
	}
	v := binary.LittleEndian.Uint32(r.b)
	r.b = r.b[4:]
	if v > 999_999_999 {
		r.bad = true
	}
	return v
}

func (r *recordReader) bytes(n int) []byte {
	if len(r.b) < n {
		r.bad = true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

// decodeRecord reads what appendRecord wrote into e, strictly. e keeps nothing of b.
func decodeRecord(b []byte, e *change.Entry) error {
	if len(b) < recordFixed {
		return fmt.Errorf("%w (a record of %d bytes)", ErrCorrupt, len(b))
	}
	if b[0] != recordVersion {
		return fmt.Errorf("%w (a record of version %d)", ErrNewer, b[0])
	}
	flags := b[1]
	*e = change.Entry{Racy: flags&recordRacy != 0}
	e.Kind = change.Kind(flags & recordKindMask)
	copy(e.ID[:], b[2:])
	copy(e.Sec[:], b[18:])
	r := recordReader{b: b[recordFixed:], bad: !validKind(e.Kind)}
	e.Mode = uint32(r.uvarint(0o7777))
	e.UID = uint32(r.uvarint(math.MaxUint32))
	e.GID = uint32(r.uvarint(math.MaxUint32))
	e.Mtime.Sec = r.varint()
	e.Mtime.Nsec = r.nanoseconds()
	e.Ctime.Sec = e.Mtime.Sec + r.varint()
	e.Ctime.Nsec = r.nanoseconds()
	e.Size = int64(r.uvarint(math.MaxInt64))
	e.Blocks = int64(r.uvarint(math.MaxInt64))
	e.Nlink = uint32(r.uvarint(math.MaxUint32))
	if flags&recordXattrs != 0 {
		if sum := r.bytes(8); sum != nil {
			e.XattrSum = binary.LittleEndian.Uint64(sum)
		}
	}
	if flags&recordRdev != 0 {
		e.Rdev = r.uvarint(math.MaxUint64)
	}
	if flags&recordTarget != 0 {
		e.Target = string(r.bytes(int(r.uvarint(maxTargetSize))))
	}
	if r.bad || len(r.b) != 0 {
		*e = change.Entry{}
		return fmt.Errorf("%w (a record that cannot be read)", ErrCorrupt)
	}
	return nil
}

// recordHead is the part of a record that updates and walks need, at fixed positions.
type recordHead struct {
	id, sec change.ID
	kind    change.Kind
}

func decodeHead(b []byte) (recordHead, error) {
	if len(b) < recordFixed || b[0] != recordVersion {
		return recordHead{}, fmt.Errorf("%w (a record of %d bytes)", ErrCorrupt, len(b))
	}
	h := recordHead{kind: change.Kind(b[1] & recordKindMask)}
	copy(h.id[:], b[2:])
	copy(h.sec[:], b[18:])
	return h, nil
}

func headOf(e *change.Entry) recordHead { return recordHead{id: e.ID, sec: e.Sec, kind: e.Kind} }

// recordID is the identity in a record that appendRecord made.
func recordID(b []byte) change.ID { return change.ID(b[2:recordIDEnd]) }

// shareOf is what one name of a file adds to the total of bytes. It depends on the record alone, so that what was added when
// the record came is exactly what is taken away when it goes.
func shareOf(e *change.Entry) int64 {
	if e.Kind != change.File {
		return 0
	}
	return e.Size / max(1, int64(e.Nlink))
}
