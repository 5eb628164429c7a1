package gsyncd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"georep/internal/dial"
	"georep/internal/mountbroker"
)

func (p *Program) volfile() string { return p.Place.Root + "/etc/glusterfs/glusterd.vol" }

// mountbrokerStatus is what a node says of its mountbroker.
type mountbrokerStatus struct {
	Root        string              `json:"mountbroker-root"`
	Group       string              `json:"geo-replication-log-group"`
	Users       map[string][]string `json:"users"`
	GroupExists bool                `json:"group_exists"`
	PathExists  bool                `json:"path_exists"`
}

const mountbrokerUsage = "usage: gluster-mountbroker setup ROOT GROUP | add VOLUME USER | remove [--volume VOLUME] [--user USER] | status"

// mountbrokerHelper is gluster-mountbroker: its commands are for all nodes of the pool, and those with "node-" for this one.
func (p *Program) mountbrokerHelper(ctx context.Context, args []string) error {
	f := flags("gluster-mountbroker")
	volume, user := f.String("volume", "", ""), f.String("user", "", "")
	if err := f.Parse(args); err != nil || f.NArg() == 0 {
		return usage(mountbrokerUsage)
	}
	words := f.Args()[1:]
	switch {
	case f.Arg(0) == "setup" && len(words) == 2:
		return p.mountbrokerOnAll(ctx, "SETUP STATUS", "node-setup", words...)
	case f.Arg(0) == "add" && len(words) == 2:
		return p.mountbrokerOnAll(ctx, "ADD STATUS", "node-add", words...)
	case f.Arg(0) == "remove" && len(words) == 0:
		return p.mountbrokerOnAll(ctx, "REMOVE STATUS", "node-remove", dotIfNone(*volume), dotIfNone(*user))
	case f.Arg(0) == "status" && len(words) == 0:
		return p.mountbrokerStatusOfAll(ctx)
	case f.Arg(0) == "node-setup" && len(words) == 2:
		return p.answerNode("", p.setUpMountbroker(ctx, words[0], words[1]))
	case f.Arg(0) == "node-add" && len(words) == 2:
		return p.answerNode("", p.changeVolfile(func(v *mountbroker.Volfile) error { return v.Add(words[0], words[1]) }))
	case f.Arg(0) == "node-remove" && len(words) == 2:
		return p.answerNode("", p.changeVolfile(func(v *mountbroker.Volfile) error {
			v.Remove(noneIfDot(words[0]), noneIfDot(words[1]))
			return nil
		}))
	case f.Arg(0) == "node-status" && len(words) == 0:
		s, err := p.mountbrokerStatus(ctx)
		return p.answerNode(s, err)
	}
	return usage(mountbrokerUsage)
}

// A word that is not given is a dot between nodes, because glusterd passes no empty ones.
func dotIfNone(word string) string {
	if word == "" {
		return "."
	}
	return word
}

func noneIfDot(word string) string {
	if word == "." {
		return ""
	}
	return word
}

func (p *Program) changeVolfile(change func(*mountbroker.Volfile) error) error {
	v, err := mountbroker.Read(p.volfile())
	if err != nil {
		return err
	}
	before := v.String()
	if err := change(v); err != nil {
		return err
	}
	if v.String() == before {
		return nil
	}
	return v.Write(p.volfile())
}

// setUpMountbroker makes the directory of mounts, lets the group into what an unprivileged gsyncd needs, and tells glusterd.
func (p *Program) setUpMountbroker(ctx context.Context, root, group string) error {
	gid, err := lookupGroup(ctx, group)
	if err != nil {
		return err
	}
	if err := p.changeVolfile(func(v *mountbroker.Volfile) error { return v.Setup(root, group) }); err != nil {
		return err
	}
	root = p.Place.Root + root
	if err := os.MkdirAll(root, 0o755); err != nil {
		return fmt.Errorf("make the directory of mounts: %w", err)
	}
	if err := os.Chmod(root, 0o711); err != nil {
		return fmt.Errorf("make the directory of mounts: %w", err)
	}
	relabel(ctx, root)
	if err := open770(p.geoDir(), gid); err != nil {
		return err
	}
	logs := filepath.Join(p.logDir(), "geo-replication-secondaries")
	if err := os.MkdirAll(logs, 0o770); err != nil {
		return fmt.Errorf("make the directory of logs: %w", err)
	}
	if err := openTree(logs, gid); err != nil {
		return err
	}
	cliLog := filepath.Join(p.logDir(), "cli.log")
	err = errors.Join(os.Chown(cliLog, -1, gid), os.Chmod(cliLog, 0o660))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("let the group write the log: %w", err)
	}
	return nil
}

func open770(dir string, gid int) error {
	if err := errors.Join(os.Chown(dir, -1, gid), os.Chmod(dir, 0o770)); err != nil {
		return fmt.Errorf("let the group in: %w", err)
	}
	return nil
}

// openTree lets the group read and write all below a directory.
func openTree(top string, gid int) error {
	return filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		mode := os.FileMode(0o660)
		if d.IsDir() {
			mode = 0o770
		}
		if err := errors.Join(os.Chown(path, -1, gid), os.Chmod(path, mode)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("let the group in: %w", err)
		}
		return nil
	})
}

// relabel tells SELinux, where it is, that homes are below the directory.
func relabel(ctx context.Context, root string) {
	for _, argv := range [][]string{{"semanage", "fcontext", "-a", "-e", "/home", root}, {"restorecon", "-R", root}} {
		_, _ = dial.Output(ctx, dial.Brief{Argv: argv}) // most hosts have none of them, and need none
	}
}

func lookupGroup(ctx context.Context, name string) (int, error) {
	out, err := dial.Output(ctx, dial.Brief{Argv: []string{"getent", "group", "--", name}})
	fields := strings.Split(strings.TrimSpace(string(out)), ":")
	if err != nil || len(fields) < 3 || fields[0] != name {
		return 0, errors.New("User Group not exists") //lint:ignore ST1005 scripts know this text
	}
	return strconv.Atoi(fields[2])
}

func (p *Program) mountbrokerStatus(ctx context.Context) (mountbrokerStatus, error) {
	v, err := mountbroker.Read(p.volfile())
	if err != nil {
		return mountbrokerStatus{}, err
	}
	known := v.Status()
	s := mountbrokerStatus{Root: known.Root, Group: known.Group, Users: known.Users}
	if s.Root == "" {
		s.Root = "None"
	} else if info, err := os.Stat(p.Place.Root + s.Root); err == nil {
		s.PathExists = info.IsDir()
	}
	if s.Group != "" {
		_, err := lookupGroup(ctx, s.Group)
		s.GroupExists = err == nil
	}
	return s, nil
}

// mountbrokerOnAll runs a command on all nodes and prints how it went.
func (p *Program) mountbrokerOnAll(ctx context.Context, title, command string, args ...string) error {
	nodes, err := p.onAll(ctx, "mountbroker.py", append([]string{command}, args...)...)
	if err != nil {
		return err
	}
	rows := [][]string{{"NODE", "NODE STATUS", title}}
	for _, n := range nodes {
		rows = append(rows, []string{n.Host, n.status(), n.verdict()})
	}
	if err := p.print(table(rows)...); err != nil {
		return err
	}
	if n := failures(nodes); n > 0 {
		return fmt.Errorf("it failed on %d nodes that are up: see the table", n)
	}
	fmt.Fprintln(p.Err, "glusterd reads this when it starts: restart it on every node ('systemctl restart glusterd').")
	return nil
}

func (p *Program) mountbrokerStatusOfAll(ctx context.Context) error {
	nodes, err := p.onAll(ctx, "mountbroker.py", "node-status")
	if err != nil {
		return err
	}
	rows := [][]string{{"NODE", "NODE STATUS", "MOUNT ROOT", "GROUP", "USERS"}}
	mark := map[bool]string{true: "(OK)", false: "(NOT OK)"}
	for _, n := range nodes {
		row := []string{n.Host, n.status(), "N/A", "N/A", "N/A"}
		if n.verdict() == "OK" {
			var s mountbrokerStatus
			if err := json.Unmarshal(n.answer.Output, &s); err != nil {
				return fmt.Errorf("read the status of %s: %w", n.Host, err)
			}
			var users []string
			for _, user := range slices.Sorted(maps.Keys(s.Users)) {
				users = append(users, user+"("+strings.Join(s.Users[user], ", ")+")")
			}
			row[2], row[3], row[4] = s.Root+mark[s.PathExists], s.Group+mark[s.GroupExists], strings.Join(users, " ")
			if len(users) == 0 {
				row[4] = "None"
			}
		}
		rows = append(rows, row)
	}
	return p.print(table(rows)...)
}

// oldMountbrokerHelper is the older program for the same file.
func (p *Program) oldMountbrokerHelper(_ context.Context, args []string) error {
	f := flags("mountbroker")
	asJSON := f.BoolP("json", "j", false, "")
	if err := f.Parse(args); err != nil || f.NArg() == 0 {
		return usage("usage: mountbroker [-j] user USER VOLUMES | userdel USER | volumedel VOLUME | opt NAME VALUE | optdel NAME | info")
	}
	words := append(f.Args()[1:], "", "")
	var changed error
	switch f.Arg(0) {
	case "info":
		return p.mountbrokerInfo()
	case "user":
		changed = p.changeVolfile(func(v *mountbroker.Volfile) error {
			v.Set("mountbroker-geo-replication."+words[0], words[1])
			return nil
		})
	case "userdel":
		changed = p.changeVolfile(func(v *mountbroker.Volfile) error { v.Remove("", words[0]); return nil })
	case "volumedel":
		changed = p.changeVolfile(func(v *mountbroker.Volfile) error { v.Remove(words[0], ""); return nil })
	case "opt":
		changed = p.changeVolfile(func(v *mountbroker.Volfile) error { v.Set(words[0], words[1]); return nil })
	case "optdel":
		changed = p.changeVolfile(func(v *mountbroker.Volfile) error { v.Set(words[0], ""); return nil })
	default:
		return usage("there is no command %q", f.Arg(0))
	}
	if !*asJSON {
		return changed
	}
	said := map[string]any{"ok": changed == nil, "message": ""}
	if changed != nil {
		said["message"] = changed.Error()
	}
	text, err := json.Marshal(said)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return p.print(string(text))
}

func (p *Program) mountbrokerInfo() error {
	v, err := mountbroker.Read(p.volfile())
	if err != nil {
		return err
	}
	names, values := v.Options()
	lines := []string{fmt.Sprintf("%-50s %-50s", "Option", "Value"), strings.Repeat("-", 101)}
	for _, name := range names {
		if !strings.HasPrefix(name, "mountbroker-geo-replication.") {
			lines = append(lines, fmt.Sprintf("%-50s %-50s", name, values[name]))
		}
	}
	lines = append(lines, "", "Users: ")
	status := v.Status()
	for _, user := range slices.Sorted(maps.Keys(status.Users)) {
		lines = append(lines, user+": "+strings.Join(status.Users[user], ", "))
	}
	return p.print(append(lines, "", "")...)
}
