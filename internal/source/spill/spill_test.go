package spill

import (
	"bytes"
	"errors"
	"os"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// TestStackEqualsSlice pushes and pops at random, through a limit that makes nearly all go to the file.
func TestStackEqualsSlice(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(r *rapid.T) {
		s := New(dir, 1)
		defer s.Reset()
		var want [][]byte
		for range rapid.IntRange(1, 400).Draw(r, "steps") {
			if rapid.IntRange(0, 2).Draw(r, "pop") > 0 {
				record := bytes.Repeat([]byte{byte(len(want))}, rapid.SampledFrom([]int{0, 1, 60, 300, 5000}).Draw(r, "size"))
				want = append(want, bytes.Clone(record))
				if err := s.Push(record); err != nil {
					r.Fatal(err)
				}
				clear(record) // the stack has a copy
			} else {
				record, ok, err := s.Pop()
				if err != nil || ok != (len(want) > 0) {
					r.Fatalf("pop gives %v, %v with %d records", ok, err, len(want))
				}
				if ok && !bytes.Equal(record, want[len(want)-1]) {
					r.Fatalf("%d bytes come back, want %d", len(record), len(want[len(want)-1]))
				}
				want = want[:max(0, len(want)-1)]
			}
			if s.Len() != int64(len(want)) {
				r.Fatalf("%d records are counted, want %d", s.Len(), len(want))
			}
			if most := 4096 + 2*(5000+overhead); s.bytes > most {
				r.Fatalf("%d bytes are in memory, at most %d may be", s.bytes, most)
			}
		}
	})
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("files are left: %v, %v", entries, err)
	}
}

// TestFileErrorsAreTold fails the file in each way.
func TestFileErrorsAreTold(t *testing.T) {
	full := New(t.TempDir()+"/absent", 1)
	var err error
	for range 1000 {
		if err = full.Push(make([]byte, 100)); err != nil {
			break
		}
	}
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a directory for the file, push gives %v", err)
	}
	s := New(t.TempDir(), 1)
	for range 1000 {
		if err := s.Push(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.file.Truncate(10); err != nil { // somebody damages it
		t.Fatal(err)
	}
	for ok := true; ok && err != nil; {
		if _, ok, err = s.Pop(); err != nil {
			break
		}
		err = errors.New("none yet")
	}
	if err == nil || s.Len() != 0 {
		t.Errorf("reading a damaged file gives %v and leaves %d records", err, s.Len())
	}
	if err := s.Push([]byte("anew")); err != nil {
		t.Error(err)
	}
	if record, ok, err := s.Pop(); string(record) != "anew" || !ok || err != nil {
		t.Errorf("after that, pop gives %q, %v, %v", record, ok, err)
	}
	closed := New(t.TempDir(), 1)
	for range 1000 {
		if err := closed.Push(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	closed.file.Close()
	for err = nil; err == nil; {
		err = closed.Push(make([]byte, 100))
	}
	if !errors.Is(err, os.ErrClosed) && !errors.Is(err, syscall.EBADF) {
		t.Errorf("writing a closed file gives %v", err)
	}
}
