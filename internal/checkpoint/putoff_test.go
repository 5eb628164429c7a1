package checkpoint

import (
	"path/filepath"
	"testing"
	"time"

	"georep/internal/change"
	"georep/internal/index"
)

// TestPutOffMovesTheNextAttemptFurtherEachTime: an entry of which nothing is heard any more is not attempted all the time, and stays listed.
func TestPutOffMovesTheNextAttemptFurtherEachTime(t *testing.T) {
	x, err := index.Open(filepath.Join(t.TempDir(), "index"), index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	now := time.Unix(1_700_000_000, 0)
	l, err := NewLedger(x, LedgerOptions{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	at := change.Place{Dir: change.NewID(7, 7), Name: "stuck"}
	if err := l.Fail(at, Failure{Path: "stuck"}); err != nil {
		t.Fatal(err)
	}
	var before time.Duration
	for range 20 {
		next, found, err := l.NextDue()
		if err != nil || !found {
			t.Fatal(found, err)
		}
		wait := next.Sub(now)
		if wait <= before && wait < LongestDelay || wait > LongestDelay {
			t.Fatalf("the next attempt is %v away, after %v before", wait, before)
		}
		before = wait
		now = now.Add(wait)
		if due, err := l.Due(now, 10); err != nil || len(due) != 1 {
			t.Fatal(due, err)
		}
		if err := l.PutOff(at, change.Place{Dir: at.Dir, Name: "not listed"}); err != nil {
			t.Fatal(err)
		}
		if due, err := l.Due(now, 10); err != nil || len(due) != 0 {
			t.Fatal(due, err)
		}
	}
	if l.Count() != 1 {
		t.Error("it is not listed any more")
	}
}
