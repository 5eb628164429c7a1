package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// copier is a program that copies a source to an empty destination.
type copier struct {
	name  string
	line  func(source, target, state string) []string
	check func(source, target string) error // nil: the trees must be equal in everything
}

func (w *world) georepCopier() copier {
	return copier{name: "georep mirror --once", line: func(source, target, state string) []string { return w.mirror(state, source, target, "--once") }}
}

func rsyncCopier(options ...string) copier {
	return copier{name: "rsync -aHAX " + strings.Join(options, " "), line: func(source, target, _ string) []string { return rsyncLine(source, target, options...) }}
}

// tarCopier copies everything that the others copy.
func tarCopier() copier {
	const script = `tar --format=posix --xattrs --acls --numeric-owner -C "$1" -cf - . |
		ssh secondary tar --xattrs --xattrs-include=\\* --acls --numeric-owner -C "$2" -xpf -`
	return copier{name: "tar --xattrs --acls, ssh tar", line: func(source, target, _ string) []string { return shell(script, source, target) }}
}

// catCopier copies the content alone: what ssh can do at best.
func catCopier() copier {
	const script = `ssh secondary "cat >$2/large" <"$1/large"`
	return copier{
		name: "ssh cat",
		line: func(source, target, _ string) []string { return shell(script, source, target) },
		check: func(source, target string) error {
			return sameBytes(filepath.Join(source, "large"), filepath.Join(target, "large"))
		},
	}
}

func rsyncLine(source, target string, options ...string) []string {
	argv := append([]string{"rsync", "-aHAX", "--numeric-ids"}, options...)
	return append(argv, "-e", "ssh", source+"/", "secondary:"+target+"/")
}

// raceCopies has the copiers copy a source in turns. What each has made is compared after its first run, and removed after
// every run.
func (w *world) raceCopies(ctx context.Context, source string, copiers ...copier) ([]contender, [][]sample, error) {
	var all []contender
	for _, c := range copiers {
		var target, state string
		all = append(all, contender{
			name: c.name,
			command: func(int) (argv []string, err error) {
				if target, err = w.newTarget(); err != nil {
					return nil, err
				}
				state = w.place("primary", "state")
				return c.line(source, target, state), nil
			},
			after: func(round int) error {
				check := c.check
				if check == nil {
					check = equal
				}
				if round == 0 {
					if err := check(source, target); err != nil {
						return err
					}
				}
				return w.settle(ctx, target, state)
			},
		})
	}
	samples, err := w.race(ctx, all)
	return all, samples, err
}

// smallFiles compares the first copy of many small files.
func smallFiles(ctx context.Context, w *world) error {
	source, err := w.newSource()
	if err != nil {
		return err
	}
	if err := growTree(ctx, source, w.files, w.fileSize); err != nil {
		return err
	}
	contenders, samples, err := w.raceCopies(ctx, source, w.georepCopier(), rsyncCopier("-S"), tarCopier())
	if err != nil {
		return err
	}
	fmt.Fprintf(w.out, "%d files of %d bytes, %d a directory.\n\n", w.files, w.fileSize, perDir)
	w.report(contenders, samples, "files/s", float64(w.files))
	return w.settle(ctx, source)
}

// largeFile compares the first copy of one large file.
func largeFile(ctx context.Context, w *world) error {
	source, err := w.newSource()
	if err != nil {
		return err
	}
	if err := growFile(ctx, filepath.Join(source, "large"), w.large); err != nil {
		return err
	}
	contenders, samples, err := w.raceCopies(ctx, source, w.georepCopier(), rsyncCopier("--inplace", "-W"), catCopier())
	if err != nil {
		return err
	}
	fmt.Fprintf(w.out, "%d MiB that do not compress.\n\n", w.large>>20)
	w.report(contenders, samples, "MB/s", float64(w.large)/1e6)
	return w.settle(ctx, source)
}

// changedFile compares how a change within a large file travels.
func changedFile(ctx context.Context, w *world) error {
	source, err := w.newSource()
	if err != nil {
		return err
	}
	large := filepath.Join(source, "large")
	if err := growFile(ctx, large, w.delta); err != nil {
		return err
	}
	copiers := []copier{w.georepCopier(), rsyncCopier("-S"), rsyncCopier("--inplace")}
	random := generator()
	state := w.place("primary", "state")
	remove := []string{source, state}
	var contenders []contender
	for i, c := range copiers {
		target, err := w.newTarget()
		if err != nil {
			return err
		}
		remove = append(remove, target)
		argv := c.line(source, target, state)
		if err := w.do(ctx, argv...); err != nil {
			return err
		}
		contenders = append(contenders, contender{
			name: c.name,
			command: func(round int) ([]string, error) {
				if i == round%len(copiers) { // the first of the round: the others get the same change
					return argv, changeFile(large, random)
				}
				return argv, nil
			},
			after: func(int) error { return equal(source, target) },
		})
	}
	samples, err := w.race(ctx, contenders)
	if err != nil {
		return err
	}
	fmt.Fprintf(w.out, "%d MiB, 1 %% overwritten in pieces of %d KiB at random places before each round.\n\n", w.delta>>20, changedPart>>10)
	w.report(contenders, samples, "MB/s", float64(w.delta)/1e6)
	return w.settle(ctx, remove...)
}

// sameBytes compares two files.
func sameBytes(a, b string) error {
	said, err := exec.Command("cmp", a, b).CombinedOutput()
	if err != nil {
		return fmt.Errorf("compare: %w: %s", err, said)
	}
	return nil
}
