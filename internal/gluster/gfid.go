package gluster

import (
	"encoding/hex"
	"fmt"

	"georep/internal/change"
)

// GFIDLen is the number of characters of a GFID in text.
const GFIDLen = 36

// Root is the GFID of every volume's root.
var Root = change.ID{15: 1}

// ParseGFID reads a GFID in its canonical form, such as 8eea17cb-f420-485e-bdb9-a32e0ac0ce73.
func ParseGFID(s string) (change.ID, error) {
	var id change.ID
	if len(s) != GFIDLen || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, fmt.Errorf("%q is no GFID", s)
	}
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil {
		return change.ID{}, fmt.Errorf("%q is no GFID", s)
	}
	return id, nil
}

// GFID writes a GFID in its canonical form.
func GFID(id change.ID) string {
	var b [GFIDLen]byte
	hex.Encode(b[0:8], id[0:4])
	b[8] = '-'
	hex.Encode(b[9:13], id[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], id[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], id[8:10])
	b[23] = '-'
	hex.Encode(b[24:], id[10:])
	return string(b[:])
}

// Inode is the inode number under which a mount of a volume shows the object of a GFID.
func Inode(id change.ID) uint64 {
	if id == Root {
		return 1
	}
	var ino uint64
	for _, b := range id[8:] {
		ino = ino<<8 | uint64(b)
	}
	return ino
}
