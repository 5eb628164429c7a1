package pairtest_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"georep/internal/need"
)

// What a mapping writes after a run of --once has read the file is found by the next run, also in a page that was changed before and not
// written to the disk since: such a page moves the file's times no more.
func TestWhatAMappingWritesAfterItWasRead(t *testing.T) {
	for _, size := range []int{8 << 10, 300 << 10} {
		p, ctx := newPair(t)
		p.Secondary = filepath.Join(need.InMemory(t), "secondary") // a sync there must not be one here
		if err := os.Mkdir(p.Secondary, 0o755); err != nil {
			t.Fatal(err)
		}
		var here, there unix.Statfs_t
		if unix.Statfs(p.Primary, &here) != nil || unix.Statfs(p.Secondary, &there) != nil || here.Type == unix.TMPFS_MAGIC || there.Type != unix.TMPFS_MAGIC {
			need.Missing(t, "a directory for temporary files that is not in memory, and one that is")
		}
		put(t, p.Primary+"/mapped", string(make([]byte, size)))
		f, err := os.OpenFile(p.Primary+"/mapped", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		mapping, err := unix.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Munmap(mapping)
		copy(mapping, "one")
		once(t, ctx, p)
		same(t, p)
		copy(mapping, "two")
		once(t, ctx, p)
		same(t, p)
		// The same while the run is the first that sees the file's last change.
		put(t, p.Primary+"/other", "x")
		copy(mapping, "three")
		once(t, ctx, p)
		copy(mapping, "fourth")
		once(t, ctx, p)
		same(t, p)
	}
}
