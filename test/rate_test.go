package test

import (
	"fmt"
	"testing"
	"time"
)

// TestMustP28BandwidthLimit copies large and small files over several connections and measures how many bytes pass the line
// in how much time: the limit holds for all connections together, over any part of the transfer, and is used.
func TestMustP28BandwidthLimit(t *testing.T) {
	t.Parallel()
	const limit = 2 << 20
	s := newSite(t)
	for i := range 4 {
		s.write(fmt.Sprintf("large%d", i), noise(byte(i), 6<<20))
	}
	for i := range 600 {
		s.write(fmt.Sprintf("d%d/f%d", i%20, i), noise(byte(i), 9000))
	}
	r := s.start("--once", "--sync-jobs", "4", "--bwlimit", fmt.Sprint(limit))
	r.awaits("connected", nil)
	type moment struct {
		at   time.Time
		sent int64
	}
	moments := []moment{{time.Now(), s.sent()}}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for !ended(r) {
		<-tick.C
		moments = append(moments, moment{time.Now(), s.sent()})
	}
	r.ended(0)
	s.equal()
	// What the limiter lets through at once, and what waits in the pipes of ssh, evens out over some seconds.
	for i, from := range moments {
		for _, to := range moments[i+1:] {
			took := to.at.Sub(from.at)
			if took < 8*time.Second {
				continue
			}
			allowed := float64(limit) * took.Seconds() * 1.05
			if got := float64(to.sent - from.sent); got > allowed {
				t.Fatalf("in %v %.0f bytes were sent, %.0f are allowed", took, got, allowed)
			}
		}
	}
	first, last := moments[0], moments[len(moments)-1]
	rate := float64(last.sent-first.sent) / last.at.Sub(first.at).Seconds()
	t.Logf("%.0f bytes a second of %d, for %v", rate, limit, last.at.Sub(first.at))
	// A busy machine may be slower; on one that is not the limit is used up.
	if idle := rate / limit; idle < 0.5 {
		t.Errorf("only %.2f of the limit was used", idle)
	}
}
