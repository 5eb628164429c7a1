package gsyncd

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"georep/internal/session"
)

// asProgram makes the test binary behave as gsyncd; rootOf names the directory that stands for / then.
const (
	asProgram = "GEOREP_TEST_GSYNCD"
	rootOf    = "GEOREP_TEST_ROOT"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "1" {
		os.Exit(m.Run())
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM)
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	p := Program{
		Version: "test", Args: os.Args, In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Executable: self,
		Place: session.Place{Root: os.Getenv(rootOf)}, Signals: signals,
	}
	os.Exit(p.Run(context.Background()))
}

// world is a directory that stands for /, with what an installation of Gluster has there.
type world struct {
	t    testing.TB
	root string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t, t.TempDir()}
	for _, dir := range []string{"/var/lib/glusterd", "/var/run/gluster", "/var/log/glusterfs/geo-replication", "/etc/glusterfs"} {
		if err := os.MkdirAll(w.root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// create makes the session pvol to cs1::svol as glusterd does.
func (w *world) create() {
	w.t.Helper()
	if err := os.MkdirAll(w.path("/var/lib/glusterd/geo-replication/pvol_cs1_svol"), 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.good("-c", w.conf(), "--config-set-rx", "remote-gsyncd", "/x", ".", ".")
	w.good("--create", "Created", "-c", w.conf(), "--iprefix=/var", ":pvol", "cs1::svol")
}

func (w *world) path(path string) string { return w.root + path }

func (w *world) conf() string {
	return w.path("/var/lib/glusterd/geo-replication/pvol_cs1_svol/gsyncd.conf")
}

// run calls gsyncd in this process.
func (w *world) run(args ...string) (out, errs string, code int) {
	return w.runAs("gsyncd", nil, args...)
}

func (w *world) runAs(name string, env map[string]string, args ...string) (out, errs string, code int) {
	var o, e bytes.Buffer
	p := Program{
		Version: "test", Args: append([]string{"/usr/lib/glusterfs/" + name}, args...), In: strings.NewReader(""), Out: &o, Err: &e,
		Getenv: func(name string) string { return env[name] }, Executable: w.path("/usr/lib/glusterfs/gsyncd"), Place: session.Place{Root: w.root},
	}
	code = p.Run(context.Background())
	return o.String(), e.String(), code
}

// good runs a call that must succeed without a word on the error output, and gives what it printed.
func (w *world) good(args ...string) string {
	w.t.Helper()
	out, errs, code := w.run(args...)
	if code != 0 || errs != "" {
		w.t.Fatalf("gsyncd %q: exit %d, %s", args, code, errs)
	}
	return out
}

// fails runs a call that must end with this code.
func (w *world) fails(code int, args ...string) (errs string) {
	w.t.Helper()
	out, errs, got := w.run(args...)
	if got != code || out != "" {
		w.t.Errorf("gsyncd %q: exit %d, want %d; it printed %q and said %q", args, got, code, out, errs)
	}
	return errs
}

// command is gsyncd as a process.
func (w *world) command(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = []string{asProgram + "=1", rootOf + "=" + w.root, glusterdCalled + "=1"}
	cmd.Dir = "/"
	return cmd
}

func (w *world) read(path string) string {
	w.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

func (w *world) write(path, text string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// sessionArgs are a call about the session.
func (w *world) sessionArgs(args ...string) []string {
	return append([]string{"-c", w.conf(), "--iprefix=/var", ":pvol", "cs1::svol"}, args...)
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
