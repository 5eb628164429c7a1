package spill

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// Sorter puts records into the order of their bytes with a bounded part of them in memory: it writes sorted runs to a temporary file and
// merges them. It is not safe for use by several goroutines at once.
type Sorter struct {
	dir     string
	limit   int      // bytes of a run
	buf     []byte   // of the run at hand
	records [][]byte // parts of buf
	file    *os.File
	runs    []int64 // where each written run begins; the last one ends at end
	end     int64
}

// readAhead is how many bytes of each run are in memory while runs are merged.
const readAhead = 16 << 10

// NewSorter makes a Sorter that holds about limit bytes in memory (at least 4 KiB), its records' bytes and half as much for their places;
// what is more goes to a nameless file in dir, or in the system's directory for temporary files when dir is "".
func NewSorter(dir string, limit int) *Sorter {
	return &Sorter{dir: dir, limit: max(limit, 4096)}
}

// Add takes a copy of record. An error means that the file could not be written; Each must not be called then.
func (s *Sorter) Add(record []byte) error {
	if len(s.buf)+len(record) > s.limit && len(s.records) > 0 {
		if err := s.writeRun(); err != nil {
			return err
		}
	}
	if cap(s.buf)-len(s.buf) < len(record) {
		s.buf = make([]byte, 0, max(s.limit, len(record))) // the first time, or for a record that is larger than a run
	}
	from := len(s.buf)
	s.buf = append(s.buf, record...)
	s.records = append(s.records, s.buf[from:len(s.buf):len(s.buf)])
	return nil
}

// Each calls fn with each record in order; the record is valid during the call only. It ends with the first error of fn, or with that of the
// file. It may be called once.
func (s *Sorter) Each(fn func(record []byte) error) error {
	slices.SortFunc(s.records, bytes.Compare)
	if len(s.runs) == 0 {
		for _, record := range s.records {
			if err := fn(record); err != nil {
				return err
			}
		}
		return nil
	}
	if err := s.writeRun(); err != nil {
		return err
	}
	s.buf, s.records = nil, nil
	return s.merge(fn)
}

// Close drops all records and the file.
func (s *Sorter) Close() {
	if s.file != nil {
		s.file.Close()
	}
	*s = Sorter{dir: s.dir, limit: s.limit}
}

// writeRun moves the records in memory to the file, in order.
func (s *Sorter) writeRun() error {
	if s.file == nil {
		f, err := temporary(s.dir)
		if err != nil {
			return err
		}
		s.file = f
	}
	slices.SortFunc(s.records, bytes.Compare)
	w := bufio.NewWriterSize(io.NewOffsetWriter(s.file, s.end), 64<<10)
	size := int64(0)
	var head [binary.MaxVarintLen64]byte
	for _, record := range s.records {
		n := binary.PutUvarint(head[:], uint64(len(record)))
		_, err := w.Write(head[:n])
		if err == nil {
			_, err = w.Write(record)
		}
		if err != nil {
			return fmt.Errorf("write spill file: %w", err)
		}
		size += int64(n + len(record))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write spill file: %w", err)
	}
	s.runs = append(s.runs, s.end)
	s.end += size
	s.buf, s.records = s.buf[:0], s.records[:0]
	return nil
}

func (s *Sorter) merge(fn func(record []byte) error) error {
	var heads runs
	for i, start := range s.runs {
		end := s.end
		if i+1 < len(s.runs) {
			end = s.runs[i+1]
		}
		r := &run{source: bufio.NewReaderSize(io.NewSectionReader(s.file, start, end-start), readAhead)}
		if ok, err := r.next(); err != nil {
			return err
		} else if ok {
			heads = append(heads, r)
		}
	}
	heap.Init(&heads)
	for len(heads) > 0 {
		first := heads[0]
		if err := fn(first.record); err != nil {
			return err
		}
		ok, err := first.next()
		if err != nil {
			return err
		}
		if ok {
			heap.Fix(&heads, 0)
		} else {
			heap.Pop(&heads)
		}
	}
	return nil
}

// run is a sorted part of the file that is being read.
type run struct {
	source *bufio.Reader
	record []byte // the one at hand
}

// next reads the next record; false at the end.
func (r *run) next() (bool, error) {
	size, err := binary.ReadUvarint(r.source)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err == nil {
		r.record = slices.Grow(r.record[:0], int(size))[:size]
		_, err = io.ReadFull(r.source, r.record)
	}
	if err != nil {
		return false, fmt.Errorf("read spill file: %w", err)
	}
	return true, nil
}

// runs is a heap by the records at hand.
type runs []*run

func (h runs) Len() int           { return len(h) }
func (h runs) Less(i, j int) bool { return bytes.Compare(h[i].record, h[j].record) < 0 }
func (h runs) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *runs) Push(x any) { *h = append(*h, x.(*run)) }

// Pop implements heap.Interface.
func (h *runs) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
