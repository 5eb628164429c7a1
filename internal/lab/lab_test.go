package lab

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", cmd.Args, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// await calls ok every few milliseconds until it is true.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx := deadline(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestHostsReachEachOtherBySSH(t *testing.T) {
	l := ForTest(t, Options{Users: []string{"backup"}})
	ctx := deadline(t)
	primary, secondary := l.Host("primary"), l.Host("secondary")
	for _, argv := range [][]string{
		{"ssh", "-oBatchMode=yes", "secondary", "hostname; id -u"},
		{"ssh", "-oBatchMode=yes", "-F", primary.SSHConfig(), "root@secondary", "hostname; id -u"},
		{"ssh", "-oBatchMode=yes", secondary.Addr().String(), "hostname; id -u"},
		{"ssh", "-oBatchMode=yes", secondary.Addr6().String(), "hostname; id -u"},
	} {
		if got := output(t, primary.Command(ctx, argv...)); got != "secondary\n0" {
			t.Errorf("%v: %q", argv, got)
		}
	}
	if got := output(t, primary.Command(ctx, "ssh", "backup@secondary", "id -un; pwd; touch mine && ls /home")); got != "backup\n/home/backup\nbackup" {
		t.Errorf("as a user: %q", got)
	}
	if got := output(t, secondary.Command(ctx, "ssh", "primary", "echo $HOSTNAME")); got != "primary" {
		t.Errorf("the other way: %q", got)
	}
}

func TestHostKeysAreChecked(t *testing.T) {
	l := ForTest(t, Options{})
	ctx := deadline(t)
	primary, secondary := l.Host("primary"), l.Host("secondary")
	known := filepath.Join(l.Dir(), "known_hosts")
	content, err := os.ReadFile(known)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(content), "\n")
	_, keyOfPrimary, _ := strings.Cut(lines[0], " ")
	if err := os.WriteFile(known, []byte("secondary,"+secondary.Addr().String()+" "+keyOfPrimary), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := primary.Command(ctx, "ssh", "-oBatchMode=yes", "secondary", "true").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "IDENTIFICATION HAS CHANGED") {
		t.Errorf("a wrong host key was accepted: %v %s", err, out)
	}
}

// TestHostsAreApart demands that a host sees neither the machine's network nor its processes, and the machine not the host's files.
func TestHostsAreApart(t *testing.T) {
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	l, other := ForTest(t, Options{}), ForTest(t, Options{Hosts: []string{"secondary"}})
	ctx := deadline(t)
	h := l.Host("primary")
	if got := output(t, h.Command(ctx, "ls", "/sys/class/net", "/proc/self/net/dev_snmp6")); strings.Contains(got, "cable") || !strings.Contains(got, "eth0") {
		t.Errorf("interfaces: %s", got)
	}
	if got := output(t, h.Command(ctx, "cat", "/proc/1/comm")); got != "bash" {
		t.Errorf("process 1 of the host is %q", got)
	}
	output(t, h.Command(ctx, "bash", "-c", "touch /run/only-here /home/only-here /etc/ssh/only-here; hostname"))
	for _, path := range []string{"/run/only-here", "/home/only-here", "/etc/ssh/only-here"} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is visible outside: %v", path, err)
		}
	}
	if now, err := os.Hostname(); err != nil || now != hostname {
		t.Errorf("the machine is now called %q (%v)", now, err)
	}
	// Both labs use the same addresses and names: the answer must come from the own one.
	if got := output(t, other.Host("secondary").Command(ctx, "ssh", "secondary", "cat /proc/sys/kernel/hostname; ls /home")); got != "secondary" {
		t.Errorf("the other lab's host answers %q", got)
	}
}

func TestInitReapsOrphans(t *testing.T) {
	l := ForTest(t, Options{Hosts: []string{"one"}})
	h := l.Host("one")
	output(t, h.Command(deadline(t), "bash", "-c", "(setsid sleep 0.05 >/dev/null 2>&1 &) ; (setsid sleep 0.05 >/dev/null 2>&1 &)"))
	await(t, "the orphans to be reaped", func() bool {
		for _, p := range Descendants(h.Pid()) {
			if len(p.Args) == 1 && p.Args[0] == "" || p.Args[0] == "sleep" { // a zombie has no command line
				return false
			}
		}
		return true
	})
}

func TestPowerFailureAndBoot(t *testing.T) {
	l := ForTest(t, Options{Boot: "setsid sleep 1000 >/dev/null 2>&1 </dev/null &"})
	ctx := deadline(t)
	primary, secondary := l.Host("primary"), l.Host("secondary")
	for round := range 3 {
		if KillDescendants(secondary.Pid(), "no such command") != 0 || len(Descendants(secondary.Pid())) < 2 {
			t.Fatalf("the daemons of the host are not there: %v", Descendants(secondary.Pid()))
		}
		output(t, primary.Command(ctx, "ssh", "secondary", "cat /proc/sys/kernel/hostname >>"+secondary.Dir()+"/boots"))
		cmd := secondary.Command(ctx, "sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid, err := Inside(ctx, cmd)
		if err != nil {
			t.Fatal(err)
		}
		if err := secondary.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Error("a command of a dead host ended well")
		}
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("a process survived its host: %v", err)
		}
		if err := secondary.Command(ctx, "true").Run(); err == nil || secondary.Pid() != 0 {
			t.Error("a command ran on a host that is down")
		}
		if err := secondary.Boot(ctx); err != nil {
			t.Fatal(err)
		}
		if got := output(t, primary.Command(ctx, "ssh", "secondary", "wc -l <"+secondary.Dir()+"/boots")); got != string(rune('1'+round)) {
			t.Errorf("after boot %d the file has %s lines", round, got)
		}
	}
}

func TestCutLink(t *testing.T) {
	l := ForTest(t, Options{})
	ctx := deadline(t)
	primary, secondary := l.Host("primary"), l.Host("secondary")
	if err := secondary.CutLink(ctx); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if c, err := primary.Dial(short, "tcp", secondary.Addr().String()+":22"); err == nil {
		c.Close()
		t.Fatal("connected over a link that is cut")
	}
	if err := secondary.RestoreLink(ctx); err != nil {
		t.Fatal(err)
	}
	await(t, "the link to work again", func() bool {
		c, err := primary.Dial(ctx, "tcp", secondary.Addr().String()+":22")
		if err != nil {
			return false
		}
		defer c.Close()
		greeting := make([]byte, 4)
		_, err = io.ReadFull(c, greeting)
		return err == nil && string(greeting) == "SSH-"
	})
}

// TestCommandEndsWithItsContext demands that cancelling kills the program in the host, not only the way to it.
func TestCommandEndsWithItsContext(t *testing.T) {
	l := ForTest(t, Options{Hosts: []string{"one"}})
	ctx, cancel := context.WithCancel(deadline(t))
	cmd := l.Host("one").Command(ctx, "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid, err := Inside(ctx, cmd)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("a cancelled command ended well")
	}
	await(t, "the program to be gone", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}

func TestSignalReachesTheProgram(t *testing.T) {
	l := ForTest(t, Options{Hosts: []string{"one"}})
	ctx := deadline(t)
	cmd := l.Host("one").Command(ctx, "bash", "-c", "trap 'echo interrupted; exit 5' INT; echo set; while :; do read -t 0.05 <>/dev/zero; done")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("set\n"))); err != nil {
		t.Fatal(err)
	}
	if err := Signal(ctx, cmd, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(out)
	if err != nil || string(rest) != "interrupted\n" {
		t.Errorf("after the signal: %q, %v", rest, err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 5 {
		t.Errorf("exit of the program: %v", err)
	}
}

func TestListenWithinAHost(t *testing.T) {
	l := ForTest(t, Options{})
	ctx := deadline(t)
	primary, secondary := l.Host("primary"), l.Host("secondary")
	listener, err := primary.Listen("tcp", primary.Addr().String()+":2222")
	if err != nil {
		t.Fatal(err)
	}
	proxy := NewProxyOn(listener, func(ctx context.Context) (net.Conn, error) {
		return primary.Dial(ctx, "tcp", secondary.Addr().String()+":22")
	})
	defer proxy.Close()
	got := output(t, primary.Command(ctx, "ssh", "-p", "2222", "-oHostKeyAlias=secondary", primary.Addr().String(), "hostname"))
	if got != "secondary" {
		t.Errorf("through a proxy in the lab: %q", got)
	}
}

func TestPrivateDirectories(t *testing.T) {
	shared := t.TempDir()
	if err := os.WriteFile(shared+"/config", []byte("as installed\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l := ForTest(t, Options{Private: []string{shared}})
	ctx := deadline(t)
	output(t, l.Host("primary").Command(ctx, "bash", "-c", "echo changed >"+shared+"/config"))
	if got := output(t, l.Host("secondary").Command(ctx, "cat", shared+"/config")); got != "as installed" {
		t.Errorf("the other host reads %q", got)
	}
	if got, err := os.ReadFile(shared + "/config"); err != nil || string(got) != "as installed\n" {
		t.Errorf("outside: %q %v", got, err)
	}
}

func TestStartReportsABootThatFails(t *testing.T) {
	ForTest(t, Options{Hosts: []string{"one"}}) // ends the test where a lab is not possible at all
	before := Descendants(os.Getpid())
	_, err := Start(deadline(t), Options{Boot: "echo no such disk >&2; exit 1"})
	if err == nil || !strings.Contains(err.Error(), "no such disk") {
		t.Errorf("want an error that says why, got %v", err)
	}
	if after := Descendants(os.Getpid()); len(after) > len(before) {
		t.Errorf("processes are left: %v", after)
	}
}
