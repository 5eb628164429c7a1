// Package divert puts georep's programs in the place of Gluster's on this node, and takes them out again.
//
// The programs of Gluster's packages stay beside ours under another name. Where dpkg is, it is told, so that an upgrade of the packages
// writes to that other name and ours stay. At no moment is a name without a program: glusterd could be started just then.
package divert

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"georep/internal/dial"
	"georep/internal/durable"
)

// Suffix is what the name of a program of Gluster ends with while ours is in its place.
const Suffix = ".distrib"

const hookDir = "/var/lib/glusterd/hooks/1/gsync-create/post"

const hookName = "S56glusterd-geo-rep-create-post.sh"

// Node is this node, or a directory that stands for / in tests.
type Node struct{ Root string }

// ErrNoGluster says that Gluster is not installed here.
var ErrNoGluster = errors.New("Gluster's gsyncd is not on this node: install glusterfs-server (Debian) or glusterfs-geo-replication first") //lint:ignore ST1005 a name

// ErrBroken says that a program would keep glusterd from starting.
var ErrBroken = errors.New("this gsyncd does not answer as glusterd needs it")

// Program is one program that can be ours or Gluster's.
type Program struct {
	Path    string // where glusterd looks
	Aside   string // where Gluster's own is while ours is there
	Ours    bool
	Missing bool
	Known   bool // dpkg knows about it
	kind    kind
}

type kind int

const (
	binary kind = iota
	link        // to the binary: it sees by which name it was called
	script      // for directories where links are not taken
)

// Lib is the directory of Gluster's programs. The error is ErrNoGluster.
func (n Node) Lib() (string, error) {
	for _, pattern := range []string{"/usr/lib/*-linux-*/glusterfs/gsyncd", "/usr/libexec/glusterfs/gsyncd", "/usr/lib/glusterfs/gsyncd"} {
		found, err := filepath.Glob(n.Root + pattern)
		if err == nil && len(found) > 0 {
			return strings.TrimPrefix(filepath.Dir(found[0]), n.Root), nil
		}
	}
	return "", ErrNoGluster
}

// Programs lists what is installed, the binary last: what stands beside it must not be without it, nor it without them for long.
func (n Node) Programs(ctx context.Context) ([]Program, error) {
	lib, err := n.Lib()
	if err != nil {
		return nil, err
	}
	var all []Program
	for _, name := range []string{
		"gverify.sh", "peer_add_secret_pub", "peer_georep-sshkey.py", "peer_gsec_create", "peer_mountbroker", "peer_mountbroker.py", "set_geo_rep_pem_keys.sh",
	} {
		all = append(all, Program{Path: filepath.Join(lib, name), Aside: filepath.Join(lib, name+Suffix), kind: link})
	}
	// glusterd runs all in this directory that begins with S, so what is put aside must not.
	all = append(all, Program{Path: filepath.Join(hookDir, hookName), Aside: filepath.Join(hookDir, "diverted-"+hookName), kind: script})
	all = append(all, Program{Path: filepath.Join(lib, "gsyncd"), Aside: filepath.Join(lib, "gsyncd"+Suffix), kind: binary})
	for i := range all {
		if err := n.look(ctx, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// look finds out what is there now.
func (n Node) look(ctx context.Context, p *Program) error {
	_, err := os.Lstat(n.Root + p.Path)
	if errors.Is(err, fs.ErrNotExist) {
		p.Missing = true
	} else if err != nil {
		return fmt.Errorf("look at %s: %w", p.Path, err)
	}
	_, err = os.Lstat(n.Root + p.Aside)
	p.Ours = err == nil && !p.Missing
	p.Known, err = n.diverted(ctx, *p)
	return err
}

// hasDpkg says whether this is a system with dpkg.
func (n Node) hasDpkg() bool {
	_, err := os.Stat(n.Root + "/usr/bin/dpkg-divert")
	return err == nil
}

func (n Node) diverted(ctx context.Context, p Program) (bool, error) {
	if !n.hasDpkg() {
		return false, nil
	}
	out, err := dial.Output(ctx, dial.Brief{Argv: []string{"dpkg-divert", "--truename", p.Path}})
	if err != nil {
		return false, fmt.Errorf("ask dpkg about %s: %w", p.Path, err)
	}
	return strings.TrimSpace(string(out)) == p.Aside, nil
}

// Check runs a gsyncd as glusterd does when it starts, which it would not do with one that fails.
func Check(ctx context.Context, gsyncd string) error {
	dir, err := os.MkdirTemp("", "georep-check-")
	if err != nil {
		return fmt.Errorf("check %s: %w", gsyncd, err)
	}
	defer os.RemoveAll(dir)
	out, err := dial.Output(ctx, dial.Brief{Argv: []string{gsyncd, "--version"}})
	if err != nil {
		return fmt.Errorf("check %s: %w: %w", gsyncd, ErrBroken, err)
	}
	if !strings.Contains(string(out), "gsyncd") || !strings.Contains(string(out), "georep") {
		return fmt.Errorf("check %s: %w: it calls itself %q", gsyncd, ErrBroken, strings.TrimSpace(string(out)))
	}
	conf := filepath.Join(dir, "conf")
	if _, err := dial.Output(ctx, dial.Brief{Argv: []string{gsyncd, "-c", conf, "--config-set-rx", "remote-gsyncd", "/x", ".", "."}}); err != nil {
		return fmt.Errorf("check %s: %w: %w", gsyncd, ErrBroken, err)
	}
	if _, err := os.Stat(conf); err != nil {
		return fmt.Errorf("check %s: %w: %w", gsyncd, ErrBroken, err)
	}
	return nil
}

// Install puts a checked gsyncd, and links to it, in the place of Gluster's programs. Doing it again replaces the binary.
func (n Node) Install(ctx context.Context, gsyncd string) error {
	if err := Check(ctx, gsyncd); err != nil {
		return err
	}
	programs, err := n.Programs(ctx)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(gsyncd)
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	lib, err := n.Lib()
	if err != nil {
		return err
	}
	// The binary comes first under a name of its own, so that links never lead to Gluster's program.
	last := programs[len(programs)-1]
	if err := n.putAside(ctx, last); err != nil {
		return err
	}
	if err := durable.WriteFile(n.Root+last.Path, text, 0o755); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	for _, p := range programs[:len(programs)-1] {
		if p.Missing && p.kind == script {
			if _, err := os.Stat(n.Root + filepath.Dir(p.Path)); err != nil {
				continue // glusterd's hooks are not on a node without a server
			}
		}
		if err := n.putAside(ctx, p); err != nil {
			return err
		}
		if err := n.place(p, lib); err != nil {
			return err
		}
	}
	return nil
}

// putAside gives Gluster's program its second name, under which it stays, and tells dpkg.
func (n Node) putAside(ctx context.Context, p Program) error {
	if n.hasDpkg() && !p.Known {
		argv := []string{"dpkg-divert", "--quiet", "--local", "--no-rename", "--divert", p.Aside, "--add", p.Path}
		if _, err := dial.Output(ctx, dial.Brief{Argv: argv}); err != nil {
			return fmt.Errorf("divert %s: %w", p.Path, err)
		}
	}
	err := os.Link(n.Root+p.Path, n.Root+p.Aside)
	if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep %s: %w", p.Path, err)
	}
	return nil
}

// place puts ours at a name, in one step.
func (n Node) place(p Program, lib string) error {
	if p.kind == script {
		text := "#!/bin/sh\n# georep in the place of Gluster's hook, which lies beside as diverted-" + hookName + "\nexec " + lib + "/gsyncd helper " + hookName + " \"$@\"\n"
		if err := durable.WriteFile(n.Root+p.Path, []byte(text), 0o755); err != nil {
			return fmt.Errorf("install: %w", err)
		}
		return nil
	}
	fresh := n.Root + p.Path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("install: %w", err)
	}
	if err := os.Symlink("gsyncd", fresh); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	if err := os.Rename(fresh, n.Root+p.Path); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	return durable.SyncDir(filepath.Dir(n.Root + p.Path))
}

// Uninstall gives Gluster's programs their names back.
func (n Node) Uninstall(ctx context.Context) error {
	programs, err := n.Programs(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range programs {
		if p.Ours {
			errs = append(errs, os.Rename(n.Root+p.Aside, n.Root+p.Path))
		}
		if p.Known {
			argv := []string{"dpkg-divert", "--quiet", "--local", "--no-rename", "--remove", p.Path}
			_, err := dial.Output(ctx, dial.Brief{Argv: argv})
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("uninstall: %w", err)
	}
	return nil
}

// Version is what the gsyncd at a path calls itself.
func Version(ctx context.Context, gsyncd string) string {
	out, err := dial.Output(ctx, dial.Brief{Argv: []string{gsyncd, "--version"}})
	if err != nil {
		return "it does not run: " + err.Error()
	}
	return strings.TrimSpace(string(out))
}
