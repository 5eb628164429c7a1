package index

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"georep/internal/change"
)

// packedBucket is a packed bucket alone in a store.
type packedBucket struct {
	t  testing.TB
	db *bbolt.DB
	m  merger
	a  arena
}

func newPackedBucket(t testing.TB, path string) *packedBucket {
	o := storeOptions(0)
	o.NoSync = true
	db, err := bbolt.Open(path, 0o600, o)
	if err != nil {
		t.Fatal(err)
	}
	p := &packedBucket{t: t, db: db}
	p.do(func(b *bbolt.Bucket) error { return nil })
	return p
}

func (p *packedBucket) do(f func(*bbolt.Bucket) error) {
	p.t.Helper()
	if err := p.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketTree)
		if err != nil {
			return err
		}
		return f(b)
	}); err != nil {
		p.t.Fatal(err)
	}
}

// merge applies edits and gives the values that were told to be replaced, by key.
func (p *packedBucket) merge(edits []edit) map[string]string {
	p.t.Helper()
	old := map[string]string{}
	p.a.reset()
	if err := p.db.View(func(tx *bbolt.Tx) error {
		p.m.begin(tx.Bucket(bucketTree).Cursor(), edits, &p.a)
		p.m.old = func(i int, value []byte) { old[string(edits[i].key)] = string(value) }
		return p.m.run()
	}); err != nil {
		p.t.Fatal(err)
	}
	p.do(p.m.apply)
	return old
}

// read gives the content, and the number of blocks and of their bytes.
func (p *packedBucket) read() (content map[string]string, blocks, size int) {
	p.t.Helper()
	content = map[string]string{}
	if err := p.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketTree)
		if err := b.ForEach(func(k, v []byte) error { blocks, size = blocks+1, size+len(v); return nil }); err != nil {
			return err
		}
		return soundBucket(b, func(k, v []byte) error { content[string(k)] = string(v); return nil })
	}); err != nil {
		p.t.Fatal(err)
	}
	return content, blocks, size
}

func drawKey(t *rapid.T) []byte {
	id := change.NewID(rapid.Uint64Range(1, 4).Draw(t, "ino"), uint64(rapid.IntRange(0, 1).Draw(t, "handle")))
	name := rapid.OneOf(rapid.StringMatching(`[a-c]{1,4}`), rapid.StringMatching(`shared-prefix-[0-9]{1,4}`), rapid.SampledFrom([]string{"", strings.Repeat("x", 271)}))
	return append(id[:], name.Draw(t, "name")...)
}

func drawEdit(t *rapid.T) edit {
	if rapid.IntRange(0, 2).Draw(t, "remove") == 0 {
		return edit{key: drawKey(t), remove: true}
	}
	size := rapid.SampledFrom([]int{0, 1, 60, 90, 300, 5000}).Draw(t, "size")
	return edit{key: drawKey(t), value: bytes.Repeat([]byte{byte(rapid.Int().Draw(t, "fill"))}, size)}
}

// TestPackedBucketEqualsMap merges random batches of edits, and looks every key up.
func TestPackedBucketEqualsMap(t *testing.T) {
	dir := scratch(t)
	rapid.Check(t, func(r *rapid.T) {
		path := filepath.Join(dir, "store")
		_ = os.Remove(path)
		p := newPackedBucket(t, path)
		defer p.db.Close()
		want := map[string]string{}
		for range rapid.IntRange(1, 6).Draw(r, "batches") {
			edits := rapid.SliceOfN(rapid.Custom(drawEdit), 1, 150).Draw(r, "edits")
			old := p.merge(edits)
			for k, v := range old {
				if was, found := want[k]; !found || was != v {
					r.Fatalf("the value replaced at %q is said to be %q, was %q, %v", k, v, was, found)
				}
			}
			before := maps.Clone(want)
			for _, e := range edits {
				if was, found := before[string(e.key)]; found && old[string(e.key)] != was {
					r.Fatalf("the value replaced at %q is not told", e.key)
				}
				delete(want, string(e.key))
				if !e.remove {
					want[string(e.key)] = string(e.value)
				}
			}
			got, _, _ := p.read()
			if !maps.Equal(got, want) {
				r.Fatalf("the bucket has %d entries, want %d", len(got), len(want))
			}
			p.seekAll(r, want)
		}
	})
}

// seekAll seeks keys that are there and keys that are not, from wherever the cursor stands.
func (p *packedBucket) seekAll(r *rapid.T, want map[string]string) {
	keys := slices.Sorted(maps.Keys(want))
	if err := p.db.View(func(tx *bbolt.Tx) error {
		c := newCursor(tx.Bucket(bucketTree))
		for range 40 {
			key := drawKey(r)
			steps := rapid.IntRange(0, 3).Draw(r, "steps") // after the seek
			at, _ := slices.BinarySearch(keys, string(key))
			k, v := c.seek(key)
			for step := 0; ; step++ {
				if at == len(keys) {
					if k != nil {
						return fmt.Errorf("seek %q gives %q behind the end", key, k)
					}
					break
				}
				if string(k) != keys[at] || string(v) != want[keys[at]] {
					return fmt.Errorf("seek %q gives %q, want %q", key, k, keys[at])
				}
				if step == steps {
					break
				}
				k, v = c.next()
				at++
			}
		}
		return c.err
	}); err != nil {
		r.Fatal(err)
	}
}

// TestBlocksStayFull checks that no order of work leaves many small blocks behind.
func TestBlocksStayFull(t *testing.T) {
	const total, batch = 10_000, 500
	keys := make([][]byte, total)
	for i := range keys {
		at, _ := file(i)
		keys[i] = appendPlace(nil, at)
	}
	shuffled := slices.Clone(keys)
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(total, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	value := make([]byte, 80)
	// full is how full the blocks are on average: 1 would be all of them as long as they may be.
	full := func(t *testing.T, p *packedBucket, entries int) float64 {
		content, blocks, size := p.read()
		if len(content) != entries {
			t.Fatalf("%d entries are left, want %d", len(content), entries)
		}
		return float64(size) / float64(max(1, blocks)) / blockMost
	}
	// Blocks that are halved when they are full are ln 2 = 0.69 full in the long run, less about half an entry each.
	least := map[string]float64{"ordered": 0.9, "random": 0.62}
	for name, order := range map[string][][]byte{"ordered": keys, "random": shuffled} {
		t.Run(name, func(t *testing.T) {
			p := newPackedBucket(t, filepath.Join(scratch(t), "store"))
			defer p.db.Close()
			for i := 0; i < total; i += batch {
				var edits []edit
				for _, k := range order[i : i+batch] {
					edits = append(edits, edit{key: k, value: value})
				}
				p.merge(edits)
				if done := i + batch; done%(4*batch) == 0 {
					if got := full(t, p, done); got < least[name] {
						t.Fatalf("with %d entries the blocks are %.2f full, want %.2f", done, got, least[name])
					}
				}
			}
			for i := 0; i < total*9/10; i += batch {
				var edits []edit
				for _, k := range shuffled[i : i+batch] {
					edits = append(edits, edit{key: k, remove: true})
				}
				p.merge(edits)
			}
			if got := full(t, p, total/10); got < 0.4 {
				t.Fatalf("with a tenth of the entries left the blocks are %.2f full, want 0.40", got)
			}
		})
	}
}

// FuzzBlock reads arbitrary bytes as a block.
func FuzzBlock(f *testing.F) {
	at, _ := file(1)
	key := appendPlace(nil, at)
	f.Add(key, appendEntry(nil, key, entry{key: key, value: []byte("value")}))
	f.Add(key, []byte{16, 200, 1, 0, 0})
	f.Add(key, []byte{0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, start, block []byte) {
		if len(start) < idSize || len(start) > longestKey {
			return
		}
		key, left := append(make([]byte, 0, longestKey), start...), block
		for ok := true; len(left) > 0 && ok; {
			before := bytes.Clone(key)
			var value []byte
			was := len(left)
			if key, value, left, ok = cutEntry(left, key); !ok {
				return
			}
			if len(key) < idSize || len(key) > longestKey || len(left) >= was {
				t.Fatalf("an entry has a key of %d bytes and took %d", len(key), was-len(left))
			}
			again, _, rest, ok := cutEntry(appendEntry(nil, before, entry{key: key, value: value}), bytes.Clone(before))
			if !ok || len(rest) > 0 || !bytes.Equal(again, key) {
				t.Fatalf("entry %x is not read back", key)
			}
		}
	})
}
