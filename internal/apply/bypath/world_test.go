package bypath

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/delta"
	"georep/internal/rooted"
	"georep/internal/wire"
)

// world is a destination, with something beside it that must stay as it is.
type world struct {
	t       testing.TB
	base    string
	top     string
	applier *Applier
	root    *rooted.Root

	mu     sync.Mutex
	faults func(call, path string) error // nil: none
}

const outside = "must not change\n"

func newWorld(t testing.TB) *world { return newWorldAt(t, t.TempDir()) }

func newWorldAt(t testing.TB, base string) *world {
	t.Helper()
	w := openWorld(t, base)
	t.Cleanup(w.stop)
	return w
}

// openWorld makes a world that the caller must stop.
func openWorld(t testing.TB, base string) *world {
	t.Helper()
	w := &world{t: t, base: base, top: filepath.Join(base, "top")}
	w.must(os.Mkdir(w.top, 0o755))
	w.must(os.Mkdir(filepath.Join(base, "outside"), 0o755))
	w.must(os.WriteFile(filepath.Join(base, "outside", "file"), []byte(outside), 0o600))
	w.start()
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// start opens the destination as a new process would.
func (w *world) start() {
	w.t.Helper()
	root, err := rooted.Open(w.top, rooted.WithScratch(apply.Hold), rooted.WithFaults(w.fault))
	w.must(err)
	w.root = root
	w.applier, err = New(Options{Root: root})
	w.must(err)
}

func (w *world) stop() {
	w.fail(nil)
	w.must(w.applier.Close())
	w.must(w.root.Close())
}

// restart is what follows the death of a process.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
	w.must(w.applier.Sweep(context.Background()))
}

func (w *world) fail(f func(call, path string) error) {
	w.mu.Lock()
	w.faults = f
	w.mu.Unlock()
}

func (w *world) fault(call, path string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.faults == nil {
		return nil
	}
	return w.faults(call, path)
}

func (w *world) path(name string) string { return filepath.Join(w.top, name) }

// dir, file and link put things at the destination directly.
func (w *world) dir(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.must(os.MkdirAll(w.path(name), 0o755))
	}
}

func (w *world) file(name, content string) {
	w.t.Helper()
	w.must(os.WriteFile(w.path(name), []byte(content), 0o644))
}

func (w *world) link(from, to string) {
	w.t.Helper()
	w.must(os.Link(w.path(from), w.path(to)))
}

// sec is the identity of what is at a path; none if nothing is.
func (w *world) sec(name string) change.ID {
	w.t.Helper()
	dir, last := filepath.Split(name)
	d, err := w.root.OpenDir(strings.TrimSuffix(dir, "/"))
	w.must(err)
	defer d.Close()
	if last == "" {
		self, err := d.Self()
		w.must(err)
		return self.ID
	}
	o, err := d.Stat(last)
	if errors.Is(err, syscall.ENOENT) {
		return change.ID{}
	}
	w.must(err)
	return o.ID
}

// at addresses a path as a worker does: by the path and the identity of its directory.
func (w *world) at(name string) wire.Ref {
	w.t.Helper()
	dir, last := filepath.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	ref := wire.Ref{Dir: wire.Dir{Path: dir}, Name: last}
	if dir != apply.Hold {
		ref.Dir.Sec = w.sec(dir)
	}
	return ref
}

func (w *world) apply(r *wire.Request) change.Result {
	return w.applier.Apply(context.Background(), r)
}

func (w *world) checkOutside() {
	w.t.Helper()
	got, err := os.ReadFile(filepath.Join(w.base, "outside", "file"))
	if err != nil || string(got) != outside {
		w.t.Fatalf("something outside was touched: %q, %v", got, err)
	}
	entries, err := os.ReadDir(filepath.Join(w.base, "outside"))
	if err != nil || len(entries) != 1 {
		w.t.Fatalf("something outside was made: %v, %v", entries, err)
	}
}

// tree describes the destination: a line for each path but the reserved ones. Files with several names show them.
func (w *world) tree() string {
	w.t.Helper()
	names := map[uint64][]string{}
	lines := map[string]string{}
	err := filepath.WalkDir(w.top, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(strings.TrimPrefix(path, w.top), "/")
		if name == apply.Reserved {
			return filepath.SkipDir
		}
		if name == "" {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		lines[name] = describe(path, st)
		if !d.IsDir() {
			names[st.Ino] = append(names[st.Ino], name)
		}
		return nil
	})
	w.must(err)
	for _, same := range names {
		sort.Strings(same)
		for _, name := range same {
			if len(same) > 1 {
				lines[name] += " = " + strings.Join(same, " ")
			}
		}
	}
	var all []string
	for name := range lines {
		all = append(all, name)
	}
	sort.Strings(all)
	for i, name := range all {
		all[i] = name + ": " + lines[name]
	}
	return strings.Join(all, "\n")
}

func describe(path string, st *syscall.Stat_t) string {
	s := fmt.Sprintf("%s %o %d:%d", change.KindOfMode(st.Mode), st.Mode&0o7777, st.Uid, st.Gid)
	if st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		s += fmt.Sprintf(" %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
	}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		content, err := os.ReadFile(path)
		if err != nil {
			return err.Error()
		}
		if len(content) > 40 {
			return s + fmt.Sprintf(" %d bytes %016x", len(content), checksum(content))
		}
		return s + fmt.Sprintf(" %q", content)
	case syscall.S_IFLNK:
		target, _ := os.Readlink(path)
		return s + " -> " + target
	}
	return s
}

func checksum(b []byte) []byte {
	h := delta.NewHash(1)
	_, _ = h.Write(b)
	sum := h.Sum()
	return sum[:8]
}

// leftovers are the names in the reserved directory that no worker knows.
func (w *world) leftovers() []string {
	var names []string
	for _, dir := range []string{apply.Hold, apply.Part} {
		entries, err := os.ReadDir(w.path(dir))
		if err != nil && !os.IsNotExist(err) {
			w.t.Fatal(err)
		}
		for _, e := range entries {
			if dir == apply.Part || strings.HasPrefix(e.Name(), tempPrefix) || strings.HasPrefix(e.Name(), rooted.ScratchPrefix) {
				names = append(names, dir+"/"+e.Name())
			}
		}
	}
	return names
}

// attr is some attributes; n makes them differ.
func attr(n int) change.Attr {
	return change.Attr{
		Mode: 0o600 | uint32(n%8)<<3, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
		Mtime: change.Time{Sec: 1_600_000_000 + int64(n), Nsec: 123_456_789},
	}
}

// id is an identity on the primary.
func id(n int) change.ID { return change.NewID(uint64(n), 0xabcdef) }

func fileOf(n int, content string) change.Object {
	return change.Object{ID: id(n), Kind: change.File, Attr: attr(n), HasXattrs: true, Size: int64(len(content)), Blocks: 8, Nlink: 1}
}

func inline(r wire.Request, n int, content string) *wire.Request {
	r.Object = fileOf(n, content)
	r.Inline, r.HasInline = []byte(content), true
	return &r
}

// sending is a worker that sends content, as wire.Stream shows it.
type sending struct {
	content []byte
	wants   bool
	seed    uint64
	stopAt  int // steps after which the sender gives up; 0: never
	wrong   bool

	offered  bool
	sig      bytes.Buffer
	basis    int64
	params   delta.Params
	ops      []delta.Op
	prepared bool
	sent     int
	sum      [16]byte
	copied   int64 // bytes that need not be sent
	mismatch bool
	final    *wire.Request
}

func (s *sending) Final() *wire.Request { return s.final }
func (s *sending) Basis() bool          { return s.wants && !s.offered }
func (s *sending) Seed() uint64         { return s.seed }
func (s *sending) Sum() [16]byte        { return s.sum }

func (s *sending) Mismatch() change.Result {
	s.mismatch = true
	return change.Result{Status: change.Failed, Errno: syscall.EBADMSG, Call: "write"}
}

func (s *sending) Offer(size int64, write func(io.Writer, delta.Params) error) error {
	s.offered, s.basis = true, size
	s.params = delta.Choose(size, int64(len(s.content)), s.seed)
	return write(&s.sig, s.params)
}

type memory struct{ *bytes.Reader }

func (m memory) Extents(size int64, fn func(off, n int64, hole bool) error) error {
	buf := make([]byte, page)
	for off := int64(0); off < size; off += page {
		n := min(page, size-off)
		if _, err := m.ReadAt(buf[:n], off); err != nil {
			return err
		}
		if err := fn(off, n, n == page && bytes.Equal(buf, make([]byte, page))); err != nil {
			return err
		}
	}
	return nil
}

func (s *sending) prepare() error {
	s.prepared = true
	hash := delta.NewHash(s.seed)
	emit := func(op delta.Op) error {
		op.Data = bytes.Clone(op.Data)
		s.ops = append(s.ops, op)
		if op.Kind == delta.Copy {
			s.copied += op.Len
		}
		return nil
	}
	in := memory{bytes.NewReader(s.content)}
	var err error
	if s.basis > 0 {
		var signature *delta.Signature
		if signature, err = delta.Load(s.params, s.basis, s.sig.Bytes()); err == nil {
			err = signature.Diff(context.Background(), in, int64(len(s.content)), hash, emit)
		}
	} else {
		err = delta.Whole(context.Background(), in, int64(len(s.content)), hash, emit)
	}
	s.sum = hash.Sum()
	if s.wrong {
		s.sum[0]++
	}
	return err
}

func (s *sending) Next() (delta.Op, error) {
	if !s.prepared {
		if err := s.prepare(); err != nil {
			return delta.Op{}, err
		}
	}
	if s.stopAt > 0 && s.sent >= s.stopAt {
		return delta.Op{}, wire.ErrAborted
	}
	if s.sent == len(s.ops) {
		return delta.Op{}, io.EOF
	}
	s.sent++
	return s.ops[s.sent-1], nil
}
