package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"georep/internal/durable"
	"georep/internal/gluster"
)

// electEvery is how often it is asked which of several bricks with the same content is active.
const electEvery = time.Second

// elector decides which of the bricks that hold the same is the active one.
type elector interface {
	// Active says whether this one is. An error means that nobody can say.
	Active() (bool, error)
	Close() error
}

// openElection chooses the way in which is decided.
func (w *brickWorker) openElection(context.Context) error {
	switch {
	case w.b.MetaMount != "":
		e, err := newLockElector(w.b)
		if err != nil {
			return err
		}
		w.elect = e
	case w.b.NodeID != "":
		w.elect = &nodeElector{w: w}
	default:
		w.elect = always{}
	}
	w.closeLater(w.elect.Close)
	return nil
}

// awaitActive waits until this brick is the active one.
func (w *brickWorker) awaitActive(ctx context.Context) error {
	for told := false; ; told = true {
		active, err := w.elect.Active()
		if err != nil || active {
			return err
		}
		if !told {
			w.report(func(r *BrickReport) { r.State, r.Crawl, r.Host = BrickPassive, "", "" })
		}
		if err := pause(ctx, electEvery); err != nil {
			return err
		}
	}
}

// watchActive waits until this brick is not the active one any more; nil when ctx ended first.
func (w *brickWorker) watchActive(ctx context.Context) error {
	for {
		if err := pause(ctx, electEvery); err != nil {
			return nil
		}
		active, err := w.elect.Active()
		if err != nil {
			return err
		}
		if !active {
			return errPassive
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// always is for a brick that has no other beside it.
type always struct{}

func (always) Active() (bool, error) { return true, nil }
func (always) Close() error          { return nil }

// nodeElector takes the node whose brick the volume itself prefers for reading identities: the first of each subvolume that is up.
type nodeElector struct {
	w    *brickWorker
	held *durable.Held // among bricks of the same node
}

// Active implements elector.
func (e *nodeElector) Active() (bool, error) {
	text, err := e.w.mount.ActiveNodes()
	if err != nil {
		return false, err
	}
	b := e.w.b
	nodes := strings.Fields(strings.Trim(text, "\x00"))
	mine := strings.Contains(text, b.NodeID)
	if len(nodes) == b.Subvolumes && b.Subvolume >= 1 && b.Subvolume <= len(nodes) {
		mine = nodes[b.Subvolume-1] == b.NodeID
	}
	if !mine {
		return false, e.release()
	}
	if e.held != nil || b.Replicas == 1 {
		return true, nil
	}
	dir := b.LockDir
	if dir == "" {
		dir = os.TempDir()
	}
	name := fmt.Sprintf("georep-%s-%s-%d.lock", b.VolumeID, b.SecondaryID, b.Subvolume)
	e.held, err = durable.Lock(filepath.Join(dir, name))
	var locked *durable.LockedError
	if errors.As(err, &locked) {
		return false, nil
	}
	return err == nil, err
}

func (e *nodeElector) release() error {
	if e.held == nil {
		return nil
	}
	held := e.held
	e.held = nil
	return held.Unlock()
}

// Close implements elector.
func (e *nodeElector) Close() error { return e.release() }

// lockElector takes who has the lock on the shared volume, which workers of the reference take as well.
type lockElector struct {
	file *os.File
}

func newLockElector(b *Brick) (*lockElector, error) {
	mounted, err := isMountPoint(b.MetaMount)
	if err != nil || !mounted {
		return nil, fmt.Errorf("the shared volume is not mounted at %s: mount it (gluster volume set all cluster.enable-shared-storage enable), or set use-meta-volume to false", b.MetaMount)
	}
	dir := filepath.Join(b.MetaMount, "geo-rep")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the locks: %w", err)
	}
	name := fmt.Sprintf("%s_%s_subvol_%d.lock", gluster.GFID(b.VolumeID), gluster.GFID(b.SecondaryID), b.Subvolume)
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the bricks: %w", err)
	}
	return &lockElector{file: f}, nil
}

func isMountPoint(dir string) (bool, error) {
	var self, up syscall.Stat_t
	if err := syscall.Lstat(dir, &self); err != nil {
		return false, err
	}
	if err := syscall.Lstat(filepath.Join(dir, ".."), &up); err != nil {
		return false, err
	}
	return self.Dev != up.Dev || self.Ino == up.Ino, nil
}

// Active implements elector. A lock that is held is asked for again: the volume may have lost it.
func (e *lockElector) Active() (bool, error) {
	err := syscall.FcntlFlock(e.file.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart})
	if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EAGAIN) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("take the lock of the bricks: %w", err)
	}
	return true, nil
}

// Close implements elector.
func (e *lockElector) Close() error { return e.file.Close() }
