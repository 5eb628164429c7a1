package rooted

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"georep/internal/change"
	"georep/internal/need"
)

// TestIdentities: an object keeps its identity under all its names and changes, and the next with its inode number has another.
func TestIdentities(t *testing.T) {
	onEach(t, func(t *testing.T, r *Root, dir string) {
		if !r.Handles() {
			t.Log("no file handles here: identities by time of birth")
		}
		d := r.Top()
		seen := map[change.ID]bool{}
		inodes := map[uint64]int{}
		for range 50 {
			write(t, d, "file", "x")
			first, err := d.Stat("file")
			must(t, err)
			must(t, d.Link("file", d, "second"))
			must(t, d.Unlink("file"))
			must(t, os.Truncate(filepath.Join(dir, "second"), 100))
			f, err := d.OpenFile("second")
			must(t, err)
			now, err := f.Stat()
			must(t, err)
			must(t, f.Close())
			if now.ID != first.ID || now.ID.IsZero() {
				t.Errorf("%v became %v", first.ID, now.ID)
			}
			if seen[now.ID] {
				t.Errorf("two files had the identity %v", now.ID)
			}
			seen[now.ID] = true
			inodes[now.ID.Ino()]++
			must(t, d.Unlink("second"))
		}
		t.Logf("%d inode numbers for 50 files", len(inodes))
		before, err := d.Self()
		must(t, err)
		if after, err := open(t, dir).Top().Self(); err != nil || after.ID != before.ID {
			t.Errorf("opened again %v is %v, %v", before.ID, after.ID, err)
		}
		free, total, fsid, fstype, err := r.Statfs()
		if err != nil || free == 0 || total < free || fstype == 0 || fsid == 0 {
			t.Errorf("%d of %d bytes free, file system %x of type %x, %v", free, total, fsid, fstype, err)
		}
		must(t, r.SyncFS(t.Context()))
	})
}

// TestWithoutHandles: overlayfs gives no file handles.
func TestWithoutHandles(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp(mounts.get(t, "tmpfs"), "test")
	must(t, err)
	for _, name := range []string{"lower/dir", "upper", "work", "merged"} {
		must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(dir, "lower/dir/file"), []byte("x"), 0o644))
	merged := filepath.Join(dir, "merged")
	options := "lowerdir=" + dir + "/lower,upperdir=" + dir + "/upper,workdir=" + dir + "/work"
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		need.Missing(t, "overlayfs: "+err.Error())
	}
	t.Cleanup(func() { unix.Unmount(merged, unix.MNT_DETACH) })
	r := open(t, merged)
	if r.Handles() {
		t.Error("overlayfs has handles: this tests nothing")
	}
	d := openDir(t, r, "dir")
	o, err := d.Stat("file")
	must(t, err)
	again, err := open(t, merged).Top().Stat("dir")
	must(t, err)
	self, err := d.Self()
	must(t, err)
	if o.ID == change.NewID(o.ID.Ino(), 0) || self.ID != again.ID {
		t.Errorf("%v, %v, %v", o.ID, self.ID, again.ID)
	}
	f, err := d.OpenTemp(0o600)
	must(t, err)
	must(t, f.SetAttr(own(0o640), true, true))
	must(t, f.LinkTo(d, "new"))
	must(t, f.Close())
	if _, err := d.StatLite("new"); err != nil {
		t.Error(err)
	}
	if n, err := r.Top().RemoveAll(t.Context(), "dir", nil); n != 3 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
}

// TestDirents: what a file system answers is not believed.
func TestDirents(t *testing.T) {
	entry := func(size uint16, name string) []byte {
		b := make([]byte, direntHeader, 64)
		binary.NativeEndian.PutUint64(b, 5)
		binary.NativeEndian.PutUint64(b[8:], 6)
		binary.NativeEndian.PutUint16(b[16:], size)
		b[18] = byte(change.File)
		return append(b, name...)
	}
	e, rest, ok := nextDirent(append(entry(24, "ab\x00cd"), 1, 2))
	if !ok || string(e.name) != "ab" || len(rest) != 2 || e.ino != 5 || e.next != 6 || e.kind != change.File {
		t.Errorf("%+v, %v, %v", e, rest, ok)
	}
	for _, block := range [][]byte{nil, {1}, entry(0, "abcde"), entry(18, "abcde"), entry(25, "abcde"), entry(65535, "abcde")} {
		if _, _, ok := nextDirent(block); ok {
			t.Errorf("%v is well-formed", block)
		}
	}
	for name, want := range map[string]bool{"": true, ".": true, "..": true, "...": false, ".a": false, "a": false} {
		if d := (&dirent{name: []byte(name)}); d.isDots() != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

func TestHandleHash(t *testing.T) {
	seen := map[uint64]Handle{}
	for _, h := range []Handle{{}, {Type: 1}, {Type: 1, Bytes: []byte{0}}, {Type: 1, Bytes: []byte{0, 0}}, {Type: 2, Bytes: []byte{0}}, {Type: 1, Bytes: make([]byte, 128)}} {
		hash := h.Hash()
		if other, twice := seen[hash]; twice || hash == 0 {
			t.Errorf("%v and %v: %x", h, other, hash)
		}
		seen[hash] = h
	}
}
