package gsyncd

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// diverted is what the end of the name of a file of Gluster is when georep stands in its place.
const diverted = ".distrib"

// secondary serves a worker of another cluster. One of Gluster's own is handed over to Gluster's own program, which waits beside us.
func (p *Program) secondary(args []string, pairs []pair) error {
	primary, to, err := secondaryOf(args)
	if err != nil {
		return err
	}
	if !allows(pairs, primary, to.Volume) {
		return fmt.Errorf("this key is not for %s to %s: %w", primary, to.Volume, errRefused)
	}
	return p.handOver(args)
}

// handOver becomes Gluster's own gsyncd.
func (p *Program) handOver(args []string) error {
	path := p.Executable + diverted
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("a worker of another implementation asks, and %s is not there to serve it: run 'georep gluster install' on every primary node", path)
	}
	argv := append([]string{filepath.Join(filepath.Dir(path), "gsyncd"), "secondary"}, args...)
	env := append(slices.DeleteFunc(os.Environ(), func(v string) bool { return v == "" }), "_GSYNCD_DISPATCHED_=1")
	if err := syscall.Exec(path, argv, env); err != nil {
		return &failure{127, fmt.Errorf("run %s: %w", path, err)}
	}
	return nil
}
