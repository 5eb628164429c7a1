package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"georep/internal/need"
)

// Sshd is an sshd on a free port of the loopback address, with keys and files of its own, that lets in who started it. It
// needs neither root nor namespaces.
type Sshd struct {
	dir  string
	port int
	cmd  *exec.Cmd
	life io.Closer
	done chan struct{}
}

// SshdForTest starts an Sshd that ends with the test, or ends the test when there is no sshd.
func SshdForTest(t testing.TB) *Sshd {
	t.Helper()
	for _, program := range []string{"sshd", "ssh", "ssh-keygen", "bash"} {
		need.Program(t, program)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := StartSshd(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the sshd: %v", err)
		}
	})
	return s
}

// StartSshd starts an sshd and waits until it answers. Ctx bounds the start only.
func StartSshd(ctx context.Context) (_ *Sshd, err error) {
	dir, err := os.MkdirTemp("", "georep-sshd-")
	if err != nil {
		return nil, fmt.Errorf("start an sshd: %w", err)
	}
	s := &Sshd{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start an sshd: %w", err), s.Close())
		}
	}()
	for _, key := range []string{"key", "ssh_host_ed25519_key"} {
		if err := makeKey(ctx, filepath.Join(dir, key)); err != nil {
			return nil, err
		}
	}
	if os.Geteuid() == 0 {
		// What the service's own script does before it starts; sshd wants an empty directory there.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return nil, err
		}
	}
	for range 20 { // the port is free when it is chosen, and may be lost to another until it is used
		if err = s.try(ctx); err == nil || ctx.Err() != nil {
			break
		}
	}
	return s, err
}

// try chooses a port and starts an sshd there.
func (s *Sshd) try(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	if err := s.writeFiles(); err != nil {
		return err
	}
	return s.start(ctx)
}

func (s *Sshd) writeFiles() error {
	host, err := os.ReadFile(filepath.Join(s.dir, "ssh_host_ed25519_key.pub"))
	if err != nil {
		return err
	}
	me, err := user.Current()
	if err != nil {
		return err
	}
	// The alias keeps the host key valid through a proxy on another port.
	client := clientConfig("localhost 127.0.0.1", filepath.Join(s.dir, "key"), filepath.Join(s.dir, "known_hosts")) +
		fmt.Sprintf("    Port %d\n    HostName 127.0.0.1\n    HostKeyAlias lab\n    User %s\n", s.port, me.Username)
	server := fmt.Sprintf("ListenAddress 127.0.0.1:%d\nPidFile none\n", s.port)
	for name, content := range map[string]string{
		"known_hosts": "lab " + string(host),
		"ssh_config":  client,
		"sshd_config": serverConfig(s.dir, s.dir+"/key.pub", server),
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// start runs sshd under a shell that ends it when our end of its stdin is closed, be it because we were killed.
func (s *Sshd) start(ctx context.Context) error {
	sshd, err := find("sshd")
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	// The shell gives its background jobs an empty stdin, so the way to notice our end has a number of its own.
	const script = `exec 3<&0; "$@" </dev/null 3<&- & sshd=$!; { read -r _ <&3; kill -9 $sshd 2>/dev/null; } & exec 3<&-; wait $sshd; kill $! 2>/dev/null`
	command := []string{sshd, "-D", "-e", "-f", filepath.Join(s.dir, "sshd_config")}
	if locked() { // sshd without PAM refuses an account whose password is locked: show it another one, in a mount namespace
		command = append([]string{"unshare", "-m", "bash", "-c", `mount --bind "$0" /etc/shadow && exec "$@"`, filepath.Join(s.dir, "shadow")}, command...)
		if err := os.WriteFile(filepath.Join(s.dir, "shadow"), []byte("root:*:20000:0:99999:7:::\n"), 0o600); err != nil {
			return err
		}
	}
	s.cmd = exec.Command("bash", append([]string{"-c", script, "bash"}, command...)...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	life, err := s.cmd.StdinPipe()
	if err != nil {
		return err
	}
	s.life = life
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		_ = s.cmd.Wait() // it is always ended by a signal
	}()
	return s.await(ctx)
}

// locked says whether root's password is locked. It is false when we are not root.
func locked() bool {
	shadow, err := os.ReadFile("/etc/shadow")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(shadow)) {
		if strings.HasPrefix(line, "root:!") {
			return true
		}
	}
	return false
}

// await waits until the sshd answers or ends.
func (s *Sshd) await(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := greets(ctx, s.Addr()); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.done:
			said, _ := os.ReadFile(filepath.Join(s.dir, "log")) // only to explain
			return fmt.Errorf("sshd ended: %s", strings.TrimSpace(string(said)))
		case <-ctx.Done():
			return fmt.Errorf("wait for sshd: %w", ctx.Err())
		}
	}
}

// Addr is where it listens, as "127.0.0.1:port".
func (s *Sshd) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Port is the port at which it listens.
func (s *Sshd) Port() int { return s.port }

// SSHConfig is the path of a configuration with which `ssh -F FILE localhost` gets in: with a key, with host keys that are
// checked, also through a Proxy when its port is given by -p.
func (s *Sshd) SSHConfig() string { return filepath.Join(s.dir, "ssh_config") }

// Log is what the sshd has printed so far.
func (s *Sshd) Log() string {
	said, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(said)
}

// Pid is the process above all that the sshd has started, for Descendants and KillDescendants.
func (s *Sshd) Pid() int { return s.cmd.Process.Pid }

// Close ends the sshd with all its connections and what they run, and removes its files.
func (s *Sshd) Close() error {
	if s.done != nil {
		for _, p := range Descendants(s.Pid()) {
			_ = syscall.Kill(p.Pid, syscall.SIGKILL) // it may have ended by itself
		}
		s.life.Close()
		<-s.done
	}
	return os.RemoveAll(s.dir)
}
