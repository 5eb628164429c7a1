package treetest

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mode picks permission bits. A user keeps the right to read and write what is his, so that the tree can still be walked.
func (s *Storm) mode(directory bool) uint32 {
	modes := []uint32{0o644, 0o600, 0o755, 0o777, 0o640, 0o400, 0o111, 0, 0o4755, 0o2755, 0o1777, 0o6711, 0o2644}
	mode := modes[s.rng.IntN(len(modes))]
	switch {
	case s.root0:
	case directory:
		mode |= 0o700
	default:
		mode |= 0o600
	}
	return mode
}

func (s *Storm) chmod() (string, error) {
	return s.on(notSymlink, func(path string) (string, error) {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return "", err
		}
		mode := s.mode(st.Mode&unix.S_IFMT == unix.S_IFDIR)
		return fmt.Sprintf("%04o", mode), unix.Chmod(path, mode)
	})
}

func (s *Storm) chown() (string, error) {
	if !s.root0 {
		return s.on(anything, func(path string) (string, error) {
			return "to its own group", unix.Lchown(path, -1, os.Getegid())
		})
	}
	ids := []int{0, 1, 1000, 65534, 4_000_000_000}
	uid, gid := ids[s.rng.IntN(len(ids))], ids[s.rng.IntN(len(ids))]
	return s.on(anything, func(path string) (string, error) {
		return fmt.Sprintf("%d:%d", uid, gid), unix.Lchown(path, uid, gid)
	})
}

// utimes sets a time of 32 bits, which every file system can hold, with nanoseconds.
func (s *Storm) utimes() (string, error) {
	at := unix.Timespec{Sec: s.rng.Int64N(1<<32) - 1<<31, Nsec: s.rng.Int64N(1_000_000_000)}
	if s.rng.IntN(4) == 0 {
		at.Nsec = 0
	}
	return s.on(anything, func(path string) (string, error) {
		return fmt.Sprintf("%d.%09d", at.Sec, at.Nsec),
			unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, at}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// attributeNames are the extended attributes that a storm plays with.
func (s *Storm) attributeNames() []string {
	names := []string{"user.color", "user.long", "user.not\xffutf8"}
	if s.root0 {
		names = append(names, "trusted.storm", "security.storm", "security.capability")
	}
	return names
}

func (s *Storm) setxattr() (string, error) {
	names := s.attributeNames()
	name := names[s.rng.IntN(len(names))]
	var value []byte
	switch name {
	case "user.long":
		value = s.data(s.rng.Int64N(1500))
	case "security.capability":
		value = Capability(1 << s.rng.IntN(32))
	default:
		value = s.data(s.rng.Int64N(20))
	}
	return s.on(anything, func(path string) (string, error) {
		return fmt.Sprintf("%s %d bytes", name, len(value)), unix.Lsetxattr(path, name, value, 0)
	})
}

func (s *Storm) removexattr() (string, error) {
	names := append(s.attributeNames(), "system.posix_acl_access", "system.posix_acl_default")
	name := names[s.rng.IntN(len(names))]
	return s.on(anything, func(path string) (string, error) { return name, unix.Lremovexattr(path, name) })
}

func (s *Storm) acl() (string, error) {
	suits, name := notSymlink, "system.posix_acl_access"
	if s.rng.IntN(2) == 0 {
		suits, name = isDirectory, "system.posix_acl_default"
	}
	value := ACL(uint16(7), uint32(1000+s.rng.IntN(3)), uint16(s.rng.IntN(8)))
	return s.on(suits, func(path string) (string, error) { return name, unix.Lsetxattr(path, name, value, 0) })
}

// Capability is the value of security.capability that permits the capabilities of a bit set.
func Capability(permitted uint32) []byte {
	v := make([]byte, 20)
	binary.LittleEndian.PutUint32(v, 0x02000001) // revision 2, effective
	binary.LittleEndian.PutUint32(v[4:], permitted)
	return v
}

// ACL is the value of system.posix_acl_access or _default with permissions (0 to 7) for the owner and for one further user;
// group and others may read.
func ACL(owner uint16, user uint32, perm uint16) []byte {
	const nobody = 0xffffffff
	v := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{0x01, owner, nobody}, {0x02, perm, user}, {0x04, 4, nobody}, {0x10, 7, nobody}, {0x20, 4, nobody}} {
		v = binary.LittleEndian.AppendUint16(v, e.tag)
		v = binary.LittleEndian.AppendUint16(v, e.perm)
		v = binary.LittleEndian.AppendUint32(v, e.id)
	}
	return v
}
