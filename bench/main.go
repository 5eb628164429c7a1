// Command bench measures georep beside the programs that people use now: rsync, tar and cat over ssh, and lsyncd. All
// of them work on the same generated data, between the same two hosts (namespaces of this machine, see internal/lab),
// over the same ssh, in turns; what counts is the ratio, not the figure. Run it as root: go run ./bench, or ./bench/run, which
// also installs what it needs on Debian.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// sizes say how much is measured.
type sizes struct {
	rounds    int
	files     int   // of the small-file runs
	fileSize  int64 // of each, in bytes
	large     int64 // the one large file, in bytes
	delta     int64 // the file of which a part changes, in bytes
	unchanged int   // entries of the tree of which nothing changes
	entries   int   // entries of the tree for the memory; 0: the unchanged tree
	lags      int   // files whose way is timed
	longFiles int   // over the long link
}

func full() sizes {
	return sizes{rounds: 5, files: 100_000, fileSize: 4 << 10, large: 4 << 30, delta: 1 << 30, unchanged: 1_000_000, lags: 50, longFiles: 50_000}
}

func quick() sizes {
	return sizes{rounds: 3, files: 10_000, fileSize: 4 << 10, large: 256 << 20, delta: 64 << 20, unchanged: 50_000, lags: 20, longFiles: 10_000}
}

// measurement is one of the things that can be measured.
type measurement struct {
	name, title string
	run         func(context.Context, *world) error
}

func measurements() []measurement {
	return []measurement{
		{"small", "many small files, from nothing", smallFiles},
		{"large", "one large file, from nothing", largeFile},
		{"delta", "one large file of which 1 % changed", changedFile},
		{"restart", "nothing has changed; memory", unchangedTree},
		{"live", "from close(2) of a file until it is on the secondary", liveLag},
		{"long", "small files over a link with 100 ms round trip", longLink},
	}
}

// options are the command line.
type options struct {
	sizes
	only   []string
	dir    string
	georep string
	quick  bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if err == nil {
		err = run(ctx, o)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	o := options{sizes: full()}
	if slices.Contains(args, "-quick") || slices.Contains(args, "--quick") {
		o.sizes = quick()
	}
	var names []string
	for _, m := range measurements() {
		names = append(names, m.name)
	}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := f.String("run", strings.Join(names, ","), "what to measure, by name")
	f.BoolVar(&o.quick, "quick", false, "small sizes, about two minutes; other flags still count")
	f.IntVar(&o.rounds, "rounds", o.rounds, "repetitions, of which the median is shown")
	f.IntVar(&o.files, "files", o.files, "small files")
	f.Int64Var(&o.fileSize, "file-size", o.fileSize, "bytes of a small file")
	f.Int64Var(&o.large, "large", o.large, "bytes of the large file")
	f.Int64Var(&o.delta, "delta", o.delta, "bytes of the file that changes")
	f.IntVar(&o.unchanged, "unchanged", o.unchanged, "files of the tree that does not change")
	f.IntVar(&o.entries, "entries", 0, "measure memory also with a tree of this many files, such as 10000000")
	f.IntVar(&o.lags, "lags", o.lags, "files whose way is timed")
	f.IntVar(&o.longFiles, "long-files", o.longFiles, "small files over the long link")
	f.StringVar(&o.dir, "dir", "", "a directory for the data; it must be on a file system like the one that you care about (default: a new one in TMPDIR)")
	f.StringVar(&o.georep, "georep", "", "the georep to measure (default: it is built)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.only = strings.Split(*only, ",")
	for _, name := range o.only {
		if !slices.Contains(names, name) {
			return o, fmt.Errorf("there is no measurement %q; there are: %s", name, strings.Join(names, ", "))
		}
	}
	if f.NArg() > 0 || o.rounds < 1 || o.files < 1 || o.lags < 1 || o.unchanged < 1 || o.longFiles < 1 || o.delta < 1<<20 || o.large < 1 || o.fileSize < 0 {
		return o, errors.New("the command line is not understood: see -help")
	}
	return o, nil
}

func run(ctx context.Context, o options) (err error) {
	w, err := newWorld(ctx, o, os.Stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.describe(ctx); err != nil {
		return err
	}
	for _, m := range measurements() {
		if !slices.Contains(o.only, m.name) {
			continue
		}
		fmt.Fprintf(w.out, "\n## %s: %s\n\n", m.name, m.title)
		began := time.Now()
		if err := m.run(ctx, w); err != nil {
			return fmt.Errorf("measure %s: %w", m.name, err)
		}
		fmt.Fprintf(w.out, "\n(%s)\n", time.Since(began).Round(time.Second))
	}
	return nil
}

// table prints rows as Markdown.
func table(out io.Writer, head []string, rows [][]string) {
	fmt.Fprintf(out, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat(" --- |", len(head)))
	for _, row := range rows {
		fmt.Fprintf(out, "| %s |\n", strings.Join(row, " | "))
	}
}
