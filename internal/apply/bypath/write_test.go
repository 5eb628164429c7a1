package bypath

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/wire"
)

// random is content that nothing is known of.
func random(seed uint64, size int) []byte {
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := 0; i+8 <= len(b); i += 8 {
		v := r.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
	return b
}

func largeOf(n int, content []byte) change.Object {
	o := fileOf(n, "")
	o.Size = int64(len(content))
	o.Blocks = o.Size / 512
	return o
}

func (w *world) write(r *wire.Request, s *sending) change.Result {
	return w.applier.Write(context.Background(), r, s)
}

func (w *world) contains(name string, want []byte) {
	w.t.Helper()
	got, err := os.ReadFile(w.path(name))
	if err != nil || !bytes.Equal(got, want) {
		w.t.Fatalf("%s: %d bytes, %v, want %d other ones", name, len(got), err, len(want))
	}
}

func TestLargeFileResumesWhereItStopped(t *testing.T) {
	w := newWorld(t)
	content := random(1, partSize+partSize/2+100)
	w.file("f", "old")
	r := &wire.Request{Op: change.Write, At: w.at("f"), Sec: w.sec("f"), Object: largeOf(3, content)}
	res := w.write(r, &sending{content: content, wants: true, stopAt: 70})
	if res.Status != change.Failed || res.Errno != syscall.ECANCELED {
		t.Fatalf("interrupted: %+v", res)
	}
	w.contains("f", []byte("old"))
	w.restart()
	s := &sending{content: content, wants: true}
	if res := w.write(r, s); res.Status != change.Applied {
		t.Fatalf("resumed: %+v", res)
	}
	if s.copied < partSize-1<<20 {
		t.Errorf("only %d bytes had not to be sent again", s.copied)
	}
	w.contains("f", content)
	if left := w.leftovers(); left != nil {
		t.Error("left over:", left)
	}
}

func TestResumeUsesOldFileBehindThePart(t *testing.T) {
	w := newWorld(t)
	old := random(1, 3*partSize)
	content := bytes.Clone(old)
	copy(content[:partSize], random(2, partSize)) // only the head changed
	w.must(os.WriteFile(w.path("f"), old, 0o600))
	r := &wire.Request{Op: change.Write, At: w.at("f"), Sec: w.sec("f"), Object: largeOf(3, content)}
	w.write(r, &sending{content: content, wants: true, stopAt: 40})
	s := &sending{content: content, wants: true}
	if res := w.write(r, s); res.Status != change.Applied {
		t.Fatalf("resumed: %+v", res)
	}
	if s.copied < 2*partSize+3<<20 {
		t.Errorf("only %d bytes had not to be sent", s.copied)
	}
	w.contains("f", content)
}

func TestPartOfAnotherVersionIsUsedInPlace(t *testing.T) {
	for name, edit := range map[string]func(b []byte) []byte{
		"shifted":  func(b []byte) []byte { return append([]byte("inserted in front"), b...) },
		"moved":    func(b []byte) []byte { return append(bytes.Clone(b[2<<20:]), b[:2<<20]...) },
		"punched":  func(b []byte) []byte { clear(b[1<<20 : 3<<20]); return b },
		"repeated": func(b []byte) []byte { copy(b[4<<20:], b[:4<<20]); return b },
		"shorter":  func(b []byte) []byte { return b[:partSize] },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first := random(1, partSize+partSize/2)
			r := &wire.Request{Op: change.Make, At: w.at("f"), Object: largeOf(3, first)}
			w.write(r, &sending{content: first, wants: true, wrong: true}) // complete, but of no use
			second := edit(bytes.Clone(first))
			r.Object = largeOf(3, second)
			for try := range uint64(3) {
				s := &sending{content: second, wants: true, seed: try}
				res := w.write(r, s)
				if res.Status == change.Applied {
					if try == 0 && name != "moved" && s.copied < 4<<20 {
						t.Errorf("only %d bytes had not to be sent", s.copied)
					}
					w.contains("f", second)
					return
				}
				if !s.mismatch {
					t.Fatalf("%+v", res)
				}
			}
			t.Fatal("no try succeeded")
		})
	}
}

func TestMismatchLeavesTheOldFile(t *testing.T) {
	w := newWorld(t)
	w.file("f", long("old"))
	r := &wire.Request{Op: change.Write, At: w.at("f"), Sec: w.sec("f"), Object: fileOf(3, long("new"))}
	s := &sending{content: []byte(long("new")), wants: true, wrong: true}
	if res := w.write(r, s); res.Status != change.Failed || !s.mismatch {
		t.Fatalf("%+v", res)
	}
	w.contains("f", []byte(long("old")))
}

func TestFullDiskFreesThePart(t *testing.T) {
	w := newWorld(t)
	content := random(1, partSize+1)
	r := &wire.Request{Op: change.Make, At: w.at("f"), Object: largeOf(3, content)}
	writes := 0
	w.fail(func(call, _ string) error {
		if call == "pwrite64" {
			if writes++; writes > 20 {
				return syscall.ENOSPC
			}
		}
		return nil
	})
	if res := w.write(r, &sending{content: content, wants: true}); res.Errno != syscall.ENOSPC {
		t.Fatalf("%+v", res)
	}
	w.fail(nil)
	if left := w.leftovers(); left != nil {
		t.Error("left over:", left)
	}
}

func TestSecondTransferOfTheSameFileDoesNotShareThePart(t *testing.T) {
	w := newWorld(t)
	content := random(1, partSize+1)
	r := &wire.Request{Op: change.Make, At: w.at("f"), Object: largeOf(3, content)}
	at, err := w.applier.place(r.At)
	w.must(err)
	defer at.release()
	one, err := w.applier.openOutput(at, r, true)
	w.must(err)
	two, err := w.applier.openOutput(at, r, true)
	w.must(err)
	if one.part.openDir == nil || two.part.openDir != nil {
		t.Error("both transfers write the same part, or none does")
	}
	one.close(w.applier)
	two.close(w.applier)
}

// TestPartWithAnotherNameIsNotWrittenTo guards files that readers see.
func TestPartWithAnotherNameIsNotWrittenTo(t *testing.T) {
	w := newWorld(t)
	w.must(w.applier.Prepare())
	w.must(os.WriteFile(w.path(apply.Part+"/"+id(3).String()), random(5, partSize), 0o600))
	w.link(apply.Part+"/"+id(3).String(), "live")
	content := random(1, partSize+1)
	r := &wire.Request{Op: change.Make, At: w.at("f"), Object: largeOf(3, content)}
	if res := w.write(r, &sending{content: content, wants: true}); res.Status != change.Applied {
		t.Fatalf("%+v", res)
	}
	w.contains("live", random(5, partSize))
	w.contains("f", content)
}

func TestWriteWhereTheOccupantChanged(t *testing.T) {
	w := newWorld(t)
	w.file("f", long("old"))
	old := w.sec("f")
	w.must(os.Remove(w.path("f")))
	w.file("f", "an intruder")
	r := &wire.Request{Op: change.Write, At: w.at("f"), Sec: old, Object: fileOf(3, long("new"))}
	if res := w.write(r, &sending{content: []byte(long("new")), wants: true}); res.Status != change.Exists {
		t.Fatalf("%+v", res)
	}
	w.contains("f", []byte("an intruder"))
	w.must(os.Remove(w.path("f")))
	if res := w.write(r, &sending{content: []byte(long("new")), wants: true}); res.Status != change.Applied {
		t.Fatalf("where nothing is any more: %+v", res)
	}
	w.contains("f", []byte(long("new")))
}

func TestWriteReportsANameThatIsAnotherObject(t *testing.T) {
	w := newWorld(t)
	w.file("f", long("old"))
	w.link("f", "g")
	w.file("h", "an intruder")
	r := &wire.Request{Op: change.Write, At: w.at("f"), Sec: w.sec("f"), Names: []wire.Ref{w.at("h"), w.at("g")}, Object: fileOf(3, long("new"))}
	res := w.write(r, &sending{content: []byte(long("new")), wants: true})
	if res.Status != change.Stale || !strings.Contains(res.Detail, `"h"`) || res.Sec != w.sec("f") {
		t.Fatalf("%+v", res)
	}
	w.contains("f", []byte(long("new")))
	w.contains("g", []byte(long("new")))
	w.contains("h", []byte("an intruder"))
}

func TestSparseContentStaysSparse(t *testing.T) {
	w := newWorld(t)
	small := append(make([]byte, 200<<10), "the end"...)
	o := fileOf(3, string(small))
	r := &wire.Request{Op: change.Make, At: w.at("small"), Object: o, Inline: small, HasInline: true}
	if res := w.apply(r); res.Status != change.Applied {
		t.Fatalf("%+v", res)
	}
	large := make([]byte, 2*partSize)
	copy(large[partSize:], random(1, 64<<10))
	r = &wire.Request{Op: change.Make, At: w.at("large"), Object: largeOf(4, large)}
	if res := w.write(r, &sending{content: large, wants: true}); res.Status != change.Applied {
		t.Fatalf("%+v", res)
	}
	for name, want := range map[string][]byte{"small": small, "large": large} {
		w.contains(name, want)
		var st syscall.Stat_t
		w.must(syscall.Stat(w.path(name), &st))
		if st.Blocks*512 > 256<<10 {
			t.Errorf("%s takes %d bytes on disk", name, st.Blocks*512)
		}
	}
}

func TestReadersNeverSeeAMix(t *testing.T) {
	w := newWorld(t)
	versions := [][]byte{bytes.Repeat([]byte("a"), 100_000), bytes.Repeat([]byte("b"), 90_000)}
	w.must(os.WriteFile(w.path("f"), versions[0], 0o600))
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			got, err := os.ReadFile(w.path("f"))
			if err == nil && !bytes.Equal(got, versions[0]) && !bytes.Equal(got, versions[1]) {
				err = os.ErrInvalid
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	for i := range 200 {
		content := versions[(i+1)%2]
		r := &wire.Request{Op: change.Write, At: w.at("f"), Sec: w.sec("f"), Object: largeOf(3, content)}
		if res := w.write(r, &sending{content: content, wants: true}); res.Status != change.Applied {
			t.Fatalf("%+v", res)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal("a reader saw:", err)
	}
}
