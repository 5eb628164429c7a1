package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"georep/internal/lab"
)

// roundTrip is how long the long link is.
const roundTrip = 100 * time.Millisecond

// longLink compares the first copy of small files over a link that is long with the same over one that is not. Both pass the
// same proxy, as does rsync.
func longLink(ctx context.Context, w *world) (err error) {
	source, err := w.newSource()
	if err != nil {
		return err
	}
	if err := growTree(ctx, source, w.longFiles, w.fileSize); err != nil {
		return err
	}
	listener, err := w.source.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	proxy := lab.NewProxyOn(listener, func(ctx context.Context) (net.Conn, error) {
		return w.source.Dial(ctx, "tcp", net.JoinHostPort(w.target.Addr().String(), "22"))
	})
	defer func() { err = errors.Join(err, proxy.Close()) }()
	ssh := fmt.Sprintf("ssh -o HostName=127.0.0.1 -o HostKeyAlias=secondary -p %d", proxy.Addr().Port)
	ours, rsync := w.georepCopier(), rsyncCopier("-S")
	line := rsync.line
	rsync.line = func(source, target, state string) []string {
		return append(line(source, target, state), "-e", ssh) // the last -e counts
	}
	ours.line = func(source, target, state string) []string {
		return w.mirror(state, source, target, "--once", "--ssh-command", ssh)
	}
	var copiers []copier
	for _, c := range []copier{ours, rsync} {
		for _, delay := range []time.Duration{roundTrip, 0} {
			delayed := c
			delayed.name = fmt.Sprintf("%s, %s", strings.TrimSuffix(c.name, " --once"), delay)
			delayed.line = func(source, target, state string) []string {
				proxy.SetRoundTrip(delay)
				return c.line(source, target, state)
			}
			copiers = append(copiers, delayed)
		}
	}
	contenders, samples, err := w.raceCopies(ctx, source, copiers...)
	if err != nil {
		return err
	}
	fmt.Fprintf(w.out, "%d files of %d bytes, with and without a round trip of %s more.\n\n", w.longFiles, w.fileSize, roundTrip)
	w.report(contenders, samples, "files/s", float64(w.longFiles))
	return w.settle(ctx, source)
}
