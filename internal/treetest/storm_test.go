package treetest

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"georep/internal/need"
)

// rage runs a storm over an empty tree until it is done, and returns its log.
func rage(t *testing.T, seed uint64, root string, steps int, o StormOptions) string {
	t.Helper()
	var log bytes.Buffer
	o.Log = &log
	s := NewStorm(seed, root, o)
	if err := s.Run(steps); err != nil {
		t.Fatalf("%v\n%s", err, s.History())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return log.String()
}

// TestStormRepeats runs the same seed over two trees: but for times and for what depends on them they must be equal.
func TestStormRepeats(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	logA, logB := rage(t, 42, a, 4000, StormOptions{}), rage(t, 42, b, 4000, StormOptions{})
	if strings.ReplaceAll(logA, a, "") != strings.ReplaceAll(logB, b, "") {
		t.Error("the same seed did other operations")
	}
	differences, err := Compare(a, b, Options{Max: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences {
		if d.Property != Mtime {
			t.Error(d)
		}
	}
}

// TestStormDoesEverything demands of a long storm that each kind of operation succeeded now and then.
func TestStormDoesEverything(t *testing.T) {
	s := NewStorm(7, t.TempDir(), StormOptions{})
	if err := s.Run(12_000); err != nil {
		t.Fatalf("%v\n%s", err, s.History())
	}
	for _, op := range s.deck {
		if s.done[op.name] < 20 {
			t.Errorf("%q succeeded %d times in 12,000 steps", op.name, s.done[op.name])
			s.done[op.name] = 20 // it is in the deck several times
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSeveralStormsInOneTree(t *testing.T) {
	root := t.TempDir()
	done := make(chan error, 3)
	storms := make([]*Storm, cap(done))
	for i := range storms {
		storms[i] = NewStorm(uint64(100+i), root, StormOptions{})
		go func() { done <- storms[i].Run(1500) }()
	}
	for range storms {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, s := range storms {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := Compare(root, root, Options{}); err != nil {
		t.Errorf("the tree is not at rest after Close: %v", err)
	}
}

func TestHistoryKeepsTheLastSteps(t *testing.T) {
	s := NewStorm(9, t.TempDir(), StormOptions{History: 10})
	if err := s.Run(25); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(s.History()), "\n")
	if len(lines) != 12 || !strings.Contains(lines[0], "seed 9") || !strings.HasPrefix(lines[2], "15 ") || !strings.HasPrefix(lines[11], "24 ") {
		t.Errorf("history:\n%s", s.History())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAsUser runs the tests of this package once more as the user nobody, when we are root.
func TestAsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		return // all the others are this test
	}
	setpriv := need.Program(t, "setpriv")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "treetest-user-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program := dir + "/test"
	for _, err := range []error{os.WriteFile(program, self, 0o755), os.Chmod(dir, 0o777)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", program, "-test.run=^Test([^A]|A[^s])", "-test.v")
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, need.All+"=0")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("as user: %v\n%s", err, out)
	}
}
