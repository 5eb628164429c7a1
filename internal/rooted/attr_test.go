package rooted

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"georep/internal/change"
)

// capability is security.capability with CAP_NET_BIND_SERVICE, in effect.
func capability() []byte {
	b := make([]byte, 20)
	binary.LittleEndian.PutUint32(b, 0x02000001)
	binary.LittleEndian.PutUint32(b[4:], 1<<10)
	return b
}

// acl is an access list that gives user 1234 what perm says, with a mask of rwx.
func acl(perm uint16) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 6, 0xffffffff}, {2, perm, 1234}, {4, 4, 0xffffffff}, {16, 7, 0xffffffff}, {32, 0, 0xffffffff}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

func xattrs(pairs ...string) []change.Xattr {
	var all []change.Xattr
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, change.Xattr{Name: pairs[i], Value: []byte(pairs[i+1])})
	}
	slices.SortFunc(all, func(a, b change.Xattr) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return all
}

// state reads all that SetAttr sets.
func state(t *testing.T, d *Dir, name string) change.Attr {
	t.Helper()
	o, err := d.Stat(name)
	must(t, err)
	must(t, d.ReadXattrs(name, &o))
	if !o.HasXattrs {
		t.Error("attributes were read and HasXattrs is false")
	}
	return o.Attr
}

// TestAllAttributes: what was set is read again, by name and by open file, with the setuid bit and the capability that a change of
// owner takes away; and set to something else after that.
func TestAllAttributes(t *testing.T) {
	needRoot(t)
	onEach(t, func(t *testing.T, r *Root, dir string) {
		d := r.Top()
		first := change.Attr{Mode: 0o6670, UID: 1001, GID: 1002, Mtime: change.Time{Sec: 1e9, Nsec: 123456789},
			Xattrs: xattrs("user.\xff", "\x00\xff", "trusted.t", "1", "security.capability", string(capability()), "user.empty", "",
				aclAccess, string(acl(5)))}
		second := change.Attr{Mode: 0o4700, UID: 1003, GID: 1002, Mtime: change.Time{Sec: -5, Nsec: 1},
			Xattrs: xattrs("trusted.t", "2", "security.capability", string(capability()))}
		none := change.Attr{Mode: 0o000, UID: 0, GID: 0, Mtime: change.Time{Sec: 2e9}}
		write(t, d, "named", "x")
		f, err := d.OpenTemp(0o600)
		must(t, err)
		defer f.Close()
		_, err = f.WriteAt([]byte("x"), 0)
		must(t, err)
		must(t, f.LinkTo(d, "open"))
		for _, a := range []change.Attr{first, second, first, none, first} {
			for range 2 { // the second time nothing is to be done
				must(t, d.SetAttr("named", change.File, a, true, true))
				must(t, f.SetAttr(a, true, true))
				for _, name := range []string{"named", "open"} {
					if diff := cmp.Diff(a, state(t, d, name)); diff != "" {
						t.Fatalf("%s: %s", name, diff)
					}
				}
			}
		}
		must(t, d.SetAttr("named", change.File, none, false, false))
		want := first
		want.Mode, want.UID, want.GID = 0, 0, 0
		want.Xattrs = slices.DeleteFunc(slices.Clone(first.Xattrs), func(x change.Xattr) bool { return x.Name == "security.capability" || x.Name == aclAccess })
		got := state(t, d, "named")
		got.Xattrs = slices.DeleteFunc(got.Xattrs, func(x change.Xattr) bool { return x.Name == aclAccess }) // chmod changed it
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("without xattrs and times: %s", diff)
		}
	})
}

// TestAttributesOfEveryKind: links, special files and directories have them too.
func TestAttributesOfEveryKind(t *testing.T) {
	needRoot(t)
	onEach(t, func(t *testing.T, r *Root, dir string) {
		d := r.Top()
		must(t, d.Symlink("no/where", "link"))
		must(t, d.Mkdir("dir", 0o755))
		must(t, d.Mknod("fifo", change.FIFO, 0o600, 0))
		must(t, d.Mknod("socket", change.Socket, 0o600, 0))
		must(t, d.Mknod("char", change.CharDev, 0o600, unix.Mkdev(1, 3)))
		must(t, d.Mknod("block", change.BlockDev, 0o600, unix.Mkdev(7, 200)))
		for name, kind := range map[string]change.Kind{"link": change.Symlink, "dir": change.Dir, "fifo": change.FIFO, "socket": change.Socket,
			"char": change.CharDev, "block": change.BlockDev} {
			a := change.Attr{Mode: 0o1711, UID: 7, GID: 8, Mtime: change.Time{Sec: 9, Nsec: 10}, Xattrs: xattrs("trusted.x", "y")}
			switch kind {
			case change.Symlink:
				a.Mode = 0o777
			case change.Dir:
				a.Xattrs = xattrs("trusted.x", "y", "user.u", "v", aclDefault, string(acl(7)))
			}
			for range 2 {
				must(t, d.SetAttr(name, kind, a, true, true))
				if diff := cmp.Diff(a, state(t, d, name)); diff != "" {
					t.Errorf("%s: %s", name, diff)
				}
			}
			a.Xattrs = nil
			must(t, d.SetAttr(name, kind, a, true, true))
			if diff := cmp.Diff(a, state(t, d, name)); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
			if kind != change.Dir {
				a.Xattrs = xattrs("user.not", "here")
				wants(t, d.SetAttr(name, kind, a, true, true), unix.EPERM)
			}
		}
	})
}

// TestInheritedLists: a directory's default list, and its setgid bit, do not leak into what is made in it.
func TestInheritedLists(t *testing.T) {
	needRoot(t)
	onEach(t, func(t *testing.T, r *Root, dir string) {
		must(t, r.Top().Mkdir("dir", 0o755))
		d := openDir(t, r, "dir")
		attr := change.Attr{Mode: 0o2755, GID: 55, Xattrs: xattrs(aclDefault, string(acl(7)))}
		must(t, d.SetSelf(attr, true, false))
		var self change.Object
		must(t, d.SelfXattrs(&self))
		if diff := cmp.Diff(attr.Xattrs, self.Xattrs); diff != "" {
			t.Error(diff)
		}
		f, err := d.OpenTemp(0o600)
		must(t, err)
		defer f.Close()
		want := change.Attr{Mode: 0o640, UID: 3, GID: 4, Mtime: change.Time{Sec: 5}}
		must(t, f.SetAttr(want, true, true))
		must(t, f.LinkTo(d, "file"))
		must(t, d.Mkdir("sub", 0o755))
		must(t, d.SetAttr("sub", change.Dir, want, true, true))
		for _, name := range []string{"file", "sub"} {
			if diff := cmp.Diff(want, state(t, d, name)); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	})
}

// TestManyAndBigAttributes: lists and values larger than the first buffer.
func TestManyAndBigAttributes(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp(mounts.get(t, "xfs"), "test")
	must(t, err)
	d := open(t, dir).Top()
	write(t, d, "file", "")
	want := own(0o600)
	want.UID, want.GID = 0, 0
	var pairs []string
	for i := range 100 {
		pairs = append(pairs, "user.attribute-number-"+string(rune('a'+i/26))+string(rune('a'+i%26)), string(make([]byte, i*50)))
	}
	pairs = append(pairs, "user.big", string(make([]byte, 65536)))
	want.Xattrs = xattrs(pairs...)
	must(t, d.SetAttr("file", change.File, want, true, true))
	if diff := cmp.Diff(want, state(t, d, "file")); diff != "" {
		t.Error(diff)
	}
}

// TestWhatIsNotReplicated: bookkeeping of one host or file system is neither read nor removed.
func TestWhatIsNotReplicated(t *testing.T) {
	for name, want := range map[string]bool{
		"user.a": true, "user.": false, "user": false, "trusted.a": true, "trusted.gfid": false, "trusted.gfid2path.0123": false,
		"trusted.glusterfs.volume-id": false, "trusted.SGI_ACL_FILE": false, "trusted.SGI_ACL_DEFAULT": false, "trusted.overlay.opaque": true,
		"security.selinux": true, "security.capability": true, "security.evm": false, aclAccess: true, aclDefault: true,
		"system.nfs4_acl": false, "btrfs.compression": false, "": false, ".": false,
	} {
		if replicated(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
	needRoot(t)
	onEach(t, func(t *testing.T, r *Root, dir string) {
		d := r.Top()
		write(t, d, "file", "")
		path := filepath.Join(dir, "file")
		for _, name := range []string{"trusted.gfid", "trusted.glusterfs.x", "security.selinux"} {
			must(t, unix.Setxattr(path, name, []byte("label"), 0))
		}
		must(t, d.SetAttr("file", change.File, change.Attr{Mode: 0o670, Xattrs: xattrs(aclAccess, string(acl(4)))}, true, true))
		for _, name := range []string{"trusted.gfid", "trusted.glusterfs.x", "security.selinux"} {
			if _, err := unix.Getxattr(path, name, nil); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		got := state(t, d, "file").Xattrs
		if diff := cmp.Diff(xattrs(aclAccess, string(acl(4)), "security.selinux", "label"), got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestTimeOfAccessStays: neither reading nor setting the time of modification changes it.
func TestTimeOfAccessStays(t *testing.T) {
	onEach(t, func(t *testing.T, r *Root, dir string) {
		d := r.Top()
		write(t, d, "file", "content")
		path := filepath.Join(dir, "file")
		long := unix.Timespec{Sec: 12345}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{long, long}, 0))
		must(t, d.SetTimes("file", change.Time{Sec: 99}))
		must(t, d.SetAttr("file", change.File, own(0o644), false, true))
		f, err := d.OpenFile("file")
		must(t, err)
		defer f.Close()
		_, err = f.ReadAt(make([]byte, 7), 0)
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Stat(path, &st))
		if st.Atim != long {
			t.Errorf("time of access is %v", st.Atim)
		}
		if st.Mtim != (unix.Timespec{Sec: 1000, Nsec: 7}) {
			t.Errorf("time of modification is %v", st.Mtim)
		}
		if err := d.SetTimes("none", change.Time{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
}
