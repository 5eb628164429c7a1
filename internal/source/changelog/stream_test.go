package changelog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// brick is the journals' directory of a brick, kept as the brick does.
type brick struct {
	t   *testing.T
	dir string
}

func newBrick(t *testing.T, enabled int64) *brick {
	t.Helper()
	b := &brick{t, t.TempDir()}
	b.must(os.MkdirAll(filepath.Join(b.dir, "htime"), 0o755))
	b.enable(enabled)
	return b
}

func (b *brick) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *brick) add(path, data string) {
	b.t.Helper()
	f, err := os.OpenFile(filepath.Join(b.dir, path), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	b.must(err)
	_, err = f.WriteString(data)
	b.must(err)
	b.must(f.Close())
}

// enable begins a new index, as switching the journal on does.
func (b *brick) enable(at int64) { b.add(fmt.Sprintf("htime/HTIME.%d", at), "") }

// record writes to the journal.
func (b *brick) record(records ...string) {
	if _, err := os.Stat(filepath.Join(b.dir, "CHANGELOG")); err != nil {
		b.add("CHANGELOG", textHeader)
	}
	b.add("CHANGELOG", strings.TrimPrefix(text(records...), textHeader))
}

// end closes the journal; listed says that the index tells of it.
func (b *brick) end(htime, at int64, listed bool) {
	day := time.Unix(at, 0).UTC().Format("2006/01/02")
	b.must(os.MkdirAll(filepath.Join(b.dir, day), 0o755))
	b.must(os.Rename(filepath.Join(b.dir, "CHANGELOG"), filepath.Join(b.dir, day, fmt.Sprintf("CHANGELOG.%d", at))))
	if listed {
		b.add(fmt.Sprintf("htime/HTIME.%d", htime), fmt.Sprintf("%s/%s/CHANGELOG.%d\x00", b.dir, day, at))
	}
	b.add("CHANGELOG", textHeader)
}

// quiet ends a journal without records.
func (b *brick) quiet(htime, at int64) {
	b.must(os.Remove(filepath.Join(b.dir, "CHANGELOG")))
	b.add(fmt.Sprintf("htime/HTIME.%d", htime), fmt.Sprintf("%s/%s/changelog.%d\x00", b.dir, time.Unix(at, 0).UTC().Format("2006/01/02"), at))
	b.add("CHANGELOG", textHeader)
}

// heard is what a stream has told up to now.
type heard struct {
	names  []string
	again  int
	closed int64
	gaps   []string
}

// listen takes what there is until the stream says that this was all.
func listen(t *testing.T, s *Stream) heard {
	t.Helper()
	var h heard
	for {
		c, ok, err := s.Poll()
		if err != nil {
			t.Fatal(err)
		}
		if !ok && len(h.names)+h.again == 0 && h.closed == 0 && h.gaps == nil {
			return h // nothing since
		}
		for _, r := range c.Records {
			if c.Again {
				h.again++
			} else if r.Kind == Entry {
				h.names = append(h.names, r.At.Name)
			} else {
				h.names = append(h.names, string(r.Kind))
			}
		}
		if c.Closed > 0 {
			h.closed = c.Closed
		}
		if c.Gap != "" {
			h.gaps = append(h.gaps, c.Gap)
		}
		if c.Current {
			return h
		}
	}
}

func created1(name string) string {
	return "E" + bGFID + "^23^33188^0^0^" + aGFID + "/" + name + "^"
}

const start = 1_795_216_494

func open(t *testing.T, b *brick, after int64, known bool) *Stream {
	t.Helper()
	s, err := Open(b.dir, after, known)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func expect(t *testing.T, got heard, names string, again int, closed int64, gaps int) {
	t.Helper()
	if strings.Join(got.names, " ") != names || got.again != again || got.closed != closed || len(got.gaps) != gaps {
		t.Errorf("got %+v, want %q, %d again, closed %d, %d gaps", got, names, again, closed, gaps)
	}
}

func TestHistoryThenLive(t *testing.T) {
	b := newBrick(t, start)
	b.record(created1("one"), "D"+bGFID+"^")
	b.end(start, start+15, true)
	b.record(created1("two"))
	b.end(start, start+30, true)
	b.record(created1("three"))
	s := open(t, b, start+15, true)
	expect(t, listen(t, s), "two three", 0, start+30, 0)
	b.record(created1("four"), "D"+bGFID+"^")
	expect(t, listen(t, s), "four D", 0, 0, 0)
	b.end(start, start+45, true)
	b.record(created1("five"))
	// What was told once of an object is told again when its journal is closed.
	expect(t, listen(t, s), "five", 1, start+45, 0)
	b.end(start, start+60, true)
	expect(t, listen(t, s), "", 0, start+60, 0)
	b.quiet(start, start+75)
	expect(t, listen(t, s), "", 0, start+75, 0)
}

// TestRestartedBrick has a journal that the index does not name.
func TestRestartedBrick(t *testing.T) {
	b := newBrick(t, start)
	b.record(created1("one"))
	b.end(start, start+15, true)
	b.record(created1("two"))
	b.end(start, start+300, false)
	b.record(created1("three"))
	expect(t, listen(t, open(t, b, start+15, true)), "two three", 0, start+300, 0)
}

func TestRestartWhileFollowed(t *testing.T) {
	b := newBrick(t, start)
	b.record(created1("one"))
	s := open(t, b, start, true)
	expect(t, listen(t, s), "one", 0, 0, 0)
	b.record(created1("two"))
	b.end(start, start+300, false)
	b.record(created1("three"))
	b.end(start, start+301, true)
	b.record(created1("four"))
	expect(t, listen(t, s), "two three four", 0, start+301, 0)
}

// TestTwoJournalsOfOneSecond: the brick keeps the later only, and says so by naming it twice.
func TestTwoJournalsOfOneSecond(t *testing.T) {
	b := newBrick(t, start)
	b.record(created1("one"))
	s := open(t, b, start, true)
	expect(t, listen(t, s), "one", 0, 0, 0)
	b.record(created1("two"))
	b.end(start, start+15, true)
	b.record(created1("lost to who was not listening"))
	b.end(start, start+15, true)
	b.record(created1("three"))
	got := listen(t, s)
	if len(got.names) < 3 || got.names[0] != "two" {
		t.Errorf("%+v", got)
	}
	if more := listen(t, s); len(got.gaps)+len(more.gaps) == 0 {
		t.Errorf("nobody said that a journal is lost: %+v", got)
	}
}

func TestGaps(t *testing.T) {
	b := newBrick(t, start)
	b.record(created1("one"))
	b.end(start, start+15, true)
	b.enable(start + 1000)
	b.record(created1("two"))
	expect(t, listen(t, open(t, b, start+15, true)), "two", 0, 0, 1)
	expect(t, listen(t, open(t, b, start+15, false)), "two", 0, 0, 0)
	s := open(t, b, start+1001, true)
	expect(t, listen(t, s), "two", 0, 0, 0)
	b.enable(start + 2000)
	if got := listen(t, s); len(got.gaps) != 1 {
		t.Errorf("switched off and on: %+v", got)
	}
	if got := listen(t, open(t, &brick{t, t.TempDir()}, start, true)); len(got.gaps) != 1 {
		t.Errorf("no journals: %+v", got)
	}
}

func TestDamagedJournalIsAGap(t *testing.T) {
	b := newBrick(t, start)
	b.record(created1("one"), "E"+bGFID+"^23^33188^0", "^"+created1("two"))
	b.end(start, start+15, true)
	got := listen(t, open(t, b, start, true))
	if len(got.gaps) != 1 || strings.Join(got.names, " ") != "one two" {
		t.Errorf("%+v", got)
	}
}

func TestFlatJournalsOfOldVersions(t *testing.T) {
	b := newBrick(t, start)
	b.add(fmt.Sprintf("CHANGELOG.%d", start+15), strings.Replace(text(created1("old")), "v1.2", "v1.1", 1))
	expect(t, listen(t, open(t, b, start, true)), "old", 0, start+15, 0)
}

func TestNextEndsWithItsContext(t *testing.T) {
	b := newBrick(t, start)
	s := open(t, b, start, true)
	ctx, cancel := context.WithCancel(context.Background())
	if c, err := s.Next(ctx); err != nil || !c.Current {
		t.Fatalf("%+v, %v", c, err)
	}
	cancel()
	if _, err := s.Next(ctx); err == nil {
		t.Error("it went on")
	}
}

func TestFindAndNewest(t *testing.T) {
	b := newBrick(t, start)
	for i := range 6 {
		b.record(fmt.Sprintf("E%08d-0000-4000-8000-000000000000^23^33188^0^0^%s/f^", i, rootGFID))
		b.end(start, start+15*int64(i+1), true)
	}
	newest, err := Newest(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	if after, found, err := Find(b.dir, newest); err != nil || !found || after != start+45 {
		t.Errorf("%d, %v, %v", after, found, err)
	}
	if after, found, err := Find(b.dir, id(t, aGFID)); err != nil || found {
		t.Errorf("%d, %v, %v", after, found, err)
	}
}
