package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// GlusterLib is the directory of Gluster's helper programs, gsyncd among them; "" when Gluster is not installed. A host of a lab with
// Gluster has its own copy there, at the same path.
func GlusterLib() string {
	for _, pattern := range []string{"/usr/lib/*/glusterfs/gsyncd", "/usr/libexec/glusterfs/gsyncd", "/usr/lib/glusterfs/gsyncd"} {
		if found, err := filepath.Glob(pattern); err == nil && len(found) > 0 {
			return filepath.Dir(found[0])
		}
	}
	return ""
}

// withGluster adds what a glusterd needs to itself.
func withGluster(o Options) Options {
	private := []string{"/var/lib/glusterd", "/var/log/glusterfs", "/etc/glusterfs", "/var/lib/misc"}
	if dir := GlusterLib(); dir != "" {
		private = append(private, dir)
	}
	for _, dir := range private {
		if !slices.Contains(o.Private, dir) {
			o.Private = append(slices.Clone(o.Private), dir)
		}
	}
	return o
}

// forgetGluster takes out of a host's copies what the machine's own glusterd may have left there.
func (h *Host) forgetGluster() error {
	for i, dir := range h.lab.o.Private {
		copied := filepath.Join(h.dir, "private", fmt.Sprint(i))
		var leave []string
		switch dir {
		case "/var/lib/glusterd":
			leave = []string{"groups", "hooks"}
		case "/var/log/glusterfs", "/var/lib/misc":
		default:
			continue
		}
		entries, err := os.ReadDir(copied)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if slices.Contains(leave, entry.Name()) {
				continue
			}
			if err := os.RemoveAll(filepath.Join(copied, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// daemons is the part of a host's start that comes before its sshd.
func (h *Host) daemons() string {
	if !h.lab.o.Gluster {
		return ""
	}
	return "glusterd\n"
}

// Run runs a command in the host and gives what it printed on both streams; the error has that too.
func (h *Host) Run(ctx context.Context, args ...string) (string, error) {
	out, err := h.Command(ctx, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("on %s: %s: %w: %s", h.name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// Gluster runs the gluster command in the host, which asks nothing.
func (h *Host) Gluster(ctx context.Context, args ...string) (string, error) {
	return h.Run(ctx, append([]string{"gluster", "--mode=script"}, args...)...)
}

// Peer makes one cluster of hosts of a lab with Gluster, and waits until they all know each other.
func (l *Lab) Peer(ctx context.Context, names ...string) error {
	first := l.Host(names[0])
	for _, name := range names[1:] {
		if _, err := first.Gluster(ctx, "peer", "probe", name); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := l.Host(name).awaitPeers(ctx, len(names)-1); err != nil {
			return err
		}
	}
	return nil
}

// awaitPeers waits until the host's glusterd is connected to so many others and has agreed with them.
func (h *Host) awaitPeers(ctx context.Context, want int) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		said, err := h.Gluster(ctx, "peer", "status")
		if err == nil && strings.Count(said, "Peer in Cluster (Connected)") >= want {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the peers of %s: %w: %s %v", h.name, ctx.Err(), said, err)
		}
	}
}

// Volume makes and starts a volume with a brick on each host named, in their order; kind is what the gluster command takes, such as
// "replica 2", or "". The bricks are in the hosts' Dir, under the volume's name and a number.
func (l *Lab) Volume(ctx context.Context, name, kind string, hosts ...string) error {
	args := append([]string{"volume", "create", name}, strings.Fields(kind)...)
	for i, host := range hosts {
		args = append(args, host+":"+l.Host(host).Brick(name, i))
	}
	first := l.Host(hosts[0])
	if _, err := first.Gluster(ctx, append(args, "force")...); err != nil {
		return err
	}
	_, err := first.Gluster(ctx, "volume", "start", name)
	return err
}

// Brick is the path of a volume's brick on this host; index is the place of the brick in the volume, from 0.
func (h *Host) Brick(volume string, index int) string {
	return filepath.Join(h.Dir(), fmt.Sprintf("%s-%d", volume, index))
}

// RestartGlusterd ends the host's glusterd, and only that, and starts it again.
func (h *Host) RestartGlusterd(ctx context.Context) error {
	_, err := h.Run(ctx, "bash", "-c", "pkill -9 -x glusterd; while pgrep -x glusterd; do :; done >/dev/null; glusterd")
	return err
}
