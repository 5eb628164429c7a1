package pairtest_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"georep/internal/pairtest"
	"georep/internal/treetest"
)

func newPair(t *testing.T) (*pairtest.Pair, context.Context) {
	t.Helper()
	p, err := pairtest.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return p, ctx
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, p *pairtest.Pair) {
	t.Helper()
	d, err := p.Compare()
	if err != nil {
		t.Fatal(err)
	}
	if len(d) > 0 {
		t.Errorf("differs:\n%s", treetest.Format(d))
	}
}

func once(t *testing.T, ctx context.Context, p *pairtest.Pair) {
	t.Helper()
	sum, err := p.Run(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range sum.Failures {
		t.Errorf("failing: %+v", f)
	}
}

// Nothing can be put into the stash for a moment, when something else takes the last name of a file, or the place of a directory.
func TestStashFailureHeals(t *testing.T) {
	p, ctx := newPair(t)
	put(t, p.Primary+"/a", "one")
	put(t, p.Primary+"/da/x", "one")
	once(t, ctx, p)
	var broken atomic.Bool
	broken.Store(true)
	p.Faults = func(call, path string) error {
		if broken.Load() && (call == "linkat" && strings.HasPrefix(path, ".georep/hold/") || call == "renameat2" && path == "da") {
			return syscall.ENOSPC
		}
		return nil
	}
	put(t, p.Primary+"/b", "new one")
	if err := os.Rename(p.Primary+"/b", p.Primary+"/a"); err != nil {
		t.Fatal(err)
	}
	put(t, p.Primary+"/db/y", "new one")
	if err := os.RemoveAll(p.Primary + "/da"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(p.Primary+"/db", p.Primary+"/da"); err != nil {
		t.Fatal(err)
	}
	sum, err := p.Run(ctx, 0)
	if err != nil || len(sum.Failures) == 0 {
		t.Errorf("nothing failed: %v", err)
	}
	t.Logf("%+v", sum.Failures)
	broken.Store(false)
	once(t, ctx, p)
	same(t, p)
}

// A file is written to through a descriptor whose name is another file's by now.
func TestWrittenUnderALostName(t *testing.T) {
	for _, again := range []bool{true, false} {
		p, ctx := newPair(t)
		put(t, p.Primary+"/a", "one")
		if err := os.Link(p.Primary+"/a", p.Primary+"/b"); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(p.Primary+"/a", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		live := p.Start(ctx, func() int64 { return 0 })
		if err := live.Equal(ctx, time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(p.Primary + "/a"); err != nil {
			t.Fatal(err)
		}
		if again {
			put(t, p.Primary+"/a", "another")
		}
		if err := live.Equal(ctx, time.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("two"), 0); err != nil {
			t.Fatal(err)
		}
		if err := live.Equal(ctx, time.Now()); err != nil {
			t.Fatal(err)
		}
		same(t, p)
		if err := live.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}
