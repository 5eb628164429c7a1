package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"georep/internal/apply"
	"georep/internal/rooted"
)

const (
	claimWait  = 30 * time.Second      // for an agent that is just beginning, or for those of an earlier run to end
	otherWait  = 2 * time.Second       // for the agents of another session, which may be just ending
	claimEvery = 20 * time.Millisecond // between two tries
	leaveEvery = 50 * time.Millisecond // between two looks whether a later run wants the directory
	claimLimit = 1024                  // bytes of the lock file that count
)

// owner is what the lock file tells, in three lines: which session's agents share the lock, of which of its runs, and which
// run waits for them to go.
type owner struct {
	session     string
	run, wanted uint64
}

func (o owner) String() string { return fmt.Sprintf("%s\n%d\n%d\n", o.session, o.run, o.wanted) }

// parseOwner reads a lock file. What is missing, as after a crash, is zero.
func parseOwner(text string) owner {
	lines := append(strings.Split(text, "\n"), "", "")
	o := owner{session: lines[0]}
	o.run, _ = strconv.ParseUint(lines[1], 10, 64)
	o.wanted, _ = strconv.ParseUint(lines[2], 10, 64)
	return o
}

// claim is a share in a lock file that holds the name of a session and the number of its run: all agents of that run have one,
// and no others can.
//
// The number keeps agents apart that outlived their worker, be it because they still read what was on its way, from those of
// the worker that followed: what they were told may be wrong by now. A later run asks them to go, and waits until they have.
type claim struct {
	file    *rooted.File
	session string
	run     uint64
}

// errSuperseded says that a later run of the same session has taken the directory over.
var errSuperseded = errors.New("a later run of this mirror is writing to the destination")

// takeClaim takes a share for a run of the session. Whoever comes when nobody has a share calls alone, in which nobody else can get
// one, and names the session.
func takeClaim(ctx context.Context, root *rooted.Root, session string, run uint64, alone func(context.Context) error) (*claim, error) {
	dir, err := root.OpenDir(apply.Reserved)
	if err != nil {
		return nil, fmt.Errorf("lock the destination: %w", err)
	}
	defer dir.Close()
	f, err := openLock(dir)
	if err != nil {
		return nil, fmt.Errorf("lock the destination: %w", err)
	}
	c := &claim{file: f, session: session, run: run}
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
		done, o, err := c.try(ctx, alone)
		if done || err != nil {
			return err
		}
		waited := time.Since(started)
		switch {
		case o.session != "" && o.session != c.session && waited > otherWait:
			return fmt.Errorf("another mirror (session %q) is writing to this destination now: stop it first, or choose another destination", o.session)
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

// try takes a share if that is possible at once. Else it tells who prevents it; agents of an earlier run are asked to go.
func (c *claim) try(ctx context.Context, alone func(context.Context) error) (done bool, o owner, err error) {
	sole, err := c.lock(unix.F_WRLCK)
	if err != nil {
		return false, o, fmt.Errorf("lock the destination: %w", err)
	}
	if sole {
		return true, o, c.begin(ctx, alone)
	}
	shared, err := c.lock(unix.F_RDLCK)
	if err != nil || !shared {
		if err != nil {
			err = fmt.Errorf("lock the destination: %w", err)
		}
		return false, o, err
	}
	o, err = c.owner()
	if err != nil || o.session == c.session && o.run == c.run && o.wanted <= c.run {
		return err == nil, o, err
	}
	if o.session == c.session {
		switch {
		case o.run > c.run || o.wanted > c.run:
			return false, o, errSuperseded
		case o.wanted < c.run:
			o.wanted = c.run
			err = c.write(o)
		}
	}
	if _, uerr := c.lock(unix.F_UNLCK); err == nil && uerr != nil {
		err = fmt.Errorf("unlock the destination: %w", uerr)
	}
	return false, o, err
}

// begin names the session and its run, which only the sole holder of the lock may do, and then shares it.
func (c *claim) begin(ctx context.Context, alone func(context.Context) error) error {
	if err := alone(ctx); err != nil {
		return fmt.Errorf("clear the remains of an earlier run: %w", err)
	}
	if err := c.file.Truncate(0); err != nil {
		return fmt.Errorf("lock the destination: %w", err)
	}
	if err := c.write(owner{session: c.session, run: c.run, wanted: c.run}); err != nil {
		return err
	}
	if ok, err := c.lock(unix.F_RDLCK); err != nil || !ok {
		return fmt.Errorf("share the lock of the destination: %w", errors.Join(err, unix.ENOLCK))
	}
	return nil
}

// superseded returns when a later run wants the directory, with errSuperseded, or when ctx ends. Whoever gets the error has to
// release the claim as soon as nothing it does can touch the directory any more.
func (c *claim) superseded(ctx context.Context) error {
	tick := time.NewTicker(leaveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		o, err := c.owner()
		if err != nil {
			return err
		}
		if o.session == c.session && o.wanted > c.run {
			return errSuperseded
		}
	}
}

func (c *claim) write(o owner) error {
	if _, err := c.file.WriteAt([]byte(o.String()), 0); err != nil {
		return fmt.Errorf("lock the destination: %w", err)
	}
	return nil
}

// owner reads who holds the lock.
func (c *claim) owner() (owner, error) {
	buf := make([]byte, claimLimit)
	n, err := c.file.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return owner{}, fmt.Errorf("read the lock of the destination: %w", err)
	}
	return parseOwner(string(buf[:n])), nil
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
