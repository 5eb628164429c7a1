package index

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"go.etcd.io/bbolt"
)

// residency keeps the mapped file from filling the process's resident memory. The kernel maps pages of the file as they are touched,
// and would take them away only under pressure; giving them back is cheap, since they stay in the page cache.
type residency struct {
	db    *bbolt.DB
	limit int64 // bytes; negative: none
	spent atomic.Int64

	mu    sync.Mutex
	statm *os.File // nil when there is no /proc or nothing to limit
	base  int64    // bytes of file pages that others hold
}

// pagesPerLookup is what one lookup maps at worst: the kernel maps sixteen pages around one that is touched, and below the root of the store,
// which is always there, a file with tens of millions of entries has three levels.
const pagesPerLookup = 3 * 16

// checkEvery is after how many pages, counted at worst, the resident size is looked at.
const checkEvery = 4096

func newResidency(db *bbolt.DB, limit int64) *residency {
	s := &residency{db: db, limit: limit}
	if limit >= 0 {
		if f, err := os.Open("/proc/self/statm"); err == nil {
			s.statm = f
			s.giveBack() // what opening left
			s.base = s.resident()
		}
	}
	return s
}

// resident is how many bytes of files are mapped into the process; 0 when that is not known. The caller has s.mu, or s alone.
func (s *residency) resident() int64 {
	var buf [128]byte
	n, _ := s.statm.ReadAt(buf[:], 0) // io.EOF comes with the text
	field, value := 0, int64(0)
	for _, c := range buf[:n] {
		switch {
		case c == ' ' || c == '\n':
			if field == 2 {
				return value * int64(os.Getpagesize())
			}
			field, value = field+1, 0
		case c >= '0' && c <= '9':
			value = 10*value + int64(c-'0')
		}
	}
	return 0
}

// spend counts lookups, and looks at the resident size now and then.
func (s *residency) spend(lookups int64) {
	n := lookups * pagesPerLookup
	if total := s.spent.Add(n); total/checkEvery != (total-n)/checkEvery {
		s.check()
	}
}

// check gives the mapped pages back when there are more than the limit.
func (s *residency) check() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.statm == nil || s.resident()-s.base <= s.limit {
		return
	}
	s.giveBack()
	s.base = s.resident()
}

// giveBack unmaps the pages. The open transaction keeps the mapping at its address meanwhile.
func (s *residency) giveBack() {
	tx, err := s.db.Begin(false)
	if err != nil {
		return
	}
	// The rollback of an open read transaction cannot fail. Nor does a failing madvise matter: memory is only held longer.
	defer func() { _ = tx.Rollback() }()
	_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, s.db.Info().Data, uintptr(tx.Size()), syscall.MADV_DONTNEED)
}

func (s *residency) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.statm != nil {
		_ = s.statm.Close() // only ever read
		s.statm = nil
	}
}
