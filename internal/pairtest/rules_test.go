package pairtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"georep/internal/pairtest"
	"georep/internal/treetest"
	"georep/internal/worker"
)

// stormyPair makes a pair whose primary a storm has filled.
func stormyPair(t *testing.T, seed uint64, steps int) (*pairtest.Pair, *treetest.Storm) {
	t.Helper()
	p, err := pairtest.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := treetest.NewStorm(seed, p.Primary, treetest.StormOptions{NoQuiet: true})
	t.Cleanup(func() { s.Close() })
	storms(t, s, steps)
	return p, s
}

func storms(t *testing.T, s *treetest.Storm, steps int) {
	t.Helper()
	if err := s.Run(steps); err != nil {
		t.Fatalf("storm: %v", err)
	}
}

// equal makes sure that nothing differs.
func equal(t *testing.T, p *pairtest.Pair) {
	t.Helper()
	diff, err := p.Compare()
	if err != nil {
		t.Fatal(err)
	}
	if len(diff) > 0 {
		t.Errorf("the trees differ:\n%s", treetest.Format(diff))
	}
}

// mirror runs once, and to the end.
func mirror(t *testing.T, p *pairtest.Pair) worker.Summary {
	t.Helper()
	sum, err := p.Run(t.Context(), 0)
	if err != nil || len(sum.Failures) > 0 {
		t.Fatalf("mirror: %v, failing: %+v", err, sum.Failures)
	}
	return sum
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestRule3StateNotHistory applies everything again to a secondary that has it already, or has something later or earlier, because the
// primary has lost all memory of what it did: that ends right, and no content travels for what is there.
func TestRule3StateNotHistory(t *testing.T) {
	p, s := stormyPair(t, 3, 300)
	mirror(t, p)
	forget := func() {
		t.Helper()
		if err := os.RemoveAll(p.State); err != nil {
			t.Fatal(err)
		}
		p.Options.AllowDelete = true // it is another mirror now, that takes the destination over
	}
	forget()
	if sum := mirror(t, p); sum.Snapshot.ContentSent > 0 {
		t.Errorf("%d bytes of content were sent though all of it was there", sum.Snapshot.ContentSent)
	}
	equal(t, p)
	for _, limit := range []int64{20_000, 100_000} {
		storms(t, s, 100)
		if _, err := p.Run(t.Context(), limit); err != nil {
			t.Logf("cut: %v", err)
		}
		forget()
	}
	mirror(t, p)
	equal(t, p)
}

// TestRule4OneBadEntryStopsNothing lets every call fail that concerns some files, each with an errno of its own: they alone are named as
// failing, everything else is there, and they follow when the cause is gone.
func TestRule4OneBadEntryStopsNothing(t *testing.T) {
	p, _ := stormyPair(t, 4, 100)
	errnos := []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.ENOMEM, syscall.ENAMETOOLONG}
	var bad []string
	for _, e := range errnos {
		name := fmt.Sprintf("bad-%d-", e)
		bad = append(bad, name)
		write(t, filepath.Join(p.Primary, name), []byte(name))
	}
	p.Faults = func(_, path string) error {
		for i, name := range bad {
			if strings.Contains(path, name) {
				return errnos[i]
			}
		}
		return nil
	}
	sum, err := p.Run(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var failing []string
	for _, f := range sum.Failures {
		failing = append(failing, f.Path)
		if f.Errno == 0 || f.Op == "" || f.Hint == "" || f.Call == "" {
			t.Errorf("of %q it says %+v", f.Path, f)
		}
	}
	slices.Sort(failing)
	slices.Sort(bad)
	if !slices.Equal(failing, bad) {
		t.Errorf("failing: %q, want %q", failing, bad)
	}
	diff, err := p.Compare()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range diff {
		if !strings.HasPrefix(d.Path, "bad-") && d.Path != "." && d.Path != "" {
			t.Errorf("something else differs: %s", treetest.Format([]treetest.Difference{d}))
		}
	}
	p.Faults = nil
	mirror(t, p)
	equal(t, p)
}

// TestRule6NeverOutsideRoot puts symlinks in the way, on the secondary, of what is to be changed: what they point to stays as it is.
func TestRule6NeverOutsideRoot(t *testing.T) {
	p, _ := stormyPair(t, 6, 0)
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	for _, dir := range []string{"d", "e"} {
		if err := os.Mkdir(filepath.Join(p.Primary, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(p.Primary, dir, "victim"), []byte("old"))
	}
	write(t, filepath.Join(p.Primary, "f"), []byte("old"))
	mirror(t, p)
	write(t, victim, []byte("of somebody else"))
	before, err := os.Lstat(victim)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"d", "e", "f"} {
		to := outside
		if name == "f" {
			to = victim
		}
		err := errors.Join(os.RemoveAll(filepath.Join(p.Secondary, name)), os.Symlink(to, filepath.Join(p.Secondary, name)))
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"d/victim", "d/another", "f"} {
		write(t, filepath.Join(p.Primary, name), []byte("new content"))
	}
	if err := errors.Join(os.Chmod(filepath.Join(p.Primary, "f"), 0o777), os.RemoveAll(filepath.Join(p.Primary, "e"))); err != nil {
		t.Fatal(err)
	}
	mirror(t, p)
	equal(t, p)
	now, err := os.Lstat(victim)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(victim)
	if err != nil || string(content) != "of somebody else" || now.Mode() != before.Mode() || !now.ModTime().Equal(before.ModTime()) {
		t.Errorf("what is outside was changed: %q, %v, %v", content, now.Mode(), err)
	}
	if list, err := os.ReadDir(outside); err != nil || len(list) != 1 {
		t.Errorf("outside there is %v, %v", list, err)
	}
}

// TestRule10OneOwner starts a second mirror beside one that is running: with the same state, and with a state of its own.
func TestRule10OneOwner(t *testing.T) {
	p, s := stormyPair(t, 10, 50)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	live := p.Start(ctx, whole)
	if err := live.Equal(ctx, began); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(ctx, 0); err == nil || !strings.Contains(err.Error(), "another georep mirrors this source") {
		t.Errorf("a second one with the same state: %v", err)
	}
	stranger, err := pairtest.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	stranger.Secondary = p.Secondary
	if _, err := stranger.Run(ctx, 0); !errors.Is(err, worker.ErrHalted) || !strings.Contains(err.Error(), "belongs to another mirror") {
		t.Errorf("another mirror to the same destination: %v", err)
	}
	storms(t, s, 50)
	if err := errors.Join(live.Equal(ctx, time.Now()), live.Stop()); err != nil {
		t.Fatal(err)
	}
	equal(t, p)
}

// whole leaves connections whole.
func whole() int64 { return 0 }

// TestRule11ReaderSeesOldOrNew replaces a file again and again over connections that are cut, while somebody reads it.
func TestRule11ReaderSeesOldOrNew(t *testing.T) {
	p, _ := stormyPair(t, 11, 0)
	const size, versions = 400_000, 12
	version := func(n int) []byte { return bytes.Repeat([]byte{byte('a' + n)}, size) }
	name := filepath.Join(p.Secondary, "f")
	write(t, filepath.Join(p.Primary, "f"), version(0))
	mirror(t, p)
	var stop atomic.Bool
	read := make(chan error, 1)
	go func() {
		for !stop.Load() {
			content, err := os.ReadFile(name)
			if err == nil && (len(content) != size || !bytes.Equal(content, bytes.Repeat(content[:1], size))) {
				err = fmt.Errorf("a mix of versions was read (%d bytes)", len(content))
			}
			if err != nil {
				read <- err
				return
			}
		}
		read <- nil
	}()
	r := rand.New(rand.NewPCG(11, 11))
	for n := 1; n < versions; n++ {
		write(t, filepath.Join(p.Primary, "f"), version(n))
		if _, err := p.Run(t.Context(), 1+r.Int64N(3*size/2)); err != nil {
			t.Logf("cut: %v", err)
		}
		list, err := os.ReadDir(p.Secondary)
		if err != nil || len(list) != 2 || list[0].Name() != ".georep" || list[1].Name() != "f" {
			t.Errorf("a reader sees %v, %v", list, err)
		}
	}
	mirror(t, p)
	stop.Store(true)
	if err := <-read; err != nil {
		t.Error(err)
	}
	equal(t, p)
}
