package pairtest_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The source is compared with the index while the connection is being made. When it then turns out that the destination has lost
// everything, what was found equal is sent again all the same.
func TestSourceIsComparedWhileConnecting(t *testing.T) {
	p, ctx := newPair(t)
	put(t, p.Primary+"/d/a", "one")
	put(t, p.Primary+"/d/b", "two")
	once(t, ctx, p)
	if err := errors.Join(os.RemoveAll(p.Secondary), os.Mkdir(p.Secondary, 0o755)); err != nil {
		t.Fatal(err)
	}
	compared := make(chan struct{})
	var first, agent sync.Once
	p.SourceFaults = func(call, path string) error {
		if call == "statx" && filepath.ToSlash(path) == "d/b" {
			first.Do(func() { close(compared) })
		}
		return nil
	}
	p.Faults = func(string, string) error { // the agent opens nothing before
		agent.Do(func() {
			select {
			case <-compared:
			case <-time.After(time.Minute):
				t.Error("the source is not compared before the agent answers")
			}
		})
		return nil
	}
	once(t, ctx, p)
	same(t, p)
	for _, e := range p.Events() {
		if strings.Contains(e.Text, "the destination is empty") {
			return
		}
	}
	t.Error("nobody was told that everything is sent again")
}
