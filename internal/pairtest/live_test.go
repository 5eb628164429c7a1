package pairtest_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"georep/internal/pairtest"
	"georep/internal/treetest"
)

// TestStormLive changes a tree at random while it is mirrored over connections that are cut at random bytes. Whenever the mirror
// says that nothing newer than the last change is missing, the trees are equal: "healthy" is never false.
func TestStormLive(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { liveStorm(t, seed, stormPair(t), treetest.StormOptions{}) })
	}
}

// TestStormLargeFiles is a live storm of files whose content is detached as soon as anything else waits for it.
func TestStormLargeFiles(t *testing.T) {
	var detached counting
	chosen := seeds(t)
	if os.Getenv("GEOREP_SEED") == "" {
		chosen = chosen[:6] // they take long
	}
	for _, seed := range chosen {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			p := stormPair(t)
			p.Options.Patience = time.Millisecond
			if p.Options.Log == nil {
				p.Options.Log = slog.New(&detached)
			}
			liveStorm(t, seed, p, treetest.StormOptions{MaxSize: 600_000})
		})
	}
	if os.Getenv("GEOREP_SEED") == "" && detached.n.Load() == 0 {
		t.Error("no content was detached")
	}
}

// counting is a log that counts how often content was detached.
type counting struct{ n atomic.Int64 }

func (c *counting) Enabled(context.Context, slog.Level) bool { return true }
func (c *counting) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c *counting) WithGroup(string) slog.Handler            { return c }

func (c *counting) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "detached" {
		c.n.Add(1)
	}
	return nil
}

func liveStorm(t *testing.T, seed uint64, p *pairtest.Pair, o treetest.StormOptions) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	r := rand.New(rand.NewPCG(seed, 11))
	cuts := 1 + r.IntN(2)
	limits := make(chan int64, cuts)
	for range cuts {
		limits <- 1 + r.Int64N(300_000)
	}
	limit := func() int64 {
		select {
		case n := <-limits:
			return n
		default:
			return 0
		}
	}
	s := treetest.NewStorm(seed, p.Primary, o)
	defer s.Close()
	live := p.Start(ctx, limit)
	for round := range 4 {
		for range 5 + r.IntN(20) {
			if err := s.Run(r.IntN(40)); err != nil {
				t.Fatalf("storm: %v", err)
			}
			if _, err := os.ReadDir(p.Secondary); err != nil { // somebody reads meanwhile
				t.Fatal(err)
			}
		}
		if err := live.Equal(ctx, time.Now()); err != nil {
			t.Fatalf("seed %d, round %d: %v", seed, round, err)
		}
		differences, err := p.Compare()
		if err != nil {
			t.Fatal(err)
		}
		if len(differences) > 0 {
			keepHistory(t, s, seed)
			t.Fatalf("seed %d, round %d:\n%s", seed, round, treetest.Format(differences))
		}
	}
	if err := live.Stop(); err != nil {
		t.Fatalf("seed %d: stop: %v", seed, err)
	}
	if err := p.CheckIndex(); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
}
