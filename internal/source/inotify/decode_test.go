package inotify

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// encode gives an event as the kernel writes it.
func encode(watch int32, mask, cookie uint32, name string) []byte {
	padded := []byte(name)
	if name != "" {
		padded = append(padded, make([]byte, 16-len(name)%16)...)
	}
	b := binary.NativeEndian.AppendUint32(nil, uint32(watch))
	b = binary.NativeEndian.AppendUint32(b, mask)
	b = binary.NativeEndian.AppendUint32(b, cookie)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(padded)))
	return append(b, padded...)
}

func TestDecode(t *testing.T) {
	want := []record{
		{watch: 1, mask: unix.IN_CREATE | unix.IN_ISDIR, name: "a\n\xff"},
		{watch: 2, mask: unix.IN_MOVED_TO, cookie: 7, name: "sixteen bytes it"},
		{watch: 3, mask: unix.IN_ATTRIB},
		{watch: -1, mask: unix.IN_Q_OVERFLOW},
	}
	var buf []byte
	for _, r := range want {
		buf = append(buf, encode(r.watch, r.mask, r.cookie, r.name)...)
	}
	var got []record
	if err := decode(buf, func(r record) { got = append(got, r) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("event %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	if err := decode(buf[:len(buf)-1], func(record) {}); err == nil {
		t.Error("a cut buffer is taken")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(1, unix.IN_CREATE, 0, "name"))
	f.Add(encode(-1, unix.IN_Q_OVERFLOW, 0, ""))
	f.Fuzz(func(t *testing.T, buf []byte) {
		used := 0
		err := decode(buf, func(r record) {
			used += headerSize + len(r.name)
			if bytes.IndexByte([]byte(r.name), 0) >= 0 {
				t.Fatalf("a name with a NUL: %q", r.name)
			}
		})
		if used > len(buf) || err == nil && len(buf) > 0 && used == 0 {
			t.Fatalf("%d bytes give %d: %v", len(buf), used, err)
		}
	})
}
