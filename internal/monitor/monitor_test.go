package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"georep/internal/durable"
)

// role makes a process of this test a worker, or a monitor.
const role = "GEOREP_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "fails":
		os.Exit(7)
	case "runs":
		os.NewFile(FeedbackFD, "feedback").Close()
		waitForTerm()
	case "silent":
		waitForTerm()
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		os.NewFile(FeedbackFD, "feedback").Close()
		select {}
	case "daemon":
		lock, err := Daemon(os.Args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		waitForTerm()
		lock.File().Close()
	case "dies":
	}
	os.Exit(0)
}

func waitForTerm() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	<-signals
}

// record is what a monitor told.
type record struct {
	mu     sync.Mutex
	starts int
	failed []error
	delays []time.Duration
	told   chan struct{}
}

func (r *record) options(as string) Options {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	r.told = make(chan struct{}, 1000)
	return Options{
		Prepare: func(context.Context, string) (Worker, error) {
			if as == "" {
				return Worker{}, errors.New("not ready")
			}
			return Worker{Argv: []string{self}, Env: append(os.Environ(), role+"="+as)}, nil
		},
		Starting: func(string) {
			r.mu.Lock()
			r.starts++
			r.mu.Unlock()
			r.told <- struct{}{}
		},
		Failed: func(_ string, reason error, again time.Duration) {
			r.mu.Lock()
			r.failed, r.delays = append(r.failed, reason), append(r.delays, again)
			r.mu.Unlock()
			r.told <- struct{}{}
		},
		Confirm: time.Minute, Grace: 200 * time.Millisecond, FirstDelay: 5 * time.Millisecond, MaxDelay: 12 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
	}
}

// until runs a monitor of one brick until so much was told.
func (r *record) until(t *testing.T, o Options, events int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan struct{})
	go func() { defer close(ended); Run(ctx, []string{"/b1"}, o) }()
	for range events {
		select {
		case <-r.told:
		case <-ctx.Done():
			t.Fatal("it does not happen")
		}
	}
	cancel()
	<-ended
}

func TestFailedWorkersAreStartedAgain(t *testing.T) {
	var r record
	r.until(t, r.options("fails"), 8)
	if r.failed[0].Error() != "it ended with status 7" || fmt.Sprint(r.delays[:3]) != "[5ms 10ms 12ms]" {
		t.Errorf("reasons %v, delays %v", r.failed, r.delays)
	}
	var other record
	other.until(t, other.options(""), 4)
	if other.failed[0].Error() != "not ready" {
		t.Errorf("reasons %v", other.failed)
	}
}

func TestWorkerWithoutConnectionIsKilled(t *testing.T) {
	var r record
	o := r.options("silent")
	o.Confirm = 50 * time.Millisecond
	r.until(t, o, 2)
	if !strings.Contains(r.failed[0].Error(), "no connection") {
		t.Errorf("reasons %v", r.failed)
	}
}

func TestStopEndsWorkers(t *testing.T) {
	for _, as := range []string{"runs", "stubborn"} {
		var r record
		r.until(t, r.options(as), 1)
		if len(r.failed) != 0 {
			t.Errorf("%s: reasons %v", as, r.failed)
		}
		if children := children(t); children != "" {
			t.Errorf("%s: the children %s are left", as, children)
		}
	}
}

func children(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestLaunch(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pid")
	launch := func(as string) error {
		return Launch(path, []string{self, path}, append(os.Environ(), role+"="+as))
	}
	if err := launch("dies"); err == nil {
		t.Error("a daemon that ends at once gave no error")
	}
	var both sync.WaitGroup
	results := make([]error, 2)
	for i := range results {
		both.Go(func() { results[i] = launch("daemon") })
	}
	both.Wait()
	if (results[0] == nil) == (results[1] == nil) || !errors.Is(errors.Join(results...), ErrRunning) {
		t.Errorf("two at once gave %v", results)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatalf("the file has %q", text)
	}
	group, err := syscall.Getpgid(pid)
	if err != nil || group != pid {
		t.Errorf("the daemon %d is in the group %d, %v", pid, group, err)
	}
	if locked, err := durable.Locked(path); err != nil || !locked {
		t.Errorf("locked %v, %v", locked, err)
	}
	if err := launch("daemon"); !errors.Is(err, ErrRunning) {
		t.Errorf("a second one gave %v", err)
	}
	if again, err := os.ReadFile(path); err != nil || string(again) != string(text) {
		t.Errorf("the file became %q, %v", again, err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for locked := true; locked; <-tick.C {
		if locked, err = durable.Locked(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := launch("daemon"); err != nil {
		t.Errorf("after the first has ended: %v", err)
	}
	if text, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
