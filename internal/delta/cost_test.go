package delta

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

	"georep/internal/need"
)

// change is a basis and what became of it.
type change struct {
	name          string
	basis, target []byte
}

// text gives n bytes that look like a log: words that repeat, but no two lines alike.
func text(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	words := strings.Fields("replication of the volume was acknowledged by secondary after a commit with error while primary waits")
	p := make([]byte, 0, n+200)
	for i := 0; len(p) < n; i++ {
		p = strconv.AppendInt(p, int64(i), 10)
		for range 4 + r.IntN(12) {
			p = append(append(p, ' '), words[r.IntN(len(words))]...)
		}
		p = append(p, '\n')
	}
	return p[:n]
}

// pages is a database: pages of 8 KiB with a head, some content and zeros.
func pages(seed uint64, n int) []byte {
	p := make([]byte, n)
	for i := 0; i+8192 <= n; i += 8192 {
		binary.LittleEndian.PutUint64(p[i:], uint64(i))
		copy(p[i+8:], random(seed+uint64(i), 64+i/8192%5000))
	}
	return p
}

// replace overwrites count places of p with n new bytes each.
func replace(p []byte, count, n int) []byte {
	p = slices.Clone(p)
	r := rand.New(rand.NewPCG(uint64(count), uint64(n)))
	for range count {
		copy(p[r.IntN(len(p)-n):], random(r.Uint64(), n))
	}
	return p
}

// insert puts n new bytes at count places.
func insert(p []byte, count, n int) []byte {
	var q []byte
	step := len(p) / count
	for i := range count {
		q = append(append(q, p[i*step:(i+1)*step]...), random(uint64(i), n)...)
	}
	return append(q, p[count*step:]...)
}

// shuffle puts the blocks of n bytes into another order.
func shuffle(p []byte, n int) []byte {
	var q []byte
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(len(p) / n) {
		q = append(q, p[i*n:(i+1)*n]...)
	}
	return q
}

func swap(p []byte, at, n int) []byte {
	return slices.Concat(p[:at], p[at+n:at+2*n], p[at:at+n], p[at+2*n:])
}

// changes are the ways in which files change, of the sizes with which rsync's blocks and hashes change.
func changes() []change {
	noise, log, data := random(1, 6<<20), text(1, 4<<20), pages(1, 8<<20)
	small := random(2, 300<<10)
	zeros := make([]byte, 2<<20)
	block := blockFor(int64(len(small)))
	return []change{
		{"same", noise, noise},
		{"one byte", noise, replace(noise, 1, 1)},
		{"shift by one", noise, slices.Concat([]byte{1}, noise)},
		{"shrink at the front", noise, noise[1000:]},
		{"1 % in place", noise, replace(noise, 20, 4096)},
		{"scattered bytes", noise, replace(noise, 200, 1)},
		{"many scattered bytes", noise, replace(noise, 3000, 3)},
		{"inserts", noise, insert(noise, 500, 3)},
		{"tiny inserts in a small file", small, insert(small, 300, 1)},
		{"swapped halves", noise, slices.Concat(noise[3<<20:], noise[:3<<20])},
		{"swapped stretches", noise, swap(noise, 1<<20+7, 300001)},
		{"shuffled blocks", small, shuffle(small, block)},
		{"shuffled pages", data, shuffle(data, 8192)},
		{"some blocks, often", small[:60*block], bytes.Repeat(shuffle(small[:60*block], block), 14)},
		{"log that grew", log[:3<<20], log},
		{"log rotated", log, log[2<<20:]},
		{"log edited", log, insert(log, 100, 20)},
		{"database", data, replace(data, 150, 60)},
		{"zeros, written to", zeros, replace(zeros, 100, 50)},
		{"zeros, filled", zeros, replace(zeros, 30, 40000)},
		{"zeros that grew", zeros, make([]byte, 3<<20)},
		{"zeroed", noise, slices.Concat(noise[:1<<20], zeros, noise[5<<20:])},
		{"periodic", bytes.Repeat(small[:1000], 2000), bytes.Repeat(small[3:1003], 2000)},
		{"unrelated", noise, random(9, 3<<20)},
		{"from nothing", nil, small},
		{"to nothing", small, nil},
		{"much longer", small, slices.Concat(small, noise, small)},
		{"cut", noise, noise[:5<<20+123]},
		{"twice", log, slices.Concat(log, log)},
		{"medium, in place", random(3, 20<<20), replace(random(3, 20<<20), 40, 8192)},
	}
}

// ours is what the change costs: signature, operations in their compact form, and the hash.
func (c change) ours(t testing.TB) (cost, int) {
	p := Choose(int64(len(c.basis)), int64(len(c.target)), 12345)
	got := transfer(t, c.basis, p, newContent(c.target))
	return got, got.total() + 16
}

// modelled is what rsync's algorithm sends for the change: sums of 4 + n bytes for each block, four bytes for each block that it
// finds and for each 32 KiB of data, a head and the sum of the whole.
func (c change) modelled() int {
	block := blockFor(int64(len(c.basis)))
	bits := 10 + 2*log2(int64(len(c.basis))) - log2(int64(block))
	strong := min(max((bits+1-32+7)/8, 2), 16)
	total := 16 + 4 + 16
	known := map[string]bool{}
	for at := 0; at < len(c.basis); at += block {
		known[string(c.basis[at:min(at+block, len(c.basis))])] = true
		total += 4 + strong
	}
	last := len(c.basis) % block
	present := make([]uint64, len(c.target)+1)
	for i, b := range c.target { // a plain sum rules out nearly all places before the map is asked
		present[i+1] = present[i] + uint64(b)*uint64(b)
	}
	sums := map[uint64]bool{}
	for k := range known {
		s := uint64(0)
		for _, b := range []byte(k) {
			s += uint64(b) * uint64(b)
		}
		sums[s] = true
	}
	data := 0
	flush := func() { total += data + 4*((data+32<<10-1)/(32<<10)); data = 0 }
	for at := 0; at < len(c.target); {
		n := min(block, len(c.target)-at)
		if (n == block || n == last) && sums[present[at+n]-present[at]] && known[string(c.target[at:at+n])] {
			flush()
			total += 4
			at += n
			continue
		}
		data++
		at++
	}
	flush()
	return total
}

// TestCostOfRsync compares with what rsync's algorithm sends at least, and with what the installed rsync sends.
func TestCostOfRsync(t *testing.T) {
	rsync, missing := exec.LookPath("rsync")
	for _, c := range changes() {
		t.Run(c.name, func(t *testing.T) {
			got, ours := c.ours(t)
			model := c.modelled()
			t.Logf("%d bytes (signature %d, data %d, %d operations); rsync's algorithm %d; ratio %.3f",
				ours, got.signature, got.data, got.ops, model, float64(ours)/float64(model))
			if float64(ours) > 1.05*float64(model) {
				t.Errorf("%d bytes, more than 5 %% above the %d of rsync's algorithm", ours, model)
			}
			if missing != nil {
				return
			}
			total, data := runRsync(t, rsync, c)
			t.Logf("rsync %d (data %d); ratio %.3f", total, data, float64(ours)/float64(total))
			if float64(ours) > 1.05*float64(total) {
				t.Errorf("%d bytes, more than 5 %% above rsync's %d", ours, total)
			}
			if got.data > data {
				t.Errorf("%d bytes of data, more than rsync's %d", got.data, data)
			}
		})
	}
	if missing == nil {
		return
	}
	need.Missing(t, "the program rsync")
}

// runRsync lets rsync bring the change over and gives the bytes that it sent both ways and those of data.
func runRsync(t *testing.T, rsync string, c change) (total, data int) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	for name, content := range map[string][]byte{from: c.target, to: c.basis} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), rsync, "--no-whole-file", "--ignore-times", "--no-compress", "--stats", from, to)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	figure := func(what string) int {
		m := regexp.MustCompile(what + `: ([0-9,]+)`).FindSubmatch(out)
		if m == nil {
			t.Fatalf("no %q in %s", what, out)
		}
		n, err := strconv.Atoi(strings.ReplaceAll(string(m[1]), ",", ""))
		if err != nil {
			t.Fatal(fmt.Errorf("figure %q: %w", what, err))
		}
		return n
	}
	return figure("Total bytes sent") + figure("Total bytes received"), figure("Literal data")
}
