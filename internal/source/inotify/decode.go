// Package inotify reports changes in directories one by one: it needs no privilege, but a watch for each directory.
//
// It is what is left where fanotify is not allowed. The number of watches is limited for each user
// (fs.inotify.max_user_watches); beyond it directories are found by scanning only. Decode is pure; Watcher owns the descriptor.
package inotify

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// record is one event as the kernel writes it.
type record struct {
	watch  int32
	mask   uint32
	cookie uint32 // joins the two halves of a rename
	name   string // "" for the watched directory itself
}

// headerSize is the size of struct inotify_event without its name.
const headerSize = unix.SizeofInotifyEvent

// decode calls fn for each event in buf, which is what one read gave. A buffer that is not well-formed gives an error; the
// events before the damage were delivered.
func decode(buf []byte, fn func(record)) error {
	for len(buf) > 0 {
		if len(buf) < headerSize {
			return fmt.Errorf("decode inotify event: %d bytes left, want at least %d", len(buf), headerSize)
		}
		length := binary.NativeEndian.Uint32(buf[12:])
		if uint64(length) > uint64(len(buf)-headerSize) {
			return fmt.Errorf("decode inotify event: name of %d bytes in %d", length, len(buf)-headerSize)
		}
		name := buf[headerSize : headerSize+int(length)]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		fn(record{
			watch:  int32(binary.NativeEndian.Uint32(buf)),
			mask:   binary.NativeEndian.Uint32(buf[4:]),
			cookie: binary.NativeEndian.Uint32(buf[8:]),
			name:   string(name),
		})
		buf = buf[headerSize+int(length):]
	}
	return nil
}
