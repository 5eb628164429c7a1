// Package gsyncd is georep in the place of Gluster's own gsyncd: what glusterd, the gluster command, hook scripts, sshd and an
// administrator call there, and what they read.
//
// One program answers them all: as gsyncd by its arguments, and as each helper program by the name under which it was started. What is
// printed is read by machines, so nothing else may appear on standard output.
package gsyncd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"georep/internal/agent"
	"georep/internal/config/gsyncdconf"
	"georep/internal/session"
	"georep/internal/worker"
)

// The exit codes, as glusterd and scripts know them. glusterd takes exactly 1 for a failure in several places.
const (
	exitOK              = 0
	exitFailed          = 1
	exitUsage           = 2 // also: unknown option name, and a monitor that runs already
	exitValue           = 3 // the value of an option is not valid
	exitNotConfigurable = 4
)

// Program is gsyncd with everything that it touches outside itself.
type Program struct {
	Version    string
	Args       []string // with the program's name
	In         io.Reader
	Out, Err   io.Writer
	Getenv     func(string) string
	Executable string // path of the running binary
	Place      session.Place
	Signals    <-chan os.Signal // terminations; nil: none come
	Brick      BrickFunc
	Volume     VolumeFunc
}

// BrickFunc is worker.RunBrick: it mirrors one brick until ctx ends or something that it needs is lost.
type BrickFunc func(ctx context.Context, b worker.Brick) error

// VolumeFunc is agent.RunVolume: it serves a secondary volume over its streams until input ends.
type VolumeFunc func(ctx context.Context, in io.Reader, out io.Writer, v agent.Volume) error

// failure is an error with its exit code.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// usage is the failure of a command line that is not understood.
func usage(format string, args ...any) error {
	return &failure{exitUsage, fmt.Errorf(format, args...)}
}

// Run does what the command line says and gives the exit code.
func (p *Program) Run(ctx context.Context) int {
	err := p.run(ctx)
	if err == nil {
		return exitOK
	}
	var f *failure
	code := exitFailed
	switch {
	case errors.As(err, &f):
		code = f.code
	case errors.Is(err, gsyncdconf.ErrName):
		code = exitUsage
	case errors.Is(err, gsyncdconf.ErrValue):
		code = exitValue
	case errors.Is(err, gsyncdconf.ErrConfigurable):
		code = exitNotConfigurable
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(p.Err, text)
	}
	return code
}

func (p *Program) run(ctx context.Context) error {
	p.prepare()
	name := filepath.Base(p.Args[0])
	args := p.Args[1:]
	if len(args) > 1 && args[0] == "helper" {
		name, args = args[1], args[2:]
	}
	if helper, ok := p.helpers()[name]; ok {
		return helper(ctx, args)
	}
	if command, pairs, ok := p.forced(args); ok {
		return p.dispatch(ctx, command, pairs)
	}
	if len(args) == 0 {
		return usage("usage: %s", usageText)
	}
	if command, ok := p.subcommands()[args[0]]; ok {
		return command(ctx, args[1:])
	}
	call, err := parseLegacy(args)
	if err != nil {
		return err
	}
	return p.legacy(ctx, call)
}

const usageText = `gsyncd SUBCOMMAND ...
  monitor, worker, secondary, status, monitor-status, config-check, config-get, config-set, config-reset, voluuidget, delete, --version
This program is started by glusterd: use 'gluster volume geo-replication', see gluster(8).`

// prepare makes what glusterd expects any run to have made: the template that lies beside the sessions.
func (p *Program) prepare() {
	if os.Geteuid() != 0 {
		return
	}
	dir := filepath.Join(p.Place.Root, session.DefaultWorkDir, "geo-replication")
	path := filepath.Join(dir, "gsyncd_template.conf")
	if _, err := os.Lstat(path); err == nil {
		return
	}
	if _, err := os.Stat(filepath.Dir(dir)); err != nil {
		return // no glusterd is installed here
	}
	// What cannot be made here is missed by glusterd, which says so; no call of ours needs it.
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return
	}
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
		f.Close()
	}
}

// print writes all of an answer at once.
func (p *Program) print(lines ...string) error {
	var b bytes.Buffer
	for _, line := range lines {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	if _, err := p.Out.Write(b.Bytes()); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}

// open reads the session that a call is about. Primary may have the colon before it that glusterd writes.
func (p *Program) open(primary, secondary string, extra map[string]string) (*session.Session, error) {
	to, err := session.ParseSecondary(secondary)
	if err != nil {
		return nil, usage("%w", err)
	}
	return p.Place.Open(strings.TrimPrefix(primary, ":"), to, extra)
}
