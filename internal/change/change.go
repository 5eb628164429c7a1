// Package change is the vocabulary of replication: objects, the names they have, what is declared about them, and what was answered.
//
// It holds plain values and imports nothing of ours, so that every room can speak it. Identities of the primary and of the
// secondary are both of type ID; a field's comment says whose it is.
package change

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"strings"
	"syscall"
	"time"
)

// ID identifies an object for as long as it exists: on a directory volume eight bytes of inode number (big endian, so that
// keys keep the locality of the disk) and eight bytes that hash the file handle (which holds the inode's generation);
// on a Gluster volume the GFID. The zero ID means none.
type ID [16]byte

// StashID stands for the stash of the secondary, the directory in which displaced objects wait under the hexadecimal form
// of their own ID until they get their new name or are dropped. No object has it.
var StashID = ID{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// NewID makes the ID of a directory volume's object from its inode number and the hash of its handle.
func NewID(ino, handle uint64) ID {
	var id ID
	binary.BigEndian.PutUint64(id[:8], ino)
	binary.BigEndian.PutUint64(id[8:], handle)
	return id
}

// IsZero says whether id is none.
func (id ID) IsZero() bool { return id == ID{} }

// UnknownID is the identity under which the store notes something that is on the secondary and that nobody on the primary was
// found to be: it has no inode number, and stands for the identity sec that the thing has on the secondary.
func UnknownID(sec ID) ID {
	id := ID{}
	h := fnv.New64a()
	_, _ = h.Write(sec[:]) // a hash does not fail
	copy(id[8:], h.Sum(nil))
	id[8] |= 0x80 // told apart from a Gluster volume's root, the GFID 1
	return id
}

// IsUnknown says whether id was made by UnknownID.
func (id ID) IsUnknown() bool {
	return binary.BigEndian.Uint64(id[:8]) == 0 && id[8]&0x80 != 0
}

// Ino is the inode number in an ID that NewID made.
func (id ID) Ino() uint64 { return binary.BigEndian.Uint64(id[:8]) }

// Handle is the hash of the file handle in an ID that NewID made.
func (id ID) Handle() uint64 { return binary.BigEndian.Uint64(id[8:]) }

// String is the 32 digit hexadecimal form.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) {
		return ID{}, fmt.Errorf("parse identity %q: want %d hexadecimal digits", s, 2*len(id))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("parse identity %q: %w", s, err)
	}
	return id, nil
}

// Kind is the type of an object, with the values of the directory entry types DT_* of getdents64(2).
type Kind uint8

// The kinds that are replicated.
const (
	FIFO     Kind = 1
	CharDev  Kind = 2
	Dir      Kind = 4
	BlockDev Kind = 6
	File     Kind = 8
	Symlink  Kind = 10
	Socket   Kind = 12
)

// KindOfMode gives the kind for the file type bits of a mode as stat(2) returns it, and 0 for one that is unknown.
func KindOfMode(mode uint32) Kind { return Kind(mode & syscall.S_IFMT >> 12) }

// Mode gives the file type bits S_IF* of the kind.
func (k Kind) Mode() uint32 { return uint32(k) << 12 }

func (k Kind) String() string {
	switch k {
	case FIFO:
		return "fifo"
	case CharDev:
		return "character device"
	case Dir:
		return "directory"
	case BlockDev:
		return "block device"
	case File:
		return "file"
	case Symlink:
		return "symlink"
	case Socket:
		return "socket"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Time is a file time with nanoseconds, over the whole range that file systems have. Times are only ever compared for
// equality with other times of the same host's file systems.
type Time struct {
	Sec  int64
	Nsec uint32 // 0 to 999,999,999
}

// Std is t as a time.Time, for display.
func (t Time) Std() time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

// Cut is t as a clock keeps it that goes in such steps, of at most a second or of whole ones: what lies between two is cut off. 0 is a step of a
// nanosecond.
func (t Time) Cut(step time.Duration) Time {
	switch {
	case step <= 1:
		return t
	case step < time.Second:
		t.Nsec -= t.Nsec % uint32(step)
		return t
	}
	n := int64(step / time.Second)
	return Time{Sec: t.Sec - (t.Sec%n+n)%n}
}

// Xattr is one extended attribute, ACLs (system.posix_acl_*) and capabilities (security.capability) included, as raw bytes.
type Xattr struct {
	Name  string
	Value []byte
}

// Attr is what belongs to an object besides its content and names.
type Attr struct {
	Mode     uint32 // permission bits with setuid, setgid and sticky: 0 to 07777
	UID, GID uint32
	Mtime    Time
	Xattrs   []Xattr // sorted by name; only valid when Object.HasXattrs
}

// Object is the state of one object as its owner holds it now.
type Object struct {
	ID   ID
	Kind Kind
	Attr
	HasXattrs bool   // Xattrs were read: an empty list then means that there are none
	Size      int64  // bytes of a File; 0 for others
	Blocks    int64  // 512-byte blocks allocated, for progress and sparse detection only
	Rdev      uint64 // device number of CharDev and BlockDev, as Linux encodes dev_t
	Target    string // of a Symlink
	Nlink     uint32 // number of names; of directories not used
	Ctime     Time   // changes with any change of the object on its host
}

// Place is one name of an object: the identity (on the primary) of the directory that holds it, and the name there. The
// root of a volume has the zero Place.
type Place struct {
	Dir  ID
	Name string // any bytes but '/' and NUL; 1 to 255 of them; "" only in the zero Place
}

// IsRoot says whether p is the place of the volume's root.
func (p Place) IsRoot() bool { return p == Place{} }

// Stashed is the place in the secondary's stash for the object with that primary ID.
func Stashed(id ID) Place { return Place{Dir: StashID, Name: id.String()} }

// Join puts a name behind a path relative to a root, whose own path is "".
func Join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// ValidName says whether name can be one entry's name: not empty, not "." or "..", no slash, no NUL, at most 255 bytes.
func ValidName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 && !strings.ContainsAny(name, "/\x00")
}
