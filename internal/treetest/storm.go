package treetest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// StormOptions shapes a storm. The zero value does everything that the process may do.
type StormOptions struct {
	// Names is the number of plain names beside the odd ones; few names make many collisions. 0 means 6.
	Names int
	// PlainNames leaves the odd names out (newline, invalid UTF-8, 255 bytes and others).
	PlainNames bool
	// MaxSize bounds the size of files in bytes. 0 means 192 KiB. One file in 50 may be sparse up to 64 times as large.
	MaxSize int64
	// MaxDepth bounds how many directories are above an entry that is made. 0 means 5.
	MaxDepth int
	// Unprivileged makes root do only what a user can: no chown, no devices, no trusted.* and security.* attributes.
	Unprivileged bool
	// NoSpecial leaves out fifos, sockets and devices.
	NoSpecial bool
	// NoXattrs leaves out extended attributes and ACLs.
	NoXattrs bool
	// NoQuiet leaves out writes that set size and mtime back, which nobody who was not there can see but by reading all content.
	NoQuiet bool
	// History is how many of the last operations are kept. 0 means 20,000.
	History int
	// Log receives each operation as a line, when not nil.
	Log io.Writer
}

// Storm does random operations beneath a root. The same seed on an equal tree does the same operations, as long as nobody
// else changes the tree. It is for one goroutine; several storms may rage beneath one root, and then each meets the other's
// work.
type Storm struct {
	root    string
	seed    uint64
	o       StormOptions
	rng     *rand.Rand
	bytes   *rand.ChaCha8
	root0   bool // may do what only root may
	names   []string
	deck    []operation // each operation as often as its weight says
	held    []*os.File  // files kept open to be written later, whatever became of their names
	history []string    // a ring once it is full
	steps   int
	done    map[string]int // how often each operation succeeded
}

// NewStorm prepares a storm beneath the existing directory root. Close must be called when it is over.
func NewStorm(seed uint64, root string, o StormOptions) *Storm {
	o.Names = orDefault(o.Names, 6)
	o.MaxSize = orDefault(o.MaxSize, 192<<10)
	o.MaxDepth = orDefault(o.MaxDepth, 5)
	o.History = orDefault(o.History, 20_000)
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	s := &Storm{root: root, seed: seed, o: o, rng: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)), bytes: rand.NewChaCha8(key), done: map[string]int{}}
	s.root0 = os.Geteuid() == 0 && !o.Unprivileged
	for i := range o.Names {
		s.names = append(s.names, string(rune('a'+i%26))+strings.Repeat("x", i/26))
	}
	if !o.PlainNames {
		s.names = append(s.names, "new\nline", "not\xff\xfeutf8\xc3", strings.Repeat("L", 255), "-rf", " *?[a] $(x)", "ümläut", reserved)
	}
	s.deck = s.operations()
	return s
}

func orDefault[T int | int64](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Step does one random operation and returns it as text, with the outcome when it did not succeed. The error is not nil only
// when an operation failed in a way that a storm does not explain, such as EIO or ENOSPC.
func (s *Storm) Step() (string, error) {
	op := s.deck[s.rng.IntN(len(s.deck))]
	text, err := op.do()
	if err == nil {
		s.done[op.name]++
	} else {
		text += ": " + err.Error()
	}
	s.record(fmt.Sprintf("%d %s %s", s.steps, op.name, text))
	s.steps++
	if err != nil && !ordinary(err) {
		return text, fmt.Errorf("step %d of seed %d: %s: %w", s.steps-1, s.seed, op.name, err)
	}
	return text, nil
}

// Run does n steps.
func (s *Storm) Run(n int) error {
	for range n {
		if _, err := s.Step(); err != nil {
			return err
		}
	}
	return nil
}

// Steps is the number of steps done.
func (s *Storm) Steps() int { return s.steps }

// Close closes the files that the storm holds open; the tree comes to rest with it.
func (s *Storm) Close() error {
	var errs []error
	for _, f := range s.held {
		errs = append(errs, f.Close())
	}
	s.held = nil
	return errors.Join(errs...)
}

// History is the seed and the last operations, a line each, for the output of a test that failed.
func (s *Storm) History() string {
	var b strings.Builder
	fmt.Fprintf(&b, "storm with seed %d, %d steps, root %s\n", s.seed, s.steps, s.root)
	from := 0
	if s.steps > len(s.history) {
		from = s.steps % len(s.history)
		fmt.Fprintf(&b, "... %d earlier steps\n", s.steps-len(s.history))
	}
	for i := range s.history {
		b.WriteString(s.history[(from+i)%len(s.history)])
		b.WriteByte('\n')
	}
	return b.String()
}

func (s *Storm) record(line string) {
	if s.o.Log != nil {
		fmt.Fprintln(s.o.Log, line)
	}
	if len(s.history) < s.o.History {
		s.history = append(s.history, line)
		return
	}
	s.history[s.steps%len(s.history)] = line
}

// ordinary says whether an operation of a storm may end so: names collide, vanish, are of another kind.
func ordinary(err error) bool {
	for _, errno := range []unix.Errno{
		unix.ENOENT, unix.EEXIST, unix.ENOTDIR, unix.EISDIR, unix.ENOTEMPTY, unix.EINVAL, unix.ELOOP, unix.EPERM, unix.EACCES, unix.EMLINK,
		unix.ENOTSUP, unix.ENODATA, unix.ENXIO, unix.EBUSY, unix.ENAMETOOLONG, unix.EXDEV, unix.ETXTBSY, unix.ESTALE, unix.ENODEV, unix.ERANGE,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return errors.Is(err, errNothing)
}

// errNothing is the outcome of an operation that found nothing to work on.
var errNothing = errors.New("nothing suitable")

// below makes the path of an operation from one relative to the root.
func (s *Storm) below(path string) string { return filepath.Join(s.root, path) }

// entriesOf lists a directory (relative to the root), sorted; the product's own entry of the top is left out.
func (s *Storm) entriesOf(dir string) []os.DirEntry {
	entries, err := os.ReadDir(s.below(dir))
	if err != nil {
		return nil
	}
	if dir == "" {
		for i, e := range entries {
			if e.Name() == reserved {
				entries = append(entries[:i:i], entries[i+1:]...)
				break
			}
		}
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	return entries
}

// existing picks an entry that suits, at a random depth; ok is false when the walk met none.
func (s *Storm) existing(suits func(os.DirEntry) bool) (path string, ok bool) {
	dir := ""
	for {
		entries := s.entriesOf(dir)
		if len(entries) == 0 {
			return path, ok
		}
		start := s.rng.IntN(len(entries))
		for i := range entries {
			e := entries[(start+i)%len(entries)]
			if suits(e) {
				path, ok = filepath.Join(dir, e.Name()), true
				break
			}
		}
		next := entries[s.rng.IntN(len(entries))]
		if !next.IsDir() || s.rng.IntN(3) == 0 && ok {
			return path, ok
		}
		dir = filepath.Join(dir, next.Name())
	}
}

func anything(os.DirEntry) bool      { return true }
func isFile(e os.DirEntry) bool      { return e.Type().IsRegular() }
func isDirectory(e os.DirEntry) bool { return e.IsDir() }
func notDirectory(e os.DirEntry) bool {
	return !e.IsDir()
}
func notSymlink(e os.DirEntry) bool { return e.Type()&os.ModeSymlink == 0 }

// place picks a name in an existing directory; something may be there already.
func (s *Storm) place() string {
	dir := ""
	for depth := 0; depth < s.o.MaxDepth; depth++ {
		var below []string
		for _, e := range s.entriesOf(dir) {
			if e.IsDir() {
				below = append(below, e.Name())
			}
		}
		if len(below) == 0 || s.rng.IntN(2) == 0 {
			break
		}
		dir = filepath.Join(dir, below[s.rng.IntN(len(below))])
	}
	for {
		if path := filepath.Join(dir, s.names[s.rng.IntN(len(s.names))]); path != reserved {
			return path
		}
	}
}
