package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"georep/internal/status"
	"georep/internal/worker"
)

// buffer is a stream that many goroutines write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// run is one command line with a worker of the test's own.
type run struct {
	out, errs buffer
	signals   chan os.Signal
	options   worker.Options
	env       map[string]string
}

func (r *run) program(mirror MirrorFunc) *Program {
	r.signals = make(chan os.Signal, 2)
	return &Program{
		Version: "1.2.3", In: strings.NewReader(""), Out: &r.out, Err: &r.errs, Signals: r.signals,
		Getenv: func(name string) string { return r.env[name] }, Executable: "/usr/bin/georep",
		Mirror: func(ctx context.Context, o worker.Options, report func(status.Event)) (worker.Summary, error) {
			r.options = o
			return mirror(ctx, o, report)
		},
	}
}

func (r *run) do(t *testing.T, mirror MirrorFunc, args ...string) int {
	t.Helper()
	return r.program(mirror).Run(context.Background(), args)
}

func quietly(context.Context, worker.Options, func(status.Event)) (worker.Summary, error) {
	return worker.Summary{}, nil
}

// pair makes a source and names a destination and a state directory beside it.
func pair(t *testing.T) (source, destination, state string) {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	source = filepath.Join(top, "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	return source, filepath.Join(top, "copy"), filepath.Join(top, "state")
}

func TestUsageErrorsAreOneSentenceAndExit2(t *testing.T) {
	source, destination, state := pair(t)
	file := filepath.Join(filepath.Dir(source), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"mirorr"}, `there is no command "mirorr", did you mean "mirror"?`},
		{[]string{"xyzzy"}, `there is no command "xyzzy"`},
		{[]string{"mirror"}, "mirror wants two arguments, a source and a destination, and got 0"},
		{[]string{"mirror", source}, "got 1"},
		{[]string{"mirror", "--onec", source, destination}, "there is no flag --onec, did you mean --once?"},
		{[]string{"mirror", "-Q", source, destination}, "there is no flag -Q"},
		{[]string{"mirror", source, destination, "--port"}, "--port needs a value"},
		{[]string{"mirror", "--port", "ssh", source, destination}, `--port: "ssh" is not a number from 0 to 65535`},
		{[]string{"mirror", "--sync-method", "ftp", source, destination}, "is not one of native, rsync, tarssh"},
		{[]string{"mirror", "--json", "--quiet", source, destination}, "--json and --quiet contradict each other"},
		{[]string{"mirror", "--config", "/nonexistent/x.toml", source, destination}, "no such file"},
		{[]string{"mirror", "", destination}, "SOURCE is empty"},
		{[]string{"mirror", "/nonexistent", destination}, "the source /nonexistent does not exist"},
		{[]string{"mirror", "host:/data", destination}, "run georep there"},
		{[]string{"mirror", file, destination}, "is not a directory"},
		{[]string{"mirror", source, ""}, "target is empty"},
		{[]string{"mirror", source, "host:"}, "directory after the colon is missing"},
		{[]string{"mirror", source, source}, "are the same directory"},
		{[]string{"mirror", source, source + "/copy"}, "lies inside the source"},
		{[]string{"mirror", source, source + "/.."}, "the source lies inside the destination"},
		{[]string{"mirror", source, file}, "is not a directory"},
		{[]string{"mirror", source, destination + "/a/b"}, "does not exist: make it first"},
		{[]string{"mirror", "--state-dir", source, source, destination}, "choose another with --state-dir"},
		{[]string{"version", "now"}, "takes no arguments"},
	} {
		var r run
		args := test.args
		if args[0] == "mirror" && !strings.Contains(strings.Join(args, " "), "state-dir") {
			args = append([]string{"mirror", "--state-dir", state}, args[1:]...)
		}
		code := r.do(t, func(context.Context, worker.Options, func(status.Event)) (worker.Summary, error) {
			t.Errorf("%q reached the worker", args)
			return worker.Summary{}, nil
		}, args...)
		lines := strings.Split(strings.TrimSpace(r.errs.String()), "\n")
		if code != ExitUsage || !strings.Contains(lines[0], test.want) || len(lines) != 2 || !strings.HasPrefix(lines[1], "Try 'georep") {
			t.Errorf("%q: exit %d, %q; want 2 and %q", test.args, code, r.errs.String(), test.want)
		}
	}
}

func TestVersionHelpAndCompletion(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"version", "georep 1.2.3 (go1."},
		{"", "Available Commands:"},
		{"help mirror", "georep mirror [flags] SOURCE [USER@]HOST:DEST|DEST"},
		{"mirror --help", "--delete-limit SHARE[:N]"},
		{"completion bash", "bash completion"},
		{"__complete mirror --sync-method ", "tarssh"},
		{"__complete mirror --", "--bwlimit"},
	} {
		var r run
		args := strings.Split(test.args, " ")
		if test.args == "" {
			args = nil
		}
		if code := r.do(t, quietly, args...); code != ExitOK || !strings.Contains(r.out.String(), test.want) {
			t.Errorf("georep %s: exit %d, %q does not say %q", test.args, code, r.out.String(), test.want)
		}
	}
	var r run
	r.do(t, quietly, "--help")
	if strings.Contains(r.out.String(), "agent") {
		t.Error("the help shows the agent, which is not for people")
	}
}

func TestWorkerGetsWhatWasTyped(t *testing.T) {
	source, destination, state := pair(t)
	config := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(config, []byte("exclude = ['*.o']\nport = 2222\ncompress = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var r run
	code := r.do(t, quietly, "mirror", "--once", "--config", config, "--exclude", "/tmp/*", "--include", "/tmp/keep", "--bwlimit=1M",
		"--compress=false", "--delete-limit", "5%:7", "--scan-interval", "2h", "--sync-jobs", "9", "-c", "--state-dir", state,
		"--ssh-command", "ssh -v", "--remote-georep", "/opt/georep", source+"/", "me@host:copy")
	if code != ExitOK {
		t.Fatalf("exit %d: %s", code, r.errs.String())
	}
	got := r.options
	if got.Log == nil || filepath.Dir(got.StateDir) != state || !strings.HasPrefix(filepath.Base(got.StateDir), "source-") {
		t.Errorf("log %v, state %q", got.Log, got.StateDir)
	}
	got.Log, got.StateDir = nil, ""
	want := worker.Options{
		Source: source, Once: true, Checksum: true, Patterns: []string{"*.o", "/tmp/*", "!/tmp/keep"}, BwLimit: 1 << 20, SyncJobs: 9,
		Port: 2222, SSHCommand: "ssh -v", RemoteGeorep: "/opt/georep", SyncMethod: "native", DeletePercent: 5, DeleteEntries: 7,
		ScanInterval: 2 * time.Hour, Version: "1.2.3", Executable: "/usr/bin/georep",
	}
	want.Target.User, want.Target.Host, want.Target.Path = "me", "host", "copy"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	first := r.options.StateDir
	r.do(t, quietly, "mirror", "--state-dir", state, source, "me@host:copy/")
	if r.options.StateDir != first {
		t.Error("a slash at the end makes another mirror")
	}
	r.do(t, quietly, "mirror", "--state-dir", state, source, destination)
	if r.options.StateDir == first || r.options.Target.Path != destination {
		t.Errorf("another destination has the same state, or is misread: %q, %v", r.options.StateDir, r.options.Target)
	}
}

func TestStateDirectoryWithinTheSourceIsNotMirrored(t *testing.T) {
	source, destination, _ := pair(t)
	var r run
	if code := r.do(t, quietly, "mirror", "--include", "*", "--state-dir", source+"/a*b/state", source, destination); code != ExitOK {
		t.Fatal(r.errs.String())
	}
	if diff := cmp.Diff([]string{"!*", `/a\*b/state/`}, r.options.Patterns); diff != "" {
		t.Error(diff)
	}
}

func TestStateBase(t *testing.T) {
	if os.Geteuid() == 0 {
		base, err := (&Program{}).stateBase("")
		if err != nil || base != "/var/lib/georep" {
			t.Errorf("root's state is in %q, %v", base, err)
		}
	}
}

var failure = status.Failure{Path: "a/b", Op: "write", Call: "pwrite64", Errno: int(syscall.ENOSPC), Side: status.Destination, Count: 1}

func TestExitCodes(t *testing.T) {
	source, destination, state := pair(t)
	failed := worker.Summary{Failures: []status.Failure{failure}, Snapshot: status.Snapshot{Failing: 1, EntriesDone: 4}}
	for _, test := range []struct {
		name    string
		summary worker.Summary
		err     error
		code    int
		want    string
	}{
		{"all acknowledged", worker.Summary{Snapshot: status.Snapshot{EntriesDone: 5}}, nil, 0, ""},
		{"an entry failed", failed, nil, 1, "failed: a/b: cannot write on the destination: pwrite64: no space left on device; the destination is full: free space or inodes there (df, df -i)\ngeorep: 1 entry failed, everything else was copied"},
		{"deletions are held", worker.Summary{}, errors.Join(worker.ErrHalted), 3, "georep: "},
		{"held, told by the summary", worker.Summary{Halted: true, HaltReason: "9 of 10 are gone"}, nil, 3, "9 of 10 are gone"},
		{"no connection", worker.Summary{}, errors.New("cannot reach host: check the name"), 1, "georep: cannot reach host: check the name\n"},
		{"hostile text", worker.Summary{}, errors.New("banner \x1b[2J\xff"), 1, `georep: banner \x1b[2J\xff`},
	} {
		var r run
		code := r.do(t, func(context.Context, worker.Options, func(status.Event)) (worker.Summary, error) {
			return test.summary, test.err
		}, "mirror", "--once", "--quiet", "--state-dir", state, source, destination)
		if code != test.code || !strings.Contains(r.errs.String(), test.want) || (test.want == "" && r.errs.String() != "") || r.out.String() != "" {
			t.Errorf("%s: exit %d, %q; want %d, %q", test.name, code, r.errs.String(), test.code, test.want)
		}
	}
}

// waiting is a worker that finishes only when it is asked to.
func waiting(started chan<- struct{}, caughtUp bool) MirrorFunc {
	return func(ctx context.Context, _ worker.Options, report func(status.Event)) (worker.Summary, error) {
		if caughtUp {
			report(status.Event{Kind: status.CaughtUp})
		}
		close(started)
		<-ctx.Done()
		return worker.Summary{Snapshot: status.Snapshot{State: status.StateStopped, EntriesDone: 3}}, nil
	}
}

func TestInterruptFinishesWhatIsInFlight(t *testing.T) {
	source, destination, state := pair(t)
	for _, test := range []struct {
		flag     string
		caughtUp bool
		code     int
	}{{"--verbose", false, ExitOK}, {"--once", false, ExitInterrupted}, {"--once", true, ExitOK}} {
		var r run
		started := make(chan struct{})
		p := r.program(waiting(started, test.caughtUp))
		go func() {
			<-started
			r.signals <- os.Interrupt
		}()
		code := p.Run(context.Background(), []string{"mirror", test.flag, "--state-dir", state, source, destination})
		if code != test.code || !strings.Contains(r.errs.String(), "finishing what is in flight") {
			t.Errorf("%s, caught up %v: exit %d, want %d: %s", test.flag, test.caughtUp, code, test.code, r.errs.String())
		}
	}
}

func TestSecondInterruptEndsAtOnce(t *testing.T) {
	source, destination, state := pair(t)
	var r run
	never := make(chan struct{})
	defer close(never)
	p := r.program(func(context.Context, worker.Options, func(status.Event)) (worker.Summary, error) {
		r.signals <- os.Interrupt
		r.signals <- os.Interrupt
		<-never
		return worker.Summary{}, nil
	})
	if code := p.Run(context.Background(), []string{"mirror", "--state-dir", state, source, destination}); code != ExitInterrupted {
		t.Errorf("exit %d", code)
	}
}

func TestJSONLines(t *testing.T) {
	source, destination, state := pair(t)
	var r run
	code := r.do(t, func(_ context.Context, _ worker.Options, report func(status.Event)) (worker.Summary, error) {
		report(status.Event{Kind: status.ScanStarted})
		report(status.Event{Kind: status.EntryFailed, Failure: &failure})
		return worker.Summary{Failures: []status.Failure{failure}}, nil
	}, "mirror", "--once", "--json", "--state-dir", state, source, destination)
	if code != ExitFailed {
		t.Errorf("exit %d", code)
	}
	var kinds []string
	decoder := json.NewDecoder(strings.NewReader(r.out.String()))
	for {
		var line struct {
			Event    string
			Code     int
			Failures []struct{ Path string }
		}
		if err := decoder.Decode(&line); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v in %s", err, r.out.String())
		}
		kinds = append(kinds, line.Event)
		if line.Event == "exit" && (line.Code != 1 || len(line.Failures) != 1 || line.Failures[0].Path != "a/b") {
			t.Errorf("the end says %+v", line)
		}
	}
	if diff := cmp.Diff([]string{"scan-started", "entry-failed", "exit"}, kinds); diff != "" {
		t.Error(diff)
	}
}

func TestAgentGetsItsArgumentsAsTheyAre(t *testing.T) {
	var r run
	p := r.program(nil)
	var got []string
	p.Agent = func(_ context.Context, _ io.Reader, _, _ io.Writer, _ string, args []string) error {
		got = args
		return errors.New("cannot open the root")
	}
	code := p.Run(context.Background(), []string{"agent", "--root", "-x", "--new-flag=3"})
	if diff := cmp.Diff([]string{"--root", "-x", "--new-flag=3"}, got); diff != "" || code != ExitFailed {
		t.Errorf("exit %d, %s", code, diff)
	}
	if !strings.Contains(r.errs.String(), "cannot open the root") || r.out.String() != "" {
		t.Errorf("the agent's error must be on the error output only: %q, %q", r.errs.String(), r.out.String())
	}
}

// An interrupt from the keyboard reaches the agent too, which must go on serving; a termination ends it.
func TestAgentEndsAtTerminationOnly(t *testing.T) {
	var r run
	p := r.program(nil)
	p.Agent = func(ctx context.Context, _ io.Reader, _, _ io.Writer, _ string, _ []string) error {
		r.signals <- os.Interrupt
		r.signals <- syscall.SIGTERM
		<-ctx.Done()
		return nil
	}
	if code := p.Run(context.Background(), []string{"agent"}); code != ExitOK || len(r.signals) != 0 {
		t.Errorf("exit %d, %d signals were not read", code, len(r.signals))
	}
}
