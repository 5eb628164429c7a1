package gsyncd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"georep/internal/dial"
	"georep/internal/session"
)

// glusterdCalled is set by glusterd and the gluster command for all that they start.
const glusterdCalled = "_GLUSTERD_CALLED_"

// pair is one primary and one secondary volume that a key is for.
type pair struct{ primary, volume string }

// pairWord begins each pair among the arguments of a forced command: `gsyncd pair PRIMARY VOLUME pair ...`.
const pairWord = "pair"

// forced says whether sshd has started us in the place of what somebody with a key has asked for, and gives what that is. Without pairs
// among the arguments the key is of the reference, and for all volumes.
func (p *Program) forced(args []string) (command []string, pairs []pair, ok bool) {
	if p.Getenv(glusterdCalled) == "1" {
		return nil, nil, false
	}
	asked := p.Getenv("SSH_ORIGINAL_COMMAND")
	if filepath.Base(p.Getenv("SHELL")) == "gsyncd" && len(args) == 2 && args[0] == "-c" {
		return words(args[1]), nil, true // we are the account's shell
	}
	if len(args) > 0 && args[0] != pairWord {
		return nil, nil, false // a person in a session of ssh; a forced command has no other arguments
	}
	for ; len(args) >= 3 && args[0] == pairWord; args = args[3:] {
		pairs = append(pairs, pair{args[1], args[2]})
	}
	if len(pairs) == 0 && asked == "" || len(args) > 0 {
		return nil, nil, false
	}
	return words(asked), pairs, true
}

// words splits what was asked for. The reference cuts at blanks only and quotes nothing; ours quotes what has blanks in it.
func words(asked string) []string {
	split, err := dial.Words(asked)
	if err != nil {
		return strings.Fields(asked)
	}
	return split
}

// errRefused is the error of a request that the key does not allow.
var errRefused = errors.New("not allowed")

// dispatch carries out what somebody with a restricted key asks for, if it is one of the few things that replication needs.
func (p *Program) dispatch(ctx context.Context, command []string, pairs []pair) error {
	if len(command) == 0 {
		return fmt.Errorf("this key is for geo-replication only: a login is %w", errRefused)
	}
	switch name := filepath.Base(command[0]); name {
	case "gsyncd":
		return p.serveForced(ctx, command[1:], pairs)
	case "gluster":
		return p.execGluster(command[1:], pairs)
	case "rsync":
		return p.execRsync(command[1:])
	case "tar":
		return p.execTar(command[1:])
	default:
		return fmt.Errorf("invoking %s in restricted SSH session is not allowed", name)
	}
}

// serveForced serves a worker of another cluster.
func (p *Program) serveForced(ctx context.Context, args []string, pairs []pair) error {
	if len(args) == 0 {
		return fmt.Errorf("invoking gsyncd without arguments in restricted SSH session is %w", errRefused)
	}
	switch args[0] {
	case "--version":
		return p.legacy(ctx, call{verb: "--version"})
	case "secondary", "slave":
		return p.secondary(ctx, args[1:], pairs)
	}
	return fmt.Errorf("invoking gsyncd %s in restricted SSH session is %w", args[0], errRefused)
}

// allows says whether a key with these pairs is good for a volume; primary may be "" when the request does not name it.
func allows(pairs []pair, primary, volume string) bool {
	return len(pairs) == 0 || slices.ContainsFunc(pairs, func(k pair) bool {
		return k.volume == volume && (primary == "" || k.primary == primary)
	})
}

// execGluster becomes `gluster volume info`, the only thing that is allowed of it.
func (p *Program) execGluster(args []string, pairs []pair) error {
	var words []string
	for _, arg := range args {
		if strings.HasPrefix(arg, "--") && arg != "--" {
			if !slices.ContainsFunc([]string{"--xml", "--remote-host=localhost", "--remote-host=127.0.0.1", "--inet6", "--mode=script", "--nolog", "--timeout="},
				func(good string) bool {
					return arg == good || strings.HasSuffix(good, "=") && strings.HasPrefix(arg, good)
				}) {
				return fmt.Errorf("disallowed gluster invocation: the option %s is %w", arg, errRefused)
			}
			continue
		}
		words = append(words, arg)
	}
	if len(words) < 2 || len(words) > 3 || words[0] != "volume" || words[1] != "info" {
		return fmt.Errorf("disallowed gluster invocation: only volume info is allowed: %w", errRefused)
	}
	if len(pairs) > 0 && (len(words) != 3 || !allows(pairs, "", words[2])) {
		return fmt.Errorf("disallowed gluster invocation: this key is for other volumes: %w", errRefused)
	}
	return p.become("gluster", args)
}

// become replaces this process by a program of the system.
func (p *Program) become(name string, args []string) error {
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := syscall.Exec(path, append([]string{path}, args...), os.Environ()); err != nil {
			return &failure{127, fmt.Errorf("run %s: %w", path, err)}
		}
	}
	return &failure{127, fmt.Errorf("there is no %s on this host: install it", name)}
}

// execRsync becomes the receiving end of rsync, into the mount of the one gsyncd that the same ssh connection runs.
func (p *Program) execRsync(args []string) error {
	refuse := func(why string) error {
		return fmt.Errorf("disallowed rsync invocation: %s: %w", why, errRefused)
	}
	if len(args) < 3 || args[0] != "--server" || slices.Contains(args, "--sender") || slices.Contains(args, "--daemon") {
		return refuse("only the receiving end is allowed")
	}
	if args[len(args)-2] != "." {
		return refuse("there must be one destination")
	}
	for _, arg := range args[1 : len(args)-2] {
		if !strings.HasPrefix(arg, "-") || strings.HasPrefix(arg, "--log-file") || strings.HasPrefix(arg, "--rsync-path") ||
			strings.HasPrefix(arg, "--temp-dir") || strings.HasPrefix(arg, "--backup-dir") || strings.HasPrefix(arg, "--partial-dir") ||
			strings.HasPrefix(arg, "--compare-dest") || strings.HasPrefix(arg, "--copy-dest") || strings.HasPrefix(arg, "--link-dest") ||
			strings.HasPrefix(arg, "--write-batch") || strings.HasPrefix(arg, "--only-write-batch") || strings.HasPrefix(arg, "--copy-as") {
			return refuse("the argument " + arg + " is not")
		}
	}
	if err := intoMount(args[len(args)-1]); err != nil {
		return refuse(err.Error())
	}
	return p.become("rsync", args)
}

// execTar becomes a tar that unpacks into the mount of the one gsyncd that the same ssh connection runs.
func (p *Program) execTar(args []string) error {
	if len(args) != 5 || !slices.Equal(args[:4], []string{"--overwrite", "-xf", "-", "-C"}) {
		return fmt.Errorf("disallowed tar invocation: only unpacking is allowed: %w", errRefused)
	}
	if err := intoMount(args[4]); err != nil {
		return fmt.Errorf("disallowed tar invocation: %w: %w", err, errRefused)
	}
	return p.become("tar", args)
}

// intoMount checks that a path is the working directory of the one other gsyncd that our sshd has started.
func intoMount(path string) error {
	sibling, err := siblingOf(os.Getpid())
	if err != nil {
		return err
	}
	link := fmt.Sprintf("/proc/%d/cwd", sibling)
	target, err := os.Readlink(link)
	if err != nil {
		return fmt.Errorf("find the mount: %w", err)
	}
	if clean := strings.TrimSuffix(path, "/"); clean != link && (clean != target || target == "/") {
		return fmt.Errorf("%s is not the mount of this connection", path)
	}
	return nil
}

// siblingOf finds the one gsyncd besides us that hangs on our sshd, directly or below a shell.
func siblingOf(self int) (int, error) {
	processes, err := allProcesses()
	if err != nil {
		return 0, err
	}
	above := self
	for processes[above].name != "sshd" && processes[above].name != "sshd-session" || above == self {
		parent := processes[above].parent
		if parent <= 1 {
			return 0, errors.New("no sshd is above this process")
		}
		above = parent
	}
	var found []int
	for pid, process := range processes {
		if pid != self && process.name == "gsyncd" && hangsOn(processes, pid, above) && !hangsOn(processes, self, pid) {
			found = append(found, pid)
		}
	}
	// A gsyncd that another gsyncd has started is that one's own business.
	found = slices.DeleteFunc(found, func(pid int) bool {
		return slices.ContainsFunc(found, func(other int) bool { return other != pid && hangsOn(processes, pid, other) })
	})
	if len(found) != 1 {
		return 0, fmt.Errorf("this connection runs %d gsyncd, not one", len(found))
	}
	return found[0], nil
}

type process struct {
	name   string
	parent int
}

func hangsOn(processes map[int]process, pid, ancestor int) bool {
	for range len(processes) {
		pid = processes[pid].parent
		if pid == ancestor {
			return true
		}
		if pid <= 1 {
			return false
		}
	}
	return false
}

func allProcesses() (map[int]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	all := map[int]process{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "stat"))
		if err != nil {
			continue // it has ended
		}
		text := string(stat)
		open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
		if open < 0 || end < open {
			continue
		}
		fields := strings.Fields(text[end+1:])
		if len(fields) < 2 {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		all[pid] = process{text[open+1 : end], parent}
	}
	return all, nil
}

// secondaryOf reads the volumes that a worker of another cluster names.
func secondaryOf(args []string) (primary string, to session.Secondary, err error) {
	if len(args) < 2 {
		return "", session.Secondary{}, usage("secondary needs a primary volume and a secondary")
	}
	to, err = session.ParseSecondary(args[1])
	return args[0], to, err
}
