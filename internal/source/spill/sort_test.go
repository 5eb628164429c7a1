package spill

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

func sorted(t *testing.T, s *Sorter, records [][]byte) [][]byte {
	t.Helper()
	for _, record := range records {
		if err := s.Add(slices.Clone(record)); err != nil {
			t.Fatal(err)
		}
	}
	var got [][]byte
	if err := s.Each(func(record []byte) error {
		got = append(got, bytes.Clone(record))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

// Records come back in order, whether they fit into memory or not.
func TestSorterSorts(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 50, 200, 5000} {
		records := make([][]byte, n)
		for i := range records {
			records[i] = make([]byte, random.IntN(60))
			if random.IntN(500) == 0 {
				records[i] = make([]byte, 10_000) // more than a run
			}
			for j := range records[i] {
				records[i][j] = byte(random.IntN(3))
			}
		}
		dir := t.TempDir()
		s := NewSorter(dir, 4096)
		got := sorted(t, s, records)
		if n == 5000 && len(s.runs) < 10 {
			t.Errorf("%d records made %d runs", n, len(s.runs))
		}
		slices.SortFunc(records, bytes.Compare)
		if !slices.EqualFunc(got, records, bytes.Equal) {
			t.Errorf("%d records came back as %d, or in another order", n, len(got))
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("the file has a name: %v, %v", left, err)
		}
		s.Close()
	}
}

func TestSorterEndsWithAnError(t *testing.T) {
	for _, n := range []int{10, 1000} {
		s := NewSorter(t.TempDir(), 4096)
		for i := range n {
			if err := s.Add(bytes.Repeat([]byte{byte(i)}, 50)); err != nil {
				t.Fatal(err)
			}
		}
		enough, calls := errors.New("enough"), 0
		err := s.Each(func([]byte) error {
			if calls++; calls == 5 {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) || calls != 5 {
			t.Errorf("%d records: %v after %d calls", n, err, calls)
		}
		s.Close()
	}
	s := NewSorter("/nonexistent", 4096)
	err := error(nil)
	for i := 0; err == nil && i < 1000; i++ {
		err = s.Add(make([]byte, 50))
	}
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a directory for the file: %v", err)
	}
}
