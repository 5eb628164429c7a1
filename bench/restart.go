package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"georep/internal/lab"
)

// tinySize is the size of the files of trees in which only their number counts, in bytes.
const tinySize = 16

// unchangedTree compares what it costs to find that nothing has changed, and tells the memory of both ends of georep.
func unchangedTree(ctx context.Context, w *world) error {
	rows, err := w.restarts(ctx, w.unchanged, true)
	if err != nil {
		return err
	}
	if w.entries > 0 {
		more, err := w.restarts(ctx, w.entries, false)
		if err != nil {
			return err
		}
		rows = append(rows, more...)
	}
	fmt.Fprintln(w.out)
	table(w.out, []string{"most resident memory of georep", "files", "on the primary", "of one agent on the secondary"}, rows)
	return nil
}

// restarts copies a tree and then starts again with nothing to do, beside rsync if told so. It gives rows about memory.
func (w *world) restarts(ctx context.Context, files int, beside bool) ([][]string, error) {
	source, err := w.newSource()
	if err != nil {
		return nil, err
	}
	target, err := w.newTarget()
	if err != nil {
		return nil, err
	}
	if err := growTree(ctx, source, files, tinySize); err != nil {
		return nil, err
	}
	state := w.place("primary", "state")
	argv := w.mirror(state, source, target, "--once")
	first, err := w.watchMemory(ctx, argv)
	if err != nil {
		return nil, err
	}
	again, err := w.watchMemory(ctx, argv)
	if err != nil {
		return nil, err
	}
	row := func(what string, m memory) []string {
		return []string{what, strconv.Itoa(files), fmt.Sprintf("%d MiB", m.worker>>20), fmt.Sprintf("%d MiB", m.agent>>20)}
	}
	rows := [][]string{row("first copy", first), row("restart, nothing changed", again)}
	if !beside {
		return rows, w.settle(ctx, source, target, state)
	}
	contenders := []contender{
		{name: "georep mirror --once", command: func(int) ([]string, error) { return argv, nil }},
		{name: "rsync -aHAX --dry-run", command: func(int) ([]string, error) { return rsyncLine(source, target, "--dry-run", "--exclude=/.georep"), nil }},
	}
	samples, err := w.race(ctx, contenders)
	if err != nil {
		return nil, err
	}
	if err := equal(source, target); err != nil {
		return nil, err
	}
	fmt.Fprintf(w.out, "%d files of %d bytes, %d a directory, nothing changed since the last run; all metadata is cached.\n\n", files, tinySize, perDir)
	w.report(contenders, samples, "files/s", float64(files))
	return rows, w.settle(ctx, source, target, state)
}

// memory is the most that processes had resident, in bytes.
type memory struct{ worker, agent int64 }

// watchMemory runs georep and looks at the high-water marks of its processes until they end.
func (w *world) watchMemory(ctx context.Context, argv []string) (memory, error) {
	cmd := w.source.Command(ctx, argv...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return memory{}, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var m memory
	for {
		select {
		case <-tick.C:
			m.worker = max(m.worker, highWater(cmd.Process.Pid, w.georep))
			m.agent = max(m.agent, highWater(w.target.Pid(), w.georep))
		case err := <-ended:
			if err != nil {
				err = fmt.Errorf("run %s: %w: %s", strings.Join(argv, " "), err, said.String())
			}
			return m, err
		}
	}
}

// highWater is the largest high-water mark of resident memory among the descendants of a process that run a program, in bytes.
func highWater(pid int, program string) (most int64) {
	for _, p := range lab.Descendants(pid) {
		if len(p.Args) == 0 || p.Args[0] != program {
			continue
		}
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid))
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(state)) {
			if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				if n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64); err == nil {
					most = max(most, n<<10)
				}
			}
		}
	}
	return most
}
