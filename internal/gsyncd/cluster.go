package gsyncd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"georep/internal/dial"
	"georep/internal/durable"
	"georep/internal/gluster"
	"georep/internal/session"
)

// askWait bounds a question to a glusterd.
const askWait = 30 * time.Second

// askVolume asks a glusterd about a volume. It must not be called while this node's glusterd waits for us holding its lock.
func (p *Program) askVolume(ctx context.Context, host, volume string, inet6 bool) (gluster.Volume, error) {
	argv := []string{glusterPath(), "--xml", "--remote-host=" + host, "volume", "info", volume}
	if inet6 {
		argv = append(argv, "--inet6")
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	out, err := dial.Output(ctx, dial.Brief{Argv: argv, Env: p.cleanEnv()})
	if err != nil {
		return gluster.Volume{}, fmt.Errorf("ask for the volume %s on %s: %w", volume, host, err)
	}
	return gluster.FindVolume(out, volume)
}

// glusterPath is the gluster command, which a user's PATH often does not have.
func glusterPath() string {
	for _, path := range []string{"/usr/sbin/gluster", "/usr/bin/gluster", "/usr/local/sbin/gluster"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return "gluster"
}

// cleanEnv is the environment for what we start: without what says who has called us.
func (p *Program) cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, glusterdCalled+"=") || strings.HasPrefix(v, "SSH_ORIGINAL_COMMAND=")
	})
}

// remembered is what a session knows of its secondary, kept for the time when the host of the session cannot be asked.
type remembered struct {
	ID    string   `json:"id"`
	Hosts []string `json:"hosts"` // the nodes with bricks, in the order of the volume
}

// cluster asks both clusters of a session what the monitor must know, and keeps the answers for a short time, because the workers of a
// node start together.
type cluster struct {
	p *Program
	s *session.Session

	mu     sync.Mutex
	asked  time.Time
	volume gluster.Volume
	other  remembered
}

// fresh is how long an answer is good for.
const fresh = 5 * time.Second

// look gives the primary volume and what is known of the secondary.
func (c *cluster) look(ctx context.Context) (gluster.Volume, remembered, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.asked.IsZero() && time.Since(c.asked) < fresh {
		return c.volume, c.other, nil
	}
	volume, err := c.p.askVolume(ctx, "localhost", c.s.Primary, false)
	if err != nil {
		return gluster.Volume{}, remembered{}, err
	}
	if !volume.Started {
		return gluster.Volume{}, remembered{}, fmt.Errorf("the volume %s is not started: start it with 'gluster volume start %s'", c.s.Primary, c.s.Primary)
	}
	other, err := c.lookSecondary(ctx)
	if err != nil {
		return gluster.Volume{}, remembered{}, err
	}
	c.volume, c.other = volume, other
	if err := c.note(); err != nil {
		return gluster.Volume{}, remembered{}, err
	}
	c.asked = time.Now()
	return volume, other, nil
}

// lookSecondary gives what the session's host says, or what it has said when it is away: another node of its cluster may do.
func (c *cluster) lookSecondary(ctx context.Context) (remembered, error) {
	known, err := c.recall()
	if err != nil {
		return remembered{}, err
	}
	if known.ID != "" && len(answering(ctx, c.s, []string{c.s.Secondary.Host})) == 0 {
		return known, nil
	}
	other, err := c.askSecondary(ctx)
	if err != nil && known.ID != "" {
		return known, nil // the worker will meet the same, and say it
	}
	return other, err
}

// askSecondary asks the session's host for its volume.
func (c *cluster) askSecondary(ctx context.Context) (remembered, error) {
	to := c.s.Secondary
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	remote := filepath.Join(c.s.Config.Get("secondary-gluster-command-dir"), "gluster")
	argv := append(sshCommand(c.s), "-oBatchMode=yes", "-p", strconv.Itoa(c.s.Config.Int("ssh-port")), c.login(to.Host), remote+" --xml --remote-host=localhost volume info "+to.Volume)
	out, err := dial.Output(ctx, dial.Brief{Argv: argv, Env: c.p.cleanEnv()})
	if err != nil {
		return remembered{}, fmt.Errorf("ask %s for the volume %s: %w", c.login(to.Host), to.Volume, explainSSH(err))
	}
	volume, err := gluster.FindVolume(out, to.Volume)
	if err != nil {
		return remembered{}, fmt.Errorf("ask %s for the volume %s: %w", c.login(to.Host), to.Volume, err)
	}
	known := remembered{ID: volume.ID}
	for _, b := range volume.Bricks {
		if !slices.Contains(known.Hosts, b.Host) {
			known.Hosts = append(known.Hosts, b.Host)
		}
	}
	return known, nil
}

// explainSSH says in a sentence what an ssh that failed has met.
func explainSSH(err error) error {
	var exit *dial.ExitError
	if errors.As(err, &exit) {
		return dial.Explain(dial.Options{SSH: exit.Argv[:1], Args: []string{"gluster"}}, exit.Status, exit.Stderr)
	}
	return err
}

func (c *cluster) login(host string) string {
	if c.s.Secondary.User == "" {
		return host
	}
	return c.s.Secondary.User + "@" + host
}

// sshCommand is ssh with the options of a session. Host keys are checked against those that were noted when the keys were pushed; that of
// a node that came later is noted when it is seen first. Who sets own ssh-options decides for himself.
func sshCommand(s *session.Session) []string {
	argv := []string{s.Config.Get("ssh-command")}
	if !s.Config.Has("ssh-options") {
		argv = append(argv, "-oUserKnownHostsFile="+knownHosts(s), "-oGlobalKnownHostsFile=/dev/null", "-oStrictHostKeyChecking=accept-new",
			"-oHashKnownHosts=no", "-oUpdateHostKeys=no", "-oIdentitiesOnly=yes", "-oConnectTimeout=10")
	}
	return append(argv, strings.Fields(s.Config.Get("ssh-options"))...)
}

// knownHosts is the file with the host keys of a session's secondary.
func knownHosts(s *session.Session) string {
	return filepath.Join(s.GeoDir(), knownHostsName(s.Primary, s.Secondary.Host, s.Secondary.Volume))
}

func knownHostsName(primary, host, volume string) string {
	return primary + "_" + host + "_" + volume + ".known_hosts"
}

func (c *cluster) memory() string { return filepath.Join(c.s.Dir(), "secondary.json") }

// recall gives what was remembered; nothing is no error.
func (c *cluster) recall() (remembered, error) {
	text, err := os.ReadFile(c.memory())
	if errors.Is(err, fs.ErrNotExist) {
		return remembered{}, nil
	}
	if err != nil {
		return remembered{}, fmt.Errorf("recall the secondary's nodes: %w", err)
	}
	var r remembered
	if err := json.Unmarshal(text, &r); err != nil {
		return remembered{}, nil // it will be written again
	}
	return r, nil
}

// note stores what glusterd and a later start want to find.
func (c *cluster) note() error {
	known, err := c.recall()
	if err != nil {
		return err
	}
	if known.ID != c.other.ID || !slices.Equal(known.Hosts, c.other.Hosts) {
		text, err := json.Marshal(c.other)
		if err != nil {
			return fmt.Errorf("remember the secondary's nodes: %w", err)
		}
		if err := durable.WriteFile(c.memory(), text, 0o644); err != nil {
			return fmt.Errorf("remember the secondary's nodes: %w", err)
		}
	}
	if err := c.s.Note("stime-xattr-prefix", "trusted.glusterfs."+c.volume.ID+"."+c.other.ID); err != nil {
		return err
	}
	if c.volume.Distribute > 1 {
		return c.s.Note("primary-distribution-count", strconv.Itoa(c.volume.Distribute))
	}
	return nil
}

// probeWait is how long a node may take to answer at its ssh port.
const probeWait = 3 * time.Second

// orderHosts gives those nodes of the secondary that answer, in the order in which the worker of a brick should try them: its own one first.
// When none answers it is its own one alone, for ssh may know a way that we do not. The host of the session is one of them under whatever name.
func orderHosts(ctx context.Context, s *session.Session, known []string, index int) []string {
	hosts := slices.Clone(known)
	if !slices.Contains(hosts, s.Secondary.Host) {
		hosts = append(hosts, s.Secondary.Host)
	}
	if n := len(known); n > 0 {
		at := index % n
		hosts = slices.Concat(hosts[at:n], hosts[:at], hosts[n:])
	}
	if up := answering(ctx, s, hosts); len(up) > 0 {
		return up
	}
	return hosts[:1]
}

// answering gives those of the hosts that answer at the port of their ssh, in their order.
func answering(ctx context.Context, s *session.Session, hosts []string) []string {
	answers := make([]bool, len(hosts))
	var all sync.WaitGroup
	for i, host := range hosts {
		all.Go(func() {
			dialer := net.Dialer{Timeout: probeWait}
			conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(s.Config.Int("ssh-port"))))
			if err == nil {
				conn.Close()
				answers[i] = true
			}
		})
	}
	all.Wait()
	var up []string
	for i, host := range hosts {
		if answers[i] {
			up = append(up, host)
		}
	}
	return up
}
