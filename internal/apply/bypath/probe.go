package bypath

import (
	"fmt"
	"math"
	"strings"
	"syscall"
	"time"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/rooted"
	"georep/internal/wire"
)

// clock is how a file system keeps times of modification.
type clock struct {
	step             time.Duration // what lies between two steps is cut off; 0: nothing, or not known
	earliest, latest int64         // seconds since 1970; both 0: not known
}

// holds says whether a time is kept, but for what is cut off.
func (c *clock) holds(t change.Time) bool {
	return c == nil || c.earliest == c.latest || c.earliest <= t.Sec && t.Sec <= c.latest
}

// probe finds out, in the reserved directory, what the file system does to names and times. Two names that differ may become one there:
// that is an error, as the one would take the place of the other. What cannot be found out, because the disk is full or the like, is
// reported and no error.
func (a *Applier) probe() (clock, error) {
	hold, err := a.hold()
	if err != nil {
		return clock{}, err
	}
	defer hold.release()
	if a.folds(hold.Dir) || a.folds(a.root.Top()) {
		return clock{}, foldError("that differ in upper and lower case only")
	}
	top, err := a.openTop()
	if err != nil {
		return clock{}, err
	}
	_, there := top.StatLite("HOLD") // needs nothing to be made
	_ = top.Close()
	if there == nil {
		return clock{}, foldError("that differ in upper and lower case only")
	}
	f, base, err := a.probeFile(hold.Dir)
	if err != nil {
		a.report(fmt.Errorf("find out how the destination keeps names and times: %w", err))
		return clock{}, nil
	}
	defer a.unlink(hold.Dir, base)
	defer f.Close()
	if err := probeNames(hold.Dir, base); err != nil {
		return clock{}, err
	}
	return probeClock(f), nil
}

// letters end the name of the file by which names are probed: a small letter, and one with an accent as a single character.
const letters = "-k\u00e9"

// probeFile makes a file in the stash; without the accent where such a name is refused.
func (a *Applier) probeFile(hold *rooted.Dir) (*rooted.File, string, error) {
	base := a.tempName() + letters
	f, err := hold.Create(base, 0o600)
	if is(err, syscall.EINVAL, syscall.EILSEQ) {
		base = strings.TrimSuffix(base, "\u00e9")
		f, err = hold.Create(base, 0o600)
	}
	return f, base, err
}

// probeNames asks for the file by names that it has not.
func probeNames(hold *rooted.Dir, base string) error {
	for _, other := range []struct{ name, differ string }{
		{strings.Replace(base, "-k", "-K", 1), "that differ in upper and lower case only"},
		{strings.Replace(base, "\u00e9", "\u00c9", 1), "that differ in upper and lower case only"},
		{strings.Replace(base, "\u00e9", "e\u0301", 1), "that differ only in how an accent is written (the Unicode normal form)"},
		{base + ".", "that differ only by a dot or blank at the end"},
		{base + " ", "that differ only by a dot or blank at the end"},
	} {
		if other.name == base {
			continue
		}
		if _, err := hold.StatLite(other.name); err == nil {
			return foldError(other.differ)
		}
	}
	return nil
}

// foldError refuses a destination.
func foldError(differ string) error {
	return &apply.Refusal{Errno: syscall.EOPNOTSUPP, Detail: "its file system takes names " + differ +
		" for the same name, so that of two such files of the source only one would be left: choose a destination that does not (ext4, XFS or Btrfs as they are made by default, without case folding)"}
}

// steps are those in which file systems keep times; the first is exact.
var steps = [...]time.Duration{
	0, 100 * time.Nanosecond, time.Microsecond, time.Millisecond, 10 * time.Millisecond, time.Second, 2 * time.Second,
}

// probeClock sets times and looks what has become of them. What does not look like any clock is not known.
func probeClock(f *rooted.File) clock {
	kept := func(t change.Time) change.Time {
		o, err := f.StatLite()
		if err == nil {
			o.Mtime = t
			err = f.SetAttr(o.Attr, false, true)
		}
		if err == nil {
			o, err = f.StatLite()
		}
		if err != nil {
			return change.Time{}
		}
		return o.Mtime
	}
	var c clock
	odd := change.Time{Sec: 1_234_567_891, Nsec: 987_654_321}
	got := kept(odd)
	for _, step := range steps {
		if odd.Cut(step) == got {
			c.step = step
			break
		}
	}
	// Times that are out of range become the first or the last that is in it.
	first, last := kept(change.Time{Sec: math.MinInt64 / 4}), kept(change.Time{Sec: math.MaxInt64 / 4})
	within := kept(first) == first && kept(last) == last && first.Sec < odd.Sec && last.Sec > odd.Sec
	if within && kept(change.Time{Sec: first.Sec - 1}) == first && kept(change.Time{Sec: last.Sec + 1}) == last {
		c.earliest, c.latest = first.Sec, last.Sec
	}
	return c
}

// timely makes a failure of a result where the time that was set is none that the file system can keep.
func (a *Applier) timely(r *wire.Request, res change.Result) change.Result {
	c := a.clock.Load()
	if res.Status != change.Applied || res.Errno != 0 || c.holds(r.Object.Mtime) {
		return res
	}
	switch r.Op {
	case change.Make, change.Write, change.Adopt, change.Set:
		res.Errno, res.Call = syscall.EOVERFLOW, "utimensat"
		res.Detail = fmt.Sprintf("the file system keeps times from %s to %s only", day(c.earliest), day(c.latest))
	}
	return res
}

func day(sec int64) string { return time.Unix(sec, 0).UTC().Format(time.DateOnly) }
