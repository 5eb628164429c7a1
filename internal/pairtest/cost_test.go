package pairtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"georep/internal/need"
)

// edit is what becomes of the files of a tree.
type edit struct {
	name   string
	files  map[string][]byte // before
	change func(name string, b []byte) []byte
}

// noise is content that nothing is known of.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// lines are those of a log: they shrink when they are compressed.
func lines(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	words := strings.Fields("replication of the volume was acknowledged by secondary after a commit with error while primary waits")
	b := make([]byte, 0, n+200)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "2026-11-%02d %08d", 1+i/100000, i)
		for range 4 + r.IntN(12) {
			b = append(append(b, ' '), words[r.IntN(len(words))]...)
		}
		b = append(b, '\n')
	}
	return b[:n]
}

// scattered overwrites a hundredth of b, in runs of 4 KiB.
func scattered(_ string, b []byte) []byte {
	r := rand.New(rand.NewPCG(uint64(len(b)), 2))
	for range len(b) / 100 / 4096 {
		copy(b[r.IntN(len(b)-4096):], noise(r.Uint64(), 4096))
	}
	return b
}

// touched changes a small file as a person or a program does: some bytes at one place, replaced, inserted or taken away.
func touched(name string, b []byte) []byte {
	r := rand.New(rand.NewPCG(uint64(len(b)), uint64(len(name))))
	at := r.IntN(len(b) - 100)
	switch r.IntN(3) {
	case 0:
		return slices.Concat(b[:at], noise(r.Uint64(), 20), b[at:])
	case 1:
		return slices.Concat(b[:at], b[at+30:])
	}
	return slices.Concat(b[:at], noise(r.Uint64(), 40), b[at+40:])
}

func shuffled(_ string, b []byte) []byte {
	const piece = 64 << 10
	out := make([]byte, 0, len(b))
	for _, i := range rand.New(rand.NewPCG(3, 3)).Perm(len(b) / piece) {
		out = append(out, b[i*piece:(i+1)*piece]...)
	}
	return out
}

func one(b []byte) map[string][]byte { return map[string][]byte{"file": b} }

func edits(size int) []edit {
	small, sources := map[string][]byte{}, map[string][]byte{}
	for i := range 100 {
		n := 1<<10 + i*i*10
		small[fmt.Sprintf("file-%02d.bin", i)] = noise(uint64(i), n)
		sources[fmt.Sprintf("source-%02d.txt", i)] = lines(uint64(i), n)
	}
	zeroed := func(_ string, b []byte) []byte { clear(b[len(b)/4 : len(b)/2]); return b }
	filled := func(_ string, b []byte) []byte {
		for i := range 20 {
			copy(b[i*len(b)/20:], noise(uint64(i), 3000))
		}
		return b
	}
	return []edit{
		{"1 % in place", one(noise(1, size)), scattered},
		{"1 % of a log", one(lines(1, size)), scattered},
		{"inserted at the start", one(noise(2, size)), func(_ string, b []byte) []byte { return slices.Concat([]byte("new"), b) }},
		{"appended", one(noise(3, size)), func(_ string, b []byte) []byte { return slices.Concat(b, noise(4, 100_000)) }},
		{"log appended", one(lines(3, size)), func(_ string, b []byte) []byte { return slices.Concat(b, lines(4, size/8)) }},
		{"truncated", one(noise(5, size)), func(_ string, b []byte) []byte { return b[:len(b)*2/3] }},
		{"shuffled", one(noise(6, size)), shuffled},
		{"zeros put in", one(noise(7, size)), zeroed},
		{"zeros written to", one(make([]byte, size)), filled},
		{"rewritten", one(noise(8, size/2)), func(_ string, b []byte) []byte { return noise(9, len(b)) }},
		{"log rewritten", one(lines(8, size/2)), func(_ string, b []byte) []byte { return lines(9, len(b)) }},
		{"small files", small, touched},
		{"small texts", sources, touched},
	}
}

// costSize is the size of the large files of the comparison with rsync, in MiB: "64" or "1024" take their time.
const costSize = "GEOREP_TEST_COST_MIB"

// TestChangesCostNoMoreThanRsync counts all bytes in both directions, of our connection and of the real rsync's.
func TestChangesCostNoMoreThanRsync(t *testing.T) {
	rsync := need.Program(t, "rsync")
	size := 8
	if s := os.Getenv(costSize); s != "" {
		var err error
		if size, err = strconv.Atoi(s); err != nil {
			t.Fatalf("%s: %v", costSize, err)
		}
	}
	for _, e := range edits(size << 20) {
		t.Run(e.name, func(t *testing.T) { e.compare(t, rsync, false) })
		t.Run(e.name+", compressed", func(t *testing.T) { e.compare(t, rsync, true) })
	}
}

// compare mirrors the files, changes them, and brings the change over with ours and with rsync.
func (e *edit) compare(t *testing.T, rsync string, compress bool) {
	p, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p.Options.Compress = compress
	old := t.TempDir()
	for name, b := range e.files {
		e.write(t, filepath.Join(p.Primary, name), b, 1_700_000_000)
		e.write(t, filepath.Join(old, name), b, 1_700_000_000)
	}
	mirrored(t, p)
	for name, b := range e.files {
		e.write(t, filepath.Join(p.Primary, name), e.change(name, bytes.Clone(b)), 1_700_001_000)
	}
	mirrored(t, p)
	ours := p.Traffic()
	flags := []string{"-aHAX", "--numeric-ids", "--no-whole-file", "--stats"}
	if compress {
		flags = append(flags, "--compress")
	}
	theirs := rsyncBytes(t, rsync, append(flags, p.Primary+"/", old+"/"))
	t.Logf("%d bytes, rsync %d: %.3f", ours, theirs, float64(ours)/float64(theirs))
	if float64(ours) > 1.05*float64(theirs) {
		t.Errorf("%d bytes, more than 5 %% above rsync's %d", ours, theirs)
	}
}

func (e *edit) write(t *testing.T, path string, b []byte, seconds int64) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Unix(seconds, 0), time.Unix(seconds, 0)); err != nil {
		t.Fatal(err)
	}
}

func mirrored(t *testing.T, p *Pair) {
	t.Helper()
	if sum, err := p.Run(t.Context(), 0); err != nil || len(sum.Failures) > 0 {
		t.Fatalf("mirror: %v, %+v", err, sum.Failures)
	}
	if diff, err := p.Compare(); err != nil || len(diff) > 0 {
		t.Fatalf("the trees differ: %v, %v", diff, err)
	}
}

// rsyncBytes lets rsync work and gives the bytes that it sent both ways.
func rsyncBytes(t *testing.T, rsync string, args []string) int64 {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), rsync, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("rsync: %v: %s", err, out)
	}
	var sum int64
	for _, way := range []string{"sent", "received"} {
		m := regexp.MustCompile("Total bytes " + way + `: ([0-9,]+)`).FindSubmatch(out)
		if m == nil {
			t.Fatalf("no figure of what was %s in %s", way, out)
		}
		n, err := strconv.ParseInt(strings.ReplaceAll(string(m[1]), ",", ""), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}
