// Package changelog reads the change journals that a Gluster brick keeps: their records, their order in time, and the one that is
// being written now.
//
// The parser is pure: bytes in, records out. What it cannot understand it skips up to the next thing that looks like a record, and
// says so, because what was recorded there is unknown then.
package changelog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"georep/internal/change"
	"georep/internal/gluster"
)

// Kind is the sort of a record.
type Kind byte

// The sorts: an entry came, went or was renamed; content changed; attributes changed.
const (
	Entry Kind = 'E'
	Data  Kind = 'D'
	Meta  Kind = 'M'
)

// Fop is the file operation that a record is of, with the numbers of Gluster. Data records have none.
type Fop uint32

// The operations of entry records.
const (
	Mknod   Fop = 3
	Mkdir   Fop = 4
	Unlink  Fop = 5
	Rmdir   Fop = 6
	Symlink Fop = 7
	Rename  Fop = 8
	Link    Fop = 9
	Create  Fop = 23
)

// Record is one line of a journal. It is written after the change is on the brick's file system, so that what is there when it
// is read contains that change, or a newer one.
type Record struct {
	Kind Kind
	ID   change.ID // GFID of the object
	Fop  Fop
	Mode uint32 // with the file type, of Mknod, Mkdir and Create
	UID  uint32
	GID  uint32
	// At is the name that came or went; of a Rename the new one.
	At change.Place
	// From is the old name of a Rename.
	From change.Place
}

// Errors that callers tell apart.
var (
	// ErrHeader means that a file does not begin as a journal does, or is of a version that is not known.
	ErrHeader = errors.New("not a journal that can be read")
	// errShort means that more bytes are needed.
	errShort = errors.New("the record goes on")
	// errDamaged means that what is here is no record.
	errDamaged = errors.New("no record")
)

// MaxRecord bounds the bytes of one record: two names, or one and a path, with all the rest.
const MaxRecord = 16 << 10

// maxHeader bounds the first line.
const maxHeader = 256

// Encodings of a journal.
const (
	binaryEncoding = 1
	textEncoding   = 2
)

// Parser turns the bytes of one journal into records. The zero value is at its beginning.
type Parser struct {
	started  bool
	encoding int
	minor    int
	damaged  bool // what was read last was not understood
	// searching says that the beginning of the next record is not known.
	searching bool
	// Damage counts the stretches that could not be understood.
	Damage int
}

// Parse reads as many records as data, the next bytes of the journal, holds, and says how many bytes they took: the rest is to be
// given again with what follows. final says that nothing follows; an incomplete record at the end is then left out, and counts as
// damage. ErrHeader is the only error, besides those of each.
func (p *Parser) Parse(data []byte, final bool, each func(*Record) error) (int, error) {
	used := 0
	if !p.started {
		n, err := p.header(data)
		if n == 0 || err != nil {
			return 0, err
		}
		used = n
	}
	for used < len(data) {
		if p.searching {
			skip := p.resync(data[used:])
			switch {
			case skip >= 0:
				used += skip
				p.searching = false
			case final || p.encoding != textEncoding:
				return len(data), nil
			default:
				return max(used, len(data)-recordHead+1), nil // the beginning of a record may be cut off at the end
			}
		}
		var r Record
		n, err := p.record(data[used:], &r)
		switch {
		case err == nil:
			p.damaged = false
			used += n
			if err := each(&r); err != nil {
				return used, err
			}
		case errors.Is(err, errShort) && len(data)-used < MaxRecord && !final:
			return used, nil
		default:
			p.lost()
			used++
		}
	}
	return used, nil
}

func (p *Parser) lost() {
	if !p.damaged {
		p.Damage++
		p.damaged = true
	}
	p.searching = true
}

// header reads the first line; 0 bytes without an error mean that it is not complete.
func (p *Parser) header(data []byte) (int, error) {
	end := bytes.IndexByte(data[:min(len(data), maxHeader)], '\n')
	if end < 0 {
		if len(data) >= maxHeader {
			return 0, fmt.Errorf("%w: it does not begin with a line of text", ErrHeader)
		}
		return 0, nil
	}
	var major int
	line := string(data[:end])
	if _, err := fmt.Sscanf(line, "GlusterFS Changelog | version: v%d.%d | encoding : %d", &major, &p.minor, &p.encoding); err != nil {
		return 0, fmt.Errorf("%w: it begins with %q", ErrHeader, line)
	}
	if major != 1 || p.minor < 1 || p.minor > 2 || p.encoding != textEncoding && p.encoding != binaryEncoding {
		return 0, fmt.Errorf("%w: version %d.%d with encoding %d is not known", ErrHeader, major, p.minor, p.encoding)
	}
	p.started = true
	return end + 1, nil
}

// record reads one record, and gives its length.
func (p *Parser) record(data []byte, r *Record) (int, error) {
	c := cursor{data: data, text: p.encoding == textEncoding}
	switch Kind(data[0]) {
	case Entry, Data, Meta:
		r.Kind = Kind(data[0])
	default:
		return 0, errDamaged
	}
	c.pos = 1
	r.ID = c.gfid()
	if r.Kind != Data {
		c.end()
		r.Fop = Fop(c.number())
	}
	if r.Kind == Entry {
		p.body(&c, r)
	}
	if r.Kind != Entry || r.Fop != Unlink && r.Fop != Rmdir || p.minor < 2 {
		c.end()
	}
	return c.pos, c.err
}

// body reads what follows the operation of an entry record.
func (p *Parser) body(c *cursor, r *Record) {
	switch r.Fop {
	case Mknod, Mkdir, Create:
		c.end()
		r.Mode = c.number()
		c.end()
		r.UID = c.number()
		c.end()
		r.GID = c.number()
		c.end()
		r.At = c.place()
	case Symlink, Link:
		c.end()
		r.At = c.place()
	case Rename:
		c.end()
		r.From = c.place()
		c.end()
		r.At = c.place()
	case Unlink, Rmdir:
		c.end()
		r.At = c.place()
		if p.minor >= 2 {
			c.end()
			c.path()
		}
	default:
		c.fail(errDamaged)
	}
}

// recordHead is the number of bytes from the NUL before a record of text up to the one behind its GFID.
const recordHead = 1 + 1 + gluster.GFIDLen + 1

// resync looks for something that begins like a record of text: a NUL, a letter, a GFID, a NUL. -1: there is nothing.
func (p *Parser) resync(data []byte) int {
	if p.encoding != textEncoding {
		return -1 // nothing tells where a record of the other encoding begins
	}
	for off := 0; ; {
		i := bytes.IndexByte(data[off:], 0)
		if i < 0 || off+i+recordHead > len(data) {
			return -1
		}
		off += i + 1
		switch Kind(data[off]) {
		case Entry, Data, Meta:
			if _, err := gluster.ParseGFID(string(data[off+1 : off+1+gluster.GFIDLen])); err == nil && data[off+1+gluster.GFIDLen] == 0 {
				return off
			}
		}
	}
}

// cursor reads the fields of one record. After an error it reads nothing more.
type cursor struct {
	data []byte
	pos  int
	text bool
	err  error
}

func (c *cursor) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// take gives the next n bytes.
func (c *cursor) take(n int) []byte {
	if c.err != nil {
		return nil
	}
	if len(c.data)-c.pos < n {
		c.err = errShort
		return nil
	}
	b := c.data[c.pos : c.pos+n]
	c.pos += n
	return b
}

// end reads the NUL that ends a field.
func (c *cursor) end() {
	if b := c.take(1); b != nil && b[0] != 0 {
		c.fail(errDamaged)
	}
}

// word gives the bytes up to the next NUL, which stays.
func (c *cursor) word() []byte {
	if c.err != nil {
		return nil
	}
	i := bytes.IndexByte(c.data[c.pos:], 0)
	if i < 0 {
		c.err = errShort
		return nil
	}
	b := c.data[c.pos : c.pos+i]
	c.pos += i
	return b
}

func (c *cursor) gfid() change.ID {
	if !c.text {
		var id change.ID
		copy(id[:], c.take(len(id)))
		return id
	}
	b := c.take(gluster.GFIDLen)
	if b == nil {
		return change.ID{}
	}
	id, err := gluster.ParseGFID(string(b))
	if err != nil {
		c.fail(errDamaged)
	}
	return id
}

func (c *cursor) number() uint32 {
	if !c.text {
		if b := c.take(4); b != nil {
			return binary.NativeEndian.Uint32(b)
		}
		return 0
	}
	w := c.word()
	if c.err != nil {
		return 0
	}
	n, err := strconv.ParseUint(string(w), 10, 32)
	if err != nil {
		c.fail(errDamaged)
	}
	return uint32(n)
}

// place reads a name in a directory.
func (c *cursor) place() change.Place {
	at := change.Place{Dir: c.gfid()}
	if b := c.take(1); b != nil && b[0] != '/' {
		c.fail(errDamaged)
	}
	at.Name = string(c.word())
	if c.err == nil && !change.ValidName(at.Name) {
		c.fail(errDamaged)
	}
	return at
}

// path reads the path of something that was removed, which is of no use here: two NULs when there is none, else it and one.
func (c *cursor) path() {
	if len(c.word()) == 0 {
		c.end()
	}
	c.end()
}
