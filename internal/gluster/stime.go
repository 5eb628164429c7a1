package gluster

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"georep/internal/change"
)

// stimeName is the attribute of a brick's root that says up to when a session has mirrored it.
func stimeName(primary, secondary change.ID) string {
	return "trusted.glusterfs." + GFID(primary) + "." + GFID(secondary) + ".stime"
}

// ReadStime gives the time, in seconds of the brick's clock, up to which a brick was mirrored by whatever program; 0: it was not.
func ReadStime(brick string, primary, secondary change.ID) (int64, error) {
	var value [8]byte
	n, err := unix.Getxattr(brick, stimeName(primary, secondary), value[:])
	if errors.Is(err, unix.ENODATA) || err == nil && n != len(value) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read up to when %s is mirrored: %w", brick, err)
	}
	return int64(binary.BigEndian.Uint32(value[:])), nil
}

// WriteStime notes the time up to which a brick is mirrored, where other programs for geo-replication look for it.
func WriteStime(brick string, primary, secondary change.ID, at int64) error {
	value := binary.BigEndian.AppendUint32(nil, uint32(max(at, 0)))
	value = binary.BigEndian.AppendUint32(value, 0)
	if err := unix.Setxattr(brick, stimeName(primary, secondary), value, 0); err != nil {
		return fmt.Errorf("note up to when %s is mirrored: %w", brick, err)
	}
	return nil
}

// ActiveNodes lists, for each subvolume in its order, the node whose brick answers for it.
func (m *Mount) ActiveNodes() (string, error) {
	buf := make([]byte, 64<<10)
	n, err := retry(func() (int, error) { return unix.Getxattr(m.base, "trusted.glusterfs.node-uuid", buf) })
	if err != nil {
		return "", fmt.Errorf("ask which nodes answer for the volume: %w", err)
	}
	return string(buf[:n]), nil
}
