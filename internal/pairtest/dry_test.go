package pairtest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"georep/internal/status"
)

// files reads all files below a directory.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all[path], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A dry run whose source was replaced has to forget what it knows of it. The real run after it still knows: it finds all by it when the right
// source is back, and sends nothing.
func TestDryRunOfAReplacedSourceLeavesTheState(t *testing.T) {
	p, ctx := newPair(t)
	put(t, p.Primary+"/d/a", "one")
	put(t, p.Primary+"/b", "two")
	once(t, ctx, p)
	state, copied := files(t, p.State), files(t, p.Secondary)
	if err := os.Rename(p.Primary, p.Primary+".right"); err != nil {
		t.Fatal(err)
	}
	put(t, p.Primary+"/d/other", "three")
	p.Options.DryRun = true
	before := len(p.Events())
	if _, err := p.Run(ctx, 0); err == nil || !strings.Contains(err.Error(), "--allow-delete") {
		t.Errorf("the dry run says nothing of the replaced source: %v", err)
	}
	planned := 0
	for _, e := range p.Events()[before:] {
		if e.Kind == status.Planned {
			planned++
		}
	}
	if planned == 0 {
		t.Error("the dry run plans nothing")
	}
	p.Options.DryRun = false
	for dir, was := range map[string]map[string][]byte{p.State: state, p.Secondary: copied} {
		now := files(t, dir)
		for path, content := range was {
			if !bytes.Equal(now[path], content) {
				t.Errorf("the dry run has changed %s", path)
			}
		}
		if len(now) != len(was) {
			t.Errorf("%d files in %s, of %d", len(now), dir, len(was))
		}
	}
	if err := os.RemoveAll(p.Primary); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(p.Primary+".right", p.Primary); err != nil {
		t.Fatal(err)
	}
	sum, err := p.Run(ctx, 0)
	if err != nil || sum.Snapshot.ContentSent != 0 || len(sum.Failures) > 0 {
		t.Errorf("the run after it sent %d bytes of content: %v, %+v", sum.Snapshot.ContentSent, err, sum.Failures)
	}
	same(t, p)
}
