package index

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"georep/internal/change"
)

// killedIndex names the file on which the test program works until it is killed, when it is started as a child.
const killedIndex = "GEOREP_TEST_KILLED_INDEX"

func TestMain(m *testing.M) {
	if path := os.Getenv(killedIndex); path != "" {
		err := workUntilKilled(path, os.Stdout)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// store is what killedBatch changes: a Tx, or the model.
type store interface {
	put(at change.Place, e change.Entry)
	remove(at change.Place)
	removeTree(dir change.ID)
}

// killedBatch is batch n of the child's work. It depends on n alone.
func killedBatch(n uint64, s store) {
	r := rand.New(rand.NewPCG(n, 42))
	dir := func() change.ID { return change.NewID(uint64(100+r.IntN(30)), 1) }
	name := func() string { return fmt.Sprintf("name-%03d", r.IntN(200)) }
	for range 1 + r.IntN(200) {
		switch r.IntN(12) {
		case 0, 1:
			s.remove(change.Place{Dir: dir(), Name: name()})
		case 2:
			id := dir()
			s.put(change.Place{Dir: dir(), Name: name()}, sample(id, change.Dir, r.IntN(1000)))
		default:
			s.put(change.Place{Dir: dir(), Name: name()}, sample(change.NewID(uint64(1000+r.IntN(3000)), 1), change.File, r.IntN(1000)))
		}
	}
	if r.IntN(4) == 0 {
		s.removeTree(dir())
	}
}

type txStore struct {
	tx  *Tx
	err error
}

func (s *txStore) note(err error) {
	if s.err == nil {
		s.err = err
	}
}
func (s *txStore) put(at change.Place, e change.Entry) { s.note(s.tx.Put(at, e)) }
func (s *txStore) remove(at change.Place)              { s.note(s.tx.Delete(at)) }
func (s *txStore) removeTree(dir change.ID)            { s.tx.DeleteTree(dir) }

func (m model) remove(at change.Place) { delete(m, at) }
func (m model) removeTree(dir change.ID) {
	for at := range m.below(dir) {
		delete(m, at)
	}
}

// workUntilKilled applies one batch after the other, and writes the number of each when it is acknowledged.
func workUntilKilled(path string, out io.Writer) error {
	x, err := Open(path, Options{})
	if err != nil {
		return err
	}
	n, err := lastBatch(x)
	if err != nil {
		return err
	}
	for {
		n++
		if err := x.BeginIntents(n, []change.ID{change.NewID(n, 3)}); err != nil {
			return err
		}
		err := x.Update(func(tx *Tx) error {
			s := &txStore{tx: tx}
			killedBatch(n, s)
			tx.SetValue("batch", binary.BigEndian.AppendUint64(nil, n))
			tx.EndIntents(n)
			return s.err
		})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, n); err != nil {
			return err
		}
	}
}

func lastBatch(x *Index) (uint64, error) {
	value, found, err := x.Value("batch")
	if err != nil || !found {
		return 0, err
	}
	return binary.BigEndian.Uint64(value), nil
}

// TestKillLosesNothing kills a process that updates an index, again and again. What it acknowledged must be there, and nothing by halves.
func TestKillLosesNothing(t *testing.T) {
	rounds := 8 * scale(t)
	if testing.Short() {
		rounds = 3
	}
	path := filepath.Join(t.TempDir(), "index")
	want, at := model{}, uint64(0)
	random := rand.New(rand.NewPCG(7, 7))
	for round := range rounds {
		acknowledged := runAndKill(t, path, 1+random.IntN(40), time.Duration(random.IntN(3000))*time.Microsecond)
		x, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		n, err := lastBatch(x)
		if err != nil {
			t.Fatal(err)
		}
		if n < acknowledged {
			t.Fatalf("round %d: batch %d was acknowledged, %d is there", round, acknowledged, n)
		}
		for ; at < n; at++ {
			killedBatch(at+1, want)
		}
		if got := all(t, x); !maps.EqualFunc(got, want, sameEntry) {
			t.Fatalf("round %d: the index differs after batch %d: %s", round, n, cmp.Diff(map[change.Place]change.Entry(want), got))
		}
		checkIntents(t, x, n)
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d rounds, %d batches, %d entries", rounds, at, len(want))
}

// checkIntents expects the intents of no batch but the one that had begun, if any, and ends it.
func checkIntents(t *testing.T, x *Index, n uint64) {
	t.Helper()
	left, err := x.Intents()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range left {
		if dir != change.NewID(n+1, 3) {
			t.Fatalf("an intent of %v is left after batch %d", dir, n)
		}
		update(t, x, func(tx *Tx) { tx.Reconciled(dir) })
	}
}

// runAndKill starts the child, kills it some time after it acknowledged so many batches, and gives the last that it acknowledged.
func runAndKill(t *testing.T, path string, batches int, after time.Duration) uint64 {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), killedIndex+"="+path)
	var complaint strings.Builder
	child.Stderr = &complaint
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var last uint64
	var timer *time.Timer
	lines := bufio.NewScanner(out)
	for count := 0; lines.Scan(); count++ {
		if last, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
			t.Fatalf("the child says %q", lines.Text())
		}
		if count == batches {
			timer = time.AfterFunc(after, func() { _ = child.Process.Kill() })
		}
	}
	err = child.Wait() // always an error: it was killed
	if timer == nil {
		t.Fatalf("the child ended by itself (%v): %s", err, complaint.String())
	}
	timer.Stop()
	return last
}
