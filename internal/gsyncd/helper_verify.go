package gsyncd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"georep/internal/dial"
	"georep/internal/durable"
)

// verification is one check of two volumes before a session between them is made.
type verification struct {
	primary, user, host, volume, port string
	inet6                             bool
}

// blocker is a finding that even force does not pass over.
type blocker struct{ text string }

func (b *blocker) Error() string { return b.text }

// usage of a volume, in bytes.
type space struct {
	total, free uint64
	empty       bool
}

// verifyHelper is gverify.sh: it checks that the secondary can be reached and fits, and leaves what it has found in a file, which glusterd
// reads when the exit code is not 0.
func (p *Program) verifyHelper(ctx context.Context, args []string) error {
	if len(args) < 6 {
		return usage("usage: gverify.sh PRIMARY USER HOST VOLUME PORT LOG-FILE [FAMILY]")
	}
	v := verification{primary: args[0], user: args[1], host: args[2], volume: args[3], port: args[4]}
	v.inet6 = len(args) > 6 && args[6] == "inet6"
	found, err := p.verify(ctx, v)
	var stop *blocker
	if errors.As(err, &stop) {
		found = []string{"FORCE_BLOCKER|" + stop.text}
	} else if err != nil {
		return err
	}
	if len(found) == 0 {
		return nil
	}
	if err := durable.WriteFile(args[5], []byte(strings.Join(found, "\n")+"\n"), 0o644); err != nil {
		return fmt.Errorf("write what was found: %w", err)
	}
	return &failure{len(found), errors.New(strings.Join(found, "\n"))}
}

// verify gives the findings that force passes over; the error is a *blocker for others.
func (p *Program) verify(ctx context.Context, v verification) ([]string, error) {
	dialer := net.Dialer{Timeout: 20 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(v.host, v.port))
	if err != nil {
		return nil, &blocker{v.host + " not reachable."}
	}
	conn.Close()
	ssh, login := p.adminSSH(v.port, v.user == "root"), v.user+"@"+v.host
	if _, err := p.remotely(ctx, ssh, login, "echo", ""); err != nil {
		return nil, &blocker{fmt.Sprintf("Passwordless ssh login has not been setup with %s for user %s.", v.host, v.user)}
	}
	out, err := p.remotely(ctx, ssh, login, ". /etc/profile >/dev/null 2>&1; PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin gluster --version", "")
	theirs := version(out)
	if err != nil || theirs == "" {
		return nil, &blocker{fmt.Sprintf("gluster command not found on %s for user %s.", v.host, v.user)}
	}
	here, err := dial.Output(ctx, dial.Brief{Argv: []string{glusterPath(), "--version"}, Env: p.cleanEnv()})
	if err != nil {
		return nil, fmt.Errorf("ask for the version of gluster: %w", err)
	}
	log := filepath.Join(p.logDir(), "geo-replication")
	primary, err := p.measure(ctx, "localhost", v.primary, filepath.Join(log, "gverify-primarymnt.log"), v.inet6)
	if err != nil {
		return nil, &blocker{"Unable to mount and fetch primary volume details. Please check the log: " + filepath.Join(log, "gverify-primarymnt.log")}
	}
	secondary, err := p.measure(ctx, v.host, v.volume, filepath.Join(log, "gverify-secondarymnt.log"), v.inet6)
	if err != nil {
		return nil, &blocker{"Unable to mount and fetch secondary volume details. Please check the log: " + filepath.Join(log, "gverify-secondarymnt.log")}
	}
	return compare(v, primary, secondary, version(here), theirs), nil
}

// slack is how much less free space than the primary the secondary may have, in bytes.
const slack = 100 << 20

// compare gives what does not fit, one line each.
func compare(v verification, primary, secondary space, here, there string) []string {
	var found []string
	if secondary.total < primary.total {
		found = append(found, "Total disk size of primary is greater than disk size of secondary.")
	}
	if secondary.free+slack < primary.free {
		found = append(found, "Total available size of primary is greater than available size of secondary")
	}
	if !secondary.empty {
		target := v.host + "::" + v.volume
		found = append(found, target+" is not empty. Please delete existing files in "+target+" and retry, or use force to continue without deleting the existing files.")
	}
	if here != there {
		found = append(found, "Gluster version mismatch between primary and secondary. Primary version: "+here+" Secondary version: "+there)
	}
	return found
}

// version reads the first line of `gluster --version`: "glusterfs 10.3".
func version(out []byte) string {
	for line := range strings.Lines(string(out)) {
		if number, ok := strings.CutPrefix(strings.TrimSpace(line), "glusterfs "); ok {
			return number
		}
	}
	return ""
}

// measure mounts a volume for a moment and looks at its size and its top.
func (p *Program) measure(ctx context.Context, server, volume, log string, inet6 bool) (_ space, err error) {
	dir, err := os.MkdirTemp("", "gverify-")
	if err != nil {
		return space{}, fmt.Errorf("mount the volume %s: %w", volume, err)
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	argv := []string{"/usr/sbin/glusterfs", "--volfile-server=" + server, "--volfile-id=" + volume, "--log-file=" + log, "--log-level=INFO", "--client-pid=-1"}
	if inet6 {
		argv = append(argv, "--xlator-option=transport.address-family=inet6")
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	_, err = dial.Output(ctx, dial.Brief{Argv: append(argv, dir), Env: p.cleanEnv()})
	defer func() {
		if unmount := syscall.Unmount(dir, syscall.MNT_DETACH); unmount != nil && !errors.Is(unmount, syscall.EINVAL) {
			err = errors.Join(err, fmt.Errorf("unmount the volume %s: %w", volume, unmount))
		}
	}()
	if err != nil {
		return space{}, fmt.Errorf("mount the volume %s: %w", volume, err)
	}
	return look(dir)
}

// errNotMounted says that the client of a volume has started and yet nothing is there.
var errNotMounted = errors.New("it is not mounted")

// isEmpty says whether a volume's top holds nothing but what Gluster keeps there for itself.
func isEmpty(dir string) (bool, error) {
	d, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer d.Close()
	names, err := d.Readdirnames(16)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return !slices.ContainsFunc(names, func(name string) bool {
		return name != ".trashcan" && !strings.HasPrefix(name, ".glusterfs-anonymous-inode-")
	}), err
}

func look(dir string) (space, error) {
	var stat syscall.Stat_t
	if err := syscall.Stat(dir, &stat); err != nil {
		return space{}, fmt.Errorf("look at the mounted volume: %w", err)
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return space{}, fmt.Errorf("look at the mounted volume: %w", err)
	}
	if stat.Ino != 1 || fs.Blocks == 0 {
		return space{}, errNotMounted
	}
	empty, err := isEmpty(dir)
	if err != nil {
		return space{}, fmt.Errorf("look at the mounted volume: %w", err)
	}
	unit := uint64(fs.Frsize)
	return space{total: fs.Blocks * unit, free: fs.Bavail * unit, empty: empty}, nil
}
