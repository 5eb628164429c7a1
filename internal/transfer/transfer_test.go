package transfer

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"georep/internal/change"
	"georep/internal/dial"
	"georep/internal/lab"
	"georep/internal/need"
)

// bench is a carrier between a few open files and a directory.
type bench struct {
	*Carrier
	files   []File
	content [][]byte
	part    string
	o       Options

	mu   sync.Mutex
	said []string
}

func newBench(t *testing.T, o Options, sizes ...int) *bench {
	t.Helper()
	b := &bench{part: filepath.Join(t.TempDir(), "a part's [directory]"), o: o}
	if err := os.Mkdir(b.part, 0o700); err != nil {
		t.Fatal(err)
	}
	b.o.Part, b.o.StateDir = b.part, t.TempDir()
	b.o.Warn = func(text string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.said = append(b.said, text)
	}
	var err error
	if b.Carrier, err = New(b.o); err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{7})
	for i, size := range sizes {
		data := make([]byte, size)
		_, _ = random.Read(data) // does not fail
		f, err := os.CreateTemp(t.TempDir(), "f")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if _, err := f.Write(data); err != nil {
			t.Fatal(err)
		}
		// Nobody can be led to another file by its name, for it has none.
		if err := os.Remove(f.Name()); err != nil {
			t.Fatal(err)
		}
		b.files = append(b.files, File{ID: change.NewID(uint64(i+1), 5), FD: int(f.Fd()), Size: int64(size)})
		b.content = append(b.content, data)
	}
	return b
}

func (b *bench) arrived(t *testing.T) {
	t.Helper()
	for i, f := range b.files {
		got, err := os.ReadFile(filepath.Join(b.part, f.ID.String()))
		if err != nil || !bytes.Equal(got, b.content[i]) {
			t.Errorf("file %d: %d bytes, %v", i, len(got), err)
		}
		if info, err := os.Stat(filepath.Join(b.part, f.ID.String())); err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("file %d has mode %v", i, info.Mode())
		}
	}
	if left, err := os.ReadDir(b.o.StateDir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func methods(t *testing.T) []Method {
	need.Program(t, "rsync")
	need.Program(t, "tar")
	return []Method{Rsync, Tar}
}

func TestContentArrivesHere(t *testing.T) {
	for _, method := range methods(t) {
		t.Run(string(method), func(t *testing.T) {
			b := newBench(t, Options{Method: method}, 3_000_000, 1, 70_000)
			// What is there of a file already does no harm: longer, shorter, and not writable.
			for i, old := range []string{strings.Repeat("x", 4_000_000), "", "read only"} {
				if err := os.WriteFile(filepath.Join(b.part, b.files[i].ID.String()), []byte(old), 0o400); err != nil {
					t.Fatal(err)
				}
			}
			told := int64(0)
			if !b.Carry(t.Context(), b.files, func(n int64) { told += n }) {
				t.Fatalf("it failed: %v", b.said)
			}
			b.arrived(t)
			if told < 3_000_000 || b.Carried() != told || len(b.said) > 0 {
				t.Errorf("told of %d bytes, counted %d, said %q", told, b.Carried(), b.said)
			}
		})
	}
}

func TestContentArrivesOverSSH(t *testing.T) {
	sshd := lab.SshdForTest(t)
	// Blanks and quotes must get through rsync's way of taking a command apart.
	wrapper := filepath.Join(t.TempDir(), `it's "our"  ssh`)
	if err := os.WriteFile(wrapper, []byte("#!/bin/sh\nexec ssh \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, method := range methods(t) {
		for _, compress := range []bool{false, true} {
			remote := dial.Options{Host: "localhost", SSH: []string{wrapper, "-F", sshd.SSHConfig()}}
			b := newBench(t, Options{Method: method, Remote: remote, Compress: compress}, 2_000_000, 10)
			if !b.Carry(t.Context(), b.files, func(int64) {}) {
				t.Fatalf("%s: it failed: %v", method, b.said)
			}
			b.arrived(t)
		}
	}
}

// play puts scripts in the place of programs.
func play(t *testing.T, programs map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range programs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

func TestTroubleIsSaidOnce(t *testing.T) {
	need.Program(t, "sh")
	for _, test := range []struct {
		name     string
		method   Method
		programs map[string]string
		want     string
		off      bool
	}{
		{"rsync is missing", Rsync, nil, "rsync was not found on this host: install it there: all content travels by georep itself", true},
		{"tar is missing", Tar, nil, "tar was not found on this host", true},
		{"rsync fails", Rsync, map[string]string{"rsync": "echo 'cannot do it' >&2; exit 23"}, "rsync ended with status 23 (cannot do it): this content travels by georep itself", false},
		{"unpacking fails", Tar, map[string]string{"tar": "test $1 = -x && { echo full >&2; exit 2; }; exit 0"}, "tar ended with status 2 (full)", false},
		{"packing fails", Tar, map[string]string{"tar": "test $1 = -x && exit 0; exit 2"}, "tar ended with status 2", false},
		{"packing is killed", Tar, map[string]string{"tar": "test $1 = -x && exit 0; kill -9 $$"}, "tar ended with status 137", false},
		{"missing over there", Rsync, map[string]string{"rsync": "exit 127"}, "rsync was not found on", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, test.programs)
			b := newBench(t, Options{Method: test.method}, 100)
			for range 2 {
				if b.Carry(t.Context(), b.files, func(int64) {}) {
					t.Error("a failure passed for a success")
				}
			}
			if len(b.said) != 1 || !strings.HasPrefix(b.said[0], test.want) || b.off != test.off {
				t.Errorf("said %q, off %v", b.said, b.off)
			}
			for range failuresMax {
				b.Carry(t.Context(), b.files, func(int64) {})
			}
			if !b.off || len(b.said) > 2 {
				t.Errorf("after %d failures it goes on, or says %q", failuresMax+2, b.said)
			}
		})
	}
}

func TestChangedFilesAreNoTrouble(t *testing.T) {
	play(t, map[string]string{"tar": "test $1 = -x && exit 0; exit 1"})
	b := newBench(t, Options{Method: Tar}, 100)
	if !b.Carry(t.Context(), b.files, func(int64) {}) || len(b.said) > 0 {
		t.Errorf("a file that changed while it was read made it fail: %q", b.said)
	}
}

func TestClaimThatIsNotTrueIsSaid(t *testing.T) {
	play(t, map[string]string{"rsync": "exit 0"})
	b := newBench(t, Options{Method: Rsync}, 1000)
	if !b.Carry(t.Context(), b.files, func(int64) {}) {
		t.Error("exit status 0 is no claim")
	}
	b.Checked(1000, 0)
	b.Checked(1000, 10) // a change of the file meanwhile
	if len(b.said) != 0 {
		t.Errorf("said %q", b.said)
	}
	b.Checked(1000, 1000)
	b.Checked(1000, 1000)
	if len(b.said) != 1 || !strings.Contains(b.said[0], "did not arrive") {
		t.Errorf("said %q", b.said)
	}
}

func TestRateIsKept(t *testing.T) {
	for _, method := range methods(t) {
		t.Run(string(method), func(t *testing.T) {
			const limit = 4 << 20
			b := newBench(t, Options{Method: method, Limit: limit, Limiter: rate.NewLimiter(limit, limit/8)}, 4<<20)
			began := time.Now()
			if !b.Carry(t.Context(), b.files, func(int64) {}) {
				t.Fatalf("it failed: %v", b.said)
			}
			b.arrived(t)
			// A lower bound: a machine that is busy only makes it slower.
			if took := time.Since(began); took < 700*time.Millisecond {
				t.Errorf("%d bytes took %v with a limit of %d a second", 4<<20, took, limit)
			}
			if tokens := b.o.Limiter.Tokens(); tokens > limit/8 {
				t.Errorf("%v tokens are left", tokens)
			}
		})
	}
}

func TestEndOfContextEndsTheProgram(t *testing.T) {
	need.Program(t, "sleep")
	sleep := need.Program(t, "sleep")
	for _, method := range []Method{Rsync, Tar} {
		play(t, map[string]string{"rsync": "echo; exec " + sleep + " 1000", "tar": "echo; exec " + sleep + " 1000"})
		b := newBench(t, Options{Method: method}, 100)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan bool, 1)
		go func() { ended <- b.Carry(ctx, b.files, func(int64) {}) }()
		cancel()
		if <-ended || len(b.said) > 0 {
			t.Errorf("%s: an ended context passed for a success, or was said: %q", method, b.said)
		}
	}
}

func TestRemainsOfAKilledRunAreRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state [1]")
	old := filepath.Join(dir, scratchPrefix+"123")
	if err := os.MkdirAll(old, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(old, "x")); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{StateDir: dir}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(old); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := os.Stat("/etc/passwd"); err != nil {
		t.Error(err)
	}
}

func TestProgressIsRead(t *testing.T) {
	var got []int64
	readProgress(strings.NewReader("\r         32,768   0%    0.00kB/s    0:00:00  \r      3.000.000  36%  471.63MB/s\n8242880 100%\n\x00junk\nx9 9\n"+strings.Repeat("9", 500)+"\n"), func(n int64) { got = append(got, n) })
	want := []int64{32768, 3_000_000 - 32768, 8242880 - 3_000_000}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("got %v, want %v", got, want)
	}
}
