// Package cli is the command line of georep: what a person types, what they read, and the exit code they get.
//
// The program is a value with its streams, so a test runs it whole. Nothing below this room prints or exits, and the work
// itself is reached only through the function fields of Program.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"georep/internal/status"
	"georep/internal/worker"
)

// The exit codes. They are documented in the manual and do not change their meaning.
const (
	ExitOK          = 0   // everything was acknowledged; or a live mirror was asked to stop and did
	ExitFailed      = 1   // entries failed, or the command could not do its work
	ExitUsage       = 2   // the command line or the configuration file is wrong
	ExitHalted      = 3   // deletions are held until a person decides
	ExitInterrupted = 130 // ended before it was done, as asked
)

// MirrorFunc is worker.Run: it mirrors until ctx ends or the work is done, and reports on the way, from any goroutine.
type MirrorFunc func(ctx context.Context, options worker.Options, report func(status.Event)) (worker.Summary, error)

// AgentFunc is agent.Serve: it serves the destination's end over its streams until input ends.
type AgentFunc func(ctx context.Context, in io.Reader, out, errs io.Writer, version string, args []string) error

// Program is georep with everything it touches outside itself.
type Program struct {
	Version    string
	In         io.Reader
	Out, Err   io.Writer        // a progress line is drawn when Out is a terminal
	Signals    <-chan os.Signal // interrupts and terminations; nil: none come
	Getenv     func(string) string
	Executable string // path of the running binary, for a local agent child
	Mirror     MirrorFunc
	Agent      AgentFunc
}

// usageError is a mistake in what was typed or configured.
type usageError struct {
	err     error
	command string // where help is: "mirror", or "" for the program
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// exitError carries an exit code; its message may be empty when all has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// Run carries out one command line, args without the program's name, and gives the exit code. What is left to say about
// an error has been written to Err.
func (p *Program) Run(ctx context.Context, args []string) int {
	root := p.commands()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	var usage *usageError
	if errors.As(err, &usage) {
		help := "georep --help"
		if usage.command != "" {
			help = "georep " + usage.command + " --help"
		}
		fmt.Fprintf(p.Err, "georep: %s\nTry '%s'.\n", printable(err.Error()), help)
		return ExitUsage
	}
	code := ExitFailed
	var exit *exitError
	if errors.As(err, &exit) {
		code = exit.code
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(p.Err, "georep: %s\n", printable(text))
	}
	return code
}
