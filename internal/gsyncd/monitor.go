package gsyncd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"georep/internal/gluster"
	"georep/internal/monitor"
	"georep/internal/session"
)

// monitorStart is how a monitor is wanted.
type monitorStart struct {
	node      string // glusterd's id of this node
	bricks    []string
	paused    bool
	secondary string // as it was typed
}

// startMonitor starts the monitor of a session as a daemon and returns when it holds its pid file.
func (p *Program) startMonitor(_ context.Context, s *session.Session, o monitorStart) error {
	if !s.Exists() {
		return fmt.Errorf("%w: create it with 'gluster volume geo-replication %s %s create'", session.ErrMissing, s.Primary, s.Secondary)
	}
	if err := s.Upgrade(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.PidFile()), 0o755); err != nil {
		return fmt.Errorf("start the monitor: %w", err)
	}
	argv := []string{p.Executable, "monitor", s.Primary, o.secondary, "--daemon", "--local-node-id", o.node}
	for _, brick := range o.bricks {
		argv = append(argv, "--local-path", brick)
	}
	if o.paused {
		argv = append(argv, "--pause-on-start")
	}
	err := monitor.Launch(s.PidFile(), argv, p.cleanEnv())
	if errors.Is(err, monitor.ErrRunning) {
		return &failure{exitUsage, err}
	}
	return err
}

// The monitor's patience. glusterd kills what is left one second after it has asked to stop.
const (
	stopGrace    = 700 * time.Millisecond
	firstDelay   = 3 * time.Second
	maxDelay     = 10 * time.Second
	leastConfirm = 2 * time.Minute // it may have to try several nodes that are down
)

// runMonitor is the life of a monitor.
func (p *Program) runMonitor(ctx context.Context, s *session.Session, o monitorStart, daemon bool) error {
	logTo := openLog(s.Path("log-file"))
	log := newLogger(logTo, "monitor", s.Config.Get("log-level"))
	if daemon {
		lock, err := monitor.Daemon(s.PidFile())
		if err != nil {
			return err
		}
		defer lock.File().Close() // and not before: the lock says that we live
	}
	ctx, stop := p.untilTerminated(ctx)
	defer stop()
	if o.paused {
		log.Info("the session is paused: waiting to be resumed")
		if err := syscall.Kill(0, syscall.SIGSTOP); err != nil { // the whole group, which is only us so far
			return fmt.Errorf("pause: %w", err)
		}
	}
	c := &cluster{p: p, s: s}
	bricks, err := c.bricks(ctx, o)
	if err != nil {
		return err
	}
	for _, brick := range bricks {
		if err := s.UpdateBrick(brick, (*session.Brick).Restart); err != nil {
			return err
		}
	}
	if err := s.SetWord(session.Started); err != nil {
		return err
	}
	for _, warning := range s.Config.Warnings {
		log.Warn(warning)
	}
	log.Info("started", "primary", s.Primary, "secondary", s.Secondary.String(), "bricks", strings.Join(bricks, " "))
	monitor.Run(ctx, bricks, p.monitorOptions(c, o, log, logTo))
	log.Info("exiting")
	return nil
}

// bricks are those of this node: as glusterd said, or else as the volume has them.
func (c *cluster) bricks(ctx context.Context, o monitorStart) ([]string, error) {
	if len(o.bricks) > 0 {
		return o.bricks, nil
	}
	volume, err := c.p.askVolume(ctx, "localhost", c.s.Primary, false)
	if err != nil {
		return nil, err
	}
	var bricks []string
	for _, b := range volume.Bricks {
		if b.HostID == o.node {
			bricks = append(bricks, b.Path)
		}
	}
	if len(bricks) == 0 {
		return nil, fmt.Errorf("this node has no brick of the volume %s", c.s.Primary)
	}
	return bricks, nil
}

func (p *Program) monitorOptions(c *cluster, o monitorStart, log *slog.Logger, logTo *logFile) monitor.Options {
	s := c.s
	said, err := os.OpenFile(logTo.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		log.Warn("what a worker says when it crashes will not be in the log", "error", err)
		said = nil
	}
	return monitor.Options{
		Log: log, Grace: stopGrace, FirstDelay: firstDelay, MaxDelay: maxDelay,
		Confirm: max(time.Duration(s.Config.Int("connection-timeout"))*time.Second, leastConfirm),
		Starting: func(brick string) {
			p.noteBrick(s, log, brick, func(b *session.Brick) {
				b.Restart()
				b.WorkerStatus = session.Initializing
			})
		},
		Failed: func(brick string, reason error, again time.Duration) {
			log.Error("worker failed", "brick", brick, "reason", reason, "again in", again)
			id := o.node
			before := s.Brick(brick)
			p.noteBrick(s, log, brick, func(b *session.Brick) { b.WorkerStatus = session.Faulty })
			event(eventFaulty, "primary_volume", s.Primary, "primary_node", c.nodeName(brick, id), "primary_node_id", id, "secondary_host", s.Secondary.Host,
				"secondary_volume", s.Secondary.Volume, "current_secondary_host", before.SecondaryNode, "brick_path", brick)
		},
		Prepare: func(ctx context.Context, brick string) (monitor.Worker, error) {
			argv, err := p.workerArgs(ctx, c, o, brick)
			if err != nil {
				return monitor.Worker{}, err
			}
			dir := mountDir(s, brick)
			err = clearMounts(dir) // no worker of this brick lives now
			return monitor.Worker{Argv: argv, Env: append(p.cleanEnv(), "TMPDIR="+dir), Stderr: said}, err
		},
	}
}

// nodeName is the name under which the volume knows the node of a brick; "" when that was never heard.
func (c *cluster) nodeName(brick, node string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.volume.Bricks {
		if b.Path == brick && b.HostID == node {
			return b.Host
		}
	}
	return ""
}

// noteBrick changes a brick's status. A status that cannot be written is told in the log: nothing else can be done about it.
func (p *Program) noteBrick(s *session.Session, log *slog.Logger, brick string, change func(*session.Brick)) {
	if err := s.UpdateBrick(brick, change); err != nil {
		log.Error("the status could not be written", "brick", brick, "error", err)
	}
}

// workerArgs is the command line of a brick's worker.
func (p *Program) workerArgs(ctx context.Context, c *cluster, o monitorStart, brick string) ([]string, error) {
	volume, other, err := c.look(ctx)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(volume.Bricks, func(b gluster.Brick) bool { return b.Path == brick && (b.HostID == o.node || o.node == "") })
	if at < 0 {
		return nil, fmt.Errorf("the volume %s has no brick %s on this node any more", c.s.Primary, brick)
	}
	hosts := orderHosts(ctx, c.s, other.Hosts, at)
	argv := []string{
		p.Executable, "worker", c.s.Primary, o.secondary, "--feedback-fd", strconv.Itoa(monitor.FeedbackFD), "--local-path", brick,
		"--local-node", volume.Bricks[at].Host, "--local-node-id", volume.Bricks[at].HostID, "--primary-id", volume.ID, "--secondary-id", other.ID,
		"--subvol-num", strconv.Itoa(volume.Subvolume(at)), "--resource-remote", strings.Join(hosts, ","), "-c", c.s.ConfigPath(),
		"--subvol-count", strconv.Itoa(volume.Distribute), "--replica-count", strconv.Itoa(max(volume.Replica, volume.Disperse)),
	}
	if volume.Disperse > 0 || volume.Bricks[at].Arbiter {
		argv = append(argv, "--no-content")
	}
	return argv, nil
}

// untilTerminated ends the context at a signal that asks us to end.
func (p *Program) untilTerminated(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-p.Signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); <-done }
}
