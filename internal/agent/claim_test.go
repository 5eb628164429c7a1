package agent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"georep/internal/apply"
	"georep/internal/wire"
)

// TestLaterRunTakesOver demands that the agents of an earlier run have ended before one of a later run begins, and that none of
// the earlier run begins after it.
func TestLaterRunTakesOver(t *testing.T) {
	root := t.TempDir()
	run := func(n string) *process { return start(t, "--root", root, "--session", "s", "--run", n) }
	early := []*process{run("9"), run("9")}
	for _, p := range early {
		connect(t, p)
	}
	late := run("10")
	connect(t, late)
	for _, p := range early {
		if said, err := p.end(t); err == nil || !strings.Contains(said, "later run") {
			t.Errorf("an agent of the earlier run ended with %v: %s", err, said)
		}
	}
	if said, err := run("9").end(t); err == nil || !strings.Contains(said, "later run") {
		t.Errorf("an agent of the earlier run that came too late ended with %v: %s", err, said)
	}
	if err := connect(t, run("10")).Ping(context.Background()); err != nil {
		t.Error("the later run cannot have a second agent:", err)
	}
}

// TestLaterRunWaits demands that a later run does not begin while an agent of an earlier one is there and cannot go.
func TestLaterRunWaits(t *testing.T) {
	root := t.TempDir()
	early := start(t, "--root", root, "--session", "s", "--run", "1")
	connect(t, early)
	if err := early.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	late := start(t, "--root", root, "--session", "s", "--run", "2")
	wants := func() bool {
		lock, err := os.ReadFile(filepath.Join(root, apply.Reserved, apply.LockFile))
		return err == nil && string(lock) == "s\n1\n2\n"
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(30 * time.Second); !wants(); <-tick.C {
		if time.Now().After(limit) {
			t.Fatal("it does not ask the earlier run to go")
		}
	}
	greeted := make(chan error)
	go func() {
		c, err := wire.NewClient(context.Background(), late, wire.ClientOptions{Version: "test"})
		greeted <- err
		if err == nil {
			_ = c.Close() // the process is ended by start
		}
	}()
	select {
	case err := <-greeted:
		t.Fatal("it began while the other could still change something", err)
	default:
	}
	if err := early.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := <-greeted; err != nil {
		t.Error(err)
	}
}
