package pairtest_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"georep/internal/status"
)

// remade does to a tree what no one-way walk notices: names vanish, move, and become other things.
func remade(t *testing.T, p string, round int) {
	t.Helper()
	for _, err := range []error{
		os.Rename(p+"/d/moves", fmt.Sprintf("%s/e/moved%d", p, round)), os.RemoveAll(p + "/d/goes"), os.Rename(p+"/d", p+"/f"), os.Rename(p+"/f", p+"/d"),
		os.Remove(p + "/becomes"), os.Mkdir(p+"/becomes", 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	put(t, p+"/becomes/new", fmt.Sprint("new", round))
	put(t, p+"/d/changes", fmt.Sprint("changed", round))
}

// TestMustP5GapsAreFoundAndMended takes from the mirror, in different ways, what it knows of the past: it finds that out, compares both sides,
// removals and renames too, and ends equal. What is equal is not sent again.
func TestMustP5GapsAreFoundAndMended(t *testing.T) {
	large := strings.Repeat("all the same ", 30_000)
	for name, lose := range map[string]func(t *testing.T, state, older string) error{
		"nobody looked":    func(*testing.T, string, string) error { return nil },
		"the state is old": func(_ *testing.T, state, older string) error { return replace(state, older) },
		"the state is gone": func(_ *testing.T, state, _ string) error {
			return replace(state, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, ctx := newPair(t)
			for _, path := range []string{"d/moves/x", "d/goes/y", "becomes", "d/changes", "e/stays"} {
				put(t, p.Primary+"/"+path, path)
			}
			put(t, p.Primary+"/e/large", large)
			once(t, ctx, p)
			older := filepath.Join(t.TempDir(), "older")
			if err := os.CopyFS(older, os.DirFS(p.State)); err != nil {
				t.Fatal(err)
			}
			put(t, p.Primary+"/e/later", "later")
			once(t, ctx, p)
			remade(t, p.Primary, 1)
			if err := lose(t, p.State, older); err != nil {
				t.Fatal(err)
			}
			p.Options.AllowDelete = true // without its state it asks before it takes the destination
			sum, err := p.Run(ctx, 0)
			if err != nil || len(sum.Failures) > 0 || sum.Snapshot.ContentSent > 1000 {
				t.Errorf("%d bytes of content were sent: %v, %+v", sum.Snapshot.ContentSent, err, sum.Failures)
			}
			same(t, p)
		})
	}
}

// replace puts a directory in the place of another; "" is an empty one.
func replace(dir, by string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if by == "" {
		return os.Mkdir(dir, 0o755)
	}
	return os.Rename(by, dir)
}

// TestMustP12ChecksumMendsTheCopy damages single bytes of the copy without leaving a trace in sizes and times.
func TestMustP12ChecksumMendsTheCopy(t *testing.T) {
	p, ctx := newPair(t)
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	put(t, p.Primary+"/small", "content")
	put(t, p.Primary+"/d/large", string(large))
	put(t, p.Primary+"/d/whole", string(large))
	once(t, ctx, p)
	for _, name := range []string{"/small", "/d/large"} {
		path := p.Secondary + name
		was, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt([]byte("X"), was.Size()/2)
		}
		if err == nil {
			err = f.Close()
		}
		if err == nil {
			err = os.Chtimes(path, was.ModTime(), was.ModTime())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p.Options.Checksum = true
	sum, err := p.Run(ctx, 0)
	if err != nil || len(sum.Failures) > 0 || sum.Snapshot.ContentSent > int64(len(large)/8) {
		t.Errorf("%d bytes of content were sent: %v, %+v", sum.Snapshot.ContentSent, err, sum.Failures)
	}
	same(t, p)
}

// TestMustP21DirtiedManyTimesIsSentOnce changes a few places of a large file again and again while it is mirrored: what travels is the
// changes, a few times, and not the file, nor each of its states.
func TestMustP21DirtiedManyTimesIsSentOnce(t *testing.T) {
	const size, piece, rounds = 16 << 20, 64 << 10, 200
	p, ctx := newPair(t)
	put(t, p.Primary+"/image", strings.Repeat("0123456789abcdef", size/16))
	live := p.Start(ctx, whole)
	if err := live.Equal(ctx, time.Now()); err != nil {
		t.Fatal(err)
	}
	var before status.Snapshot
	if err := live.Until(ctx, func(s status.Snapshot) bool { before = s; return true }); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(p.Primary+"/image", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rounds {
		if _, err := f.WriteAt(bytes.Repeat([]byte{byte(i)}, piece), int64(i%4)*size/4); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var after status.Snapshot
	closed := time.Now()
	err = live.Until(ctx, func(s status.Snapshot) bool { after = s; return s.RecoveryPoint.After(closed) && s.Failing == 0 })
	if err != nil {
		t.Fatal(err)
	}
	if sent := after.ContentSent - before.ContentSent; sent > rounds*piece/4 {
		t.Errorf("%d bytes were sent for %d places of %d bytes that were changed %d times", sent, 4, piece, rounds)
	}
	if err := live.Stop(); err != nil {
		t.Fatal(err)
	}
	same(t, p)
}

// TestMustP24NothingLeaks mirrors many times, with connections that break: neither descriptors nor goroutines grow.
func TestMustP24NothingLeaks(t *testing.T) {
	p, ctx := newPair(t)
	count := func() (fds, goroutines int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries), runtime.NumGoroutine()
	}
	var fds, goroutines int
	for i := range 30 {
		if i == 5 {
			runtime.GC()
			fds, goroutines = count()
		}
		for k := range 20 {
			put(t, fmt.Sprintf("%s/d%d/f%d", p.Primary, i%3, k), fmt.Sprint(i, k))
		}
		limit := int64(0)
		if i%2 == 1 {
			limit = int64(500 + 300*i)
		}
		if _, err := p.Run(ctx, limit); err != nil && limit == 0 {
			t.Fatal(err)
		}
	}
	once(t, ctx, p)
	runtime.GC()
	if f, g := count(); f > fds+5 || g > goroutines+5 {
		t.Errorf("%d descriptors and %d goroutines at first, %d and %d later", fds, goroutines, f, g)
	}
	same(t, p)
}

// TestMustP9NothingIsTakenWithoutAWord makes a destination that holds something else equal only when a person has agreed.
func TestMustP9NothingIsTakenWithoutAWord(t *testing.T) {
	p, ctx := newPair(t)
	put(t, p.Primary+"/a", "one")
	put(t, p.Secondary+"/only here", "precious")
	if _, err := p.Run(ctx, 0); err == nil || !strings.Contains(err.Error(), "--allow-delete") {
		t.Errorf("a destination that holds something is taken: %v", err)
	}
	var st unix.Stat_t
	if unix.Stat(p.Secondary+"/only here", &st) != nil || unix.Stat(p.Secondary+"/a", &st) == nil {
		t.Error("something was done to it")
	}
}
