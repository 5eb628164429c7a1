package fanotify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"georep/internal/rooted"
)

// record encodes an event as the kernel writes it.
func record(mask uint64, infos ...[]byte) []byte {
	body := bytes.Join(infos, nil)
	b := binary.NativeEndian.AppendUint32(nil, uint32(metadataSize+len(body)))
	b = append(b, unix.FANOTIFY_METADATA_VERSION, 0)
	b = binary.NativeEndian.AppendUint16(b, metadataSize)
	b = binary.NativeEndian.AppendUint64(b, mask)
	b = append(b, make([]byte, 8)...) // descriptor and process
	return append(b, body...)
}

// info encodes an info record, padded as the kernel does.
func info(kind byte, handle rooted.Handle, name string) []byte {
	b := append([]byte{kind, 0, 0, 0}, make([]byte, fsidSize)...)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(handle.Bytes)))
	b = binary.NativeEndian.AppendUint32(b, uint32(handle.Type))
	b = append(b, handle.Bytes...)
	if name != "" {
		b = append(append(b, name...), 0)
	}
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	binary.NativeEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

func handle(n byte) rooted.Handle { return rooted.Handle{Type: 1, Bytes: bytes.Repeat([]byte{n}, 8)} }

func TestDecode(t *testing.T) {
	buf := record(unix.FAN_CREATE|unix.FAN_MODIFY|unix.FAN_CLOSE_WRITE,
		info(unix.FAN_EVENT_INFO_TYPE_DFID_NAME, handle(1), "new\nname\xff"), info(unix.FAN_EVENT_INFO_TYPE_FID, handle(2), ""))
	buf = append(buf, record(unix.FAN_RENAME|unix.FAN_ONDIR, info(unix.FAN_EVENT_INFO_TYPE_OLD_DFID_NAME, handle(1), "old"),
		info(200, handle(9), "of a later kernel"), info(unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME, handle(3), "new"),
		info(unix.FAN_EVENT_INFO_TYPE_FID, handle(4), ""))...)
	buf = append(buf, record(unix.FAN_ATTRIB, info(unix.FAN_EVENT_INFO_TYPE_FID, handle(5), ""))...)
	buf = append(buf, record(unix.FAN_Q_OVERFLOW)...)
	var got []Event
	if err := Decode(buf, func(e Event) error { got = append(got, e); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 {
		t.Fatalf("%d events, want 4", len(got))
	}
	if e := got[0]; e.Name != "new\nname\xff" || e.Dir.Bytes[0] != 1 || e.Target.Bytes[0] != 2 || !e.Created || !e.Content || !e.Closed || e.IsDir || e.Renamed {
		t.Errorf("the first is %+v", e)
	}
	if e := got[1]; e.Name != "old" || e.ToName != "new" || e.Dir.Bytes[0] != 1 || e.ToDir.Bytes[0] != 3 || e.Target.Bytes[0] != 4 || !e.Renamed || !e.IsDir {
		t.Errorf("the second is %+v", e)
	}
	if e := got[2]; e.Name != "" || len(e.Dir.Bytes) > 0 || e.Target.Bytes[0] != 5 || !e.Attrib {
		t.Errorf("the third is %+v", e)
	}
	if !got[3].Overflow {
		t.Errorf("the fourth is %+v", got[3])
	}
	for cut := 1; cut < len(buf); cut++ {
		n := 0
		err := Decode(buf[:cut], func(Event) error { n++; return nil })
		if err == nil && n != 1 && n != 2 && n != 3 {
			t.Errorf("%d bytes give %d events and no error", cut, n)
		}
	}
	stop := errors.New("stop")
	if err := Decode(buf, func(Event) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("an error of the taker gives %v", err)
	}
	buf[4]++
	if err := Decode(buf, func(Event) error { return nil }); err == nil {
		t.Error("another version of the format is taken")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(record(unix.FAN_CREATE, info(unix.FAN_EVENT_INFO_TYPE_DFID_NAME, handle(1), "name")))
	f.Add(record(unix.FAN_RENAME, info(unix.FAN_EVENT_INFO_TYPE_OLD_DFID_NAME, handle(1), "a"), info(unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME, handle(1), "b")))
	f.Fuzz(func(t *testing.T, buf []byte) {
		total := 0
		_ = Decode(buf, func(e Event) error { // damage is an error, never a panic
			total += metadataSize
			for _, h := range []rooted.Handle{e.Dir, e.ToDir, e.Target} {
				if len(h.Bytes) > maxHandle {
					t.Fatalf("a handle of %d bytes", len(h.Bytes))
				}
			}
			return nil
		})
		if total > len(buf) {
			t.Fatalf("%d bytes give %d events", len(buf), total/metadataSize)
		}
	})
}
