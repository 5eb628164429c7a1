package pairtest_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"georep/internal/status"
)

// healthy says whether the operator is told that nothing is missing.
func healthy(s status.Snapshot) bool {
	return s.State == status.StateLive && s.Failing == 0 && s.Lag == 0 && !s.RecoveryPoint.IsZero()
}

// TestMustP1FailureIsNeverPassed fails one file under a live mirror: as long as that lasts it is not called healthy and the recovery
// point stays before the change; when the cause is gone the trees become equal without anybody doing anything.
func TestMustP1FailureIsNeverPassed(t *testing.T) {
	p, _ := stormyPair(t, 1, 50)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var broken atomic.Bool
	p.Faults = func(_, path string) error {
		if broken.Load() && strings.Contains(path, "victim") {
			return syscall.EIO
		}
		return nil
	}
	var changed atomic.Pointer[time.Time]
	var mu sync.Mutex
	var wrong []status.Snapshot
	p.Watch = func(e status.Event) {
		at := changed.Load()
		if at != nil && broken.Load() && (healthy(e.Snapshot) && e.Snapshot.Failing > 0 || e.Snapshot.RecoveryPoint.After(*at)) {
			mu.Lock()
			defer mu.Unlock()
			wrong = append(wrong, e.Snapshot)
		}
	}
	began := time.Now()
	live := p.Start(ctx, whole)
	if err := live.Equal(ctx, began); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	write(t, filepath.Join(p.Primary, "victim"), []byte("content"))
	now := time.Now()
	changed.Store(&now)
	if err := live.Until(ctx, func(s status.Snapshot) bool { return s.Failing == 1 }); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.Primary, "another"), []byte("content"))
	rest := func(s status.Snapshot) bool { return s.Failing == 1 && s.BacklogEntries == 1 && s.Lag > time.Second }
	if err := live.Until(ctx, rest); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(p.Secondary, "another")); err != nil {
		t.Errorf("another file did not arrive meanwhile: %v", err)
	}
	broken.Store(false)
	if err := errors.Join(live.Equal(ctx, time.Now()), live.Stop()); err != nil {
		t.Fatal(err)
	}
	equal(t, p)
	if len(wrong) > 0 {
		t.Errorf("while a file was failing it said %+v", wrong[0])
	}
}

// TestMustP2NeverHealthyWhileDifferent freezes the secondary: while nothing is acknowledged the recovery point stays before the change,
// the backlog shows, and it is not called healthy.
func TestMustP2NeverHealthyWhileDifferent(t *testing.T) {
	p, _ := stormyPair(t, 2, 50)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var frozen atomic.Pointer[chan struct{}]
	p.Faults = func(string, string) error {
		if c := frozen.Load(); c != nil {
			<-*c
		}
		return nil
	}
	var changed atomic.Pointer[time.Time]
	var wrong atomic.Pointer[status.Snapshot]
	p.Watch = func(e status.Event) {
		if at := changed.Load(); at != nil && e.Snapshot.RecoveryPoint.After(*at) {
			wrong.CompareAndSwap(nil, &e.Snapshot)
		}
	}
	began := time.Now()
	live := p.Start(ctx, whole)
	if err := live.Equal(ctx, began); err != nil {
		t.Fatal(err)
	}
	thaw := make(chan struct{})
	frozen.Store(&thaw)
	write(t, filepath.Join(p.Primary, "new"), []byte("content"))
	now := time.Now()
	changed.Store(&now)
	shows := func(s status.Snapshot) bool {
		return s.BacklogEntries > 0 && s.Lag > time.Second && s.State == status.StateSyncing && !healthy(s)
	}
	if err := live.Until(ctx, shows); err != nil {
		t.Fatal(err)
	}
	if s := wrong.Load(); s != nil {
		t.Errorf("while nothing was acknowledged it said %+v", *s)
	}
	changed.Store(nil)
	frozen.Store(nil)
	close(thaw)
	if err := errors.Join(live.Equal(ctx, time.Now()), live.Stop()); err != nil {
		t.Fatal(err)
	}
	equal(t, p)
}

// TestMustP30Lifecycle starts, stops, cuts, deletes and makes mirrors anew at random under load: it ends in equal trees, and every
// command that makes no sense is refused.
func TestMustP30Lifecycle(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		p, s := stormyPair(t, seed, 50)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		r := rand.New(rand.NewPCG(seed, 30))
		for range 8 {
			storms(t, s, r.IntN(60))
			switch r.IntN(5) {
			case 0: // live for a while
				live := p.Start(ctx, whole)
				storms(t, s, r.IntN(60))
				if r.IntN(2) == 0 {
					if err := live.Equal(ctx, time.Now()); err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
				}
				if err := live.Stop(); err != nil {
					t.Fatalf("seed %d: stop: %v", seed, err)
				}
			case 1: // cut
				if _, err := p.Run(ctx, 1+r.Int64N(200_000)); err != nil {
					t.Logf("cut: %v", err)
				}
			case 2: // a dry run, which changes nothing
				p.Options.DryRun = true
				if _, err := p.Run(ctx, 0); err != nil {
					t.Fatalf("seed %d: dry run: %v", seed, err)
				}
				p.Options.DryRun = false
			case 3: // deleted and made anew: another mirror's destination is only taken over when a person says so
				if err := os.RemoveAll(p.State); err != nil {
					t.Fatal(err)
				}
				p.Options.AllowDelete = true
				mirror(t, p)
				p.Options.AllowDelete = false
			case 4: // no time at all
				stopped, stop := context.WithCancel(ctx)
				stop()
				if _, err := p.Run(stopped, 0); err != nil {
					t.Fatalf("seed %d: stopped at once: %v", seed, err)
				}
			}
		}
		p.Options.Checksum = true
		mirror(t, p)
		equal(t, p)
		if err := p.CheckIndex(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}
