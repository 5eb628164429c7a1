package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"georep/internal/apply/bygfid"
	"georep/internal/gluster"
	"georep/internal/wire"
)

// Volume is the secondary volume of a session, and how it is reached.
type Volume struct {
	Name      string
	LogFile   string // of the mount
	LogLevel  string // of the mount
	GlusterFS string // the program glusterfs; "": it is looked for
	Gluster   string // the program gluster, by which an account besides root asks for the mount; "": it is looked for
	Version   string // of this program, for people
	Report    func(error)
	Silence   time.Duration // how long the worker may say nothing; 0: 60 s
}

// RunVolume mounts a volume, carries out the requests that come on in, and answers on out, until in ends or ctx does.
func RunVolume(ctx context.Context, in io.Reader, out io.Writer, v Volume) error {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	syscall.Umask(0)
	streams, err := openStdio(in, out)
	if err != nil {
		return fmt.Errorf("open standard streams: %w", err)
	}
	o := gluster.MountOptions{Volume: v.Name, LogFile: v.LogFile, Level: v.LogLevel, Program: v.GlusterFS}
	if os.Geteuid() != 0 {
		if o.Broker = v.Gluster; o.Broker == "" {
			o.Broker = "gluster"
		}
	}
	m, err := gluster.Open(ctx, o)
	if err != nil {
		return errors.Join(err, streams.Close())
	}
	life, quit := context.WithCancelCause(ctx)
	defer quit(nil)
	h := bygfid.New(bygfid.Options{Mount: m, Report: v.Report})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		if err := h.Replaced(life); errors.Is(err, bygfid.ErrReplaced) {
			quit(err)
		}
	})
	err = wire.Serve(life, streams, wire.ServerOptions{Version: v.Version, Silence: v.Silence, Workers: min(32, max(16, 4*runtime.GOMAXPROCS(0)))}, h)
	if ctx.Err() != nil {
		err = nil // we were asked to end
	}
	quit(nil)
	watcher.Wait()
	return errors.Join(err, m.Close())
}
