package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"georep/internal/lab"
	"georep/internal/status"
)

// event is a line of the output of --json: a status.Event, or the last one, which tells how it ended.
type event struct {
	Event    string           `json:"event"`
	Text     string           `json:"text"`
	Failure  *status.Failure  `json:"failure"`
	Snapshot status.Snapshot  `json:"snapshot"`
	Code     int              `json:"code"`
	Error    string           `json:"error"`
	Failures []status.Failure `json:"failures"`
}

// run is a georep that runs or ran.
type run struct {
	t   testing.TB
	cmd *exec.Cmd

	done chan struct{} // closed when it has ended and all it said was read
	code int           // valid then; -1 when a signal ended it

	mu     sync.Mutex
	events []event
	said   bytes.Buffer // standard error
}

// start starts the mirror of the site.
func (s *site) start(flags ...string) *run {
	s.t.Helper()
	return start(s.t, exec.Command(s.program, s.args(flags...)...))
}

// start starts a command that prints events. It is killed with the test at the latest.
func start(t testing.TB, cmd *exec.Cmd) *run {
	t.Helper()
	r := &run{t: t, cmd: cmd, done: make(chan struct{})}
	cmd.Stderr = writer{r}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	must(t, err)
	started := make(chan error)
	go r.attend(out, started)
	must(t, <-started)
	t.Cleanup(func() {
		r.kill()
		if r.t.Failed() {
			r.tell()
		}
	})
	return r
}

// writer collects what a run says.
type writer struct{ r *run }

func (w writer) Write(p []byte) (int, error) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return w.r.said.Write(p)
}

// attend starts the process and listens to it until its end. It keeps its thread for that time, because the kernel takes the end
// of the thread that started a process for the parent's death.
func (r *run) attend(out io.Reader, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := r.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	defer close(r.done)
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		if json.Unmarshal(line, &e) == nil && e.Event != "" {
			r.mu.Lock()
			r.events = append(r.events, e)
			r.mu.Unlock()
		}
		if err != nil {
			break
		}
	}
	_ = r.cmd.Wait() // the exit code is looked at
	r.code = r.cmd.ProcessState.ExitCode()
}

// stderr is what it has said so far on standard error.
func (r *run) stderr() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.String()
}

// seen says whether an event of that name, about which the condition holds (nil: any), has come.
func (r *run) seen(name string, holds func(event) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Event == name && (holds == nil || holds(e)) {
			return true
		}
	}
	return false
}

// awaits waits for such an event. The end of the process without one fails the test.
func (r *run) awaits(name string, holds func(event) bool) {
	r.t.Helper()
	await(r.t, "the event "+name, func() bool {
		if r.seen(name, holds) {
			return true
		}
		select {
		case <-r.done:
			if !r.seen(name, holds) {
				r.t.Fatalf("it ended with code %d before the event %s came", r.code, name)
			}
		default:
		}
		return false
	})
}

// caughtUp waits until it says that nothing is left to do, counted from when this is called: a number of such events before
// does not count.
func (r *run) caughtUp() {
	r.t.Helper()
	r.awaits("caught-up", nil)
}

// wait waits for the end.
func (r *run) wait() {
	r.t.Helper()
	limit := time.NewTimer(2 * patience)
	defer limit.Stop()
	select {
	case <-r.done:
	case <-limit.C:
		_ = r.cmd.Process.Signal(syscall.SIGQUIT) // it prints what all its goroutines do
		<-r.done
		r.t.Fatal("it did not end")
	}
}

// ended demands the exit code of a run that has ended.
func (r *run) ended(code int) {
	r.t.Helper()
	if r.code != code {
		r.t.Fatalf("exit code %d, want %d", r.code, code)
	}
}

// last is the last event, that of the exit.
func (r *run) last() event {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) == 0 || r.events[len(r.events)-1].Event != "exit" {
		r.t.Fatal("it has not told its exit")
	}
	return r.events[len(r.events)-1]
}

// stop ends it with a signal, which must make it exit with 0.
func (r *run) stop(signal syscall.Signal) {
	r.t.Helper()
	must(r.t, r.cmd.Process.Signal(signal))
	r.wait()
	r.ended(0)
}

// kill ends it as a crash does.
func (r *run) kill() {
	_ = r.cmd.Process.Kill() // it may have ended
	<-r.done
}

// killSSH ends (-9) one of its ssh processes and says whether there was one.
func (r *run) killSSH(rng *rand.Rand) bool {
	children := lab.Descendants(r.cmd.Process.Pid)
	if len(children) == 0 {
		return false
	}
	return syscall.Kill(children[rng.IntN(len(children))].Pid, syscall.SIGKILL) == nil
}

// problem is the whole of what a person is told of why it ended: the sentence of the exit event. It must be one line.
func (r *run) problem() string {
	r.t.Helper()
	text := r.last().Error
	if strings.Contains(text, "\n") {
		r.t.Errorf("the error is more than one line: %q", text)
	}
	return text
}

// tell logs what it has said, for a test that failed.
func (r *run) tell() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Event != "progress" && e.Event != "scan-progress" {
			r.t.Logf("%s %s %s %+v", e.Event, e.Text, e.Error, e.Failure)
		}
	}
	said := r.said.String()
	if len(said) > 8000 {
		said = "...\n" + said[len(said)-8000:]
	}
	r.t.Logf("%v:\n%s", r.cmd.Args, said)
}

// newNoise is an endless stream of random bytes.
func newNoise(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed, 1}) }
