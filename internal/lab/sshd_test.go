package lab

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"georep/internal/need"
)

func TestSshd(t *testing.T) {
	s := SshdForTest(t)
	ctx := deadline(t)
	ssh := func(args ...string) *exec.Cmd {
		return exec.CommandContext(ctx, "ssh", append([]string{"-F", s.SSHConfig(), "-oBatchMode=yes"}, args...)...)
	}
	if got := output(t, ssh("localhost", "id -u")); got != strconv.Itoa(os.Geteuid()) {
		t.Errorf("id: %q", got)
	}
	proxy, err := NewProxy(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	data := bytes.Repeat([]byte("through the proxy\n"), 100_000)
	cmd := ssh("-p", strconv.Itoa(proxy.Addr().Port), "localhost", "cat")
	cmd.Stdin = bytes.NewReader(data)
	if got, err := cmd.Output(); err != nil || !bytes.Equal(got, data) {
		t.Errorf("cat through the proxy: %d bytes of %d, %v", len(got), len(data), err)
	}
	if proxy.Bytes(Up) < int64(len(data)) || proxy.Bytes(Down) < int64(len(data)) {
		t.Errorf("the proxy counted %d up, %d down", proxy.Bytes(Up), proxy.Bytes(Down))
	}
}

func TestSshdTakesManyConnectionsAtOnce(t *testing.T) {
	s := SshdForTest(t)
	ctx := deadline(t)
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			if out, err := exec.CommandContext(ctx, "ssh", "-F", s.SSHConfig(), "-oBatchMode=yes", "localhost", "true").CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	all.Wait()
}

func TestSshdChecksHostKeys(t *testing.T) {
	s, other := SshdForTest(t), SshdForTest(t)
	cmd := exec.CommandContext(deadline(t), "ssh", "-F", s.SSHConfig(), "-oBatchMode=yes", "-p", strconv.Itoa(other.Port()), "localhost", "true")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "IDENTIFICATION HAS CHANGED") {
		t.Errorf("a wrong host key was accepted: %v %s", err, out)
	}
}

// TestSshdTakesItsSessionsAlong demands that Close, and KillDescendants, end what runs in the sessions.
func TestSshdTakesItsSessionsAlong(t *testing.T) {
	s := SshdForTest(t)
	session := func() (cmd *exec.Cmd, pid int) {
		cmd = exec.CommandContext(deadline(t), "ssh", "-F", s.SSHConfig(), "-oBatchMode=yes", "localhost", "echo $$; exec sleep 4321")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 1)
		var text string
		for line[0] != '\n' {
			if _, err := io.ReadFull(out, line); err != nil {
				t.Fatal(err)
			}
			text += string(line)
		}
		if pid, err = strconv.Atoi(strings.TrimSpace(text)); err != nil {
			t.Fatal(err)
		}
		return cmd, pid
	}
	gone := func(pid int) func() bool {
		return func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
	}
	cmd, pid := session()
	await(t, "the command to be visible", func() bool { return KillDescendants(s.Pid(), "sleep 4321") == 1 })
	if err := cmd.Wait(); err == nil {
		t.Error("the session ended well")
	}
	await(t, "the killed command to be gone", gone(pid))
	cmd, pid = session()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the session survived")
	}
	await(t, "the command of a closed sshd to be gone", gone(pid))
}

// TestSshdEndsWithItsStarter kills a process that had started an sshd.
func TestSshdEndsWithItsStarter(t *testing.T) {
	if os.Getenv("LAB_STARTER") == "1" {
		s, err := StartSshd(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		os.Stderr.WriteString(strconv.Itoa(s.Pid()) + " " + s.dir + "\n")
		<-t.Context().Done() // until it is killed
	}
	need.Program(t, "sshd")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(deadline(t), self, "-test.run=^TestSshdEndsWithItsStarter$")
	cmd.Env = append(os.Environ(), "LAB_STARTER=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1000)
	n, err := stderr.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	number, dir, _ := strings.Cut(strings.TrimSpace(string(buf[:n])), " ")
	defer os.RemoveAll(dir)
	pid, err := strconv.Atoi(number)
	if err != nil {
		t.Fatalf("the starter said %q", buf[:n])
	}
	started := append(Descendants(pid), Process{Pid: pid})
	if len(started) < 2 {
		t.Fatalf("the sshd is not there: %v", started)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	await(t, "the sshd to end", func() bool {
		for _, p := range started {
			if !errors.Is(syscall.Kill(p.Pid, 0), syscall.ESRCH) {
				return false
			}
		}
		return true
	})
}
