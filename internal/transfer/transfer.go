// Package transfer brings the content of files to the secondary by programs of the system, rsync or tar, instead of the
// protocol's own streams: for those who must have them.
//
// Such a program only fills files in the secondary's directory for content that is not complete. Whatever it did there, the
// write that follows checks the whole content by its hash, sends what is missing or wrong, and only then shows the file
// under its name. So nothing depends on the program: if it is missing, fails, or says that all is well and did nothing, that
// is told, and the content travels as if there were no such program.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"

	"georep/internal/change"
	"georep/internal/dial"
)

// Method is a program.
type Method string

// The methods.
const (
	Rsync Method = "rsync"
	Tar   Method = "tarssh"
)

// Options say which program runs, and to where.
type Options struct {
	Method   Method
	Remote   dial.Options // the host, as for the agent; without Host, the target is a directory here
	Part     string       // the directory on the secondary for content that is not complete
	StateDir string       // a directory of our own here, in which the lists for the program are made
	Limit    int64        // bytes a second; 0: none
	Limiter  *rate.Limiter
	Compress bool
	// Warn gets a sentence when the program did not do its part, each once.
	Warn func(text string)
}

// File is an open file to be brought over.
type File struct {
	ID   change.ID // its identity on the primary, which names it on the secondary
	FD   int       // open for reading for as long as Carry runs
	Size int64     // bytes
}

// Carrier runs the program. Its methods may be called at the same time.
type Carrier struct {
	o       Options
	carried atomic.Int64
	limited sync.Mutex // with a limit, one program runs at a time

	mu       sync.Mutex
	told     map[string]bool
	failures int // in a row
	off      bool
}

// failuresMax is how often in a row the program may fail before it is not tried any more.
const failuresMax = 3

// scratchPrefix begins the names of our directories in Options.StateDir.
const scratchPrefix = "transfer-"

// New prepares a Carrier, and removes what one that was killed has left in the state directory.
func New(o Options) (*Carrier, error) {
	left, err := filepath.Glob(filepath.Join(escaped(o.StateDir), scratchPrefix+"*"))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("clear the remains of an earlier run: %w", err)
	}
	return &Carrier{o: o, told: map[string]bool{}}, nil
}

// escaped keeps filepath.Glob from seeing a pattern in a directory's name.
func escaped(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// Carried is how many bytes the programs have brought over, as they say themselves.
func (c *Carrier) Carried() int64 { return c.carried.Load() }

// Carry runs the program for some files and says whether it claims to have brought them over. What it did not do has been
// told by Options.Warn. progress is told of the bytes of their content, in their order, as far as the program says.
func (c *Carrier) Carry(ctx context.Context, files []File, progress func(n int64)) bool {
	c.mu.Lock()
	off := c.off
	c.mu.Unlock()
	if off || ctx.Err() != nil {
		return false
	}
	if c.o.Limit > 0 {
		c.limited.Lock()
		defer c.limited.Unlock()
	}
	err := c.run(ctx, files, func(n int64) {
		c.carried.Add(n)
		progress(n)
	})
	if ctx.Err() != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.failures = 0
		return true
	}
	var missing *missingError
	c.failures++
	if errors.As(err, &missing) || c.failures >= failuresMax {
		c.off = true
		c.warn(fmt.Sprintf("%v: all content travels by georep itself from now on", err))
	} else {
		c.warn(fmt.Sprintf("%v: this content travels by georep itself", err))
	}
	return false
}

// Checked tells how many bytes of a file of that size were missing or wrong after Carry had said that it was brought over.
func (c *Carrier) Checked(size, missing int64) {
	if missing < size/2 || missing == 0 {
		return // it may have changed meanwhile
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.warn(fmt.Sprintf("%s ended without an error, but the content did not arrive as it is here: georep has sent it itself", c.program()))
}

// warn tells a sentence, once. Called with mu held.
func (c *Carrier) warn(text string) {
	if !c.told[text] && len(c.told) < 100 {
		c.told[text] = true
		c.o.Warn(text)
	}
}

func (c *Carrier) program() string {
	if c.o.Method == Rsync {
		return "rsync"
	}
	return "tar"
}

// run makes a directory in which each file has a link that is named as it shall be on the secondary, and runs the program
// there. The links lead to our own open descriptors, so that no name can lead it to another file.
func (c *Carrier) run(ctx context.Context, files []File, progress func(int64)) (err error) {
	dir, err := os.MkdirTemp(c.o.StateDir, scratchPrefix)
	if err != nil {
		return fmt.Errorf("prepare %s: %w", c.program(), err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	descriptors := "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/"
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.ID.String()
		if err := os.Symlink(descriptors+strconv.Itoa(f.FD), filepath.Join(dir, names[i])); err != nil {
			return fmt.Errorf("prepare %s: %w", c.program(), err)
		}
	}
	if c.o.Method == Rsync {
		return c.rsync(ctx, dir, progress)
	}
	return c.tar(ctx, dir, names, progress)
}

// missingError means that a program is not installed, so that it need not be tried again.
type missingError struct{ program, where string }

func (e *missingError) Error() string {
	return fmt.Sprintf("%s was not found on %s: install it there", e.program, e.where)
}

// here and there name the two hosts.
const here = "this host"

func (c *Carrier) there() string {
	if c.o.Remote.Host == "" {
		return here
	}
	return c.o.Remote.Host
}
