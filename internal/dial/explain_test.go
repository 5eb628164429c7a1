package dial

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"georep/internal/need"
)

func TestExplain(t *testing.T) {
	remote := Options{Host: "backup.example", Args: []string{"georep", "agent"}}
	for _, tc := range []struct {
		o      Options
		status int
		stderr string
		cause  Cause
		text   string
	}{
		{remote, 255, "ssh: Could not resolve hostname backup.example: Name or service not known\r\n", CauseName, "resolved"},
		{remote, 255, "ssh: connect to host backup.example port 22: Connection refused\r\n", CauseRefused, "--port"},
		{remote, 255, "ssh: connect to host backup.example port 22: Connection timed out\r\n", CauseUnreachable, "firewall"},
		{remote, 255, "ssh: connect to host backup.example port 22: No route to host\r\n", CauseUnreachable, "route"},
		{remote, 255, "No ED25519 host key is known for x and you have requested strict checking.\r\nHost key verification failed.\r\n", CauseHostKey, "fingerprint"},
		{remote, 255, "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.\r\n", CauseHostChanged, "ssh-keygen -R"},
		{remote, 255, "me@backup.example: Permission denied (publickey,password).\r\n", CauseDenied, "authorized_keys"},
		{remote, 255, "kex_exchange_identification: Connection closed by remote host\r\n", CauseBusy, "MaxStartups"},
		{remote, 255, "Timeout, server backup.example not responding.\r\n", CauseLost, "45 seconds"},
		{remote, 255, "something new\r\n", CauseOther, "ssh to backup.example failed: something new"},
		{remote, 127, "bash: line 1: georep: command not found\n", CauseNotFound, "--remote-georep"},
		{remote, 126, "bash: line 1: /usr/bin/georep: cannot execute binary file: Exec format error\n", CauseCannotRun, "processor"},
		{remote, 1, "This account is currently not available.\n", CauseNoShell, "shell"},
		{remote, 1, "georep: /srv: permission denied\n", CauseOther, `"georep" on backup.example ended with status 1: georep: /srv: permission denied`},
		{remote, 1, "open x: Connection refused\n", CauseOther, "status 1"},
		{remote, 128 + 9, "", CauseOther, "killed"},
		{Options{Local: []string{"/opt/georep", "agent"}}, 2, "\x1b[31mbad\x1b[0m\nusage\n", CauseOther, `"georep" on this host ended with status 2: usage`},
	} {
		err := Explain(tc.o, tc.status, tc.stderr)
		var p *Problem
		if !errors.As(err, &p) || p.Cause != tc.cause || !strings.Contains(p.Text, tc.text) || p.Status != tc.status {
			t.Errorf("status %d, %q: got %v", tc.status, tc.stderr, err)
		}
		if strings.ContainsAny(err.Error(), "\r\n\x1b") {
			t.Errorf("not one line: %q", err.Error())
		}
	}
}

// server runs an sshd of its own, with a client key that it accepts and one that it does not.
type server struct {
	dir  string
	port int
	user string
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

func startServer(t *testing.T) *server {
	t.Helper()
	sshd := need.Program(t, "sshd")
	if os.Getuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{dir: t.TempDir(), user: me.Username}
	for _, key := range []string{"host", "other", "good", "bad"} {
		run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(s.dir, key))
	}
	pub, err := os.ReadFile(filepath.Join(s.dir, "good.pub"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "authorized", string(pub))
	s.port = freePort(t)
	s.write(t, "config", fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/authorized\nStrictModes no\nUsePAM no\n"+
		"PasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\nPermitRootLogin yes\n", s.port, s.dir, s.dir))
	cmd := exec.Command(sshd, "-D", "-e", "-f", filepath.Join(s.dir, "config"))
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		log.Close()
	})
	for range 1000 {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port)); err == nil {
			c.Close()
			return s
		}
		run(t, "sleep", "0.02")
	}
	out, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	t.Fatalf("sshd did not start: %s", out)
	return nil
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (s *server) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// options are for ssh with that key, which knows the server by that host key ("" for none).
func (s *server) options(t *testing.T, key, known string, args ...string) Options {
	hosts := ""
	if known != "" {
		pub, err := os.ReadFile(filepath.Join(s.dir, known+".pub"))
		if err != nil {
			t.Fatal(err)
		}
		hosts = fmt.Sprintf("[127.0.0.1]:%d %s", s.port, pub)
	}
	s.write(t, "known", hosts)
	return Options{
		SSH:  []string{"ssh", "-F", "none", "-i", filepath.Join(s.dir, key), "-oIdentitiesOnly=yes", "-oUserKnownHostsFile=" + filepath.Join(s.dir, "known"), "-oGlobalKnownHostsFile=none"},
		Host: "127.0.0.1", User: s.user, Port: s.port, Args: args,
	}
}

// TestRealSSH has what people run into, with the real programs.
func TestRealSSH(t *testing.T) {
	s := startServer(t)
	c := start(t, s.options(t, "good", "host", "cat"))
	if _, err := c.Write([]byte("through ssh")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 32)
	if n, err := c.Read(got); err != nil || string(got[:n]) != "through ssh" {
		t.Errorf("got %q, %v: %s", got[:n], err, c.Stderr())
	}
	c.Close()
	if err := c.Wait(); err != nil {
		t.Errorf("it ended with %v: %s", err, c.Stderr())
	}
	closedPort := s.options(t, "good", "host", "cat")
	closedPort.Port = freePort(t)
	noName := s.options(t, "good", "host", "cat")
	noName.Host = "no-such-host.invalid"
	for _, tc := range []struct {
		name  string
		o     func() Options
		cause Cause
	}{
		{"unknown key", func() Options { return s.options(t, "good", "", "cat") }, CauseHostKey},
		{"changed key", func() Options { return s.options(t, "good", "other", "cat") }, CauseHostChanged},
		{"denied", func() Options { return s.options(t, "bad", "host", "cat") }, CauseDenied},
		{"not found", func() Options { return s.options(t, "good", "host", "no-such-georep", "agent") }, CauseNotFound},
		{"refused", func() Options { return closedPort }, CauseRefused},
		{"no such host", func() Options { return noName }, CauseName},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := start(t, tc.o())
			var p *Problem
			if err := c.Explain(); !errors.As(err, &p) || p.Cause != tc.cause {
				t.Errorf("got %v: %s", err, c.Stderr())
			}
		})
	}
}
