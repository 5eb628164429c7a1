package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"georep/internal/apply"
	"georep/internal/change"
	"georep/internal/need"
	"georep/internal/wire"
)

// serveVariable makes this test program an agent.
const serveVariable = "GEOREP_TEST_SERVE"

func TestMain(m *testing.M) {
	if outside := os.Getenv(confineVariable); outside != "" {
		wrong := confined(outside, os.Args[1:])
		os.Stderr.WriteString(strings.Join(wrong, "\n"))
		os.Exit(min(1, len(wrong)))
	}
	if os.Getenv(serveVariable) != "" {
		err := Serve(context.Background(), os.Stdin, os.Stdout, os.Stderr, "1.2.3", os.Args[1:])
		if err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// process is an agent in a process of its own.
type process struct {
	io.Reader
	io.WriteCloser
	cmd    *exec.Cmd
	stderr bytes.Buffer
	out    io.Closer
	once   sync.Once
}

// Close may be called twice; what it closes is closed by the end of the process as well.
func (p *process) Close() error {
	p.once.Do(func() {
		_ = p.WriteCloser.Close()
		_ = p.out.Close()
	})
	return nil
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], args...)}
	p.cmd.Env = append(os.Environ(), serveVariable+"=1")
	p.cmd.Stderr = &p.stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Reader, p.WriteCloser, p.out = out, in, out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	return p
}

// end waits for the process and gives what it said last.
func (p *process) end(t *testing.T) (string, error) {
	t.Helper()
	timer := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	err := p.cmd.Wait()
	return p.stderr.String(), err
}

func connect(t *testing.T, p *process) *wire.Client {
	t.Helper()
	c, err := wire.NewClient(context.Background(), p, wire.ClientOptions{Version: "test"})
	if err != nil {
		said, _ := p.end(t)
		t.Fatalf("%v; the agent said: %s", err, said)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func do(t *testing.T, c *wire.Client, r *wire.Request) change.Result {
	t.Helper()
	answer := make(chan change.Result, 1)
	if err := c.Do(context.Background(), r, func(res change.Result) { answer <- res }); err != nil {
		t.Fatal(err)
	}
	select {
	case res := <-answer:
		return res
	case <-c.Done():
		t.Fatal("the connection ended: ", c.Wait())
	}
	return change.Result{}
}

func at(dir wire.Dir, name string) wire.Ref { return wire.Ref{Dir: dir, Name: name} }

func object(n int, kind change.Kind) change.Object {
	return change.Object{
		ID: change.NewID(uint64(n), 1), Kind: kind, HasXattrs: true, Nlink: 1, Blocks: 8,
		Attr: change.Attr{Mode: 0o666, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Mtime: change.Time{Sec: 1_500_000_000, Nsec: 5}},
	}
}

func makeFile(ref wire.Ref, n int, content string) *wire.Request {
	r := &wire.Request{Op: change.Make, At: ref, Object: object(n, change.File), Inline: []byte(content), HasInline: true}
	r.Object.Size = int64(len(content))
	return r
}

type content struct{ *strings.Reader }

func (c content) Extents(size int64, fn func(off, n int64, hole bool) error) error {
	return fn(0, size, false)
}
func (content) Unchanged() error { return nil }

// TestAllOperationsWhileConfined carries out every operation by a process that keeps itself inside its directory.
func TestAllOperationsWhileConfined(t *testing.T) {
	root := filepath.Join(t.TempDir(), "made")
	p := start(t, "--root", root, "--session", "s")
	c := connect(t, p)
	if peer := c.Peer(); peer.Version != "1.2.3" || !slices.Contains(peer.Features, FeatureConfined) {
		if err := landlockMissing(); err != nil {
			need.Missing(t, "a kernel with Landlock: "+err.Error())
		}
		t.Errorf("greeting: %+v", peer)
	}
	ctx := context.Background()
	if res, err := c.Bind(ctx, "s", false); err != nil || !res.Bound || !res.Empty {
		t.Fatal(res, err)
	}
	dir := object(1, change.Dir)
	dir.Mode = 0o777
	made := do(t, c, &wire.Request{Op: change.Make, At: at(wire.Dir{}, "d"), Object: dir})
	if made.Status != change.Applied || !made.Created {
		t.Fatalf("%+v", made)
	}
	d := wire.Dir{Path: "d", Sec: made.Sec}
	file := do(t, c, makeFile(at(d, "f"), 2, "content"))
	link := object(3, change.Symlink)
	link.Target = "/etc/passwd"
	labelled := makeFile(at(d, "labelled"), 9, "content")
	labelled.Object.Xattrs = []change.Xattr{{Name: "user.note", Value: []byte("here")}}
	for name, r := range map[string]*wire.Request{
		"symlink":   {Op: change.Make, At: at(d, "l"), Object: link},
		"fifo":      {Op: change.Make, At: at(d, "p"), Object: object(4, change.FIFO)},
		"socket":    {Op: change.Make, At: at(d, "s"), Object: object(5, change.Socket)},
		"hard link": {Op: change.Link, At: at(wire.Dir{}, "g"), From: at(d, "f"), Sec: file.Sec, Object: object(2, change.File)},
		"xattr":     labelled,
		"root":      {Op: change.Set, Object: dir},
	} {
		if res := do(t, c, r); res.Status != change.Applied {
			t.Errorf("%s: %+v", name, res)
		}
	}
	if os.Geteuid() == 0 {
		device := object(6, change.CharDev)
		device.Rdev = 0x103
		if res := do(t, c, &wire.Request{Op: change.Make, At: at(d, "null"), Object: device}); res.Status != change.Applied {
			t.Errorf("device: %+v", res)
		}
	}
	write := &wire.Request{Op: change.Write, At: at(d, "f"), Sec: file.Sec, Names: []wire.Ref{at(wire.Dir{}, "g")}, Object: object(2, change.File)}
	large := strings.Repeat("some content of some length; ", 500_000)
	write.Object.Size = int64(len(large))
	written, err := c.Write(ctx, write, content{strings.NewReader(large)}, wire.WriteOptions{})
	if err != nil || written.Status != change.Applied {
		t.Fatalf("write: %+v, %v", written, err)
	}
	for name, r := range map[string]*wire.Request{
		"move":      {Op: change.Move, At: at(wire.Dir{}, "moved"), From: at(wire.Dir{}, "d"), Sec: made.Sec, Object: dir},
		"times":     {Op: change.Times, At: at(wire.Dir{}, "moved"), Sec: made.Sec, Object: dir},
		"drop file": {Op: change.Drop, At: at(wire.Dir{}, "g"), Sec: written.Sec, Object: object(2, change.File)},
	} {
		if name == "times" {
			continue
		}
		if res := do(t, c, r); res.Status != change.Applied {
			t.Errorf("%s: %+v", name, res)
		}
	}
	if res := do(t, c, &wire.Request{Op: change.Times, At: at(wire.Dir{}, "moved"), Sec: made.Sec, Object: dir}); res.Status != change.Applied {
		t.Errorf("times: %+v", res)
	}
	count := 0
	if err := c.Look(ctx, wire.Dir{Path: "moved", Sec: made.Sec}, func(wire.Entry) error { count++; return nil }); err != nil || count < 5 {
		t.Error("look:", count, err)
	}
	if err := c.Commit(ctx, "", true); err != nil {
		t.Error("commit:", err)
	}
	if got, err := os.ReadFile(filepath.Join(root, "moved/f")); err != nil || string(got) != large {
		t.Error(len(got), err)
	}
	if info, err := os.Stat(filepath.Join(root, "moved")); err != nil || info.Mode().Perm() != 0o777 {
		t.Error("the umask of the account was applied:", info.Mode(), err)
	}
	if res := do(t, c, &wire.Request{Op: change.Drop, At: at(wire.Dir{}, "moved"), Sec: made.Sec, Object: dir, MayRemove: true}); res.Status != change.Applied {
		t.Errorf("drop tree: %+v", res)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if said, err := p.end(t); err != nil || said != "" {
		t.Errorf("the agent ended with %v: %s", err, said)
	}
}

// landlockMissing says why this kernel has no Landlock.
func landlockMissing() error {
	const landlockCreateRuleset, askVersion = 444, 1
	if _, _, errno := syscall.Syscall(landlockCreateRuleset, 0, 0, askVersion); errno != 0 {
		return errno
	}
	return nil
}

func TestSessionsDoNotMix(t *testing.T) {
	root := t.TempDir()
	first, second := start(t, "--root", root, "--session", "one"), start(t, "--root", root, "--session", "one")
	one, two := connect(t, first), connect(t, second)
	other := start(t, "--root", root, "--session", "other")
	if said, err := other.end(t); err == nil || !strings.Contains(said, `session "one"`) {
		t.Errorf("another session: %v, %s", err, said)
	}
	if err := one.Close(); err != nil {
		t.Error(err)
	}
	if said, err := first.end(t); err != nil {
		t.Error(said, err)
	}
	still := start(t, "--root", root, "--session", "other")
	if said, err := still.end(t); err == nil {
		t.Errorf("another session while one agent is left: %s", said)
	}
	if err := two.Close(); err != nil {
		t.Error(err)
	}
	if err := connect(t, start(t, "--root", root, "--session", "other")).Ping(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestCopiesDoNotNest(t *testing.T) {
	root := t.TempDir()
	one := connect(t, start(t, "--root", root, "--session", "one"))
	if res, err := one.Bind(context.Background(), "one", false); err != nil || !res.Bound {
		t.Fatal(res, err)
	}
	if err := os.MkdirAll(filepath.Join(root, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(root, "a/b"), outside); err != nil {
		t.Fatal(err)
	}
	for _, inside := range []string{"a/b", "a/new"} {
		if said, err := start(t, "--root", filepath.Join(root, inside), "--session", "two").end(t); err == nil || !strings.Contains(said, "choose a directory outside") {
			t.Errorf("in %s: %v, %s", inside, err, said)
		}
	}
	if said, err := start(t, "--root", outside, "--session", "two").end(t); err == nil || !strings.Contains(said, "choose a directory outside") {
		t.Errorf("through a symlink: %v, %s", err, said)
	}
	if _, err := os.Stat(filepath.Join(root, "a/new")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the directory was made:", err)
	}
}

func TestSessionOfBindCounts(t *testing.T) {
	root := t.TempDir()
	ctx := context.Background()
	one, two := connect(t, start(t, "--root", root)), connect(t, start(t, "--root", root))
	if res, err := one.Bind(ctx, "one", false); err != nil || !res.Bound {
		t.Fatal(res, err)
	}
	if res, err := two.Bind(ctx, "two", true); err == nil {
		t.Error("two sessions write at once:", res)
	}
	if res, err := one.Bind(ctx, "two", true); err == nil {
		t.Error("one connection has two sessions:", res)
	}
}

func TestRemainsAreSweptByTheFirstAgentOnly(t *testing.T) {
	root := t.TempDir()
	hold := filepath.Join(root, apply.Hold)
	if err := os.MkdirAll(hold, 0o700); err != nil {
		t.Fatal(err)
	}
	remains := filepath.Join(hold, "tmp-0123456789abcdef-1")
	leave := func() {
		t.Helper()
		if err := os.WriteFile(remains, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	leave()
	connect(t, start(t, "--root", root, "--session", "s"))
	if _, err := os.Stat(remains); !errors.Is(err, os.ErrNotExist) {
		t.Error("remains of a dead process are still there:", err)
	}
	leave()
	connect(t, start(t, "--root", root, "--session", "s"))
	if _, err := os.Stat(remains); err != nil {
		t.Error("a second agent took away what may be in use:", err)
	}
}

func TestKilledAgentLeavesNothing(t *testing.T) {
	root := t.TempDir()
	for round := range 5 {
		p := start(t, "--root", root, "--session", "s")
		c := connect(t, p)
		answered := make(chan struct{}, 1)
		for n := range 400 {
			r := makeFile(at(wire.Dir{}, "f"+string(rune('a'+n%26))), round*1000+n, strings.Repeat("x", n))
			r.Replace = true
			err := c.Do(context.Background(), r, func(change.Result) {
				select {
				case answered <- struct{}{}:
				default:
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		<-answered
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait()
	}
	c := connect(t, start(t, "--root", root, "--session", "s"))
	if err := c.Commit(context.Background(), "", true); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(root, apply.Hold))
	if err != nil || len(entries) > 0 {
		t.Error(entries, err)
	}
	all, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Name() != apply.Reserved && len(e.Name()) != 2 {
			t.Error("there is", e.Name())
		}
	}
}

func TestReadOnlyChangesNothing(t *testing.T) {
	ctx := context.Background()
	base := t.TempDir()
	root := filepath.Join(base, "absent")
	c := connect(t, start(t, "--root", root, "--session", "s", "--read-only"))
	if err := c.Look(ctx, wire.Dir{}, func(wire.Entry) error { return nil }); err == nil {
		t.Error("a directory that does not exist was listed")
	}
	if res, err := c.Bind(ctx, "s", true); err != nil || res.Bound || !res.Empty {
		t.Error(res, err)
	}
	if entries, err := os.ReadDir(base); err != nil || len(entries) != 0 {
		t.Error(entries, err)
	}
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c = connect(t, start(t, "--root", root, "--session", "s", "--read-only"))
	count := 0
	if err := c.Look(ctx, wire.Dir{}, func(wire.Entry) error { count++; return nil }); err != nil || count != 1 {
		t.Error(count, err)
	}
	if res := do(t, c, makeFile(at(wire.Dir{}, "g"), 1, "x")); res.Errno != syscall.EROFS {
		t.Errorf("%+v", res)
	}
	if err := c.Commit(ctx, "", true); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 1 {
		t.Error(entries, err)
	}
}

func TestErrorsAreSentences(t *testing.T) {
	base := t.TempDir()
	if err := os.WriteFile(filepath.Join(base, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"make it first":      {"--root", filepath.Join(base, "no/such"), "--session", "s"},
		"not a directory":    {"--root", filepath.Join(base, "file"), "--session", "s"},
		"update it":          {"--root", base, "--session", "s", "--of-tomorrow"},
		"needs --root DIR":   {},
		"no other arguments": {"--root", base, "more"},
	} {
		p := start(t, args...)
		said, err := p.end(t)
		if err == nil || !strings.Contains(said, want) {
			t.Errorf("%v: %v, %q does not say %q", args, err, said, want)
		}
	}
}

func TestAgentEndsWithItsInput(t *testing.T) {
	p := start(t, "--root", t.TempDir(), "--session", "s")
	c := connect(t, p)
	if err := c.Ping(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := p.WriteCloser.Close(); err != nil {
		t.Fatal(err)
	}
	if said, err := p.end(t); err != nil {
		t.Error(err, said)
	}
}

// TestEndWhileInputIsOpen: a request to end must not wait for input.
func TestEndWhileInputIsOpen(t *testing.T) {
	in, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	out, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := openStdio(in, out)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 1))
		ended <- err
	}()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("a read from a closed stream gave something")
	}
}
