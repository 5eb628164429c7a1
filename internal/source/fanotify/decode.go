// Package fanotify reports changes below a whole file system: which name in which directory, directories given by file handle.
//
// The kernel merges events, so that one says where to look and never what was done, in which order, or how often. Decode is
// pure; Watcher owns the descriptor. Needs CAP_SYS_ADMIN and Linux 5.17.
package fanotify

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"georep/internal/rooted"
)

// Event is a place at which something happened.
type Event struct {
	Dir    rooted.Handle // directory that holds (for a rename: held) the name
	Name   string        // "." for the directory itself; "" when the event has no name: then Dir is empty too
	ToDir  rooted.Handle // of a rename: directory of the new name
	ToName string
	Target rooted.Handle // the object itself, when the kernel gave it

	Created  bool // the directory gained, lost or renamed the name
	Content  bool // the content may have changed
	Closed   bool // a writer closed the file
	Attrib   bool // its attributes or its number of names changed
	IsDir    bool // the object is a directory
	Renamed  bool // ToDir and ToName are set
	Overflow bool // events were lost; nothing else is set
}

// The layout of what read(2) gives: struct fanotify_event_metadata, then info records that each begin with
// struct fanotify_event_info_header and, all that are used here, go on with a file system identity and a file handle.
const (
	metadataSize   = 24
	infoHeaderSize = 4
	fsidSize       = 8
	handleHeader   = 8
	maxHandle      = 128 // MAX_HANDLE_SZ
)

// Decode calls fn for each event in buf, which is what one read gave. It stops at the first error of fn. A buffer that is not
// well-formed gives an error; the events before the damage were delivered.
func Decode(buf []byte, fn func(Event) error) error {
	for len(buf) > 0 {
		if len(buf) < metadataSize {
			return fmt.Errorf("decode fanotify event: %d bytes left, want at least %d", len(buf), metadataSize)
		}
		length := int(binary.NativeEndian.Uint32(buf))
		version := buf[4]
		start := int(binary.NativeEndian.Uint16(buf[6:]))
		if length < metadataSize || length > len(buf) || start < metadataSize || start > length {
			return fmt.Errorf("decode fanotify event: length %d with metadata of %d in %d bytes", length, start, len(buf))
		}
		if version != unix.FANOTIFY_METADATA_VERSION {
			return fmt.Errorf("decode fanotify event: metadata version %d, want %d", version, unix.FANOTIFY_METADATA_VERSION)
		}
		event := fromMask(binary.NativeEndian.Uint64(buf[8:]))
		if err := decodeInfo(buf[start:length], &event); err != nil {
			return err
		}
		if err := fn(event); err != nil {
			return err
		}
		buf = buf[length:]
	}
	return nil
}

// fromMask gives the event that the bits of mask describe, still without place.
func fromMask(mask uint64) Event {
	return Event{
		Created:  mask&(unix.FAN_CREATE|unix.FAN_DELETE|unix.FAN_RENAME) != 0,
		Content:  mask&(unix.FAN_MODIFY|unix.FAN_CLOSE_WRITE) != 0,
		Closed:   mask&unix.FAN_CLOSE_WRITE != 0,
		Attrib:   mask&unix.FAN_ATTRIB != 0,
		IsDir:    mask&unix.FAN_ONDIR != 0,
		Renamed:  mask&unix.FAN_RENAME != 0,
		Overflow: mask&unix.FAN_Q_OVERFLOW != 0,
	}
}

// decodeInfo reads the info records of one event.
func decodeInfo(buf []byte, event *Event) error {
	for len(buf) > 0 {
		if len(buf) < infoHeaderSize {
			return fmt.Errorf("decode fanotify event: info record of %d bytes", len(buf))
		}
		kind := buf[0]
		length := int(binary.NativeEndian.Uint16(buf[2:]))
		if length < infoHeaderSize || length > len(buf) {
			return fmt.Errorf("decode fanotify event: info record says %d of %d bytes", length, len(buf))
		}
		body := buf[infoHeaderSize:length]
		buf = buf[length:]
		switch kind {
		case unix.FAN_EVENT_INFO_TYPE_FID, unix.FAN_EVENT_INFO_TYPE_DFID, unix.FAN_EVENT_INFO_TYPE_DFID_NAME,
			unix.FAN_EVENT_INFO_TYPE_OLD_DFID_NAME, unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME:
		default:
			continue // a record of a later kernel, which says nothing that is needed
		}
		handle, rest, err := decodeHandle(body)
		if err != nil {
			return err
		}
		switch kind {
		case unix.FAN_EVENT_INFO_TYPE_FID:
			event.Target = handle
		case unix.FAN_EVENT_INFO_TYPE_DFID:
			event.Dir, event.Name = handle, "."
		case unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME:
			event.ToDir, event.ToName = handle, cString(rest)
		default:
			event.Dir, event.Name = handle, cString(rest)
		}
	}
	return nil
}

// decodeHandle reads the file system identity, which is skipped, and the file handle at the start of body.
func decodeHandle(body []byte) (h rooted.Handle, rest []byte, err error) {
	if len(body) < fsidSize+handleHeader {
		return h, nil, fmt.Errorf("decode fanotify event: handle record of %d bytes", len(body))
	}
	size := binary.NativeEndian.Uint32(body[fsidSize:])
	h.Type = int32(binary.NativeEndian.Uint32(body[fsidSize+4:]))
	body = body[fsidSize+handleHeader:]
	if size > maxHandle || int(size) > len(body) {
		return h, nil, fmt.Errorf("decode fanotify event: handle of %d bytes in %d", size, len(body))
	}
	h.Bytes = bytes.Clone(body[:size])
	return h, body[size:], nil
}

// cString is b up to its first NUL.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
