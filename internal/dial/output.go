package dial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// outputLimit bounds what Output keeps of a program's standard output, in bytes.
const outputLimit = 16 << 20

// ErrTooLong is the error of a program that prints more than Output is ready to keep.
var ErrTooLong = errors.New("it prints more than 16 MiB")

// Brief is a command that does something short here and ends by itself.
type Brief struct {
	Argv []string
	Env  []string  // nil: ours
	Dir  string    // "": ours
	In   io.Reader // nil: nothing to read
}

// ExitError says that a program has ended with another status than 0.
type ExitError struct {
	Argv   []string
	Status int    // exit status, or 128 and a signal's number
	Stderr string // the last 32 KiB
}

func (e *ExitError) Error() string {
	text := fmt.Sprintf("%s ended with status %d", e.Argv[0], e.Status)
	if said := bytes.TrimSpace([]byte(e.Stderr)); len(said) > 0 {
		text += ": " + string(said)
	}
	return text
}

// Output runs a command to its end and gives what it printed. It stays in our process group, and is killed when ctx ends. The error is
// an *ExitError when it ended with another status than 0, ErrTooLong, or that of starting it; what it printed is given then too.
func Output(ctx context.Context, b Brief) ([]byte, error) {
	var out bounded
	var said tail
	cmd := exec.CommandContext(ctx, b.Argv[0], b.Argv[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdin = b.Env, b.Dir, b.In
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.WaitDelay = time.Second // what it left behind may hold its streams open
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("run %s: %w", b.Argv[0], ctx.Err())
	case out.over:
		err = fmt.Errorf("run %s: %w", b.Argv[0], ErrTooLong)
	case errors.As(err, &exit):
		e := &ExitError{Argv: b.Argv, Status: exit.ExitCode(), Stderr: said.String()}
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			e.Status = 128 + int(ws.Signal())
		}
		err = e
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil
	case err != nil:
		err = startProblem(b.Argv[0], err)
	}
	return out.kept, err
}

// bounded keeps what is written to it up to outputLimit.
type bounded struct {
	kept []byte
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.kept)+len(p) > outputLimit {
		b.over = true
		return 0, ErrTooLong
	}
	b.kept = append(b.kept, p...)
	return len(p), nil
}
