package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"georep/internal/apply"
	"georep/internal/rooted"
)

const (
	claimWait  = 30 * time.Second      // for an agent that is just beginning
	claimEvery = 20 * time.Millisecond // between two tries
	claimLimit = 1024                  // bytes of a session's name in the lock file
)

// claim is a share in a lock file that holds the name of a session: all agents of that session have one, and no others can.
type claim struct {
	file    *rooted.File
	session string
}

// takeClaim takes a share for the session. Whoever comes when nobody has a share calls alone, in which nobody else can get one,
// and names the session.
func takeClaim(ctx context.Context, root *rooted.Root, session string, alone func(context.Context) error) (*claim, error) {
	dir, err := root.OpenDir(apply.Reserved)
	if err != nil {
		return nil, fmt.Errorf("lock the destination: %w", err)
	}
	defer dir.Close()
	f, err := openLock(dir)
	if err != nil {
		return nil, fmt.Errorf("lock the destination: %w", err)
	}
	c := &claim{file: f, session: session}
	if err := c.take(ctx, alone); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return c, nil
}

func openLock(dir *rooted.Dir) (*rooted.File, error) {
	for {
		f, err := dir.Create(apply.LockFile, 0o600)
		if !errors.Is(err, unix.EEXIST) {
			return f, err
		}
		f, err = dir.OpenRW(apply.LockFile)
		if !errors.Is(err, unix.ENOENT) {
			return f, err
		}
	}
}

func (c *claim) take(ctx context.Context, alone func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, claimWait, errors.New("another georep keeps it locked"))
	defer cancel()
	tick := time.NewTicker(claimEvery)
	defer tick.Stop()
	for {
		switch ok, err := c.lock(unix.F_WRLCK); {
		case err != nil:
			return fmt.Errorf("lock the destination: %w", err)
		case ok:
			return c.begin(ctx, alone)
		}
		switch ok, err := c.lock(unix.F_RDLCK); {
		case err != nil:
			return fmt.Errorf("lock the destination: %w", err)
		case ok:
			return c.join()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("lock the destination: %w", context.Cause(ctx))
		}
	}
}

// begin names the session, which only the sole holder of the lock may do, and then shares it.
func (c *claim) begin(ctx context.Context, alone func(context.Context) error) error {
	if err := alone(ctx); err != nil {
		return fmt.Errorf("clear the remains of an earlier run: %w", err)
	}
	if err := c.file.Truncate(0); err != nil {
		return fmt.Errorf("lock the destination: %w", err)
	}
	if _, err := c.file.WriteAt([]byte(c.session+"\n"), 0); err != nil {
		return fmt.Errorf("lock the destination: %w", err)
	}
	if ok, err := c.lock(unix.F_RDLCK); err != nil || !ok {
		return fmt.Errorf("share the lock of the destination: %w", errors.Join(err, unix.ENOLCK))
	}
	return nil
}

// join checks that those who hold the lock are of the same session.
func (c *claim) join() error {
	buf := make([]byte, claimLimit)
	n, err := c.file.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the lock of the destination: %w", err)
	}
	if owner := strings.TrimSuffix(string(buf[:n]), "\n"); owner != c.session {
		return fmt.Errorf("another mirror (session %q) is writing to this destination now: stop it first, or choose another destination", owner)
	}
	return nil
}

// lock tries to take the lock of that type, or to change the one held to it, without waiting.
func (c *claim) lock(kind int16) (bool, error) {
	whole := unix.Flock_t{Type: kind, Whence: io.SeekStart}
	for {
		err := unix.FcntlFlock(uintptr(c.file.Fd()), unix.F_OFD_SETLK, &whole)
		switch err {
		case nil:
			return true, nil
		case unix.EINTR:
		case unix.EAGAIN, unix.EACCES:
			return false, nil
		default:
			return false, err
		}
	}
}

func (c *claim) release() error { return c.file.Close() }
