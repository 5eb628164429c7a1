package delta

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawContent draws content that is made of few kinds of pieces, so that they repeat.
func drawContent(t *rapid.T, name string) []byte {
	var p []byte
	for i := range rapid.IntRange(0, 12).Draw(t, name+" pieces") {
		n := rapid.OneOf(rapid.IntRange(0, 20), rapid.IntRange(0, 3000), rapid.IntRange(0, 40000)).Draw(t, "length")
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			p = append(p, make([]byte, n)...)
		case 1:
			p = append(p, bytes.Repeat([]byte{byte(i)}, n)...)
		case 2:
			period := random(rapid.Uint64Range(0, 3).Draw(t, "seed"), rapid.IntRange(1, 999).Draw(t, "period"))
			p = append(p, bytes.Repeat(period, n/len(period)+1)[:n]...)
		default:
			p = append(p, random(rapid.Uint64Range(0, 3).Draw(t, "seed"), n)...)
		}
	}
	return p
}

// drawEdit changes content in one of the ways in which files change.
func drawEdit(t *rapid.T, p []byte) []byte {
	at := rapid.IntRange(0, len(p)).Draw(t, "at")
	to := min(len(p), at+rapid.OneOf(rapid.IntRange(0, 9), rapid.IntRange(0, 5000)).Draw(t, "stretch"))
	piece := random(rapid.Uint64().Draw(t, "new"), to-at)
	switch rapid.IntRange(0, 6).Draw(t, "edit") {
	case 0:
		return slices.Concat(p[:at], piece, p[at:])
	case 1:
		return slices.Concat(p[:at], p[to:])
	case 2:
		return slices.Concat(p[:at], piece, p[to:])
	case 3:
		return slices.Concat(p[:at], make([]byte, to-at), p[to:])
	case 4:
		return slices.Concat(p[to:], p[at:to], p[:at])
	case 5:
		return slices.Concat(p[:at], p[at:to], p[at:to], p[to:])
	default:
		return slices.Clone(p[:at])
	}
}

// drawHoles draws holes, which become zeros in p.
func drawHoles(t *rapid.T, p []byte) []stretch {
	var holes []stretch
	at := int64(0)
	for range rapid.IntRange(0, 6).Draw(t, "holes") {
		off := at + 1 + rapid.Int64Range(0, 20000).Draw(t, "distance")
		end := off + 1 + rapid.OneOf(rapid.Int64Range(0, 700), rapid.Int64Range(0, 30000)).Draw(t, "hole")
		if end > int64(len(p)) {
			break
		}
		holes = append(holes, stretch{off, end})
		at = end
	}
	return holes
}

func drawParams(t *rapid.T, basis, target int) Params {
	p := Choose(int64(basis), int64(target), rapid.Uint64().Draw(t, "seed"))
	if rapid.Bool().Draw(t, "own block") {
		p.Block = 4 * rapid.IntRange(minBlock/4, 3000).Draw(t, "block/4")
	}
	if rapid.Bool().Draw(t, "stronger") {
		p = p.Stronger()
	}
	return p
}

// TestPatchOfDiffIsTarget is the law of this package: whatever the basis and the edits, the patched basis is the target, holes included.
func TestPatchOfDiffIsTarget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		basis := drawContent(t, "basis")
		var edited []byte
		if rapid.IntRange(0, 9).Draw(t, "unrelated") == 0 {
			edited = drawContent(t, "target")
		} else {
			edited = slices.Clone(basis)
			for range rapid.IntRange(0, 6).Draw(t, "edits") {
				edited = drawEdit(t, edited)
			}
		}
		in := newContent(edited, drawHoles(t, edited)...)
		p := drawParams(t, len(basis), len(edited))
		var sig bytes.Buffer
		from := newContent(slices.Clone(basis), drawHoles(t, basis)...)
		if err := Sign(context.Background(), from, int64(len(basis)), p, &sig); err != nil {
			t.Fatal(err)
		}
		s, err := Load(p, int64(len(basis)), sig.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tryTransfer(from.data, s, in); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSignReadsNoHoles checks that a basis signed with and without its holes has one signature.
func TestSignReadsNoHoles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		basis := drawContent(t, "basis")
		in := newContent(basis, drawHoles(t, basis)...)
		p := drawParams(t, len(basis), 0)
		var with, without bytes.Buffer
		for _, err := range []error{
			Sign(context.Background(), in, int64(len(basis)), p, &with),
			Sign(context.Background(), in.Reader, int64(len(basis)), p, &without),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(with.Bytes(), without.Bytes()) {
			t.Fatal("holes change the signature")
		}
		if with.Len() != p.SignatureSize(int64(len(basis))) {
			t.Fatalf("%d bytes, SignatureSize says %d", with.Len(), p.SignatureSize(int64(len(basis))))
		}
	})
}
