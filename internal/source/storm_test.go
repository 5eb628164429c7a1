package source

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var stormSeed = flag.Uint64("storm", 0, "seed of the random operations; 0 takes one from the clock")

// storm does random operations over few names below dir, some of which leave it and come back.
type storm struct {
	rnd     *rand.Rand
	dir     string
	outside string
	blind   bool // changes through names outside are not seen, and not made
}

// path makes a random path of up to three components below the directory.
func (s *storm) path() string {
	names := "abcde"
	var b strings.Builder
	b.WriteString(s.dir)
	for range 1 + s.rnd.IntN(3) {
		fmt.Fprintf(&b, "/%c", names[s.rnd.IntN(len(names))])
	}
	return b.String()
}

// step does one operation; most fail, which is part of the game.
func (s *storm) step() {
	p, q := s.path(), s.path()
	away := fmt.Sprintf("%s/%d", s.outside, s.rnd.IntN(3))
	switch s.rnd.IntN(20) {
	case 0, 1, 2:
		_ = os.WriteFile(p, fmt.Appendf(nil, "%d", s.rnd.Uint64()), 0o644)
	case 3, 4:
		_ = os.Mkdir(p, 0o755)
	case 5:
		_ = os.MkdirAll(p, 0o755)
		_ = os.WriteFile(p+"/a", fmt.Appendf(nil, "%d", s.rnd.Uint64()), 0o600)
	case 6, 7, 8:
		_ = unix.Rename(p, q)
	case 9, 10:
		_ = unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, q, unix.RENAME_EXCHANGE)
	case 11:
		_ = os.Link(p, q)
	case 12:
		_ = os.Symlink("x", p)
	case 13:
		_ = os.Remove(p)
	case 14:
		_ = os.RemoveAll(p)
	case 15:
		_ = os.Chmod(p, 0o700+os.FileMode(s.rnd.IntN(0o77)))
	case 16:
		_ = unix.Rename(p, away)
	case 17:
		_ = unix.Rename(away, p)
	case 18:
		if s.blind {
			_ = os.Remove(away + "/b/c")
			_ = os.Remove(away + "/c")
		}
		_ = os.WriteFile(away+"/b/c", []byte("changed outside"), 0o644)
		_ = os.WriteFile(away+"/c", []byte("changed outside"), 0o644)
	case 19:
		if f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0); err == nil {
			_, _ = f.WriteString("+")
			_ = f.Close()
		}
	}
}

// rage does random operations in several goroutines until stop is closed or n operations each are done.
func rage(t *testing.T, seed uint64, dir, outside string, n int, e Events) *sync.WaitGroup {
	t.Helper()
	var group sync.WaitGroup
	for i := range 3 {
		s := &storm{rnd: rand.New(rand.NewPCG(seed, uint64(i))), dir: dir, outside: outside, blind: e != Fanotify}
		group.Go(func() {
			for range n {
				s.step()
			}
		})
	}
	return &group
}

func seed(t *testing.T) uint64 {
	s := *stormSeed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-storm=%d", s)
	return s
}

// TestStorm lets random operations run against a volume, and wants equal trees whenever the operations pause.
func TestStorm(t *testing.T) {
	kinds(t, func(t *testing.T, e Events) {
		base := seed(t)
		parent := t.TempDir()
		dir, outside := parent+"/in", parent+"/out"
		must(t, os.Mkdir(dir, 0o755))
		must(t, os.Mkdir(outside, 0o755))
		rage(t, base, dir, outside, 500, e).Wait()
		r := newReplica(t)
		v := watched(t, dir, r, func(o *Options) { o.Events = e; o.Coalesce = 3 * time.Millisecond })
		for round := range uint64(20) {
			raging := rage(t, base+1+round, dir, outside, 300, e)
			done := make(chan struct{})
			go func() { raging.Wait(); close(done) }()
			if round%3 == 2 {
				v.RescanAll()
			}
			r.followWhile(v, done)
			r.follow(v, time.Now())
			r.check(dir)
		}
		t.Logf("%d drops", r.drops)
	})
}

// TestStormWhileDown wants a new volume to find out what happened while none was there.
func TestStormWhileDown(t *testing.T) {
	kinds(t, func(t *testing.T, e Events) {
		base := seed(t)
		parent := t.TempDir()
		dir, outside := parent+"/in", parent+"/out"
		must(t, os.Mkdir(dir, 0o755))
		must(t, os.Mkdir(outside, 0o755))
		r := newReplica(t)
		for round := range uint64(8) {
			rage(t, base+round, dir, outside, 300, e).Wait()
			v := watched(t, dir, r, func(o *Options) { o.Events = e })
			r.follow(v, time.Now())
			r.check(dir)
			must(t, v.Close())
		}
	})
}
