package test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"georep/internal/lab"
	"georep/internal/need"
)

// TestMustP8NoOtherProgramIsRun mirrors with programs in the PATH, on both ends, that tell when they are run: the content travels by ours,
// and of the others only ssh is needed.
func TestMustP8NoOtherProgramIsRun(t *testing.T) {
	t.Parallel()
	ssh := need.Program(t, "ssh")
	dir := t.TempDir()
	called := filepath.Join(dir, "called")
	for _, name := range []string{"rsync", "tar", "scp", "sftp", "python", "python3", "perl", "gluster", "cp", "mv", "rm", "setfattr", "getfattr", "setfacl"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho "+name+" >> "+called+"\nexit 1\n"), 0o755))
	}
	must(t, os.Symlink(ssh, filepath.Join(dir, "ssh")))
	must(t, os.Symlink(need.Program(t, "sh"), filepath.Join(dir, "sh")))
	s := newSite(t)
	everything(t, s.source)
	remote := filepath.Join(t.TempDir(), "georep")
	must(t, os.WriteFile(remote, []byte("#!/bin/sh\nPATH="+dir+" exec "+s.program+" \"$@\"\n"), 0o755))
	cmd := exec.Command(s.program, s.args("--once", "--remote-georep", remote)...)
	cmd.Env = append(os.Environ(), "PATH="+dir)
	r := start(t, cmd)
	r.wait()
	r.ended(0)
	s.equal()
	if names := read(called); names != "" {
		t.Errorf("it ran %q", strings.Fields(names))
	}
}

// TestMustP27NamesAndAddresses mirrors to a numeric IPv6 address, and to a host whose name is written in capital letters.
func TestMustP27NamesAndAddresses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		need.Missing(t, "IPv6 on loopback")
	}
	proxy := lab.NewProxyOn(l, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.sshd.Addr())
	})
	t.Cleanup(func() { must(t, proxy.Close()) })
	config := filepath.Join(t.TempDir(), "config") // the lab's, but for the address that it stands for
	must(t, os.WriteFile(config, []byte(strings.NewReplacer("HostName 127.0.0.1\n", "\n", "Host localhost", "Host ::1 LOCALHOST localhost").Replace(read(s.sshd.SSHConfig()))), 0o600))
	s.write("d/f", []byte("content"))
	for i, host := range []string{"[::1]:", "root@[::1]:", "LOCALHOST:"} {
		s.dest = filepath.Join(t.TempDir(), fmt.Sprint("dest", i))
		s.state = filepath.Join(t.TempDir(), "state")
		port := l.Addr().(*net.TCPAddr).Port
		if host == "LOCALHOST:" {
			port = s.proxy.Addr().Port
		}
		if strings.HasPrefix(host, "root@") && os.Geteuid() != 0 {
			continue
		}
		cmd := exec.Command(s.program, "mirror", "--json", "--once", "--state-dir", s.state, "--config", os.DevNull, "--remote-georep", s.program,
			"--ssh-command", "ssh -F "+config, "--port", fmt.Sprint(port), s.source, host+s.dest)
		r := start(t, cmd)
		r.wait()
		r.ended(0)
		s.equal()
	}
}
