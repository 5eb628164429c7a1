package pairtest_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"georep/internal/pairtest"
	"georep/internal/status"
	"georep/internal/treetest"
)

// seeds are the storms of one run: a few fixed ones, or the one in GEOREP_SEED, or from there on GEOREP_SEEDS many.
func seeds(t *testing.T) []uint64 {
	t.Helper()
	first, n := uint64(1), uint64(12)
	if s := os.Getenv("GEOREP_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("GEOREP_SEED: %v", err)
		}
		first, n = v, 1
	}
	if s := os.Getenv("GEOREP_SEEDS"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("GEOREP_SEEDS: %v", err)
		}
		n = v
	}
	out := make([]uint64, 0, n)
	for i := range n {
		out = append(out, first+i)
	}
	return out
}

// TestStormCutResume changes a tree at random, mirrors it over a pipe that is cut at a random byte, changes it again, and so
// on; a whole run in the end makes the trees equal. A failing seed is run again with GEOREP_SEED.
func TestStormCutResume(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { storm(t, seed) })
	}
}

// stormPair makes a pair that tells all it does when one storm is looked at.
func stormPair(t *testing.T) *pairtest.Pair {
	t.Helper()
	p, err := pairtest.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("GEOREP_SEED") != "" && os.Getenv("GEOREP_SEEDS") == "" { // one storm is looked at
		p.Options.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return p
}

func storm(t *testing.T, seed uint64) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	p := stormPair(t)
	p.Options.Checksum = seed%2 == 1 // then CheckIndex compares more
	r := rand.New(rand.NewPCG(seed, 7))
	s := treetest.NewStorm(seed, p.Primary, treetest.StormOptions{})
	defer s.Close()
	for range 2 + r.IntN(5) {
		if err := s.Run(20 + r.IntN(150)); err != nil {
			t.Fatalf("storm: %v", err)
		}
		if _, err := p.Run(ctx, 1+r.Int64N(400_000)); err != nil {
			t.Logf("cut: %v", err)
		}
		if err := p.CheckIndex(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	if err := s.Run(50); err != nil {
		t.Fatalf("storm: %v", err)
	}
	p.Options.Checksum = true // the storm changes content under equal size and time, which only live events or this can show
	sum, err := p.Run(ctx, 0)
	if err != nil {
		t.Fatalf("seed %d: last run: %v", seed, err)
	}
	for _, f := range sum.Failures {
		t.Errorf("failing: %+v", f)
	}
	for _, e := range p.Events() {
		if e.Kind == status.Notice {
			t.Errorf("seed %d: a cut made the mirror doubt all: %s", seed, e.Text)
		}
	}
	differences, err := p.Compare()
	if err != nil {
		t.Fatal(err)
	}
	if len(differences) > 0 {
		t.Errorf("seed %d:\n%s", seed, treetest.Format(differences))
		for _, e := range p.Events() {
			t.Logf("%s %s %q %+v", e.Time.Format("05.000"), e.Kind, e.Text, e.Failure)
		}
		keepHistory(t, s, seed)
	}
}

// keepHistory leaves what a storm did where a person finds it.
func keepHistory(t *testing.T, s *treetest.Storm, seed uint64) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("%s/georep-storm-%d.log", os.TempDir(), seed), []byte(s.History()), 0o600); err != nil {
		t.Log(err)
	}
}
