package bygfid

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"georep/internal/apply"
	"georep/internal/wire"
)

// The volume's root carries what must be known of the sessions that write to the volume, one attribute for each bricks' worker and one for all
// workers of a primary volume. They are not mirrored further. Where we may, they have a name that the volume shows to no client of its own.
const (
	hiddenPrefix = "trusted.pgfid.georep."
	openPrefix   = "user.georep."
	markKey      = "mark."
	ownerKey     = "owner."
	freshKey     = "fresh."
)

// rootKey is the name of one of these attributes.
func (a *Applier) rootKey(name string) string {
	if a.uid < 0 {
		return hiddenPrefix + name
	}
	return openPrefix + name
}

// Bind tells a worker what it left here. session is "PRIMARY.PART": the identity of the primary volume, and which part of its files the
// worker has. Empty then means that nothing of that part is here.
//
// Whoever binds replaces the worker that had that part before: of the applier that works for that one, see Replaced. It has ended when Bind
// returns.
func (a *Applier) Bind(ctx context.Context, session string, _ bool) (wire.BindResult, error) {
	var res wire.BindResult
	volume, part, ok := strings.Cut(session, ".")
	if !ok || volume == "" || part == "" || len(session) > 100 || strings.ContainsFunc(session, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return res, apply.Refuse("%q cannot be the name of a session", session)
	}
	_, fresh, err := a.rootValue(a.rootKey(freshKey + volume))
	if err != nil {
		return res, fmt.Errorf("read the mark of the volume: %w", err)
	}
	empty, err := a.empty()
	if err != nil {
		return res, fmt.Errorf("look into the volume: %w", err)
	}
	if empty && !fresh {
		if err := a.setRootValue(a.rootKey(freshKey+volume), "1"); err != nil {
			return res, fmt.Errorf("mark the volume: %w", err)
		}
		fresh = true
	}
	if err := a.takeOver(ctx, session); err != nil {
		return res, fmt.Errorf("take the volume over: %w", err)
	}
	mark, marked, err := a.rootValue(a.rootKey(markKey + session)) // the other may have gone on until now
	if err != nil {
		return res, fmt.Errorf("read the mark of the volume: %w", err)
	}
	res.Bound, res.Mark = true, mark
	res.Empty = empty || fresh && !marked
	key := a.rootKey(markKey + session)
	a.key.Store(&key)
	return res, nil
}

// How often an applier looks whether it was replaced, and how long after it was told so it is taken to have ended.
const (
	ownerEvery = 500 * time.Millisecond
	ownerWait  = 4 * ownerEvery
)

// takeOver makes this applier the one that works for a session.
func (a *Applier) takeOver(ctx context.Context, session string) error {
	key := a.rootKey(ownerKey + session)
	before, had, err := a.rootValue(key)
	if err != nil || before == a.token {
		return err
	}
	if err := a.setRootValue(key, a.token); err != nil {
		return err
	}
	a.owner.Store(&key)
	if !had {
		return nil
	}
	timer := time.NewTimer(ownerWait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ErrReplaced means that another worker has taken over.
var ErrReplaced = errors.New("another worker has taken over this part of the volume")

// Replaced waits until another applier has taken over the session of this one, or until ctx ends.
func (a *Applier) Replaced(ctx context.Context) error {
	tick := time.NewTicker(ownerEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		key := a.owner.Load()
		if key == nil {
			continue
		}
		// When it cannot be read, nothing can be written either.
		if now, had, err := a.rootValue(*key); err == nil && had && now != a.token {
			return ErrReplaced
		}
	}
}

func (a *Applier) rootValue(name string) (string, bool, error) {
	buf := make([]byte, 1024)
	n, err := unix.Getxattr(a.m.Top()+"/.", name, buf)
	if errors.Is(err, unix.ENODATA) {
		return "", false, nil
	}
	return string(buf[:max(n, 0)]), err == nil, err
}

func (a *Applier) setRootValue(name, value string) error {
	return unix.Setxattr(a.m.Top()+"/.", name, []byte(value), 0)
}

// empty says whether there is nothing in the volume but what is ours or the volume's own.
func (a *Applier) empty() (bool, error) {
	dir, err := os.Open(a.m.Top() + "/.")
	if err != nil {
		return false, err
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(64)
		for _, name := range names {
			if name != apply.Reserved && !ofGluster(name) {
				return false, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// Commit notes the mark. What was applied is in the hands of all bricks that are up: each of them writes it to its disks in its own time, and a
// replica that lost power is healed by the others.
func (a *Applier) Commit(ctx context.Context, mark string, purge bool) error {
	if key := a.key.Load(); key != nil && mark != "" {
		if err := a.setRootValue(*key, mark); err != nil {
			return fmt.Errorf("note the commit: %w", err)
		}
	}
	if purge {
		if err := a.purge(ctx); err != nil {
			a.report(err)
		}
	}
	return nil
}
