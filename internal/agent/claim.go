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
	otherWait  = 2 * time.Second       // for the agents of another session, which may be just ending
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
	started := time.Now()
	tick := time.NewTicker(claimEvery)
	defer tick.Stop()
	for {
		done, owner, err := c.try(ctx, alone)
		if done || err != nil {
			return err
		}
		waited := time.Since(started)
		switch {
		case owner != "" && waited > otherWait:
			return fmt.Errorf("another mirror (session %q) is writing to this destination now: stop it first, or choose another destination", owner)
		case waited > claimWait:
			return fmt.Errorf("another georep has kept %s/%s of the destination locked for %s: stop it", apply.Reserved, apply.LockFile, claimWait)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("lock the destination: %w", context.Cause(ctx))
		}
	}
}

// try takes a share if that is possible at once. owner is the other session that prevents it, if one does.
func (c *claim) try(ctx context.Context, alone func(context.Context) error) (done bool, owner string, err error) {
	sole, err := c.lock(unix.F_WRLCK)
	if err != nil {
		return false, "", fmt.Errorf("lock the destination: %w", err)
	}
	if sole {
		return true, "", c.begin(ctx, alone)
	}
	shared, err := c.lock(unix.F_RDLCK)
	if err != nil || !shared {
		if err != nil {
			err = fmt.Errorf("lock the destination: %w", err)
		}
		return false, "", err
	}
	owner, err = c.owner()
	if err != nil || owner == c.session {
		return true, "", err
	}
	if _, err := c.lock(unix.F_UNLCK); err != nil {
		return false, "", fmt.Errorf("unlock the destination: %w", err)
	}
	return false, owner, nil
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

// owner reads the session of those who hold the lock.
func (c *claim) owner() (string, error) {
	buf := make([]byte, claimLimit)
	n, err := c.file.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the lock of the destination: %w", err)
	}
	return strings.TrimSuffix(string(buf[:n]), "\n"), nil
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
