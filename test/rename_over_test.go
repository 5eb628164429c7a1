package test

import (
	"os"
	"sync"
	"testing"
)

// TestReadersOfAReplacedName completes a file under another name and renames it over the old one: whoever reads that name on the
// secondary never sees what the new file held before it was complete, although the secondary has that already.
func TestReadersOfAReplacedName(t *testing.T) {
	s := newSite(t)
	write := func(version int) {
		if version > 0 {
			must(t, os.WriteFile(s.in("new"), nil, 0o644))
			await(t, "new", func() bool { _, err := os.Lstat(s.out("new")); return err == nil })
		}
		must(t, os.WriteFile(s.in("new"), page(version, 300_000+version), 0o644))
		must(t, os.Rename(s.in("new"), s.in("large")))
	}
	write(0)
	r := s.start()
	s.follows()
	r.caughtUp()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() { readAgain(t, s.out("large"), stop) })
	for v := 1; v <= 8 && !t.Failed(); v++ {
		write(v)
		s.follows()
	}
	close(stop)
	readers.Wait()
}
