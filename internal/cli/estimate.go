package cli

import (
	"math"
	"time"

	"georep/internal/status"
)

// estimator tells how long the rest will take. Entries and bytes cost time independently (a million small files, one large
// one), and their mixture changes on the way, so a plain rate swings wildly. Instead the two costs are fitted by least squares
// to what each step took, older steps weighing less, and the answer moves smoothly.
type estimator struct {
	last   status.Snapshot
	at     time.Time
	begun  bool
	steps  costFit
	finish time.Time     // smoothed moment of the end; zero: none yet
	seen   time.Duration // time fitted so far
}

const (
	expectedEntries = 10_000    // entries a second; scales the fit so that both costs have similar size
	expectedBytes   = 100 << 20 // bytes a second
	fitMemory       = 2 * time.Minute
	finishMemory    = 5 * time.Second
	leastSeen       = 2 * time.Second // before that, an estimate is a guess
)

// costFit holds the sums of the least-squares equations, for steps of e expected seconds of entries and b of bytes that took t.
type costFit struct {
	ee, eb, bb, et, bt float64
	e, b, t            float64
}

func (f *costFit) add(e, b, t, keep float64) {
	f.ee = f.ee*keep + e*e
	f.eb = f.eb*keep + e*b
	f.bb = f.bb*keep + b*b
	f.et = f.et*keep + e*t
	f.bt = f.bt*keep + b*t
	f.e = f.e*keep + e
	f.b = f.b*keep + b
	f.t = f.t*keep + t
}

// solve gives the time that an expected second of entries and of bytes really takes. Where the steps do not tell the two apart,
// both are drawn towards the common speed.
func (f *costFit) solve() (perEntry, perByte float64) {
	common := f.t / (f.e + f.b)
	pull := 0.02*min(f.ee, f.bb) + 1e-9*(f.ee+f.bb)
	ee, bb := f.ee+pull, f.bb+pull
	et, bt := f.et+pull*common, f.bt+pull*common
	det := ee*bb - f.eb*f.eb
	perEntry, perByte = (et*bb-bt*f.eb)/det, (bt*ee-et*f.eb)/det
	if perEntry < 0 {
		perEntry, perByte = 0, bt/bb
	}
	if perByte < 0 {
		perEntry, perByte = et/ee, 0
	}
	return perEntry, perByte
}

// update takes in the snapshot of a moment.
func (e *estimator) update(now time.Time, s status.Snapshot) {
	if !e.begun || s.EntriesDone < e.last.EntriesDone || s.BytesDone < e.last.BytesDone {
		*e = estimator{begun: true, last: s, at: now}
		return
	}
	took := now.Sub(e.at)
	if took < 200*time.Millisecond {
		return
	}
	done := float64(s.EntriesDone-e.last.EntriesDone) / expectedEntries
	bytes := float64(s.BytesDone-e.last.BytesDone) / expectedBytes
	e.steps.add(done, bytes, took.Seconds(), math.Exp(-float64(took)/float64(fitMemory)))
	e.last, e.at = s, now
	e.seen += took
	rest, ok := e.fitted()
	if !ok {
		return
	}
	finish := now.Add(rest)
	if e.finish.IsZero() {
		e.finish = finish
	}
	follow := 1 - math.Exp(-float64(took)/float64(finishMemory))
	e.finish = e.finish.Add(time.Duration(float64(finish.Sub(e.finish)) * follow))
}

// fitted is what the costs say about the rest. Steps in which nothing ended carry no cost of their own, so the whole is
// scaled by how much longer all steps took than the costs explain: a stall shows.
func (e *estimator) fitted() (time.Duration, bool) {
	f := &e.steps
	if e.seen < leastSeen || f.e+f.b <= 0 {
		return 0, false
	}
	perEntry, perByte := f.solve()
	explained := perEntry*f.e + perByte*f.b
	rest := perEntry*float64(max(e.last.EntriesTotal-e.last.EntriesDone, 0))/expectedEntries +
		perByte*float64(max(e.last.BytesTotal-e.last.BytesDone, 0))/expectedBytes
	seconds := rest * f.t / explained
	if math.IsNaN(seconds) || seconds > math.MaxInt32 {
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)), true
}

// remaining is the smoothed time to the end at the moment now; false while it is too early to say.
func (e *estimator) remaining(now time.Time) (time.Duration, bool) {
	if e.finish.IsZero() {
		return 0, false
	}
	return max(e.finish.Sub(now), time.Second), true
}
