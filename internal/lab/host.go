package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Host is one host of a lab.
type Host struct {
	lab    *Lab
	name   string
	number int    // 1 and up, the last part of its addresses
	dir    string // its files, private directories included
	cable  string // the bridge's end of its link

	mu sync.Mutex
	ns *namespace // nil before the first boot
}

// Name is the host's name, which the other hosts can resolve.
func (h *Host) Name() string { return h.name }

// Addr is the host's IPv4 address, reachable within the lab only.
func (h *Host) Addr() netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(h.number)}) }

// Addr6 is the host's IPv6 address.
func (h *Host) Addr6() netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 15: byte(h.number)})
}

// Dir is a directory for the host's data, the same path inside and outside. It outlives a Kill.
func (h *Host) Dir() string { return filepath.Join(h.dir, "data") }

// Home is the value of HOME for the commands of this host; it is empty at first.
func (h *Host) Home() string { return filepath.Join(h.dir, "home-of-root") }

// SSHConfig is the path of a configuration with which `ssh -F` reaches every host of the lab by name: with a key, and with
// known host keys that are checked. Within a host plain `ssh` does the same, by its /etc/ssh/ssh_config.
func (h *Host) SSHConfig() string { return h.lab.sshConfig() }

// namespaceNow returns the running init.
func (h *Host) namespaceNow() (*namespace, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ns == nil || !h.ns.alive() {
		return nil, fmt.Errorf("host %s is down", h.name)
	}
	return h.ns, nil
}

// Pid is the process, seen from outside, that is the host's init; 0 when the host is down.
func (h *Host) Pid() int {
	ns, err := h.namespaceNow()
	if err != nil {
		return 0
	}
	return ns.pid
}

// Command prepares a command that runs in the host as root, with HOME, USER and the state directories of the host. When the
// context ends, or the command is killed, the program in the host is killed. To send it other signals use Signal.
func (h *Host) Command(ctx context.Context, args ...string) *exec.Cmd {
	ns, err := h.namespaceNow()
	if err != nil {
		cmd := exec.CommandContext(ctx, "/bin/false")
		cmd.Err = fmt.Errorf("run %s: %w", strings.Join(args, " "), err)
		return cmd
	}
	cmd := ns.enter(ctx, args...)
	cmd.Env = h.environment()
	return cmd
}

func (h *Host) environment() []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "PATH":
		default:
			if !strings.HasPrefix(name, "XDG_") {
				env = append(env, v)
			}
		}
	}
	return append(env, "HOME="+h.Home(), "USER=root", "LOGNAME=root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

// Signal sends a signal to the program in the host that a started Command runs (the command itself is its wrapper).
func Signal(ctx context.Context, cmd *exec.Cmd, signal syscall.Signal) error {
	pid, err := Inside(ctx, cmd)
	if err != nil {
		return err
	}
	return syscall.Kill(pid, signal)
}

// Inside returns the process, seen from outside, of the program that a started Command runs in the host.
func Inside(ctx context.Context, cmd *exec.Cmd) (int, error) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		children, err := childrenOf(cmd.Process.Pid)
		if err != nil {
			return 0, fmt.Errorf("find the program of %v: %w", cmd.Args, err)
		}
		// setpriv replaces itself by the program, which must have happened before a signal may come.
		if len(children) > 0 && !isWrapper(children[0]) {
			return children[0], nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("find the program of %v: %w", cmd.Args, ctx.Err())
		}
	}
}

// isWrapper says whether the process still is nsenter or setpriv on its way to the program.
func isWrapper(pid int) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && (filepath.Base(exe) == "nsenter" || filepath.Base(exe) == "setpriv")
}

// CutLink pulls the host's cable: packets vanish, and nobody is told.
func (h *Host) CutLink(ctx context.Context) error { return h.setLink(ctx, "down") }

// RestoreLink puts the cable back.
func (h *Host) RestoreLink(ctx context.Context) error { return h.setLink(ctx, "up") }

func (h *Host) setLink(ctx context.Context, state string) error {
	out, err := h.lab.lan.enter(ctx, "ip", "link", "set", h.cable, state).CombinedOutput()
	if err != nil {
		return fmt.Errorf("set the link of %s %s: %w: %s", h.name, state, err, out)
	}
	return nil
}

// Kill ends all processes of the host at once, as when its power fails; what it had written to files stays. Boot starts it again.
func (h *Host) Kill() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ns == nil {
		return nil
	}
	return h.ns.kill()
}

// Boot starts a host that was killed, and waits for its sshd. Start has booted every host once.
func (h *Host) Boot(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ns != nil && h.ns.alive() {
		return fmt.Errorf("boot %s: it is up", h.name)
	}
	ns, err := startNamespace(ctx, h.bootScript(), filepath.Join(h.dir, "boot.log"))
	if err != nil {
		return fmt.Errorf("boot %s: %w", h.name, err)
	}
	if err := h.connect(ctx, ns); err != nil {
		return errors.Join(fmt.Errorf("boot %s: %w", h.name, err), ns.kill())
	}
	h.ns = ns
	return nil
}

// connect makes the cable between the bridge and the host, and starts what needs the network.
func (h *Host) connect(ctx context.Context, ns *namespace) error {
	// The link of an earlier boot goes when the kernel gets to removing the dead namespace.
	_ = h.lab.lan.enter(ctx, "ip", "link", "del", h.cable).Run()
	for _, step := range []*exec.Cmd{
		// From outside of both, because ip finds a namespace by a process only in its own /proc.
		exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(h.lab.lan.pid), "-n", "--",
			"ip", "link", "add", h.cable, "type", "veth", "peer", "name", "eth0",
			"address", fmt.Sprintf("02:77:00:00:00:%02x", h.number), "netns", strconv.Itoa(ns.pid)), // the same after a boot: the others remember it
		h.lab.lan.enter(ctx, "ip", "link", "set", h.cable, "master", "bridge", "up"),
		ns.enter(ctx, "ip", "addr", "add", h.Addr().String()+"/24", "dev", "eth0"),
		ns.enter(ctx, "ip", "addr", "add", h.Addr6().String()+"/64", "dev", "eth0", "nodad"),
		ns.enter(ctx, "ip", "link", "set", "eth0", "up"),
		ns.enter(ctx, "bash", "-c", h.startScript()),
	} {
		// Not CombinedOutput: daemons keep the pipe open.
		out, err := os.OpenFile(filepath.Join(h.dir, "boot.log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
		if err != nil {
			return err
		}
		step.Stdout, step.Stderr = out, out
		err = step.Run()
		out.Close()
		if err != nil {
			said, _ := os.ReadFile(out.Name()) // only to explain
			return fmt.Errorf("%s: %w: %s", strings.Join(step.Args, " "), err, strings.TrimSpace(string(said)))
		}
	}
	return awaitSSH(ctx, ns)
}

// awaitSSH waits until the ssh port answers, asking from within the host.
func awaitSSH(ctx context.Context, ns *namespace) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ns.inside(func() error { return greets(ctx, "127.0.0.1:22") })
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for sshd: %w", errors.Join(ctx.Err(), err))
		}
	}
}

// greets says whether an ssh server answers at the address.
func greets(ctx context.Context, address string) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetReadDeadline(deadline); err != nil {
			return err
		}
	}
	greeting := make([]byte, 4)
	if _, err := io.ReadFull(c, greeting); err != nil {
		return err
	}
	if string(greeting) != "SSH-" {
		return fmt.Errorf("%s answers %q and is no ssh server", address, greeting)
	}
	return nil
}

// Listen opens a listener within the host's network, to be used from this process: a Proxy on a host's line is made so.
// The network is as for net.Listen.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	var l net.Listener
	err := h.within(func() (err error) {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// Dial connects from within the host's network, as net.Dialer.DialContext does; addresses must be numeric.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var c net.Conn
	err := h.within(func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// within runs do in the host's network.
func (h *Host) within(do func() error) error {
	ns, err := h.namespaceNow()
	if err != nil {
		return err
	}
	return ns.inside(do)
}
