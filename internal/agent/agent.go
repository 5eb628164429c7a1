// Package agent is the secondary's end of a mirror: it wires the protocol, on the standard streams of a process that ssh or
// a local worker started, to the applier of a directory.
//
// It works beneath the directory that its arguments name and, where the kernel has Landlock, keeps itself from reaching
// anything else. Agents of one session may work on the same directory at once; those of another are refused.
package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"

	"georep/internal/apply"
	"georep/internal/apply/bypath"
	"georep/internal/rooted"
	"georep/internal/wire"
)

// FeatureConfined is named in the greeting of an agent that can reach no content and no name but those of its directory, because the
// kernel refuses it.
const FeatureConfined = "confined"

// memoryLimit is from where on memory, in bytes, is rather collected than taken. The work itself needs far less.
const memoryLimit = 256 << 20

// collectAt is by how much in percent memory may grow before garbage is looked for. An agent keeps little and makes much of it.
const collectAt = 400

// sessionLimit bounds the name of a session, in bytes.
const sessionLimit = 256

// settings are the arguments of an agent.
type settings struct {
	root     string
	session  string
	run      uint64
	readOnly bool
	noOwner  bool
}

// Run is Serve with the version that the program was built with.
func Run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer, args []string) error {
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		version = info.Main.Version
	}
	return Serve(ctx, stdin, stdout, stderr, version, args)
}

// Serve carries out the requests that come on stdin and answers on stdout, until stdin ends or ctx does. version is this program's,
// for people. The arguments are
//
//	--root DIR       the directory; it is made if its parent exists
//	--session ID     the session that may work there
//	--run N          which of the session's runs this is, from 1; agents of earlier ones are asked to go
//	--read-only      change nothing: only listings are answered
//	--no-owner       leave owners and groups as they come
//
// An error is a sentence for the person who started the mirror.
func Serve(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer, version string, args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	streams, err := openStdio(stdin, stdout)
	if err != nil {
		return fmt.Errorf("open standard streams: %w", err)
	}
	options := wire.ServerOptions{Version: version, Features: []string{wire.FeaturePlace}, Workers: min(16, max(4, 2*runtime.GOMAXPROCS(0)))} // more only get in each other's way
	life, quit := context.WithCancelCause(ctx)
	defer quit(nil)
	h, err := s.open(life, quit, stderr)
	if err != nil {
		return errors.Join(err, streams.Close())
	}
	if confine(s.root, s.readOnly) {
		options.Features = append(options.Features, FeatureConfined)
	}
	err = wire.Serve(life, streams, options, h)
	if ctx.Err() != nil {
		err = nil // we were asked to end
	}
	return errors.Join(err, h.close())
}

func parse(args []string) (settings, error) {
	var s settings
	f := flag.NewFlagSet("agent", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&s.root, "root", "", "")
	f.StringVar(&s.session, "session", "", "")
	f.Uint64Var(&s.run, "run", 0, "")
	f.BoolVar(&s.readOnly, "read-only", false, "")
	f.BoolVar(&s.noOwner, "no-owner", false, "")
	if err := f.Parse(args); err != nil {
		return s, fmt.Errorf("the georep at the destination does not understand how it was started (%w): update it", err)
	}
	if s.root == "" || f.NArg() > 0 {
		return s, errors.New("the agent is started by georep itself: it needs --root DIR and takes no other arguments")
	}
	if len(s.session) > sessionLimit {
		return s, fmt.Errorf("the name of the session has %d bytes, more than %d", len(s.session), sessionLimit)
	}
	return s, nil
}

// handler is what the protocol serves, and what must be closed after it.
type handler interface {
	wire.Handler
	wire.Binder
	close() error
}

// open opens the directory and claims it. ctx is the life of the agent, and quit ends it.
func (s *settings) open(ctx context.Context, quit context.CancelCauseFunc, stderr io.Writer) (handler, error) {
	if !s.readOnly {
		if err := refuseNested(s.root); err != nil {
			return nil, err
		}
		if err := makeRoot(s.root); err != nil {
			return nil, err
		}
		// From here on modes are set as they are on the primary.
		syscall.Umask(0)
	}
	root, err := rooted.Open(s.root, rooted.WithScratch(apply.Hold))
	if s.readOnly && errors.Is(err, fs.ErrNotExist) {
		return absent{err}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the destination: %w", err)
	}
	applier, err := bypath.New(bypath.Options{Root: root, NoOwner: s.noOwner, Report: func(err error) { fmt.Fprintln(stderr, "georep agent:", err) }})
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if s.readOnly {
		return &reader{applier, root}, nil
	}
	w := &writer{Applier: applier, root: root, run: s.run, life: ctx, quit: quit}
	if s.session != "" {
		if err := w.claim(ctx, s.session); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	return w, nil
}

// refuseNested gives an error when the directory lies in the copy of a mirror: that would remove it as soon as it looks there.
func refuseNested(path string) error {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("find the destination: %w", err)
	}
	up, err := filepath.EvalSymlinks(filepath.Dir(absolute))
	if real, there := filepath.EvalSymlinks(absolute); there == nil {
		up, err = filepath.Dir(real), nil
	}
	if err != nil {
		return nil // it does not exist, and cannot be made: that is told elsewhere
	}
	for {
		// What may not be looked into is no copy that this account makes.
		if _, err := os.Lstat(filepath.Join(up, apply.Reserved, apply.Marker)); err == nil {
			return fmt.Errorf("the destination %s lies in %s, which is the destination of another mirror and would lose it: choose a directory outside", path, up)
		}
		next := filepath.Dir(up)
		if next == up {
			return nil
		}
		up = next
	}
}

// makeRoot makes the directory if it is missing.
func makeRoot(path string) error {
	err := os.Mkdir(path, 0o755)
	switch {
	case err == nil || errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the destination %s cannot be made: the directory %s does not exist on that host: make it first", path, filepath.Dir(filepath.Clean(path)))
	}
	return fmt.Errorf("make the destination: %w", err)
}
