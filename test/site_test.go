package test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	_ "georep/internal/agent" // so that a result of these tests is not taken from the cache when the program has changed
	_ "georep/internal/cli"
	"georep/internal/lab"
	"georep/internal/treetest"
	_ "georep/internal/worker"
)

// patience is how long georep may take for something that it must do in the end, on a machine that is busy with other tests.
// No test demands that anything is fast.
const patience = 90 * time.Second

// programs are the builds of georep that tests run, in a directory that goes when all tests have ended.
type programs struct {
	dir    string
	mu     sync.Mutex
	builds map[string]string
}

var built = programs{builds: map[string]string{}}

// build gives the path of georep, built with these flags, in a directory of its own.
func (p *programs) build(t testing.TB, flags ...string) string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	key := strings.Join(flags, " ")
	if path, ok := p.builds[key]; ok {
		return path
	}
	if p.dir == "" {
		dir, err := os.MkdirTemp("", "georep-test-")
		if err != nil {
			t.Fatal(err)
		}
		must(t, os.Chmod(dir, 0o755)) // accounts besides root run it too
		p.dir = dir
	}
	path := filepath.Join(p.dir, fmt.Sprint(len(p.builds)), "georep")
	cmd := exec.Command("go", append([]string{"build", "-buildvcs=false", "-o", path}, append(flags, "georep/cmd/georep")...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build georep: %v\n%s", err, out)
	}
	p.builds[key] = path
	return path
}

// georep is the program as it is shipped, racy the one that notices data races when this test does.
func georep(t testing.TB) string { return built.build(t) }

func racy(t testing.TB) string {
	if !raceDetector {
		return built.build(t)
	}
	return built.build(t, "-race")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits for a condition that something else brings about.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			buf := make([]byte, 1<<16)
			t.Fatalf("waited in vain for %s\n%s", what, buf[:runtime.Stack(buf, false)])
		}
	}
}

// site is a source here and a destination behind a real sshd, with a proxy on the line between them.
type site struct {
	t                   testing.TB
	sshd                *lab.Sshd
	proxy               *lab.Proxy
	source, dest, state string
	program             string   // on both ends
	flags               []string // of every run
}

// newSite makes a site whose trees lie in a temporary directory.
func newSite(t testing.TB) *site {
	t.Helper()
	return newSiteIn(t, t.TempDir())
}

// newSiteIn makes a site whose trees lie in dir.
func newSiteIn(t testing.TB, dir string) *site {
	t.Helper()
	s := &site{t: t, program: georep(t), sshd: lab.SshdForTest(t)}
	s.source, s.dest, s.state = filepath.Join(dir, "source"), filepath.Join(dir, "dest"), filepath.Join(dir, "state")
	must(t, os.Mkdir(s.source, 0o755))
	must(t, os.Mkdir(s.dest, 0o755))
	proxy, err := lab.NewProxy(s.sshd.Addr())
	must(t, err)
	s.proxy = proxy
	t.Cleanup(func() { must(t, proxy.Close()) })
	return s
}

// in is the path of something in the source, out that of its copy.
func (s *site) in(path string) string  { return filepath.Join(s.source, path) }
func (s *site) out(path string) string { return filepath.Join(s.dest, path) }

// args is a command line of this site.
func (s *site) args(flags ...string) []string {
	args := []string{
		"mirror", "--json", "--state-dir", s.state, "--config", os.DevNull, "--remote-georep", s.program,
		"--ssh-command", "ssh -F " + s.sshd.SSHConfig(), "--port", fmt.Sprint(s.proxy.Addr().Port),
	}
	args = append(append(args, s.flags...), flags...)
	return append(args, s.source, "localhost:"+s.dest)
}

// once runs the mirror to its end.
func (s *site) once(flags ...string) *run {
	s.t.Helper()
	r := s.start(append([]string{"--once"}, flags...)...)
	r.wait()
	return r
}

// copied runs the mirror to its end, which must be a good one, and compares the trees.
func (s *site) copied(flags ...string) *run {
	s.t.Helper()
	r := s.once(flags...)
	r.ended(0)
	s.equal()
	return r
}

// equal demands that the copy is like the source.
func (s *site) equal() {
	s.t.Helper()
	differences, err := treetest.Compare(s.source, s.dest, treetest.Options{})
	must(s.t, err)
	if len(differences) > 0 {
		s.t.Fatalf("the copy is not like the source:\n%s", treetest.Format(differences))
	}
}

// follows waits until the copy is like the source.
func (s *site) follows() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := treetest.Await(ctx, s.source, s.dest, treetest.Options{}); err != nil {
		s.t.Fatal(err)
	}
}

// sent is how many bytes have gone over the line to the destination so far, those of ssh included.
func (s *site) sent() int64 { return s.proxy.Bytes(lab.Up) }

// write makes a file of the source.
func (s *site) write(path string, content []byte) {
	s.t.Helper()
	must(s.t, os.MkdirAll(filepath.Dir(s.in(path)), 0o755))
	must(s.t, os.WriteFile(s.in(path), content, 0o644))
}

// names lists all paths below a directory, also those that are not to be seen.
func names(t testing.TB, root string) []string {
	t.Helper()
	var found []string
	must(t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(root, path); rel != "." {
			found = append(found, rel)
		}
		return err
	}))
	return found
}

// noise is content that no compression makes smaller, the same for the same seed.
func noise(seed byte, n int) []byte {
	data := make([]byte, n)
	_, err := io.ReadFull(newNoise(seed), data)
	if err != nil {
		panic(err) // the generator has no end
	}
	return data
}

// read gives the content of a file, and "" when there is none.
func read(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(content)
}
