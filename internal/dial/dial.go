// Package dial makes a stream of bytes to a program on another host, by the system's ssh, or to one here as a child process.
//
// The person's ssh configuration, agent and known hosts apply, and host keys are checked as that configuration says.
package dial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	pipeSize = 1 << 20
	// politeWait is how long a program may take to end after its input was closed, and termWait after SIGTERM.
	politeWait = 5 * time.Second
	termWait   = 2 * time.Second
)

// Options say which program to run where.
type Options struct {
	// Local, if not empty, is a command to run here; all below but Stderr is then without meaning.
	Local []string

	SSH         []string // the ssh command; empty: ssh. See Words
	User        string   // "" leaves it to ssh
	Host        string   // as ssh takes it: a name, or an address without brackets
	Port        int      // 0 leaves it to ssh
	Args        []string // the command there; quoted here, so that no shell there sees anything in it
	Interactive bool     // ssh may ask a person on the terminal, for example for a password
	Ciphers     string   // for ssh's option of that name; "" leaves them to ssh. See FastCiphers

	// KeepGroup leaves the program in our process group, so that a signal to the whole group (a pause, a stop) reaches it too. It is
	// without meaning for an Interactive one.
	KeepGroup bool

	Stderr io.Writer // gets what the program writes to standard error, besides Conn.Stderr; may be nil
}

// argv is the command line to run here.
func (o Options) argv() ([]string, error) {
	if len(o.Local) > 0 {
		return o.Local, nil
	}
	if o.Host == "" || len(o.Args) == 0 {
		return nil, errors.New("dial: neither a host with a command nor a local command")
	}
	return append(append(o.Shell(), o.login()...), "--", o.Host, Quote(o.Args)), nil
}

// login are ssh's options for the account there.
func (o Options) login() []string {
	if o.User == "" {
		return nil
	}
	return []string{"-l", o.User}
}

// Shell is the ssh command with its options, but without user, host and command: for another program that runs them itself.
func (o Options) Shell() []string {
	argv := []string{"ssh"}
	if len(o.SSH) > 0 {
		argv = append([]string(nil), o.SSH...)
	}
	argv = append(argv, "-T", "-x", "-a", "-e", "none",
		// What a person's configuration may hold for logins by hand would get in the way of several connections at once.
		"-oClearAllForwardings=yes", "-oRemoteCommand=none",
		"-oConnectTimeout=60", "-oServerAliveInterval=15", "-oServerAliveCountMax=3")
	if !o.Interactive {
		argv = append(argv, "-oBatchMode=yes")
	}
	if o.Ciphers != "" {
		argv = append(argv, "-oCiphers="+o.Ciphers)
	}
	if o.Port != 0 {
		argv = append(argv, "-p", strconv.Itoa(o.Port))
	}
	return argv
}

// Conn is a stream to the standard input and output of a program that runs. Reading and writing may be done at the same time.
type Conn struct {
	options Options
	in      *os.File // written by us
	outMu   sync.Mutex
	out     *os.File // read by us
	closed  bool     // guarded by outMu

	tail    tail
	process *os.Process
	ended   chan struct{}
	err     error // of the program; valid when ended is closed
	status  int   // exit status, or 128 and a signal's number

	closing sync.Once
}

// Command starts the program and gives the stream to it. ctx ends only the start: close the Conn to end the program. That ssh, or the
// local program, is not there is a *Problem.
func Command(ctx context.Context, o Options) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	argv, err := o.argv()
	if err != nil {
		return nil, err
	}
	if o.Interactive && len(o.Local) == 0 {
		// It stays in the terminal's foreground, where an interrupt reaches it too; what is in flight shall be finished, though.
		if _, err := exec.LookPath(argv[0]); err != nil {
			return nil, startProblem(argv[0], err)
		}
		argv = append([]string{"sh", "-c", `trap "" INT; exec "$@"`, "sh"}, argv...)
	}
	c := &Conn{options: o, ended: make(chan struct{})}
	c.tail.also = o.Stderr
	theirIn, in, err := pipe()
	if err != nil {
		return nil, err
	}
	out, theirOut, err := pipe()
	if err != nil {
		theirIn.Close()
		in.Close()
		return nil, err
	}
	c.in, c.out = in, out
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirIn, theirOut, &c.tail
	cmd.WaitDelay = termWait // a daemon left behind by ssh may hold standard error open
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGTERM,
		// An interrupt from the keyboard is for us: what is in flight is finished before the link goes. Who may ask on the
		// terminal has to stay in its foreground, though.
		Setpgid: o.ownGroup(),
	}
	started := make(chan error, 1)
	go c.attend(cmd, started)
	err = <-started
	theirIn.Close()
	theirOut.Close()
	if err != nil {
		in.Close()
		out.Close()
		return nil, startProblem(argv[0], err)
	}
	return c, nil
}

// ownGroup says whether the program leads a process group of its own.
func (o Options) ownGroup() bool {
	return !o.KeepGroup && (!o.Interactive || len(o.Local) > 0)
}

// attend starts the program and waits for its end. It keeps its thread for that time, because the kernel takes the end of the
// thread that started a process for the parent's death.
func (c *Conn) attend(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	c.process = cmd.Process
	started <- nil
	c.err = cmd.Wait()
	if errors.Is(c.err, exec.ErrWaitDelay) {
		c.err = nil
	}
	c.status = cmd.ProcessState.ExitCode()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		c.status = 128 + int(ws.Signal())
	}
	close(c.ended)
}

// pipe makes a pipe with a large buffer where the system lets us.
func pipe() (r, w *os.File, err error) {
	r, w, err = os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	enlarge(w)
	return r, w, nil
}

// enlarge asks for a large pipe buffer. Without it all works, but slower, so a refusal is no error.
func enlarge(f *os.File) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
}

// Read reads what the program writes to its standard output. After Close it fails with os.ErrClosed.
func (c *Conn) Read(p []byte) (int, error) {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	if c.closed {
		return 0, os.ErrClosed
	}
	n, err := c.out.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = os.ErrClosed // only Close sets a deadline
	}
	return n, err
}

// Write writes to the program's standard input. After Close it fails with os.ErrClosed.
func (c *Conn) Write(p []byte) (int, error) { return c.in.Write(p) }

// CloseWrite closes the program's standard input: for a program that ends by itself when it has read all. Close is still to
// be called.
func (c *Conn) CloseWrite() error { return c.in.Close() }

// Terminate asks the program, and what it started, to end at once. Close is still to be called.
func (c *Conn) Terminate() {
	select {
	case <-c.ended:
	default:
		c.kill(syscall.SIGTERM)
	}
}

// Close closes the program's input and waits for its end, some seconds, then kills it. A Read or Write that waits returns at
// once. The program's exit is not an error of Close: see Wait.
func (c *Conn) Close() error {
	c.closing.Do(c.end)
	return nil
}

func (c *Conn) end() {
	c.in.Close()
	// A reader is sent away, and what the program still says is read and dropped so that it can end.
	_ = c.out.SetReadDeadline(time.Unix(1, 0))
	c.outMu.Lock()
	c.closed = true
	c.outMu.Unlock()
	_ = c.out.SetReadDeadline(time.Time{})
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, c.out)
	}()
	for _, step := range []struct {
		wait   time.Duration
		signal syscall.Signal
	}{{politeWait, syscall.SIGTERM}, {termWait, syscall.SIGKILL}} {
		if c.endsWithin(step.wait) {
			break
		}
		c.kill(step.signal)
	}
	<-c.ended
	c.out.Close() // a grandchild may hold the other end
	<-drained
}

func (c *Conn) endsWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c.ended:
		return true
	case <-timer.C:
		return false
	}
}

// kill signals the program, and what it started if it has a group of its own.
func (c *Conn) kill(signal syscall.Signal) {
	if c.options.ownGroup() {
		if syscall.Kill(-c.process.Pid, signal) == nil {
			return
		}
	}
	_ = c.process.Signal(signal) // it may have ended just now
}

// Done is closed when the program has ended.
func (c *Conn) Done() <-chan struct{} { return c.ended }

// Wait waits for the program's end. It returns nil for the exit status 0, else an *exec.ExitError or an error of waiting.
func (c *Conn) Wait() error {
	<-c.ended
	return c.err
}

// Stderr is the last 32 KiB of what the program has written to standard error.
func (c *Conn) Stderr() string { return c.tail.String() }

// Explain waits for the program's end and says in a sentence, as a *Problem, why it did not serve; nil when it ended with
// status 0.
func (c *Conn) Explain() error {
	<-c.ended
	if c.status == 0 {
		return nil
	}
	return Explain(c.options, c.status, c.Stderr())
}

// tail keeps the last bytes written to it.
type tail struct {
	also io.Writer

	mu  sync.Mutex
	buf []byte
}

const tailSize = 32 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p[max(0, len(p)-tailSize):]...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = t.buf[:copy(t.buf, t.buf[over:])]
	}
	if t.also != nil {
		_, _ = t.also.Write(p) // whoever only looks on must not stop the program
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
