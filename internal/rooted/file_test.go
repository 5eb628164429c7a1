package rooted

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// noTempFiles is the fault of a file system without O_TMPFILE.
func noTempFiles(call, path string) error {
	if call == "openat" && strings.HasSuffix(path, "(new file)") {
		return unix.EOPNOTSUPP
	}
	return nil
}

func TestTemporaryFiles(t *testing.T) {
	onEach(t, func(t *testing.T, r *Root, dir string) {
		must(t, r.Top().Mkdir("scratch", 0o700))
		must(t, r.Top().Mkdir("dir", 0o700))
		ways := map[string]*Root{
			"unnamed":     open(t, dir, WithScratch("scratch")),
			"by proc":     open(t, dir),
			"named":       open(t, dir, WithScratch("scratch"), WithFaults(noTempFiles)),
			"link unlink": open(t, dir, WithScratch("scratch")),
		}
		ways["by proc"].procLink.Store(true)
		ways["link unlink"].faults = func(call, path string) error {
			if call == "renameat2" {
				return unix.EINVAL
			}
			return noTempFiles(call, path)
		}
		for way, r := range ways {
			d := openDir(t, r, "dir")
			f, err := d.OpenTemp(0o600)
			must(t, err)
			_, err = f.WriteAt([]byte(way), 0)
			must(t, err)
			before, err := f.Stat()
			must(t, err)
			must(t, f.LinkTo(d, way))
			wants(t, f.LinkTo(d, way), unix.EEXIST)
			must(t, f.LinkTo(d, way+" again"))
			must(t, f.Close())
			must(t, f.Close())
			o, err := d.Stat(way + " again")
			must(t, err)
			if o.ID != before.ID || o.Nlink != 2 {
				t.Errorf("%s: %+v became %+v", way, before, o)
			}
			taken, err := d.OpenTemp(0o600)
			must(t, err)
			wants(t, taken.LinkTo(d, way), unix.EEXIST)
			must(t, taken.Close())
			if content, err := os.ReadFile(filepath.Join(dir, "dir", way)); string(content) != way || err != nil {
				t.Errorf("%s: %q, %v", way, content, err)
			}
		}
		left, err := os.ReadDir(filepath.Join(dir, "scratch"))
		must(t, err)
		if len(left) != 0 {
			t.Errorf("left over: %v", left)
		}
		_, err = open(t, dir, WithFaults(noTempFiles)).Top().OpenTemp(0o600)
		wants(t, err, unix.EOPNOTSUPP)
	})
}

// piece is a run of data (or of nothing) of a test file.
type piece struct {
	off, length int64
	hole        bool
}

func extentsOf(t *testing.T, f *File, size int64) []piece {
	t.Helper()
	var all []piece
	var next int64
	must(t, f.Extents(size, func(off, length int64, hole bool) error {
		if off != next || length <= 0 {
			t.Errorf("piece at %d of %d bytes, expected at %d", off, length, next)
		}
		next = off + length
		all = append(all, piece{off, length, hole})
		return nil
	}))
	if next != size {
		t.Errorf("pieces end at %d of %d", next, size)
	}
	return all
}

func TestHoles(t *testing.T) {
	onEach(t, func(t *testing.T, r *Root, _ string) {
		const mib = 1 << 18 // a quarter of one
		d := r.Top()
		f, err := d.Create("sparse", 0o600)
		must(t, err)
		defer f.Close()
		must(t, f.Truncate(64*mib))
		for _, at := range []int64{1, 30, 63} {
			_, err := f.WriteAt(bytes.Repeat([]byte{7}, mib), at*mib)
			must(t, err)
		}
		must(t, f.Punch(30*mib+mib/2, mib/4))
		must(t, f.Sync())
		want := []piece{{0, mib, true}, {mib, mib, false}, {2 * mib, 28 * mib, true}, {30 * mib, mib / 2, false}, {30*mib + mib/2, mib / 4, true},
			{30*mib + mib*3/4, mib / 4, false}, {31 * mib, 32 * mib, true}, {63 * mib, mib, false}}
		if got := extentsOf(t, f, 64*mib); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		extentsOf(t, f, 70*mib) // longer than the file
		extentsOf(t, f, 5)
		extentsOf(t, f, 0)
		stop := errors.New("stop")
		if err := f.Extents(64*mib, func(int64, int64, bool) error { return stop }); err != stop {
			t.Errorf("got %v", err)
		}
		src, err := d.OpenFile("sparse")
		must(t, err)
		defer src.Close()
		for name, plain := range map[string]bool{"cloned": false, "copied": true} {
			r.noClone.Store(plain)
			to, err := d.Create(name, 0o600)
			must(t, err)
			must(t, to.CopyRange(src, 0, 0, 64*mib))
			must(t, to.Truncate(64*mib))
			must(t, to.Sync())
			o, err := to.Stat()
			must(t, err)
			if o.Blocks*512 > 5*mib {
				t.Errorf("%s: %d KiB are allocated", name, o.Blocks/2)
			}
			compare(t, to, src, 64*mib)
			must(t, to.Close())
		}
	})
}

func compare(t *testing.T, a, b *File, size int64) {
	t.Helper()
	x, y := make([]byte, size), make([]byte, size)
	_, err := a.ReadAt(x, 0)
	must(t, err)
	_, err = b.ReadAt(y, 0)
	must(t, err)
	if !bytes.Equal(x, y) {
		t.Error("contents differ")
	}
}

// copyWay copies by CopyRange or, from the fourth way on, by CopySeen, which must show what is there then.
func copyWay(t *testing.T, way int, to, src *File, from, dst, n int64) {
	t.Helper()
	if way < 3 {
		must(t, to.CopyRange(src, from, dst, n))
		return
	}
	var shown []byte
	must(t, to.CopySeen(src, from, dst, n, make([]byte, 50_000), func(p []byte, hole int64) {
		shown = append(append(shown, p...), make([]byte, hole)...)
	}))
	there := make([]byte, n)
	_, err := to.ReadAt(there, dst)
	must(t, err)
	if !bytes.Equal(shown, there) {
		t.Fatalf("%d bytes from %d to %d: shown was something else", n, from, dst)
	}
}

// TestCopySharesWhatIsAligned has a range that begins and ends within a block, but lies alike in both files.
func TestCopySharesWhatIsAligned(t *testing.T) {
	for _, fstype := range []string{"xfs", "btrfs"} {
		t.Run(fstype, func(t *testing.T) {
			needRoot(t)
			dir, err := os.MkdirTemp(mounts.get(t, fstype), "shared")
			must(t, err)
			written := map[string]int{}
			r := open(t, dir, WithFaults(func(call, _ string) error { written[call]++; return nil }))
			s, err := r.Top().Create("src", 0o600)
			must(t, err)
			content := bytes.Repeat([]byte("0123456789abcde"), 1<<20)
			_, err = s.WriteAt(content, 0)
			must(t, err)
			must(t, s.Close())
			src, err := r.Top().OpenFile("src")
			must(t, err)
			defer src.Close()
			to, err := r.Top().Create("to", 0o600)
			must(t, err)
			defer to.Close()
			clear(written)
			const n = 10 << 20
			copyWay(t, 3, to, src, 1000, 3*4096+1000, n)
			if written["ficlonerange"] != 1 || written["pwrite64"] > 2 {
				t.Errorf("calls: %v", written)
			}
			got := make([]byte, n)
			_, err = to.ReadAt(got, 3*4096+1000)
			must(t, err)
			if !bytes.Equal(got, content[1000:1000+n]) {
				t.Error("contents differ")
			}
		})
	}
}

// TestCopyRange copies random ranges by every way and compares with the same copy in memory.
func TestCopyRange(t *testing.T) {
	onEach(t, func(t *testing.T, r *Root, _ string) {
		const size = 1 << 20
		d := r.Top()
		random := rand.New(rand.NewPCG(1, 2))
		content := make([]byte, size)
		for i := range content {
			if i>>14%3 != 0 {
				content[i] = byte(random.Uint32())
			}
		}
		s, err := d.Create("src", 0o600)
		must(t, err)
		for off := 0; off < size; off += 1 << 14 {
			if off>>14%3 != 0 {
				_, err = s.WriteAt(content[off:off+1<<14], int64(off))
				must(t, err)
			}
		}
		must(t, s.Truncate(size))
		must(t, s.Close())
		for way := range 5 {
			r.noClone.Store(way%3 > 0)
			r.copyPlain.Store(way == 2)
			src, err := d.OpenFile("src")
			must(t, err)
			to, err := d.Create(fmt.Sprint("to", way), 0o600)
			must(t, err)
			model := make([]byte, size)
			must(t, to.Truncate(size))
			for range 60 {
				n := 1 + random.Int64N(200000)
				from, dst := random.Int64N(size-n), random.Int64N(size-n)
				switch random.IntN(3) {
				case 0:
					n, from, dst = (n+4095)&^4095, from&^4095, dst&^4095
				case 1: // alike within their blocks
					dst = dst&^4095 | from&4095
				}
				n = min(n, size-from, size-dst)
				copyWay(t, way, to, src, from, dst, n)
				copy(model[dst:dst+n], content[from:])
			}
			got := make([]byte, size)
			_, err = to.ReadAt(got, 0)
			must(t, err)
			if !bytes.Equal(got, model) {
				t.Errorf("way %d: contents differ", way)
			}
			wants(t, to.CopyRange(src, size-10, 0, 20), unix.ENODATA)
			wants(t, to.CopySeen(src, size-10, 0, 20, make([]byte, 10), func([]byte, int64) {}), unix.ENODATA)
			must(t, to.CopyRange(src, 0, 0, 0))
			to.Close()
			src.Close()
		}
	})
}

func TestReadAndWrite(t *testing.T) {
	onEach(t, func(t *testing.T, r *Root, _ string) {
		d := r.Top()
		f, err := d.Create("file", 0o600)
		must(t, err)
		defer f.Close()
		_, err = d.Create("file", 0o600)
		wants(t, err, unix.EEXIST)
		_, err = f.WriteAt([]byte("hello"), 3)
		must(t, err)
		buf := make([]byte, 20)
		if n, err := f.ReadAt(buf, 0); n != 8 || err != io.EOF || string(buf[:8]) != "\x00\x00\x00hello" {
			t.Errorf("%q, %v", buf[:n], err)
		}
		if n, err := f.ReadAt(buf, 100); n != 0 || err != io.EOF {
			t.Errorf("%d, %v", n, err)
		}
		must(t, f.Punch(0, 100))
		if o, err := f.Stat(); err != nil || o.Size != 8 {
			t.Errorf("%+v, %v", o, err)
		}
		if _, err := f.ReadAt(buf[:8], 0); err != nil || !bytes.Equal(buf[:8], make([]byte, 8)) {
			t.Errorf("%q, %v", buf[:8], err)
		}
		must(t, f.Fadvise(DontNeed))
		must(t, f.Readahead(0, 100))
		read, err := d.OpenFile("file")
		must(t, err)
		defer read.Close()
		if _, err := read.WriteAt([]byte("x"), 0); !is(err, unix.EBADF) {
			t.Errorf("got %v", err)
		}
	})
}

// TestPunchWithoutHoles: zeros are written where the file system has no holes.
func TestPunchWithoutHoles(t *testing.T) {
	r := open(t, t.TempDir(), WithFaults(func(call, _ string) error {
		if call == "fallocate" {
			return unix.EOPNOTSUPP
		}
		return nil
	}))
	f, err := r.Top().Create("file", 0o600)
	must(t, err)
	defer f.Close()
	content := bytes.Repeat([]byte{1}, 300000)
	_, err = f.WriteAt(content, 0)
	must(t, err)
	must(t, f.Punch(100, 200000))
	must(t, f.Punch(299000, 5000))
	clear(content[100:200100])
	clear(content[299000:])
	got := make([]byte, 300001)
	if n, err := f.ReadAt(got, 0); n != 300000 || err != io.EOF || !bytes.Equal(got[:n], content) {
		t.Errorf("%d bytes, %v", n, err)
	}
}
