package changelog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"georep/internal/change"
	"georep/internal/gluster"
)

const (
	textHeader   = "GlusterFS Changelog | version: v1.2 | encoding : 2\n"
	binaryHeader = "GlusterFS Changelog | version: v1.2 | encoding : 1\n"
	rootGFID     = "00000000-0000-0000-0000-000000000001"
	aGFID        = "8eea17cb-f420-485e-bdb9-a32e0ac0ce73"
	bGFID        = "e96a335f-4366-4662-a8dd-2642c7c33b3d"
)

func id(t testing.TB, text string) change.ID {
	t.Helper()
	id, err := gluster.ParseGFID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// all parses a journal that is complete.
func all(t testing.TB, data string) ([]Record, Parser) {
	t.Helper()
	var p Parser
	var found []Record
	used, err := p.Parse([]byte(data), true, func(r *Record) error { found = append(found, *r); return nil })
	if err != nil || used != len(data) {
		t.Fatalf("%d of %d bytes: %v", used, len(data), err)
	}
	return found, p
}

// text builds a journal: ^ stands for NUL.
func text(records ...string) string {
	return textHeader + strings.ReplaceAll(strings.Join(records, ""), "^", "\x00")
}

func TestRecordsOfText(t *testing.T) {
	a, b := id(t, aGFID), id(t, bGFID)
	odd := "new\nline \xff%"
	found, p := all(t, text(
		"E"+aGFID+"^4^16877^0^0^"+rootGFID+"/crash^",
		"E"+bGFID+"^23^33188^7^8^"+aGFID+"/"+odd+"^",
		"D"+bGFID+"^",
		"M"+rootGFID+"^17^",
		"E"+bGFID+"^8^"+aGFID+"/c1^"+rootGFID+"/D^",
		"E"+bGFID+"^9^"+aGFID+"/c2^",
		"E"+bGFID+"^5^"+aGFID+"/c2^^^",
		"E"+bGFID+"^5^"+rootGFID+"/rootf^rootf^",
		"E"+aGFID+"^6^"+rootGFID+"/crash^^^",
		"E"+aGFID+"^7^"+rootGFID+"/link^",
	))
	want := []Record{
		{Kind: Entry, ID: a, Fop: Mkdir, Mode: 0o40755, At: change.Place{Dir: gluster.Root, Name: "crash"}},
		{Kind: Entry, ID: b, Fop: Create, Mode: 0o100644, UID: 7, GID: 8, At: change.Place{Dir: a, Name: odd}},
		{Kind: Data, ID: b},
		{Kind: Meta, ID: gluster.Root, Fop: 17},
		{Kind: Entry, ID: b, Fop: Rename, From: change.Place{Dir: a, Name: "c1"}, At: change.Place{Dir: gluster.Root, Name: "D"}},
		{Kind: Entry, ID: b, Fop: Link, At: change.Place{Dir: a, Name: "c2"}},
		{Kind: Entry, ID: b, Fop: Unlink, At: change.Place{Dir: a, Name: "c2"}},
		{Kind: Entry, ID: b, Fop: Unlink, At: change.Place{Dir: gluster.Root, Name: "rootf"}},
		{Kind: Entry, ID: a, Fop: Rmdir, At: change.Place{Dir: gluster.Root, Name: "crash"}},
		{Kind: Entry, ID: a, Fop: Symlink, At: change.Place{Dir: gluster.Root, Name: "link"}},
	}
	if !reflect.DeepEqual(found, want) || p.Damage != 0 {
		t.Errorf("damage %d, got\n%+v, want\n%+v", p.Damage, found, want)
	}
}

func TestRecordsOfBinary(t *testing.T) {
	data, err := hex.DecodeString(strings.ReplaceAll(
		"45 5c4707adacc0417197460833f54468da 00 04000000 00 ed410000 00 00000000 00 00000000 00 00000000000000000000000000000001 2f 626e 00"+
			"44 5a9e35e03af64967b44cb166153747a5 00"+
			"4d 5a9e35e03af64967b44cb166153747a5 00 26000000 00"+
			"45 5a9e35e03af64967b44cb166153747a5 00 05000000 00 5c4707adacc0417197460833f54468da 2f 68 00 00 00", " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	found, p := all(t, binaryHeader+string(data))
	if p.Damage != 0 || len(found) != 4 {
		t.Fatalf("damage %d, %+v", p.Damage, found)
	}
	if r := found[0]; r.Fop != Mkdir || r.Mode != 0o40755 || r.At != (change.Place{Dir: gluster.Root, Name: "bn"}) {
		t.Errorf("%+v", r)
	}
	if r := found[3]; r.Fop != Unlink || r.At.Name != "h" || gluster.GFID(r.At.Dir) != "5c4707ad-acc0-4171-9746-0833f54468da" {
		t.Errorf("%+v", r)
	}
}

func TestOldVersionHasNoPath(t *testing.T) {
	data := strings.Replace(text("E"+bGFID+"^5^"+aGFID+"/c2^", "D"+bGFID+"^"), "v1.2", "v1.1", 1)
	found, p := all(t, data)
	if len(found) != 2 || p.Damage != 0 || found[0].At.Name != "c2" {
		t.Errorf("damage %d, %+v", p.Damage, found)
	}
}

func TestUnknownHeadersAreRefused(t *testing.T) {
	for _, header := range []string{"GlusterFS Changelog | version: v2.0 | encoding : 2\n", "GlusterFS Changelog | version: v1.3 | encoding : 2\n",
		"GlusterFS Changelog | version: v1.2 | encoding : 3\n", "something else\n", strings.Repeat("x", 300)} {
		var p Parser
		if _, err := p.Parse([]byte(header), true, func(*Record) error { return nil }); !errors.Is(err, ErrHeader) {
			t.Errorf("%.40q: %v", header, err)
		}
	}
}

// TestInPieces gives a journal byte by byte, as it is when it is read while it is written.
func TestInPieces(t *testing.T) {
	data := []byte(text("E"+bGFID+"^23^33188^0^0^"+aGFID+"/f^", "E"+bGFID+"^5^"+aGFID+"/c2^^^", "E"+bGFID+"^5^"+aGFID+"/c3^a/c3^", "D"+bGFID+"^", "M"+bGFID+"^38^"))
	var p Parser
	var found []Record
	start := 0
	for end := 1; end <= len(data); end++ {
		n, err := p.Parse(data[start:end], false, func(r *Record) error { found = append(found, *r); return nil })
		if err != nil {
			t.Fatal(err)
		}
		start += n
	}
	whole, _ := all(t, string(data))
	if !reflect.DeepEqual(found, whole) || start != len(data) || p.Damage != 0 {
		t.Errorf("%d of %d bytes, damage %d: %+v", start, len(data), p.Damage, found)
	}
}

func TestDamage(t *testing.T) {
	good := "D" + bGFID + "^"
	for name, c := range map[string]struct {
		data   string
		want   int
		damage int
	}{
		"cut off at the end":       {text(good, "E"+bGFID+"^23^331"), 1, 1},
		"zeros at the end":         {text(good) + strings.Repeat("\x00", 4096), 1, 1},
		"half a record in between": {text(good, "E"+bGFID+"^23^33188^0", "^", good, good), 3, 1},
		"text in between":          {text(good, "rubbish^", good), 2, 1},
		"a name that is none":      {text(good, "E"+bGFID+"^9^"+aGFID+"/a/b^", good), 2, 1},
		"twice":                    {text(good, "x^", good, "y^", good), 3, 2},
	} {
		found, p := all(t, c.data)
		if len(found) != c.want || p.Damage != c.damage {
			t.Errorf("%s: %d records with damage %d, want %d with %d", name, len(found), p.Damage, c.want, c.damage)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(text("E"+bGFID+"^23^33188^0^0^"+aGFID+"/f^", "E"+bGFID+"^5^"+aGFID+"/c2^^^", "D"+bGFID+"^")), 7)
	f.Add([]byte(binaryHeader+"D0123456789abcdef\x00"), 3)
	f.Add([]byte(text("x^D"+bGFID+"^")), 60)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		read := func(pieces ...[]byte) (out []string, err error) {
			var p Parser
			var rest []byte
			for i, piece := range pieces {
				rest = append(rest, piece...)
				n, err := p.Parse(rest, i == len(pieces)-1, func(r *Record) error {
					if !change.ValidName(r.At.Name) && r.Kind == Entry {
						t.Fatalf("a name that is none: %q", r.At.Name)
					}
					out = append(out, fmt.Sprintf("%+v", *r))
					return nil
				})
				if n < 0 || n > len(rest) {
					t.Fatalf("%d of %d bytes", n, len(rest))
				}
				if err != nil {
					return out, err
				}
				rest = bytes.Clone(rest[n:])
			}
			return out, nil
		}
		whole, err := read(data)
		at := min(max(cut, 0), len(data))
		halves, other := read(data[:at], data[at:])
		if err == nil && other == nil && len(data) < MaxRecord && !reflect.DeepEqual(whole, halves) {
			t.Errorf("whole: %q\nin two: %q", whole, halves)
		}
	})
}
