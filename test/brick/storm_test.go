package brick

import (
	"io"
	"os"
	"strconv"
	"syscall"
	"testing"

	"georep/internal/treetest"
)

// stormSteps is how many operations a storm does; GEOREP_TEST_STORM is another number.
func stormSteps(t *testing.T, steps int) int {
	t.Helper()
	if text := os.Getenv("GEOREP_TEST_STORM"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return steps
}

// TestStormWithFrozenWorkers: of two workers that both follow the directories one sleeps while the other goes on, then the other.
func TestStormWithFrozenWorkers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "BRICK BRICK", "BRICK BRICK")
	w := []*running{c.start(0, 1, 2), c.start(1, 2, 2)}
	steps := stormSteps(t, 400)
	seed := uint64(1)
	if text := os.Getenv("GEOREP_TEST_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	s := treetest.NewStorm(seed, c.outside("p"), treetest.StormOptions{Log: stormLog(t)})
	for round := range 4 {
		asleep := w[round%2]
		if round > 0 {
			asleep.signal(syscall.SIGSTOP)
		}
		if err := s.Run(steps / 4); err != nil {
			t.Fatal(err)
		}
		if round > 0 {
			asleep.signal(syscall.SIGCONT)
		}
		if round%2 == 1 {
			c.equal()
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.equal()
	t.Log(s.Steps(), "steps")
}

// stormLog is where the operations of a storm are written, if logs are kept.
func stormLog(t *testing.T) io.Writer {
	t.Helper()
	dir := os.Getenv("GEOREP_TEST_LOGS")
	if dir == "" {
		return io.Discard
	}
	f, err := os.Create(dir + "/storm.log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}
