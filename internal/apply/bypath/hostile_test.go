package bypath

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/delta"
	"georep/internal/need"
	"georep/internal/wire"
)

func TestHostileNamesTouchNothing(t *testing.T) {
	w := newWorld(t)
	w.must(w.applier.Prepare())
	w.file("f", "content")
	w.must(os.Symlink("../outside", w.path("way-out")))
	w.must(os.Symlink("/", w.path("top-of-all")))
	names := []string{"", ".", "..", "a/b", "../outside/file", "/etc/passwd", "x\x00y", strings.Repeat("n", 256), apply.Reserved}
	paths := []string{
		"..", "../outside", "/", "/etc", "a//b", "a/./b", "./", "a/..", "way-out", "way-out/x", "top-of-all", "top-of-all/etc",
		"x\x00y", strings.Repeat("d/", 5000) + "d", apply.Reserved, apply.Part, apply.Hold + "/..", apply.Hold + "/../part",
		apply.Reserved + "/", "/" + apply.Reserved,
	}
	before := w.tree()
	try := func(ref wire.Ref) {
		for op := change.Op(0); op <= change.Times+1; op++ {
			if ref.Name == "" && op != change.Make {
				continue // the root itself, which some operations may mean
			}
			for _, o := range []change.Object{fileOf(1, "evil"), dirOf(1), linkOf(1, "/etc/passwd"), nodeOf(1, change.FIFO)} {
				r := &wire.Request{Op: op, At: ref, From: w.at("f"), Object: o, Replace: true, MayRemove: true}
				if o.Kind == change.File {
					r.Inline, r.HasInline = []byte("evil"), true
				}
				if ref.Name == "" && o.Kind == change.Dir {
					continue
				}
				if res := w.apply(r); res.Status == change.Applied && op != change.Drop {
					t.Errorf("%v of a %v at %q was applied", op, o.Kind, ref)
				}
				r.At, r.From = w.at("g"), ref
				if op == change.Link || op == change.Move {
					if res := w.apply(r); res.Status == change.Applied {
						t.Errorf("%v from %q was applied", op, ref)
					}
				}
			}
			r := &wire.Request{Op: op, At: ref, Object: fileOf(1, "evil"), Replace: true, MayRemove: true}
			if res := w.write(r, &sending{content: []byte("evil")}); res.Status == change.Applied {
				t.Errorf("%v at %q was applied by a stream", op, ref)
			}
			r = &wire.Request{Op: change.Write, At: w.at("f"), Sec: w.sec("f"), Names: []wire.Ref{ref}, Object: fileOf(1, "content")}
			if res := w.write(r, &sending{content: []byte("content")}); res.Status == change.Applied {
				t.Errorf("a further name %q was applied", ref)
			}
			r.Sec = w.sec("f")
			w.must(os.Chtimes(w.path("f"), stdTime(1), stdTime(1)))
		}
	}
	for _, name := range names {
		try(wire.Ref{Name: name})
	}
	for _, path := range paths {
		try(wire.Ref{Dir: wire.Dir{Path: path}, Name: "x"})
		if err := w.applier.Look(context.Background(), wire.Dir{Path: path}, func(e wire.Entry) error { return nil }); err == nil {
			t.Errorf("%q was listed", path)
		}
	}
	w.checkOutside()
	if shape(w.tree()) != shape(before) {
		t.Errorf("the tree became\n%s\nit was\n%s", w.tree(), before)
	}
	if left := w.leftovers(); left != nil {
		t.Error("left over:", left)
	}
}

// shape is the names of a tree.
func shape(tree string) string {
	var names []string
	for line := range strings.SplitSeq(tree, "\n") {
		name, _, _ := strings.Cut(line, ":")
		names = append(names, name)
	}
	return strings.Join(names, "\n")
}

func TestNamesOfTheStashAreIdentities(t *testing.T) {
	w := newWorld(t)
	w.must(w.applier.Prepare())
	for _, name := range []string{"x", tempPrefix + "1", keptPrefix + id(1).String(), id(1).String() + "0"} {
		r := inline(wire.Request{Op: change.Make, At: wire.Ref{Dir: wire.Dir{Path: apply.Hold}, Name: name}}, 1, "x")
		if res := w.apply(r); res.Errno != syscall.EINVAL {
			t.Errorf("%q: %+v", name, res)
		}
	}
}

func TestHostileSteps(t *testing.T) {
	w := newWorld(t)
	content := []byte(long("content"))
	size := int64(len(content))
	for _, ops := range [][]delta.Op{
		{{Kind: delta.Copy, Off: 0, Len: size}},
		{{Kind: delta.Copy, Off: -1, Len: size}},
		{{Kind: delta.Copy, Off: math.MaxInt64, Len: math.MaxInt64}},
		{{Kind: delta.Hole, Len: math.MaxInt64}},
		{{Kind: delta.Hole, Len: -size}},
		{{Kind: delta.Data, Len: size, Data: content[:1]}},
		{{Kind: delta.Data, Len: 1, Data: content}},
		{{Kind: 77, Len: size}},
		{{Kind: delta.Hole, Len: size}, {Kind: delta.Hole, Len: 1}},
		{},
		nil,
	} {
		r := &wire.Request{Op: change.Make, At: w.at("f"), Object: fileOf(1, string(content))}
		s := &sending{content: content, ops: ops, prepared: true}
		if res := w.write(r, s); res.Status != change.Failed {
			t.Errorf("%v: %+v", ops, res)
		}
	}
	if w.tree() != "" {
		t.Error(w.tree())
	}
}

func TestAbsurdRequestsAreRefused(t *testing.T) {
	w := newWorld(t)
	for name, r := range map[string]wire.Request{
		"negative size":         {Op: change.Make, Object: change.Object{Kind: change.File, Size: -1}},
		"no content":            {Op: change.Make, Object: change.Object{Kind: change.File, Size: 1}},
		"content of other size": {Op: change.Make, Object: change.Object{Kind: change.File, Size: 2}, Inline: []byte("x"), HasInline: true},
		"content of a fifo":     {Op: change.Make, Object: change.Object{Kind: change.FIFO}, HasInline: true},
		"kind":                  {Op: change.Make, Object: change.Object{Kind: 99}},
		"mode":                  {Op: change.Make, Object: change.Object{Kind: change.Dir, Attr: change.Attr{Mode: 0o170000}}},
		"link of a directory":   {Op: change.Link, From: wire.Ref{Name: "d"}, Object: dirOf(1)},
		"write a directory":     {Op: change.Write, Object: dirOf(1)},
		"adopt without hash":    {Op: change.Adopt, Object: change.Object{Kind: change.File, Size: 5}},
	} {
		w.dir("d")
		r.At = wire.Ref{Name: "x"}
		if res := w.apply(&r); res.Status == change.Applied {
			t.Errorf("%s: %+v", name, res)
		}
	}
	r := inline(wire.Request{Op: change.Make}, 1, "x")
	if res := w.apply(r); res.Status != change.Failed {
		t.Errorf("a file as the root: %+v", res)
	}
	if got := shape(w.tree()); got != "d" {
		t.Errorf("there is %q", got)
	}
}

func TestDirectoryThatIsAnotherIsStale(t *testing.T) {
	w := newWorld(t)
	w.dir("d/sub")
	at := w.at("d/f")
	w.must(os.Rename(w.path("d"), w.path("e")))
	w.dir("d")
	r := inline(wire.Request{Op: change.Make, At: at}, 1, "x")
	if res := w.apply(r); res.Status != change.Stale {
		t.Fatalf("%+v", res)
	}
	// Known by its identity it is found where it is now.
	known := w.at("e/f")
	if res := w.apply(inline(wire.Request{Op: change.Make, At: known}, 2, "y")); res.Status != change.Applied {
		t.Fatalf("%+v", res)
	}
	w.must(os.Rename(w.path("e"), w.path("elsewhere")))
	at.Name = "g"
	if res := w.apply(inline(wire.Request{Op: change.Make, At: at}, 1, "x")); res.Status != change.Applied {
		t.Fatalf("%+v", res)
	}
	w.contains("elsewhere/g", []byte("x"))
}

func TestDirectoryMovedOutIsNotUsed(t *testing.T) {
	w := newWorld(t)
	w.dir("d")
	at := w.at("d/f")
	if res := w.apply(inline(wire.Request{Op: change.Make, At: at}, 1, "x")); res.Status != change.Applied {
		t.Fatalf("%+v", res)
	}
	w.must(os.Rename(w.path("d"), filepath.Join(w.base, "moved")))
	w.applier.dirs.mu.Lock()
	for _, d := range w.applier.dirs.byID {
		d.checked = d.checked.Add(-2 * trustFor)
	}
	w.applier.dirs.mu.Unlock()
	at.Name = "g"
	if res := w.apply(inline(wire.Request{Op: change.Make, At: at}, 2, "x")); res.Status != change.Stale {
		t.Fatalf("%+v", res)
	}
	if _, err := os.Stat(filepath.Join(w.base, "moved", "g")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a directory that was moved out was written to:", err)
	}
}

func TestDirectoryRemovedAndMadeAgain(t *testing.T) {
	w := newWorld(t)
	w.dir("d")
	at := w.at("d/f")
	w.apply(inline(wire.Request{Op: change.Make, At: at}, 1, "x"))
	w.must(os.RemoveAll(w.path("d")))
	if res := w.apply(inline(wire.Request{Op: change.Make, At: at}, 1, "x")); res.Status != change.Stale {
		t.Errorf("removed: %+v", res)
	}
	w.dir("d")
	if res := w.apply(inline(wire.Request{Op: change.Make, At: w.at("d/f")}, 1, "x")); res.Status != change.Applied {
		t.Errorf("made again: %+v", res)
	}
	w.must(os.RemoveAll(w.path(apply.Reserved)))
	over := inline(wire.Request{Op: change.Make, At: w.at("d/f"), Over: w.sec("d/f")}, 2, "y")
	if res := w.apply(over); res.Status != change.Applied {
		t.Errorf("without the reserved directory: %+v", res)
	}
}

func TestSymlinkRaceStaysInside(t *testing.T) {
	w := newWorld(t)
	w.dir("d/e")
	at := w.at("d/e/f")
	at.Dir.Sec = change.ID{} // as if the worker knew only the path
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.Rename(w.path("d/e"), w.path("d/real"))
			_ = os.Symlink("../../outside", w.path("d/e"))
			_ = os.Remove(w.path("d/e"))
			_ = os.Rename(w.path("d/real"), w.path("d/e"))
		}
	}()
	for i := range 2000 {
		at.Name = "f" + string(rune('a'+i%20))
		w.apply(inline(wire.Request{Op: change.Make, At: at, Replace: true}, i%50, "x"))
		w.apply(&wire.Request{Op: change.Drop, At: at, Object: change.Object{Kind: change.File}, MayRemove: true})
	}
	close(stop)
	<-done
	w.checkOutside()
}

func TestMountIsNotEntered(t *testing.T) {
	need.Root(t)
	w := newWorld(t)
	w.dir("d/m", "e")
	w.file("f", "content")
	if err := syscall.Mount("none", w.path("d/m"), "tmpfs", 0, "size=1m"); err != nil {
		need.Missing(t, "the right to mount: "+err.Error())
	}
	defer func() { w.must(syscall.Unmount(w.path("d/m"), syscall.MNT_DETACH)) }()
	w.must(os.WriteFile(w.path("d/m/there"), []byte("x"), 0o600))
	for name, r := range map[string]*wire.Request{
		"make in it":   inline(wire.Request{Op: change.Make, At: wire.Ref{Dir: wire.Dir{Path: "d/m"}, Name: "x"}}, 1, "x"),
		"make over it": {Op: change.Make, At: w.at("d/m"), Object: dirOf(1), Replace: true, MayRemove: true},
		"drop it":      {Op: change.Drop, At: w.at("d/m"), Object: dirOf(1), MayRemove: true},
		"set it":       {Op: change.Set, At: w.at("d/m"), Object: dirOf(1)},
		"link into it": {Op: change.Link, At: wire.Ref{Dir: wire.Dir{Path: "d/m"}, Name: "y"}, From: w.at("f"), Sec: w.sec("f"), Object: fileOf(1, "")},
	} {
		if res := w.apply(r); res.Status != change.Failed || res.Errno != syscall.EXDEV || !strings.Contains(res.Detail, "mounted") {
			t.Errorf("%s: %+v", name, res)
		}
	}
	res := w.apply(&wire.Request{Op: change.Drop, At: w.at("d"), Sec: w.sec("d"), Object: dirOf(1), MayRemove: true})
	if res.Status != change.Failed {
		t.Errorf("drop of what holds a mount: %+v", res)
	}
	if _, err := os.Stat(w.path("d/m/there")); err != nil {
		t.Error("the mounted file system was cleared:", err)
	}
}
