package checkpoint

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.etcd.io/bbolt"

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
	if err := l.Fail(Item{At: at, Failure: Failure{Path: "stuck"}}); err != nil {
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

// counting counts durable transactions.
type counting struct {
	Store
	writes int
}

func (c *counting) Write(f func(*bbolt.Tx) error) error {
	c.writes++
	return c.Store.Write(f)
}

// TestFailuresTogetherAreOneTransaction lists many, one of them twice.
func TestFailuresTogetherAreOneTransaction(t *testing.T) {
	x, err := index.Open(filepath.Join(t.TempDir(), "index"), index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	store := &counting{Store: x}
	now := time.Unix(1_700_000_000, 0)
	l, err := NewLedger(store, LedgerOptions{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	const many = 5000
	items := make([]Item, many, many+1)
	for i := range items {
		items[i] = Item{At: change.Place{Dir: change.NewID(7, 7), Name: strconv.Itoa(i)}, Failure: Failure{Path: "d/" + strconv.Itoa(i)}}
	}
	items = append(items, items[0])
	before := store.writes
	if err := l.Fail(items...); err != nil {
		t.Fatal(err)
	}
	if n := store.writes - before; n != 1 || l.Count() != many {
		t.Errorf("%d failures are listed in %d transactions", l.Count(), n)
	}
	for i, count := range map[int]uint32{0: 1, 1: 1, many - 1: 1, many: 2} {
		if f := items[i]; f.Count != count || !f.First.Equal(now) || !f.Last.Equal(now) || !f.Next.After(now) {
			t.Errorf("failure %d was completed to %+v", i, f)
		}
	}
	err = l.List(func(again Item) error {
		if again.At == items[0].At && (again.Count != 2 || again.Path != "d/0") {
			t.Errorf("it says %+v", again)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	before = store.writes
	places := []change.Place{{Dir: change.NewID(7, 7), Name: "not listed"}}
	for i := range items {
		places = append(places, items[i].At) // one of them twice
	}
	was, err := l.Healed(places...)
	if n := store.writes - before; err != nil || n != 1 || len(was) != many || l.Count() != 0 || was[1].Path != "d/1" {
		t.Errorf("%d were healed in %d transactions, %d are left: %v", len(was), n, l.Count(), err)
	}
}
