package test

import (
	"fmt"
	"testing"
	"time"
)

// A long link has all its connections as soon as one of them has much to carry.
func TestLongLinkGetsFurtherConnections(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range 300 {
		s.write(fmt.Sprintf("d%d/file", i), noise(byte(i), 64<<10))
	}
	before := s.proxy.Accepted()
	s.proxy.SetRoundTrip(60 * time.Millisecond)
	s.once("--sync-jobs", "3")
	if n := s.proxy.Accepted() - before; n != 3 {
		t.Errorf("%d connections were made, want 3", n)
	}
	s.proxy.SetRoundTrip(0)
	s.equal()
}
