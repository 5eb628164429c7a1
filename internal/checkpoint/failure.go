package checkpoint

import (
	"encoding/binary"
	"fmt"
	"math"
	"syscall"
	"time"

	"georep/internal/change"
)

// Failure says what failed at a place, how often and when.
type Failure struct {
	Path   string // for a person, relative to the root; any bytes
	Op     change.Op
	Call   string        // that failed, e.g. "openat"; may be empty
	Errno  syscall.Errno // 0 when the cause is not an errno
	Detail string        // for a person, may be empty
	Local  bool          // failed on the primary, not on the secondary

	Count uint32 // attempts that failed, one after the other: 1 or more
	First time.Time
	Last  time.Time
	Next  time.Time // when it is tried again
}

// Item is a line of the ledger.
type Item struct {
	At change.Place
	Failure
}

// Longer texts are cut.
const (
	maxPath   = 32 << 10
	maxCall   = 64
	maxDetail = 2 << 10
)

const (
	failureVersion = 1
	failureLocal   = 1
)

func encodeFailure(f *Failure) []byte {
	flags := byte(0)
	if f.Local {
		flags |= failureLocal
	}
	b := []byte{failureVersion, flags, byte(f.Op)}
	b = binary.AppendUvarint(b, uint64(uint32(f.Errno)))
	b = binary.AppendUvarint(b, uint64(f.Count))
	for _, t := range []time.Time{f.First, f.Last, f.Next} {
		b = binary.AppendVarint(b, t.Unix())
		b = binary.AppendUvarint(b, uint64(t.Nanosecond()))
	}
	b = appendText(b, f.Path, maxPath)
	b = appendText(b, f.Call, maxCall)
	return appendText(b, f.Detail, maxDetail)
}

func appendText(b []byte, text string, limit int) []byte {
	text = text[:min(len(text), limit)]
	b = binary.AppendUvarint(b, uint64(len(text)))
	return append(b, text...)
}

// failureReader takes fields from an encoded failure. After the first one that is malformed it stays bad.
type failureReader struct {
	b   []byte
	bad bool
}

func (r *failureReader) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > limit {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *failureReader) time() time.Time {
	seconds, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return time.Time{}
	}
	r.b = r.b[n:]
	return time.Unix(seconds, int64(r.uvarint(999_999_999)))
}

func (r *failureReader) text(limit uint64) string {
	n := r.uvarint(limit)
	if uint64(len(r.b)) < n {
		r.bad, r.b = true, nil
		return ""
	}
	text := string(r.b[:n])
	r.b = r.b[n:]
	return text
}

func decodeFailure(b []byte) (Failure, error) {
	if len(b) < 3 || b[0] != failureVersion {
		return Failure{}, fmt.Errorf("%w (a failure of %d bytes)", ErrCorrupt, len(b))
	}
	f := Failure{Local: b[1]&failureLocal != 0, Op: change.Op(b[2])}
	r := failureReader{b: b[3:]}
	f.Errno = syscall.Errno(r.uvarint(math.MaxUint32))
	f.Count = uint32(r.uvarint(math.MaxUint32))
	f.First, f.Last, f.Next = r.time(), r.time(), r.time()
	f.Path, f.Call, f.Detail = r.text(maxPath), r.text(maxCall), r.text(maxDetail)
	if r.bad || len(r.b) != 0 {
		return Failure{}, fmt.Errorf("%w (a failure that cannot be read)", ErrCorrupt)
	}
	return f, nil
}
