package gsyncd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"georep/internal/gluster"
	"georep/internal/session"
	"georep/internal/worker"
)

// ours among the arguments says that the worker which asks is one of georep and speaks its protocol.
const ours = "--georep"

// workerFlags are what the monitor tells a worker.
type workerFlags struct {
	feedback                                           int
	brick, node, nodeID, volumeID, secondaryID, remote string
	subvolume, subvolumes, replicas                    int
	noContent                                          bool
}

// errSaid is the failure of what has told its reason already.
var errSaid = errors.New("")

func (p *Program) workerCommand(ctx context.Context, args []string) error {
	f := flags("worker")
	var w workerFlags
	f.IntVar(&w.feedback, "feedback-fd", -1, "")
	f.StringVar(&w.brick, "local-path", "", "")
	f.StringVar(&w.node, "local-node", "", "")
	f.StringVar(&w.nodeID, "local-node-id", "", "")
	f.StringVar(&w.volumeID, "primary-id", "", "")
	f.StringVar(&w.secondaryID, "secondary-id", "", "")
	f.StringVar(&w.remote, "resource-remote", "", "")
	f.IntVar(&w.subvolume, "subvol-num", 1, "")
	f.IntVar(&w.subvolumes, "subvol-count", 1, "")
	f.IntVar(&w.replicas, "replica-count", 1, "")
	f.BoolVar(&w.noContent, "no-content", false, "")
	if err := parse(f, args, 2); err != nil {
		return err
	}
	s, err := p.open(f.Arg(0), f.Arg(1), session.BrickNames(w.brick, w.node))
	if err != nil {
		return err
	}
	log := newLogger(openLog(s.Path("log-file")), "worker "+w.brick, s.Config.Get("log-level"))
	err = p.runWorker(ctx, s, w, log)
	if err != nil {
		log.Error("the worker ends", "reason", err)
		return &failure{exitFailed, errSaid} // no other code: it would mean something to another monitor
	}
	return nil
}

func (p *Program) runWorker(ctx context.Context, s *session.Session, w workerFlags, log *slog.Logger) error {
	b, err := p.brickOf(s, w, log)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(b.LockDir, 0o700); err != nil {
		return fmt.Errorf("make the directory of locks: %w", err)
	}
	ctx, stop := p.untilTerminated(ctx)
	defer stop()
	r := newReporter(s, w, log)
	b.Report = r.report
	var writer sync.WaitGroup
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	writer.Go(func() { r.run(life) })
	err = p.Brick(ctx, b)
	end()
	writer.Wait()
	return err
}

// brickOf is what the worker is told about its brick.
func (p *Program) brickOf(s *session.Session, w workerFlags, log *slog.Logger) (worker.Brick, error) {
	c := s.Config
	volume, err := gluster.ParseGFID(w.volumeID)
	if err != nil {
		return worker.Brick{}, fmt.Errorf("the id of the primary volume: %w", err)
	}
	secondary, err := gluster.ParseGFID(w.secondaryID)
	if err != nil {
		return worker.Brick{}, fmt.Errorf("the id of the secondary volume: %w", err)
	}
	b := worker.Brick{
		Volume: s.Primary, VolumeID: volume, Path: w.brick, NodeID: w.nodeID, Subvolume: w.subvolume, Subvolumes: w.subvolumes, Replicas: w.replicas,
		Indirect: w.noContent, SecondaryVolume: s.Secondary.Volume, SecondaryID: secondary, User: s.Secondary.User,
		Hosts: strings.Split(w.remote, ","), Port: c.Int("ssh-port"), SSH: sshCommand(s), KeepGroup: true,
		WorkDir: s.WorkerDir(w.brick), LockDir: filepath.Join(s.Path("gluster-rundir"), "georep-locks"),
		LogFile: s.Path("gluster-log-file"), LogLevel: c.Get("gluster-log-level"), GlusterFS: filepath.Join(c.Get("gluster-command-dir"), "glusterfs"),
		SyncJobs: c.Int("sync-jobs"), IgnoreDelete: c.Bool("ignore-deletes"), Version: p.Version, Log: log,
		Command: func(host string) []string { return remoteCommand(s, w, host) },
	}
	if at := c.Int("checkpoint"); at > 0 {
		b.Checkpoint = time.Unix(int64(at), 0)
	}
	if c.Bool("use-meta-volume") {
		if b.MetaMount = c.Get("meta-volume-mnt"); !isMountPoint(b.MetaMount) {
			return worker.Brick{}, fmt.Errorf("Meta-volume is not mounted. Worker Exiting...: mount the shared storage volume at %s, or 'config use-meta-volume false'", b.MetaMount) //lint:ignore ST1005 scripts know this text
		}
	}
	return b, nil
}

// isMountPoint says whether a directory is the top of another file system than what is above it.
func isMountPoint(dir string) bool {
	var here, above syscall.Stat_t
	return syscall.Stat(dir, &here) == nil && syscall.Stat(filepath.Dir(dir), &above) == nil && here.Dev != above.Dev
}

// remoteCommand starts the agent on a node of the secondary. The key's forced command looks at it.
func remoteCommand(s *session.Session, w workerFlags, host string) []string {
	c := s.Config
	program := c.Get("remote-gsyncd")
	if program == "" {
		program = "/nonexistent/gsyncd"
	}
	return []string{
		program, "secondary", s.Primary, s.Secondary.String(), ours, "--primary-node", w.node, "--primary-node-id", w.nodeID,
		"--primary-brick", w.brick, "--local-node", host, "--secondary-timeout", c.Get("secondary-timeout"),
		"--secondary-log-level", c.Get("secondary-log-level"), "--secondary-gluster-log-level", c.Get("secondary-gluster-log-level"),
		"--secondary-gluster-command-dir", c.Get("secondary-gluster-command-dir"),
	}
}
