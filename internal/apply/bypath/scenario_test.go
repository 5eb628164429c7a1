package bypath

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/wire"
)

// scenario is one request in one situation.
type scenario struct {
	name string
	// given prepares the destination and makes the request. It may be called for many worlds.
	given func(w *world) *wire.Request
	// content makes the request a stream.
	content string
	// want is the tree at the end, as world.tree shows it, with "..." for the rest of a line that does not matter.
	want string
	// kept is how many displaced objects the stash holds at the end.
	kept int
	// stepwise means that the tree may be neither the old nor the new one in between, as there is no call that does it in
	// one step.
	stepwise bool
}

func (s *scenario) carryOut(w *world, r *wire.Request) change.Result {
	if s.content == "" {
		return w.apply(r)
	}
	return w.applier.Write(context.Background(), r, &sending{content: []byte(s.content), seed: 7, wants: r.Op == change.Write || len(s.content) >= partSize})
}

// matches compares a tree with what is wanted, line by line.
func matches(got, want string) error {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	if len(g) != len(w) {
		return fmt.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for i := range g {
		if head, ok := strings.CutSuffix(w[i], "..."); ok && strings.HasPrefix(g[i], head) {
			continue
		}
		if g[i] != w[i] {
			return fmt.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	return nil
}

func (w *world) keptCount() int {
	entries, err := os.ReadDir(w.path(apply.Hold))
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), keptPrefix) {
			n++
		}
	}
	return n
}

func stamp(n int) string { return fmt.Sprintf("%d.123456789", 1_600_000_000+n) }

// shown is a file as world.tree shows it.
func shown(n int, content string) string {
	a := attr(n)
	if len(content) > 40 {
		return fmt.Sprintf("file %o %d:%d %s %d bytes %016x", a.Mode, a.UID, a.GID, stamp(n), len(content), checksum([]byte(content)))
	}
	return fmt.Sprintf("file %o %d:%d %s %q", a.Mode, a.UID, a.GID, stamp(n), content)
}

func shownDir(n int) string {
	a := attr(n)
	return fmt.Sprintf("directory %o %d:%d", a.Mode, a.UID, a.GID)
}

func shownLink(n int, target string) string {
	return fmt.Sprintf("symlink 777 %d:%d %s -> %s", os.Getuid(), os.Getgid(), stamp(n), target)
}

func shownNode(n int, kind change.Kind) string {
	a := attr(n)
	return fmt.Sprintf("%s %o %d:%d %s", kind, a.Mode, a.UID, a.GID, stamp(n))
}

func dirOf(n int) change.Object {
	return change.Object{ID: id(n), Kind: change.Dir, Attr: attr(n), HasXattrs: true}
}

func linkOf(n int, target string) change.Object {
	return change.Object{ID: id(n), Kind: change.Symlink, Target: target, Attr: attr(n), HasXattrs: true, Nlink: 1}
}

func nodeOf(n int, kind change.Kind) change.Object {
	return change.Object{ID: id(n), Kind: kind, Attr: attr(n), HasXattrs: true, Nlink: 1}
}

func long(seed string) string { return strings.Repeat(seed+" and so on, at some length; ", 4000) }

func makeScenarios() []scenario {
	return []scenario{
		{name: "make directory", given: func(w *world) *wire.Request {
			w.dir("d")
			return &wire.Request{Op: change.Make, At: w.at("d/new"), Object: dirOf(3)}
		}, want: "d: directory...\nd/new: " + shownDir(3), stepwise: true},
		{name: "make directory that is there", given: func(w *world) *wire.Request {
			w.dir("d/inner")
			return &wire.Request{Op: change.Make, At: w.at("d"), Object: dirOf(3)}
		}, want: "d: " + shownDir(3) + "\nd/inner: directory..."},
		{name: "make directory over a file", given: func(w *world) *wire.Request {
			w.file("x", "a file")
			return &wire.Request{Op: change.Make, At: w.at("x"), Object: dirOf(3), Replace: true}
		}, want: "x: " + shownDir(3), kept: 1, stepwise: true},
		{name: "make file", given: func(w *world) *wire.Request {
			w.dir("d")
			return inline(wire.Request{Op: change.Make, At: w.at("d/f")}, 5, "content")
		}, want: "d: directory...\nd/f: " + shown(5, "content")},
		{name: "make empty file", given: func(w *world) *wire.Request {
			return &wire.Request{Op: change.Make, At: w.at("f"), Object: fileOf(5, "")}
		}, want: "f: " + shown(5, "")},
		{name: "make file over the known", given: func(w *world) *wire.Request {
			w.file("f", "old")
			return inline(wire.Request{Op: change.Make, At: w.at("f"), Over: w.sec("f")}, 5, "new content")
		}, want: "f: " + shown(5, "new content")},
		{name: "make file over the unknown", given: func(w *world) *wire.Request {
			w.file("f", "unknown")
			return inline(wire.Request{Op: change.Make, At: w.at("f"), Replace: true}, 5, "new content")
		}, want: "f: " + shown(5, "new content"), kept: 1},
		{name: "make file over a directory", given: func(w *world) *wire.Request {
			w.dir("f/a/b")
			w.file("f/a/c", "c")
			return inline(wire.Request{Op: change.Make, At: w.at("f"), Replace: true, MayRemove: true}, 5, "new content")
		}, want: "f: " + shown(5, "new content"), kept: 1, stepwise: true},
		{name: "make symlink", given: func(w *world) *wire.Request {
			w.dir("d")
			return &wire.Request{Op: change.Make, At: w.at("d/l"), Object: linkOf(2, "../outside/file")}
		}, want: "d: directory...\nd/l: " + shownLink(2, "../outside/file")},
		{name: "make symlink over a file", given: func(w *world) *wire.Request {
			w.file("l", "old")
			return &wire.Request{Op: change.Make, At: w.at("l"), Object: linkOf(2, "/etc"), Over: w.sec("l")}
		}, want: "l: " + shownLink(2, "/etc")},
		{name: "make fifo", given: func(w *world) *wire.Request {
			return &wire.Request{Op: change.Make, At: w.at("p"), Object: nodeOf(4, change.FIFO)}
		}, want: "p: " + shownNode(4, change.FIFO)},
		{name: "make socket over the unknown", given: func(w *world) *wire.Request {
			w.file("s", "unknown")
			return &wire.Request{Op: change.Make, At: w.at("s"), Object: nodeOf(4, change.Socket), Replace: true}
		}, want: "s: " + shownNode(4, change.Socket), kept: 1},
	}
}

func nameScenarios() []scenario {
	return []scenario{
		{name: "link", given: func(w *world) *wire.Request {
			w.dir("d")
			w.file("f", "content")
			w.must(os.Chtimes(w.path("f"), stdTime(1), stdTime(1)))
			return &wire.Request{Op: change.Link, At: w.at("d/g"), From: w.at("f"), Sec: w.sec("f"), Object: fileOf(1, "content")}
		}, want: "d: directory...\nd/g: file 644 0:0 " + stamp(1) + " \"content\" = d/g f\nf: file 644 0:0 " + stamp(1) + " \"content\" = d/g f"},
		{name: "link over the known", given: func(w *world) *wire.Request {
			w.file("f", "content")
			w.file("g", "old")
			return &wire.Request{Op: change.Link, At: w.at("g"), From: w.at("f"), Sec: w.sec("f"), Over: w.sec("g"), Object: fileOf(1, "content")}
		}, want: "f: file...\ng: file..."},
		{name: "link over the unknown", given: func(w *world) *wire.Request {
			w.file("f", "content")
			w.file("g", "unknown")
			return &wire.Request{Op: change.Link, At: w.at("g"), From: w.at("f"), Sec: w.sec("f"), Replace: true, Object: fileOf(1, "content")}
		}, want: "f: file...\ng: file...", kept: 1},
		{name: "link into the stash", given: func(w *world) *wire.Request {
			w.file("f", "content")
			return &wire.Request{Op: change.Link, At: w.at(apply.Hold + "/" + id(1).String()), From: w.at("f"), Sec: w.sec("f"), Over: w.sec("f"), Object: fileOf(1, "content")}
		}, want: "f: file..."},
		{name: "link of what was displaced", given: func(w *world) *wire.Request {
			w.file("f", "content")
			sec := w.sec("f")
			w.apply(inline(wire.Request{Op: change.Make, At: w.at("f"), Replace: true}, 2, "other"))
			return &wire.Request{Op: change.Link, At: w.at("g"), From: w.at("f"), Sec: sec, Object: fileOf(1, "content")}
		}, want: "f: " + shown(2, "other") + "\ng: file...", kept: 1},
		{name: "move file", given: func(w *world) *wire.Request {
			w.dir("d")
			w.file("f", "content")
			return &wire.Request{Op: change.Move, At: w.at("d/g"), From: w.at("f"), Sec: w.sec("f"), Object: fileOf(1, "content")}
		}, want: "d: directory...\nd/g: file 644..."},
		{name: "move directory", given: func(w *world) *wire.Request {
			w.dir("d", "from/a/b")
			w.file("from/f", "content")
			return &wire.Request{Op: change.Move, At: w.at("d/to"), From: w.at("from"), Sec: w.sec("from"), Object: dirOf(1)}
		}, want: "d: directory...\nd/to: directory...\nd/to/a: directory...\nd/to/a/b: directory...\nd/to/f: file..."},
		{name: "move directory over the unknown", given: func(w *world) *wire.Request {
			w.dir("from/a", "to/b")
			return &wire.Request{Op: change.Move, At: w.at("to"), From: w.at("from"), Sec: w.sec("from"), Object: dirOf(1), Replace: true, MayRemove: true}
		}, want: "to: directory...\nto/a: directory...", kept: 1, stepwise: true},
		{name: "move directory over an unknown file", given: func(w *world) *wire.Request {
			w.dir("from/a")
			w.file("to", "a file")
			return &wire.Request{Op: change.Move, At: w.at("to"), From: w.at("from"), Sec: w.sec("from"), Object: dirOf(1), Replace: true}
		}, want: "to: directory...\nto/a: directory...", kept: 1, stepwise: true},
		{name: "move into the stash", given: func(w *world) *wire.Request {
			w.dir("from/a")
			return &wire.Request{Op: change.Move, At: w.at(apply.Hold + "/" + id(1).String()), From: w.at("from"), Sec: w.sec("from"), Object: dirOf(1)}
		}, want: ""},
		{name: "move to where a link of it is", given: func(w *world) *wire.Request {
			w.file("f", "content")
			w.link("f", "g")
			return &wire.Request{Op: change.Move, At: w.at("g"), From: w.at("f"), Sec: w.sec("f"), Object: fileOf(1, "content")}
		}, want: "g: file..."},
		{name: "drop file", given: func(w *world) *wire.Request {
			w.file("f", "content")
			return &wire.Request{Op: change.Drop, At: w.at("f"), Sec: w.sec("f"), Object: change.Object{ID: id(1), Kind: change.File}}
		}, want: ""},
		{name: "drop tree", given: func(w *world) *wire.Request {
			w.dir("d/a/b", "d/c")
			w.file("d/a/f", "content")
			return &wire.Request{Op: change.Drop, At: w.at("d"), Sec: w.sec("d"), Object: change.Object{ID: id(1), Kind: change.Dir}, MayRemove: true}
		}, want: "", stepwise: true},
		{name: "drop empty directory", given: func(w *world) *wire.Request {
			w.dir("d")
			return &wire.Request{Op: change.Drop, At: w.at("d"), Sec: w.sec("d"), Object: change.Object{ID: id(1), Kind: change.Dir}}
		}, want: ""},
	}
}

func stateScenarios() []scenario {
	return []scenario{
		{name: "set file", given: func(w *world) *wire.Request {
			w.file("f", "content")
			return &wire.Request{Op: change.Set, At: w.at("f"), Sec: w.sec("f"), Object: fileOf(6, "content")}
		}, want: "f: " + shown(6, "content"), stepwise: true},
		{name: "set symlink", given: func(w *world) *wire.Request {
			w.must(os.Symlink("nowhere", w.path("l")))
			return &wire.Request{Op: change.Set, At: w.at("l"), Sec: w.sec("l"), Object: linkOf(6, "nowhere")}
		}, want: "l: " + shownLink(6, "nowhere"), stepwise: true},
		{name: "set root", given: func(w *world) *wire.Request {
			return &wire.Request{Op: change.Set, Object: dirOf(6)}
		}, want: ""},
		{name: "times", given: func(w *world) *wire.Request {
			w.dir("d/e")
			return &wire.Request{Op: change.Times, At: w.at("d/e"), Sec: w.sec("d/e"), Object: dirOf(6)}
		}, want: "d: directory...\nd/e: directory..."},
		{name: "adopt equal file", given: func(w *world) *wire.Request {
			w.file("f", "content")
			return inline(wire.Request{Op: change.Adopt, At: w.at("f"), Sec: w.sec("f")}, 6, "content")
		}, want: "f: " + shown(6, "content"), stepwise: true},
		{name: "adopt one name of a file", given: func(w *world) *wire.Request {
			w.file("f", "content")
			w.link("f", "g")
			w.must(os.Chtimes(w.path("f"), stdTime(1), stdTime(1)))
			return inline(wire.Request{Op: change.Adopt, At: w.at("f"), Sec: w.sec("f")}, 6, "content")
		}, want: "f: " + shown(6, "content") + "\ng: file 644 0:0 " + stamp(1) + " \"content\""},
		{name: "adopt by hash", given: func(w *world) *wire.Request {
			w.file("f", long("content"))
			r := &wire.Request{Op: change.Adopt, At: w.at("f"), Sec: w.sec("f"), Object: fileOf(6, long("content")), HasHash: true, HashSeed: 1}
			r.Hash = hashOf(long("content"))
			return r
		}, want: "f: " + shown(6, long("content")), stepwise: true},
		{name: "adopt another content", given: func(w *world) *wire.Request {
			w.file("f", "stranger")
			return inline(wire.Request{Op: change.Adopt, At: w.at("f"), Replace: true}, 6, "content")
		}, want: "f: " + shown(6, "content"), kept: 1},
		{name: "adopt where nothing is", given: func(w *world) *wire.Request {
			return inline(wire.Request{Op: change.Adopt, At: w.at("f")}, 6, "content")
		}, want: "f: " + shown(6, "content")},
		{name: "adopt symlink", given: func(w *world) *wire.Request {
			w.must(os.Symlink("there", w.path("l")))
			return &wire.Request{Op: change.Adopt, At: w.at("l"), Object: linkOf(6, "there")}
		}, want: "l: " + shownLink(6, "there"), stepwise: true},
		{name: "adopt a symlink that leads elsewhere", given: func(w *world) *wire.Request {
			w.must(os.Symlink("elsewhere", w.path("l")))
			return &wire.Request{Op: change.Adopt, At: w.at("l"), Object: linkOf(6, "there"), Replace: true}
		}, want: "l: " + shownLink(6, "there"), kept: 1},
	}
}

func streamScenarios() []scenario {
	return []scenario{
		{name: "write new", given: func(w *world) *wire.Request {
			w.dir("d")
			return &wire.Request{Op: change.Make, At: w.at("d/f"), Object: fileOf(6, long("new"))}
		}, content: long("new"), want: "d: directory...\nd/f: " + shown(6, long("new"))},
		{name: "write", given: func(w *world) *wire.Request {
			w.file("f", long("old"))
			return &wire.Request{Op: change.Write, At: w.at("f"), Sec: w.sec("f"), Object: fileOf(6, long("new"))}
		}, content: long("new"), want: "f: " + shown(6, long("new"))},
		{name: "write over the unknown", given: func(w *world) *wire.Request {
			w.file("f", long("unknown"))
			return &wire.Request{Op: change.Write, At: w.at("f"), Object: fileOf(6, long("new")), Replace: true}
		}, content: long("new"), want: "f: " + shown(6, long("new")), kept: 1},
		{name: "write all names", given: func(w *world) *wire.Request {
			w.dir("d")
			w.file("f", long("old"))
			w.link("f", "d/g")
			w.link("f", "h")
			return &wire.Request{Op: change.Write, At: w.at("f"), Sec: w.sec("f"), Names: []wire.Ref{w.at("d/g"), w.at("h")}, Object: fileOf(6, long("new"))}
		}, content: long("new"), want: "d: directory...\nd/g: " + shown(6, long("new")) + " = d/g f h\nf: " + shown(6, long("new")) + " = d/g f h\nh: " + shown(6, long("new")) + " = d/g f h", stepwise: true},
		{name: "write small with all names", given: func(w *world) *wire.Request {
			w.file("f", "old")
			w.link("f", "h")
			return inline(wire.Request{Op: change.Write, At: w.at("f"), Sec: w.sec("f"), Names: []wire.Ref{w.at("h")}}, 6, "new")
		}, want: "f: " + shown(6, "new") + " = f h\nh: " + shown(6, "new") + " = f h", stepwise: true},
	}
}

func scenarios() []scenario {
	all := makeScenarios()
	all = append(all, nameScenarios()...)
	all = append(all, stateScenarios()...)
	return append(all, streamScenarios()...)
}

func (s *scenario) check(t *testing.T, w *world, when string) {
	t.Helper()
	if err := matches(w.tree(), s.want); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	if left := w.leftovers(); left != nil {
		t.Fatalf("%s: left over: %v", when, left)
	}
	w.checkOutside()
}

func TestEveryOperationTwice(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t)
			r := s.given(w)
			first := s.carryOut(w, r)
			if first.Status != change.Applied {
				t.Fatalf("first: %+v", first)
			}
			s.check(t, w, "first")
			if w.keptCount() != s.kept {
				t.Errorf("%d objects were kept, want %d", w.keptCount(), s.kept)
			}
			if r.Op != change.Drop && first.Sec != w.secOf(r) {
				t.Errorf("identity %v was answered, but %v is there", first.Sec, w.secOf(r))
			}
			second := s.carryOut(w, r)
			if second.Status != change.Applied || second.Sec != first.Sec {
				t.Fatalf("second: %+v, the first was %+v", second, first)
			}
			s.check(t, w, "second")
			w.restart()
			if third := s.carryOut(w, r); third.Status != change.Applied || third.Sec != first.Sec {
				t.Fatalf("third: %+v, the first was %+v", third, first)
			}
			s.check(t, w, "third")
		})
	}
}
