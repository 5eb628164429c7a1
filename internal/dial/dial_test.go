package dial

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test program be the other end of a connection too.
func TestMain(m *testing.M) {
	switch os.Getenv("DIAL_TEST_AS") {
	case "echo":
		os.Exit(echo())
	case "parent":
		os.Exit(parent())
	}
	os.Exit(m.Run())
}

// echo sends back what it gets, by OpenStdio, until the end, or until it was closed here.
func echo() int {
	s, err := OpenStdio()
	if err != nil {
		return 1
	}
	os.Stdout.WriteString("a stray line")
	if os.Getenv("DIAL_TEST_CLOSE") != "" {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			io.Copy(s, s)
		}()
		time.AfterFunc(50*time.Millisecond, func() { s.Close() })
		<-ended
		return 7
	}
	if _, err := io.Copy(s, s); err != nil {
		return 2
	}
	return 0
}

func self(t *testing.T, as string, env ...string) []string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return append(append([]string{"env", "DIAL_TEST_AS=" + as}, env...), exe)
}

func start(t *testing.T, o Options) *Conn {
	t.Helper()
	c, err := Command(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestStreamBothWays(t *testing.T) {
	c := start(t, Options{Local: self(t, "echo")})
	want := bytes.Repeat([]byte("some bytes\x00\xff\n"), 200_000)
	go func() {
		c.Write(want)
		c.in.Close()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d came back, %v", len(got), len(want), err)
	}
	if err := c.Wait(); err != nil || c.Explain() != nil {
		t.Errorf("it ended with %v", err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("writing after the end: %v", err)
	}
}

func TestCloseReleasesReaderAndWriter(t *testing.T) {
	c := start(t, Options{Local: []string{"sleep", "1000"}})
	read, wrote := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	go func() {
		_, err := c.Write(make([]byte, 64<<20))
		wrote <- err
	}()
	began := time.Now()
	closed := make(chan struct{})
	go func() { c.Close(); close(closed) }()
	for _, ch := range []chan error{read, wrote} {
		if err := <-ch; !errors.Is(err, os.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
	if time.Since(began) > politeWait {
		t.Error("they were released only when the program ended")
	}
	<-closed
	if err := c.Wait(); err == nil || c.status != 128+int(syscall.SIGTERM) {
		t.Errorf("it ended with %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("reading after Close: %v", err)
	}
}

func TestCloseIsPolite(t *testing.T) {
	said := &safeBuffer{}
	c := start(t, Options{Local: []string{"sh", "-c", "cat >/dev/null; echo much output; echo ended well >&2; exit 3"}, Stderr: said})
	c.Close()
	if err := c.Wait(); err == nil || c.status != 3 {
		t.Errorf("it ended with %v", err)
	}
	if c.Stderr() != "ended well\n" || said.String() != "ended well\n" {
		t.Errorf("it said %q, and %q", c.Stderr(), said.String())
	}
}

type safeBuffer struct{ tail }

func TestStdioCanBeClosed(t *testing.T) {
	c := start(t, Options{Local: self(t, "echo", "DIAL_TEST_CLOSE=1")})
	if got, err := io.ReadAll(c); err != nil || len(got) != 0 {
		t.Errorf("read %q, %v", got, err)
	}
	c.Wait()
	if c.status != 7 {
		t.Errorf("it ended with status %d: %s", c.status, c.Stderr())
	}
}

func TestStderrIsBounded(t *testing.T) {
	c := start(t, Options{Local: []string{"sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo last >&2"}})
	c.Wait()
	if got := c.Stderr(); len(got) != tailSize || !strings.HasSuffix(got, "xlast\n") {
		t.Errorf("%d bytes are kept, ending %q", len(got), got[max(0, len(got)-10):])
	}
}

// parent starts a child and is killed: the child must go with it.
func parent() int {
	c, err := Command(context.Background(), Options{Local: []string{"sh", "-c", "echo $$; exec sleep 1000"}})
	if err != nil {
		return 1
	}
	io.Copy(os.Stdout, c)
	return 0
}

func TestChildDiesWithItsParent(t *testing.T) {
	c := start(t, Options{Local: self(t, "parent")})
	line := make([]byte, 32)
	n, err := c.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	child := strings.TrimSpace(string(line[:n]))
	if err := c.process.Kill(); err != nil {
		t.Fatal(err)
	}
	// The child holds the other end of the pipe, directly or not: the end of the stream is its end.
	if _, err := io.ReadAll(c); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		state, err := os.ReadFile("/proc/" + child + "/stat")
		if err != nil || bytes.Contains(state, []byte(") Z ")) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the child lives on")
		}
	}
}

// fakeSSH is a command that takes ssh's options, notes them and runs the command line with a shell, as sshd would.
func fakeSSH(t *testing.T) (command, noted string) {
	dir := t.TempDir()
	command, noted = filepath.Join(dir, "my ssh"), filepath.Join(dir, "args")
	script := "#!/bin/sh\nprintf '%s\\n' \"$@\" >'" + noted + "'\nfor last; do :; done\nexec sh -c \"$last\"\n"
	if err := os.WriteFile(command, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return command, noted
}

func TestCommandLineOfSSH(t *testing.T) {
	command, noted := fakeSSH(t)
	words, err := Words("'" + command + "' -F 'a b'")
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, Options{SSH: words, Host: "::1", User: "me", Port: 2222, Args: []string{"printf", "%s|", "$HOME", "it's", ""}})
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "$HOME|it's||" {
		t.Errorf("the remote command said %q, %v", got, err)
	}
	b, err := os.ReadFile(noted)
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Split(strings.TrimSpace(string(b)), "\n")
	if !slices.Equal(args[:2], []string{"-F", "a b"}) || !slices.Equal(args[len(args)-7:len(args)-1], []string{"-p", "2222", "-l", "me", "--", "::1"}) {
		t.Errorf("ssh was called with %q", args)
	}
	for _, want := range []string{"-T", "-oBatchMode=yes", "-oServerAliveInterval=15", "-oServerAliveCountMax=3"} {
		if !slices.Contains(args, want) {
			t.Errorf("ssh was called without %s", want)
		}
	}
	if strings.Contains(string(b), "HostKey") || strings.Contains(string(b), "KnownHosts") {
		t.Error("ssh was told about host keys")
	}
}

func TestNoSuchCommands(t *testing.T) {
	var p *Problem
	_, err := Command(t.Context(), Options{SSH: []string{"no-such-ssh"}, Host: "h", Args: []string{"x"}})
	if !errors.As(err, &p) || p.Cause != CauseNoSSH || !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err = Command(t.Context(), Options{Local: []string{"/no/such/program"}}); !errors.As(err, &p) || p.Cause != CauseNoSSH {
		t.Errorf("got %v", err)
	}
	if _, err = Command(t.Context(), Options{Host: "h"}); err == nil {
		t.Error("a command without words was started")
	}
	command, _ := fakeSSH(t)
	c := start(t, Options{SSH: []string{command}, Host: "h", Args: []string{"no-such-georep", "agent"}})
	if err := c.Explain(); !errors.As(err, &p) || p.Cause != CauseNotFound || !strings.Contains(err.Error(), "--remote-georep") {
		t.Errorf("got %v", err)
	}
	c = start(t, Options{SSH: []string{command}, Host: "h", Args: []string{"/etc/passwd"}})
	if err := c.Explain(); !errors.As(err, &p) || p.Cause != CauseCannotRun {
		t.Errorf("got %v", err)
	}
}

// Ctrl-C on the terminal reaches an ssh that may ask there; the connection must outlive it until we close it.
func TestInterruptLeavesAnInteractiveConnection(t *testing.T) {
	ssh := filepath.Join(t.TempDir(), "ssh")
	if err := os.WriteFile(ssh, []byte("#!/bin/sh\nkill -INT $$\necho alive\ncat >/dev/null\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		interactive bool
		want        string
	}{{true, "alive\n"}, {false, ""}} {
		c, err := Command(t.Context(), Options{Host: "host", SSH: []string{ssh}, Args: []string{"x"}, Interactive: test.interactive})
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 10)
		n, _ := c.Read(buf)
		if got := string(buf[:n]); got != test.want {
			t.Errorf("interactive %v: read %q, want %q", test.interactive, got, test.want)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	var p *Problem
	_, err := Command(t.Context(), Options{Host: "host", SSH: []string{"/none/ssh"}, Args: []string{"x"}, Interactive: true})
	if !errors.As(err, &p) || p.Cause != CauseNoSSH {
		t.Errorf("a missing ssh: %v", err)
	}
}
