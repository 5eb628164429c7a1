package gsyncd

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"georep/internal/agent"
	"georep/internal/divert"
	"georep/internal/session"
)

// secondary serves a worker of another cluster. One of Gluster's own is handed over to Gluster's own program, which waits beside us.
func (p *Program) secondary(ctx context.Context, args []string, pairs []pair) error {
	primary, to, err := secondaryOf(args)
	if err != nil {
		return err
	}
	if !allows(pairs, primary, to.Volume) {
		return fmt.Errorf("this key is not for %s to %s: %w", primary, to.Volume, errRefused)
	}
	if !slices.Contains(args, ours) {
		return p.handOver(args)
	}
	return p.serve(ctx, args)
}

// handOver becomes Gluster's own gsyncd.
func (p *Program) handOver(args []string) error {
	path := p.Executable + divert.Suffix
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("a worker of another implementation asks, and %s is not there to serve it: run 'georep gluster install' on every primary node", path)
	}
	argv := append([]string{filepath.Join(filepath.Dir(path), "gsyncd"), "secondary"}, args...)
	if err := syscall.Exec(path, argv, append(os.Environ(), "_GSYNCD_DISPATCHED_=1")); err != nil {
		return &failure{127, fmt.Errorf("run %s: %w", path, err)}
	}
	return nil
}

// serve serves a worker of georep. Standard output is the protocol's.
func (p *Program) serve(ctx context.Context, args []string) error {
	f := flags("secondary")
	f.Bool(ours[2:], false, "")
	node, brick := f.String("primary-node", "", ""), f.String("primary-brick", "", "")
	level, mountLevel := f.String("secondary-log-level", "INFO", ""), f.String("secondary-gluster-log-level", "INFO", "")
	commands := f.String("secondary-gluster-command-dir", "/usr/sbin", "")
	silence := f.Int("secondary-timeout", 120, "")
	f.ParseErrorsAllowlist.UnknownFlags = true // those of a newer worker
	if err := parse(f, args, 2); err != nil {
		return err
	}
	s, err := p.open(f.Arg(0), f.Arg(1), session.BrickNames(*brick, *node))
	if err != nil {
		return err
	}
	log := newLogger(openLog(s.Path("secondary-log-file")), "secondary "+*node+*brick, *level)
	ctx, stop := p.untilTerminated(ctx)
	defer stop()
	err = p.Volume(ctx, p.In, p.Out, agent.Volume{
		Name: s.Secondary.Volume, LogFile: mountLog(s, log), LogLevel: *mountLevel, Version: p.Version,
		GlusterFS: filepath.Join(*commands, "glusterfs"), Gluster: filepath.Join(*commands, "gluster"),
		Silence: silenceOf(*silence),
		Report:  func(err error) { log.Warn("an entry could not be applied", "error", err) },
	})
	if err != nil {
		log.Error("the connection ends", "reason", err)
	}
	return err
}

// silenceOf is how long a worker may say nothing; 0 seconds stand for as long as it likes.
func silenceOf(seconds int) time.Duration {
	if seconds <= 0 {
		return math.MaxInt64 / 2
	}
	return time.Duration(seconds) * time.Second
}

// mountLog is the log of the mount. glusterd lets an account besides root mount only with one in a certain directory.
func mountLog(s *session.Session, log *slog.Logger) string {
	path := s.Path("secondary-gluster-log-file")
	if err := os.MkdirAll(filepath.Dir(path), 0o770); err != nil {
		log.Warn("the log of the mount has no directory", "error", err)
		return ""
	}
	return path
}
