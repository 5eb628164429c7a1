package gluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"georep/internal/change"
	"georep/internal/dial"
)

// MountOptions say which volume to mount, and how.
type MountOptions struct {
	Server  string // "": localhost
	Volume  string
	LogFile string // of the mount's own process
	Level   string // of its log; "": INFO
	TempDir string // where the mount point is made; "": the system's
	Program string // "": glusterfs
	// Reader says that content is only read, and shall be what it is now: of a file in parts the kernel does not notice when another client changes one,
	// and goes on showing what it has kept.
	Reader bool
	// Broker is the gluster program by which an account besides root asks glusterd for a mount; "": root mounts by itself.
	Broker string
}

// Mount is a volume, mounted so that objects can be reached by their GFID, with no name in the file system by which others could reach it.
// Its methods may be called at the same time.
type Mount struct {
	top  *os.File
	gfid *os.File
	base string // path of top
	by   string // path of gfid
}

// wholeWait is how long a fresh mount may take until all of the volume can be reached.
const wholeWait = 10 * time.Second

// Open mounts a volume.
func Open(ctx context.Context, o MountOptions) (_ *Mount, err error) {
	if o.Server == "" {
		o.Server = "localhost"
	}
	if o.Level == "" {
		o.Level = "INFO"
	}
	open := o.mount
	if o.Broker != "" {
		open = o.mountByBroker
	}
	top, err := open(ctx)
	if err != nil {
		return nil, fmt.Errorf("mount volume %s: %w", o.Volume, err)
	}
	m := &Mount{top: top, base: descriptorPath(top)}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if err := m.await(ctx); err != nil {
		return nil, fmt.Errorf("reach volume %s: %w", o.Volume, err)
	}
	if m.gfid, err = os.OpenFile(m.base+"/.gfid", unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		return nil, fmt.Errorf("reach objects of volume %s by their GFID: %w", o.Volume, err)
	}
	m.by = descriptorPath(m.gfid) + "/"
	return m, nil
}

// await waits a while until all of the volume can be reached. That a part of it stays away is no error: with the rest can be worked.
func (m *Mount) await(ctx context.Context) error {
	limit := time.NewTimer(wholeWait)
	defer limit.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		whole, err := m.Whole(ctx)
		if whole {
			return nil
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func descriptorPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// mount starts the client of the volume. It ends by itself when its last descriptor is closed.
func (o *MountOptions) mount(ctx context.Context) (*os.File, error) {
	dir, err := os.MkdirTemp(o.TempDir, "georep-mount-")
	if err != nil {
		return nil, err
	}
	program := o.Program
	if program == "" {
		program = "glusterfs"
	}
	args := []string{
		program, "--aux-gfid-mount", "--acl", "--log-level=" + o.Level, "--volfile-server=" + o.Server, "--volfile-id=" + o.Volume,
		// Of the numbers that may do all, -4 alone is not served by a single thread of each brick.
		"--client-pid=-4",
		// What another client or worker has done is seen at once.
		"--entry-timeout=0", "--attribute-timeout=0", "--xlator-option=*md-cache.pass-through=on",
	}
	if o.Reader {
		args = append(args, "--direct-io-mode=enable", "--xlator-option=*-client-*.ping-timeout=10")
	}
	if o.LogFile != "" {
		args = append(args, "--log-file="+o.LogFile)
	}
	if _, err := run(ctx, append(args, dir)...); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	top, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH), os.Remove(dir))
	}
	if err := errors.Join(unix.Unmount(dir, unix.MNT_DETACH), os.Remove(dir)); err != nil {
		return nil, errors.Join(err, top.Close())
	}
	return top, nil
}

// mountByBroker asks glusterd, which knows what this account may mount.
func (o *MountOptions) mountByBroker(ctx context.Context) (*os.File, error) {
	self, err := user.Current()
	if err != nil {
		return nil, err
	}
	args := []string{
		o.Broker, "--remote-host=localhost", "system::", "mount", self.Username, "user-map-root=" + self.Username, "aux-gfid-mount", "acl",
		"log-level=" + o.Level, "log-file=" + o.LogFile, "volfile-server=" + o.Server, "volfile-id=" + o.Volume, "client-pid=-1",
	}
	said, err := run(ctx, args...)
	if err != nil {
		return nil, err
	}
	dir := strings.TrimSpace(said)
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("glusterd answered %q when it was asked for a mount: see that this account and volume are listed by gluster-mountbroker status, and glusterd was restarted since", said)
	}
	top, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	_, hiding := run(ctx, o.Broker, "--remote-host=localhost", "system::", "umount", dir, "lazy")
	if err = errors.Join(err, hiding); err != nil && top != nil {
		return nil, errors.Join(err, top.Close())
	}
	return top, err
}

// run runs a program and gives what it printed.
func run(ctx context.Context, argv ...string) (string, error) {
	out, err := dial.Output(ctx, dial.Brief{Argv: argv})
	return string(out), err
}

// Close ends the mount.
func (m *Mount) Close() error {
	var err error
	if m.gfid != nil {
		err = m.gfid.Close()
	}
	return errors.Join(err, m.top.Close())
}

// Top is a path of the volume's root, of this process only.
func (m *Mount) Top() string { return m.base }

// Object is a path of an object, of this process only. It shows wrong identities of directories: see At.
func (m *Mount) Object(id change.ID) string { return m.by + GFID(id) }

// At is a path of a name in a directory, of this process only.
func (m *Mount) At(dir change.ID, name string) string { return m.by + GFID(dir) + "/" + name }

// Whole says whether all of the volume can be reached.
func (m *Mount) Whole(context.Context) (bool, error) {
	var buf [16]byte
	n, err := retry(func() (int, error) { return unix.Getxattr(m.base, "dht.subvol.status", buf[:]) })
	if err != nil {
		return false, err
	}
	return n > 0 && buf[0] == '1', nil
}

// Identity reads the GFID of what a path of At leads to.
func (m *Mount) Identity(path string) (change.ID, error) {
	var id change.ID
	n, err := retry(func() (int, error) { return unix.Lgetxattr(path, "glusterfs.gfid", id[:]) })
	if err == nil && n != len(id) {
		err = unix.ENODATA
	}
	return id, err
}

// Lookup gives the identity of what is at a place; false when there is nothing, or no such directory.
func (m *Mount) Lookup(_ context.Context, at change.Place) (change.ID, bool, error) {
	id, err := m.Identity(m.At(at.Dir, at.Name))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ESTALE) {
		return id, false, nil
	}
	return id, err == nil, err
}

// Attributes gives mode, owner and times of a directory.
func (m *Mount) Attributes(_ context.Context, dir change.ID) (change.Attr, error) {
	var st unix.Stat_t
	_, err := retry(func() (int, error) { return 0, unix.Lstat(m.Object(dir), &st) })
	if err != nil {
		return change.Attr{}, fmt.Errorf("look at directory %s: %w", GFID(dir), err)
	}
	return change.Attr{
		Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, Mtime: change.Time{Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)},
	}, nil
}

// Open opens a file's content for reading.
func (m *Mount) Open(_ context.Context, id change.ID) (*os.File, error) {
	return os.OpenFile(m.Object(id), os.O_RDONLY, 0)
}

// Trigger has the brick that holds a file record that its content changed. A file that is not there is no error.
func (m *Mount) Trigger(_ context.Context, id change.ID) error {
	_, err := retry(func() (int, error) {
		return 0, unix.Setxattr(m.Object(id), "glusterfs.geo-rep.trigger-sync", []byte("1"), 0)
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("have a change of %s recorded: %w", GFID(id), err)
	}
	return nil
}

// retry repeats a call that was interrupted, or met an object that another client has just changed.
func retry(call func() (int, error)) (int, error) {
	for try := 0; ; try++ {
		n, err := call()
		if !errors.Is(err, unix.EINTR) && !(errors.Is(err, unix.ESTALE) && try < 3) {
			return n, err
		}
	}
}
