package pairtest

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// resumeSlack is what may have to be sent again after an interruption besides signatures: what was under way.
const resumeSlack = 2 << 20

func filePair(t *testing.T, content []byte) (*Pair, string) {
	t.Helper()
	p, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(p.Primary, "large")
	put(t, path, content)
	return p, path
}

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// interrupted mirrors until so many bytes have passed.
func interrupted(t *testing.T, p *Pair, after int64) {
	t.Helper()
	if _, err := p.Run(t.Context(), after); err == nil {
		t.Fatalf("the mirror ended in good order before %d bytes", after)
	}
}

// partSize is how much of the file the secondary has kept.
func partSize(t *testing.T, p *Pair) int64 {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(p.Secondary, ".georep", "part"))
	if err != nil || len(entries) != 1 {
		t.Fatalf("parts: %v, %v", entries, err)
	}
	info, err := entries[0].Info()
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestMustP21ResumeSendsOnlyTheRest kills the connection within a large file, at several points.
func TestMustP21ResumeSendsOnlyTheRest(t *testing.T) {
	const size = 20 << 20
	content := noise(1, size)
	for _, op := range []string{"new", "rewritten"} {
		for _, after := range []int64{3 << 20, 11 << 20, 19 << 20} {
			p, path := filePair(t, content)
			if op == "rewritten" {
				put(t, path, noise(2, size))
				mirrored(t, p)
				put(t, path, content)
			}
			interrupted(t, p, after)
			kept := partSize(t, p)
			if kept < after-resumeSlack-4<<20 {
				t.Errorf("%s: %d bytes were kept of %d", op, kept, after)
			}
			mirrored(t, p)
			if got := p.Traffic(); got > size-kept+resumeSlack/4 {
				t.Errorf("%s: %d bytes after the interruption, where %d of %d were there", op, got, kept, size)
			}
		}
	}
}

// TestResumeTimeAndAgain kills the connection every few MiB until the file is there.
func TestResumeTimeAndAgain(t *testing.T) {
	const size, each = 32 << 20, 9 << 20
	p, _ := filePair(t, noise(1, size))
	var total int64
	for n := 0; ; n++ {
		if n == 12 {
			t.Fatal("the file does not get on")
		}
		_, err := p.Run(t.Context(), each)
		total += p.Traffic()
		if err == nil {
			break
		}
	}
	if diff, err := p.Compare(); err != nil || len(diff) > 0 {
		t.Fatalf("the trees differ: %v, %v", diff, err)
	}
	if total > 2*size {
		t.Errorf("%d bytes for a file of %d", total, size)
	}
}

// TestSourceChangedBeforeTheResume changes the file after an interruption, also where it had been sent already.
func TestSourceChangedBeforeTheResume(t *testing.T) {
	const size = 16 << 20
	for name, edit := range map[string]func(b []byte) []byte{
		"head and tail": func(b []byte) []byte { copy(b[1<<20:], "changed"); copy(b[15<<20:], "changed"); return b },
		"inserted":      func(b []byte) []byte { return slices.Concat([]byte("inserted"), b) },
		"moved":         func(b []byte) []byte { return slices.Concat(b[8<<20:], b[:8<<20]) },
		"cut":           func(b []byte) []byte { return b[:9<<20] },
		"small":         func(b []byte) []byte { return b[:100] },
		"zeros":         func(b []byte) []byte { clear(b[2<<20 : 6<<20]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			content := noise(1, size)
			p, path := filePair(t, content)
			interrupted(t, p, 10<<20)
			put(t, path, edit(bytes.Clone(content)))
			mirrored(t, p)
			if got := p.Traffic(); got > size+resumeSlack {
				t.Errorf("%d bytes", got)
			}
		})
	}
}

// TestFileThatChangesWhileItIsReadIsSentAgain changes a file when the first of it arrives.
func TestFileThatChangesWhileItIsReadIsSentAgain(t *testing.T) {
	for _, size := range []int{1 << 20, 20 << 20} {
		p, path := filePair(t, noise(1, size))
		var writes, changes atomic.Int64
		p.Faults = func(call, _ string) error {
			if call != "pwrite64" || writes.Add(1) != 3 || changes.Add(1) > 1 {
				return nil
			}
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt([]byte("changed"), 5)
			}
			if err == nil {
				err = f.Close()
			}
			return err
		}
		mirrored(t, p)
		if changes.Load() == 0 {
			t.Error("the file did not change")
		}
	}
}

// TestHolesStayHoles follows a sparse file through its life.
func TestHolesStayHoles(t *testing.T) {
	const size = 64 << 20
	p, path := filePair(t, nil)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	step := func(what string, err error) {
		t.Helper()
		if err == nil {
			err = f.Sync()
		}
		if err == nil {
			err = os.Chtimes(path, time.Time{}, time.Unix(rand.Int64N(1e9), 0))
		}
		if err != nil {
			t.Fatal(err)
		}
		mirrored(t, p)
		var here, there syscall.Stat_t
		if err := syscall.Stat(path, &here); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Stat(filepath.Join(p.Secondary, "large"), &there); err != nil {
			t.Fatal(err)
		}
		if there.Blocks*512 > here.Blocks*512+256<<10 {
			t.Errorf("%s: %d KiB are allocated, %d at the source", what, there.Blocks/2, here.Blocks/2)
		}
		if got := p.Traffic(); got > 6<<20 {
			t.Errorf("%s: %d bytes were sent", what, got)
		}
	}
	write := func(off int64, n int) error { _, err := f.WriteAt(noise(uint64(off), n), off); return err }
	punch := func(off, n int64) error { return syscall.Fallocate(int(f.Fd()), 3, off, n) } // PUNCH_HOLE | KEEP_SIZE
	step("empty", f.Truncate(size))
	step("some data", errorsOf(write(10<<20, 3<<20), write(60<<20, 1<<20)))
	step("punched", punch(11<<20, 1<<20))
	step("filled in part", write(11<<20+500<<10, 100<<10))
	step("written over a hole", write(30<<20, 2<<20))
	step("punched across", punch(9<<20, 30<<20))
	step("grown", f.Truncate(size+8<<20))
	step("cut within a hole", f.Truncate(40<<20))
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestDeltaTakesWorkInProportion counts the system calls of the agent for content that repeats in every way: none per byte, and no file is
// made durable by itself.
func TestDeltaTakesWorkInProportion(t *testing.T) {
	const size = 16 << 20
	block := noise(1, 4096)
	for name, content := range map[string][2][]byte{
		"1 % in place":    {noise(2, size), scattered("", noise(2, size))},
		"equal blocks":    {bytes.Repeat(block, size/4096), append(bytes.Repeat(block, size/4096-1), noise(3, 4096)...)},
		"periodic":        {bytes.Repeat(block[:1000], size/1000), bytes.Repeat(block[3:1003], size/1000)},
		"zeros, shifted":  {make([]byte, size), slices.Concat([]byte{1}, make([]byte, size))},
		"one of two":      {bytes.Repeat(append(bytes.Clone(block), make([]byte, 4096)...), size/8192), bytes.Repeat(slices.Concat(make([]byte, 4100), block), size/8196)},
		"blocks shuffled": {noise(4, size), shuffled("", noise(4, size))},
	} {
		p, path := filePair(t, content[0])
		mirrored(t, p)
		put(t, path, content[1])
		var mu sync.Mutex
		calls := map[string]int{}
		p.Faults = func(call, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			calls[call]++
			return nil
		}
		mirrored(t, p)
		mu.Lock()
		// Two readings and one writing of 64 KiB a call, and three calls for each of as many copies and data as there may be blocks.
		if n := calls["pread64"] + calls["pwrite64"]; n > 3*size/(64<<10)+3*size/4096 {
			t.Errorf("%s: %d readings and writings", name, n)
		}
		if n := calls["fsync"] + calls["fdatasync"]; n > 2 {
			t.Errorf("%s: %d files made durable one by one", name, n)
		}
		mu.Unlock()
	}
}
