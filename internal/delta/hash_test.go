package delta

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestHashIsOfContent checks that neither the pieces in which content is written nor holes change its hash.
func TestHashIsOfContent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawContent(t, "content")
		clear(p[rapid.IntRange(0, len(p)).Draw(t, "zeros from"):])
		want := NewHash(1)
		_, _ = want.Write(p)
		h := NewHash(1)
		for rest := p; len(rest) > 0; {
			n := rapid.OneOf(rapid.IntRange(1, 9), rapid.IntRange(4000, 4200), rapid.IntRange(1, 100000)).Draw(t, "piece")
			n = min(n, len(rest))
			if piece := rest[:n]; leadingZeros(piece) == n && rapid.Bool().Draw(t, "as hole") {
				h.Zeros(int64(n))
			} else {
				_, _ = h.Write(piece)
			}
			rest = rest[n:]
			if rapid.IntRange(0, 3).Draw(t, "look") == 0 {
				h.Sum() // must change nothing
			}
		}
		if h.Sum() != want.Sum() {
			t.Fatal("the hash depends on how the content was written")
		}
	})
}

// TestHashTellsApart checks that content which differs little, above all in zeros, has different hashes.
func TestHashTellsApart(t *testing.T) {
	seen := map[[16]byte]string{}
	add := func(p []byte) {
		h := NewHash(5)
		_, _ = h.Write(p)
		sum := h.Sum()
		if other, ok := seen[sum]; ok && other != string(p) {
			t.Fatalf("contents of %d and %d bytes have one hash", len(other), len(p))
		}
		seen[sum] = string(p)
	}
	sizes := []int{0, 1, 7, 8, page - 1, page, page + 1, 2 * page, 2*page + 9, 3 * page}
	for _, n := range sizes {
		zeros := make([]byte, n)
		add(zeros)
		for at := 0; at < n; at += 509 {
			one := slices.Clone(zeros)
			one[at] = 1
			add(one)
		}
		add(bytes.Repeat([]byte{1}, n))
		for _, m := range sizes {
			add(slices.Concat(zeros, bytes.Repeat([]byte{1}, m)))
			add(slices.Concat(bytes.Repeat([]byte{1}, m), zeros))
			add(slices.Concat(bytes.Repeat([]byte{1}, m), zeros, bytes.Repeat([]byte{1}, m)))
		}
	}
	a, b := NewHash(1), NewHash(2)
	if a.Sum() == b.Sum() {
		t.Fatal("the seed does not matter")
	}
}

// TestHashIsFast checks that a hole costs nothing: a loop over its bytes would not end.
func TestHashIsFast(t *testing.T) {
	a, b := NewHash(1), NewHash(1)
	a.Zeros(1 << 62)
	b.Zeros(1<<61 + 5)
	b.Zeros(1<<61 - 5)
	if a.Sum() != b.Sum() {
		t.Fatal("the hash depends on how the zeros were written")
	}
}

// TestHashStays has the values that other versions compute too. They must not change.
func TestHashStays(t *testing.T) {
	for _, c := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"nothing", nil, "7311d3deb42fdc49c3a514120b547221"},
		{"a word", []byte("georep"), "266939c2f1963bd1af01990e2349ebc8"},
		{"zeros", make([]byte, 3*page), "353ec539d6b8e52b5cd529e142e91440"},
		{"mixed", slices.Concat(random(1, 10000), make([]byte, 20000), random(2, 500)), "7dca6ea452e73ab603b2675c9db485b4"},
	} {
		h := NewHash(0x0123456789abcdef)
		_, _ = h.Write(c.content)
		sum := h.Sum()
		if got := hex.EncodeToString(sum[:]); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
