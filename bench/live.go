package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"georep/internal/lab"
)

// follower is a program that keeps a copy up to date.
type follower struct {
	name  string
	start func(source, target string) ([]string, error) // gives its command line
}

// between is the time between two files whose way is timed: they come neither at once nor in step with anybody's clock.
const between = 307 * time.Millisecond

// arrivals bounds the wait for a file, and for the follower to begin.
const arrivals = 2 * time.Minute

// liveLag times the way of single files, for one follower after the other.
func liveLag(ctx context.Context, w *world) error {
	followers := []follower{
		{"georep mirror", func(source, target string) ([]string, error) {
			return w.mirror(w.place("primary", "state"), source, target), nil
		}},
		{"lsyncd, delay 1 s", w.lsyncd(1)},
		{"lsyncd, its default delay of 15 s", w.lsyncd(15)},
	}
	var rows [][]string
	ours := time.Duration(0)
	for _, f := range followers {
		lags, err := w.follow(ctx, f)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		slices.Sort(lags)
		middle := (lags[(len(lags)-1)/2] + lags[len(lags)/2]) / 2
		if ours == 0 {
			ours = middle
		}
		rows = append(rows, []string{
			f.name, milliseconds(middle), milliseconds(lags[len(lags)*9/10]), milliseconds(lags[len(lags)-1]), fmt.Sprintf("%.1f", float64(middle)/float64(ours)),
		})
	}
	fmt.Fprintf(w.out, "%d files of %d bytes, one every %s, in a tree of %d.\n\n", w.lags, w.fileSize, between, perDir)
	table(w.out, []string{"who", "median", "9 of 10 below", "worst", "median / georep's"}, rows)
	return nil
}

// lsyncd is lsyncd with a delay in seconds, and with the attributes that the others copy.
func (w *world) lsyncd(delay int) func(source, target string) ([]string, error) {
	return func(source, target string) ([]string, error) {
		config := w.place("primary", "lsyncd.conf")
		text := fmt.Sprintf(`settings { nodaemon = true }
sync {
	default.rsync, source = %q, target = "secondary:%s", delay = %d,
	rsync = { archive = true, acls = true, xattrs = true, hard_links = true, _extra = { "--numeric-ids" } },
}
`, source, target, delay)
		return []string{"lsyncd", config}, os.WriteFile(config, []byte(text), 0o644)
	}
}

// follow starts a follower, and gives the time that each file took once the tree was there.
func (w *world) follow(ctx context.Context, f follower) (lags []time.Duration, err error) {
	source, err := w.newSource()
	if err != nil {
		return nil, err
	}
	target, err := w.newTarget()
	if err != nil {
		return nil, err
	}
	if err := growTree(ctx, source, perDir, w.fileSize); err != nil {
		return nil, err
	}
	argv, err := f.start(source, target)
	if err != nil {
		return nil, err
	}
	cmd := w.source.Command(ctx, argv...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.Discard, &said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is ended by a signal
	}()
	lags, err = w.timeFiles(ctx, source, target, ended)
	if err != nil {
		err = fmt.Errorf("%w; it said: %s", err, strings.TrimSpace(said.String()))
	}
	select {
	case <-ended:
	default:
		err = errors.Join(err, lab.Signal(ctx, cmd, syscall.SIGTERM))
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		err = errors.Join(err, errors.New("it does not end"), cmd.Process.Kill())
		<-ended
	}
	return lags, errors.Join(err, w.settle(ctx, source, target))
}

// timeFiles waits until a first file has come through, then makes files one after the other and times their ways.
func (w *world) timeFiles(ctx context.Context, source, target string, ended <-chan struct{}) ([]time.Duration, error) {
	type way struct {
		name  string
		began time.Time
	}
	content := bytes.Repeat([]byte("georep"), int(w.fileSize)/6+1)[:w.fileSize]
	var open []way
	make1 := func(n int) error {
		name := fmt.Sprintf("d00000/new-%04d", n)
		err := os.WriteFile(filepath.Join(source, name), content, 0o644)
		open = append(open, way{name, time.Now()})
		return err
	}
	if err := make1(0); err != nil {
		return nil, err
	}
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	next := time.NewTicker(between)
	defer next.Stop()
	var lags []time.Duration
	made, begun := 1, false
	for !begun || made <= w.lags || len(open) > 0 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ended:
			return nil, errors.New("it has ended")
		case <-next.C:
			if begun && made <= w.lags {
				if err := make1(made); err != nil {
					return nil, err
				}
				made++
			}
		case <-look.C:
			rest := open[:0]
			for _, f := range open {
				info, err := os.Lstat(filepath.Join(target, f.name))
				switch {
				case err == nil && info.Size() == w.fileSize:
					if begun {
						lags = append(lags, time.Since(f.began))
					}
					begun = true
				case time.Since(f.began) > arrivals:
					return nil, fmt.Errorf("%s did not come within %s", f.name, arrivals)
				default:
					rest = append(rest, f)
				}
			}
			open = rest
		}
	}
	return lags, nil
}
