package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"georep/internal/lab"
	"georep/internal/treetest"
)

// stormLength is for how long a storm rages, and stormSeed from what it is made: GEOREP_STORM=1h and GEOREP_SEED=7 say
// otherwise. Each run of the tests has another seed.
func stormLength(t *testing.T) time.Duration {
	text := os.Getenv("GEOREP_STORM")
	if text == "" {
		return 8 * time.Second
	}
	d, err := time.ParseDuration(text)
	must(t, err)
	return d
}

func stormSeed(t *testing.T) uint64 {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("GEOREP_SEED"); text != "" {
		v, err := strconv.ParseUint(text, 10, 64)
		must(t, err)
		seed = v
	}
	t.Logf("GEOREP_SEED=%d", seed)
	return seed
}

// storm is a live mirror whose source is changed at random all the time.
type storm struct {
	*site
	t       *testing.T
	rng     *rand.Rand // of the faults
	mirror  *run
	tree    *treetest.Storm
	stopped chan struct{} // closed to end the changes
	changes sync.WaitGroup
	err     error // of the changes; valid when they have ended
	begun   time.Time
	told    strings.Builder // what was done to the mirror, and when
}

func newStorm(t *testing.T, o treetest.StormOptions) *storm {
	s := &storm{site: newSite(t), t: t, stopped: make(chan struct{}), begun: time.Now()}
	s.program = racy(t)
	// A storm may well delete more than a person would.
	s.flags = []string{"--verbose", "--delete-limit", "100%"}
	seed := stormSeed(t)
	s.rng = rand.New(rand.NewPCG(seed, 1))
	s.tree = treetest.NewStorm(seed, s.source, o)
	must(t, s.tree.Run(200))
	s.mirror = s.start()
	pauses := rand.New(rand.NewPCG(seed, 2))
	s.changes.Go(func() { s.change(pauses) })
	t.Cleanup(func() {
		s.calm()
		if t.Failed() {
			s.keep()
		}
	})
	return s
}

// change does bursts of changes, with pauses in which the mirror may catch up with them.
func (s *storm) change(rng *rand.Rand) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-s.stopped:
			return
		case <-pause.C:
		}
		if s.err = s.tree.Run(1 + rng.IntN(60)); s.err != nil {
			return
		}
		pause.Reset(time.Duration(rng.IntN(60)) * time.Millisecond)
	}
}

// calm ends the changes.
func (s *storm) calm() {
	select {
	case <-s.stopped:
		return
	default:
	}
	close(s.stopped)
	s.changes.Wait()
	if err := s.tree.Close(); s.err == nil {
		s.err = err
	}
	if s.err != nil {
		s.t.Error(s.err)
	}
}

// keep writes what is needed to look for the cause of a failure.
func (s *storm) keep() {
	dir, err := os.MkdirTemp("", "georep-storm-")
	must(s.t, err)
	must(s.t, os.WriteFile(dir+"/storm", []byte(s.tree.History()), 0o600))
	must(s.t, os.WriteFile(dir+"/faults", []byte(s.told.String()), 0o600))
	s.mirror.mu.Lock()
	defer s.mirror.mu.Unlock()
	must(s.t, os.WriteFile(dir+"/log", s.mirror.said.Bytes(), 0o600))
	s.t.Logf("the history of the storm, the faults and the log of the last run are kept in %s", dir)
}

// note says what is done to the mirror.
func (s *storm) note(format string, args ...any) {
	fmt.Fprintf(&s.told, "%s %s\n", time.Since(s.begun).Round(time.Millisecond), fmt.Sprintf(format, args...))
}

// restart starts the mirror again, after it has ended.
func (s *storm) restart() {
	s.healthy()
	s.mirror = s.start()
}

// healthy demands that a mirror that ended has not met something that must never be: a panic, a data race, a refusal of its
// own state.
func (s *storm) healthy() {
	s.t.Helper()
	for _, word := range []string{"panic:", "DATA RACE", "fatal error:"} {
		if strings.Contains(s.mirror.stderr(), word) || strings.Contains(s.sshd.Log(), word) {
			s.t.Fatalf("%s\n%s\n%s", word, s.mirror.stderr(), s.sshd.Log())
		}
	}
}

// dead says whether the mirror has ended, and starts it again then: a storm may end it only by what we do to it, which is a
// connection that cannot be made at the first try.
func (s *storm) revive() {
	select {
	case <-s.mirror.done:
		s.note("it had ended with code %d: %s", s.mirror.code, s.mirror.last().Error)
		if s.mirror.code != 1 {
			s.t.Fatalf("it ended with code %d", s.mirror.code)
		}
		s.restart()
	default:
	}
}

// faults are the things that may happen to a mirror.
func (s *storm) faults() []func() {
	crash := func() {
		s.note("kill -9 of the source")
		s.mirror.kill()
		s.restart()
	}
	agent := func() {
		s.note("kill -9 of %d agents", lab.KillDescendants(s.sshd.Pid(), "agent --root "+s.dest))
	}
	interrupt := func(signal syscall.Signal) func() {
		return func() {
			s.note("%v", signal)
			must(s.t, s.mirror.cmd.Process.Signal(signal))
			s.mirror.wait()
			switch code := s.mirror.code; {
			case code == 0 || code == 1: // 1: the link was down when it was stopped
			case code == -1 && len(s.mirror.events) == 0: // it had only just started
			default:
				s.t.Fatalf("after %v it ended with code %d", signal, code)
			}
			s.restart()
		}
	}
	return []func(){
		crash, crash, crash, agent, agent, interrupt(syscall.SIGINT), interrupt(syscall.SIGTERM),
		func() { s.note("kill -9 of an ssh: %v", s.mirror.killSSH(s.rng)) },
		func() { s.note("reset"); s.proxy.CutAll(lab.Reset) },
		func() {
			d, n := lab.Direction(s.rng.IntN(2)), s.rng.Int64N(200_000)
			s.note("reset after %d bytes", n)
			s.proxy.CutAfter(d, n, lab.Reset)
		},
		func() {
			d := lab.Direction(s.rng.IntN(2))
			s.note("half an end in direction %d", d)
			s.proxy.Cut(d, lab.HalfEnd)
		},
		func() { s.note("delay"); s.proxy.SetRoundTrip(time.Duration(s.rng.IntN(60)) * time.Millisecond) },
		func() { s.note("silence"); s.proxy.CutAll(lab.Silence) },
		func() { s.note("restore"); s.proxy.Restore() },
	}
}

// rage lets faults happen for a while.
func (s *storm) rage(length time.Duration) {
	faults := s.faults()
	end := time.NewTimer(length)
	defer end.Stop()
	for {
		// Often there is time to work, sometimes the next comes at once.
		pause := time.NewTimer(time.Duration(s.rng.ExpFloat64() * float64(500*time.Millisecond)))
		select {
		case <-end.C:
			pause.Stop()
			return
		case <-pause.C:
		}
		s.revive()
		faults[s.rng.IntN(len(faults))]()
		if s.t.Failed() {
			return
		}
	}
}

// settle ends the changes and the faults, waits until the trees are equal, and looks once more with all content compared.
func (s *storm) settle() {
	s.t.Helper()
	s.proxy.Restore()
	s.proxy.SetRoundTrip(0)
	s.calm()
	s.note("calm")
	s.revive()
	// After many cuts the next try may be a minute away: a new start does not wait.
	if s.rng.IntN(2) == 0 {
		s.mirror.kill()
		s.restart()
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*patience)
	defer cancel()
	if err := treetest.Await(ctx, s.source, s.dest, treetest.Options{}); err != nil {
		s.t.Fatal(err)
	}
	s.mirror.stop(syscall.SIGINT)
	s.healthy()
	before := s.sent()
	s.copied("--checksum")
	s.t.Logf("%d steps; the last comparison sent %d bytes", s.tree.Steps(), s.sent()-before)
}

// TestMustP4AndP6StormOfFaults changes a source at random while a live mirror over a real sshd is killed on either side, cut off,
// delayed and half closed at random moments; when all is calm the copy must be equal.
func TestMustP4AndP6StormOfFaults(t *testing.T) {
	t.Parallel()
	s := newStorm(t, treetest.StormOptions{NoQuiet: true})
	s.rage(stormLength(t))
	s.settle()
}

// TestStormWithoutFaults is a live mirror that nothing happens to: it must see each change, those too that hide.
func TestStormWithoutFaults(t *testing.T) {
	t.Parallel()
	s := newStorm(t, treetest.StormOptions{})
	s.mirror.awaits("scan-done", nil)
	timer := time.NewTimer(stormLength(t) / 2)
	defer timer.Stop()
	<-timer.C
	s.calm()
	s.follows()
	s.mirror.stop(syscall.SIGTERM)
	s.healthy()
	s.copied("--checksum")
}
