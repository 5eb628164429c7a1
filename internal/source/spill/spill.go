// Package spill keeps many small records with a bounded part of them in memory and the rest in a temporary file: on a stack, or to be
// sorted.
//
// What waits (directories to be read, names that vanished) has no bound of its own, but memory has. The order of a Stack is last in, first
// out, which keeps a depth-first walk local and lets the file be cut when it is read back.
package spill

import (
	"encoding/binary"
	"fmt"
	"os"
)

// Stack is a stack of records. It is not safe for use by several goroutines at once. The zero Stack is not usable; see New.
type Stack struct {
	dir      string // where the temporary file is made
	limit    int    // bytes in memory
	records  [][]byte
	bytes    int // of records
	count    int64
	file     *os.File
	segments []int64 // where each written segment begins; the last one ends at end
	end      int64
}

// overhead is about what one record costs in memory besides its bytes.
const overhead = 32

// New makes an empty stack that holds about limit bytes in memory (at least 4 KiB) and writes what is more to a nameless file
// in dir, or in the system's directory for temporary files when dir is "".
func New(dir string, limit int) *Stack {
	return &Stack{dir: dir, limit: max(limit, 4096)}
}

// Len is the number of records.
func (s *Stack) Len() int64 { return s.count }

// Push puts a copy of record on top. An error means that the file could not be written; the record is on the stack all the same.
func (s *Stack) Push(record []byte) error {
	s.records = append(s.records, append([]byte(nil), record...))
	s.bytes += len(record) + overhead
	s.count++
	if s.bytes <= s.limit {
		return nil
	}
	return s.writeBottom()
}

// Pop takes the record on top; ok is false when there is none. After an error what was in the file is lost and the stack is
// empty: the caller must find it anew.
func (s *Stack) Pop() (record []byte, ok bool, err error) {
	if len(s.records) == 0 && len(s.segments) > 0 {
		if err := s.readBack(); err != nil {
			s.Reset()
			return nil, false, err
		}
	}
	if len(s.records) == 0 {
		return nil, false, nil
	}
	last := len(s.records) - 1
	record, s.records[last] = s.records[last], nil
	s.records = s.records[:last]
	s.bytes -= len(record) + overhead
	s.count--
	return record, true, nil
}

// Reset drops all records and the file.
func (s *Stack) Reset() {
	if s.file != nil {
		s.file.Close()
	}
	*s = Stack{dir: s.dir, limit: s.limit}
}

// writeBottom moves the older half of the records to the file.
func (s *Stack) writeBottom() error {
	if s.file == nil {
		f, err := temporary(s.dir)
		if err != nil {
			return err
		}
		s.file = f
	}
	half := (len(s.records) + 1) / 2
	var buf []byte
	moved := 0
	for _, record := range s.records[:half] {
		buf = binary.AppendUvarint(buf, uint64(len(record)))
		buf = append(buf, record...)
		moved += len(record) + overhead
	}
	if _, err := s.file.WriteAt(buf, s.end); err != nil {
		return fmt.Errorf("write spill file: %w", err)
	}
	s.segments = append(s.segments, s.end)
	s.end += int64(len(buf))
	rest := copy(s.records, s.records[half:])
	clear(s.records[rest:])
	s.records = s.records[:rest]
	s.bytes -= moved
	return nil
}

// temporary makes a file without a name.
func temporary(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "georep-spill-*")
	if err != nil {
		return nil, fmt.Errorf("make spill file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("unlink spill file: %w", err)
	}
	return f, nil
}

// readBack loads the newest segment of the file and cuts it off.
func (s *Stack) readBack() error {
	start := s.segments[len(s.segments)-1]
	buf := make([]byte, s.end-start)
	if _, err := s.file.ReadAt(buf, start); err != nil {
		return fmt.Errorf("read spill file: %w", err)
	}
	for len(buf) > 0 {
		length, n := binary.Uvarint(buf)
		if n <= 0 || length > uint64(len(buf)-n) {
			return fmt.Errorf("read spill file: record of %d bytes does not fit in what is left of its segment", length)
		}
		end := n + int(length)
		s.records = append(s.records, buf[n:end:end])
		s.bytes += int(length) + overhead
		buf = buf[end:]
	}
	s.segments = s.segments[:len(s.segments)-1]
	s.end = start
	if err := s.file.Truncate(start); err != nil {
		return fmt.Errorf("cut spill file: %w", err)
	}
	return nil
}
