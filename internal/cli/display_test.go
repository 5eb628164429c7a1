package cli

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"georep/internal/config"
	"georep/internal/status"
)

func TestFormats(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{count(0), "0"}, {count(999), "999"}, {count(1000), "1,000"}, {count(1234567), "1,234,567"}, {count(-1234), "-1,234"}, {count(-123), "-123"},
		{entries(1), "1 entry"}, {entries(12000), "12,000 entries"},
		{size(0), "0 B"}, {size(999), "999 B"}, {size(1000), "1.0 KiB"}, {size(1 << 20), "1.0 MiB"}, {size(1023 << 20), "1.0 GiB"}, {size(150 << 20), "150 MiB"}, {size(math.MaxInt64), "8192 PiB"},
		{span(-time.Second), "0.0 s"}, {span(300 * time.Millisecond), "0.3 s"}, {span(59600 * time.Millisecond), "1 min"}, {span(130 * time.Second), "2 min 10 s"},
		{span(185 * time.Minute), "3 h 5 min"}, {span(52 * time.Hour), "2 d 4 h"},
		{about(3 * time.Second), "a few seconds"}, {about(42 * time.Second), "40 s"}, {about(200 * time.Second), "3 min 30 s"}, {about(70 * time.Minute), "1 h 10 min"},
		{quoted("a/b c"), "a/b c"}, {quoted("ü"), "ü"}, {quoted(" a"), `" a"`}, {quoted("a\nb"), `"a\nb"`}, {quoted("\xff\x1b"), `"\xff\x1b"`},
		{quoted("\u202egnp"), `"\u202egnp"`}, {quoted(""), `""`}, {quoted(`a"b\`), `"a\"b\\"`},
		{printable("ok\nü\x1b]\x00\xff"), "ok\nü\\x1b]\\x00\\xff"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

// clock is a time that moves when told.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

// shown gives what events look like on a terminal or elsewhere.
func shown(live bool, m *config.Mirror, tell func(d *display, c *clock)) (out, errs string) {
	var o, e bytes.Buffer
	s := newScreen(&o, &e)
	s.live = live
	c := &clock{time.Date(2026, 5, 6, 7, 8, 9, 0, time.Local)}
	tell(newDisplay(s, m, c.now), c)
	return o.String(), e.String()
}

func scanning(done, total int64) status.Snapshot {
	return status.Snapshot{State: status.StateScanning, ScanRunning: true, EntriesDone: done, EntriesTotal: total, BytesDone: done << 10, BytesTotal: total << 10, EntryRate: 1200, ByteRate: 3 << 20}
}

func TestMustP14LinesWithoutTerminal(t *testing.T) {
	out, errs := shown(false, config.NewMirror(), func(d *display, c *clock) {
		tell := func(e status.Event) { e.Time = c.at; d.report(e) }
		tell(status.Event{Kind: status.Connected, Text: "georep 1.0 at host:/copy"})
		tell(status.Event{Kind: status.ScanStarted, Snapshot: scanning(0, 0)})
		for i := range int64(200) { // 20 seconds
			c.at = c.at.Add(100 * time.Millisecond)
			tell(status.Event{Kind: status.ScanProgress, Snapshot: scanning(i, 3*i)})
		}
		tell(status.Event{Kind: status.EntryFailed, Failure: &failure})
		tell(status.Event{Kind: status.ScanDone, Snapshot: status.Snapshot{EntriesTotal: 600, BytesTotal: 600 << 10}})
		live := status.Snapshot{State: status.StateLive, RecoveryPoint: c.at, Events: status.EventsFanotify, EntriesDone: 600, EntriesTotal: 600, ContentSent: 9}
		tell(status.Event{Kind: status.CaughtUp, Snapshot: live})
		for range 100 { // 50 idle seconds say nothing
			c.at = c.at.Add(500 * time.Millisecond)
			tell(status.Event{Kind: status.Progress, Snapshot: live})
		}
		live.Deleted = 2
		tell(status.Event{Kind: status.CaughtUp, Snapshot: live})
		tell(status.Event{Kind: status.EntryHealed, Failure: &failure})
	})
	want := `2026-05-06 07:08:09 connected: georep 1.0 at host:/copy
2026-05-06 07:08:09 comparing the source with what is known to be on the destination
2026-05-06 07:08:19 scanning  99 of 297 entries, 99 KiB of 297 KiB so far, 1,200/s, 3.0 MiB/s
2026-05-06 07:08:29 scanning  199 of 597 entries, 199 KiB of 597 KiB so far, 1,200/s, 3.0 MiB/s
2026-05-06 07:08:29 compared 600 entries, 600 KiB
2026-05-06 07:08:29 live      lag 0.0 s, backlog 0 entries, copied 9 B, deleted 0, fanotify
2026-05-06 07:09:19 live      lag 0.0 s, backlog 0 entries, copied 9 B, deleted 2, fanotify
2026-05-06 07:09:19 mended: a/b is copied now
`
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	if !strings.HasPrefix(errs, "2026-05-06 07:08:29 failed: a/b: cannot write on the destination: pwrite64: no space left") || strings.Count(errs, "\n") != 1 {
		t.Errorf("errors: %q", errs)
	}
}

// On a terminal a line that is written erases the moving one, which is drawn again below it, and the end leaves none.
func TestMovingLineOnATerminal(t *testing.T) {
	out, _ := shown(true, config.NewMirror(), func(d *display, c *clock) {
		d.report(status.Event{Kind: status.ScanProgress, Snapshot: scanning(1, 2)})
		d.report(status.Event{Kind: status.Notice, Text: "watch limit"})
		d.close()
	})
	if strings.Count(out, "\r\x1b[K") != 2 || !strings.HasSuffix(out, "\r\x1b[K") || strings.Contains(out, "\n") {
		t.Errorf("got %q", out)
	}
	for _, part := range strings.Split(out, "\r\x1b[K") {
		if len(part) >= 80 {
			t.Errorf("%q would wrap", part)
		}
	}
}

func TestQuietTellsTroubleOnly(t *testing.T) {
	m := config.NewMirror()
	m.Quiet = true
	out, errs := shown(true, m, func(d *display, _ *clock) {
		d.report(status.Event{Kind: status.Connected, Text: "x"})
		d.report(status.Event{Kind: status.Progress, Snapshot: scanning(1, 2)})
		d.report(status.Event{Kind: status.Halted, Text: "the source is empty"})
		d.report(status.Event{Kind: status.LinkLost, Text: "bye\x1b"})
		d.note("stopping")
	})
	if out != "" || !strings.Contains(errs, "the source is empty") || !strings.Contains(errs, `connection lost: bye\x1b`) || strings.Contains(errs, "stopping") {
		t.Errorf("got %q and %q", out, errs)
	}
}

// A failure that stays is told ever more rarely.
func TestMustP14RepeatedFailureIsToldRarely(t *testing.T) {
	_, errs := shown(false, config.NewMirror(), func(d *display, _ *clock) {
		for n := 1; n <= 1000; n++ {
			f := failure
			f.Count = n
			d.report(status.Event{Kind: status.EntryFailed, Failure: &f})
		}
	})
	if n := strings.Count(errs, "\n"); n != 10 || !strings.Contains(errs, "(tried 512 times)") {
		t.Errorf("%d lines: %s", n, errs)
	}
}

func TestDryRunLines(t *testing.T) {
	m := config.NewMirror()
	m.DryRun = true
	out, _ := shown(false, m, func(d *display, _ *clock) {
		d.report(status.Event{Kind: status.ScanStarted})
		for _, c := range []status.PlannedChange{
			{Op: "make", Kind: "file", Path: "a\nb", Bytes: 4096}, {Op: "move", Kind: "directory", From: "old", Path: "new"}, {Op: "set", Kind: "directory"},
		} {
			d.report(status.Event{Kind: status.Planned, Planned: &c})
		}
	})
	for _, want := range []string{`make   file       "a\nb" (4.0 KiB)` + "\n", "move   directory  old -> new\n", "set    directory  the top directory\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

// work is what a simulated mirror has to do: each file costs some time for itself and some for its bytes.
type work struct {
	files             []int64
	perEntry, perByte float64
}

// estimates runs the work in simulated time and gives, for each second, the error of the estimate relative to the true rest.
func (w work) estimates() (errs []float64) {
	var total status.Snapshot
	var all float64
	for _, bytes := range w.files {
		total.EntriesTotal++
		total.BytesTotal += bytes
		all += w.perEntry + float64(bytes)*w.perByte
	}
	begin := time.Unix(1e9, 0)
	var e estimator
	s, passed, ended, i := total, 0.0, 0.0, 0
	for tick := 0.5; tick < all; tick += 0.5 {
		passed = tick
		for i < len(w.files) && ended < passed {
			cost := w.perEntry + float64(w.files[i])*w.perByte
			if ended+cost > passed {
				// A large file's bytes count as they are sent.
				s.BytesDone = sum(w.files[:i]) + int64(float64(w.files[i])*(passed-ended)/cost)
				break
			}
			ended += cost
			i++
			s.EntriesDone++
			s.BytesDone = sum(w.files[:i])
		}
		now := begin.Add(time.Duration(tick * float64(time.Second)))
		e.update(now, s)
		if rest, ok := e.remaining(now); ok && all-tick > 1 {
			// Below ten seconds it shows "a few seconds" whatever it is.
			errs = append(errs, math.Abs(rest.Seconds()-(all-tick))/max(all-tick, 10))
		}
	}
	return errs
}

func sum(sizes []int64) (n int64) {
	for _, s := range sizes {
		n += s
	}
	return n
}

func worst(errs []float64) float64 {
	w := 0.0
	for _, e := range errs {
		w = max(w, e)
	}
	return w
}

func TestEstimateConverges(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	mixed := make([]int64, 2000)
	for i := range mixed {
		mixed[i] = int64(math.Exp(random.Float64() * 17)) // 1 byte to 24 MB
	}
	var phases []int64
	for range 3000 {
		phases = append(phases, 4096)
	}
	for range 20 {
		phases = append(phases, 1<<30)
	}
	for name, w := range map[string]work{
		"mixed":            {mixed, 0.01, 1e-8},
		"small then large": {phases, 0.01, 1e-8},
		"slow link":        {phases[:2000], 0.0001, 1e-5},
	} {
		errs := w.estimates()
		if len(errs) < 20 {
			t.Fatalf("%s: only %d estimates", name, len(errs))
		}
		third, late := worst(errs[len(errs)/3:]), worst(errs[len(errs)*3/4:])
		t.Logf("%s: %d estimates, worst error %.0f %% after a third, %.0f %% in the last quarter", name, len(errs), 100*third, 100*late)
		if third > 0.1 || late > 0.1 {
			t.Errorf("%s: the estimate is off by %.0f %% after a third and %.0f %% in the last quarter", name, 100*third, 100*late)
		}
	}
}

func TestEstimateShowsAStall(t *testing.T) {
	var e estimator
	now := time.Unix(1e9, 0)
	s := status.Snapshot{EntriesTotal: 20_000, BytesTotal: 1 << 30}
	step := func(n int64) time.Duration {
		now = now.Add(time.Second)
		s.EntriesDone += n
		e.update(now, s)
		rest, _ := e.remaining(now)
		return rest
	}
	var before, after time.Duration
	for range 20 {
		before = step(500)
	}
	for range 60 {
		after = step(0)
	}
	if after < 2*before {
		t.Errorf("after a minute without progress it says %v, before %v", after, before)
	}
}
