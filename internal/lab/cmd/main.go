// Command cmd runs a lab by hand: up starts hosts and leaves them running, on runs a command in one, down ends them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"georep/internal/lab"
)

const usage = `usage:
  up [-dir DIR] [-users NAME,...] [HOST...]   start hosts (default: primary secondary) and leave them running
  on [-dir DIR] HOST COMMAND [ARG...]         run a command as root in a host
  cut|restore [-dir DIR] HOST                 pull a host's cable, put it back
  down [-dir DIR]                             end the hosts with all that runs in them, and remove their files
Needs root. Within a host, "ssh OTHER" works; DIR/HOST/data is for your files, the same path in every host.
`

// errUsage is the error of a command line that is not understood.
var errUsage = errors.New("the command line is not understood")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "lab:", err)
		if errors.Is(err, errUsage) {
			fmt.Fprint(os.Stderr, usage)
			os.Exit(2)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: no command", errUsage)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	dir := flags.String("dir", "/var/tmp/georep-lab", "")
	users := flags.String("users", "", "")
	hold := flags.Bool("hold", false, "") // up starts itself so, as the process that keeps the lab alive
	if err := flags.Parse(args[1:]); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	rest := flags.Args()
	switch {
	case args[0] == "up" && *hold:
		return keep(ctx, options(*dir, *users, rest))
	case args[0] == "up":
		return up(*dir, args[1:])
	case args[0] == "on" && len(rest) >= 2:
		return on(ctx, *dir, rest[0], rest[1:])
	case (args[0] == "cut" || args[0] == "restore") && len(rest) == 1:
		return link(*dir, args[0], rest[0])
	case args[0] == "down" && len(rest) == 0:
		return down(*dir)
	}
	return fmt.Errorf("%w: %q", errUsage, strings.Join(args, " "))
}

func options(dir, users string, hosts []string) lab.Options {
	o := lab.Options{Dir: dir, Hosts: hosts}
	if users != "" {
		o.Users = strings.Split(users, ",")
	}
	return o
}

// keep runs the lab until it is told to end, and takes commands about links from a pipe.
func keep(ctx context.Context, o lab.Options) error {
	l, err := lab.Start(ctx, o)
	if err != nil {
		return err
	}
	control := filepath.Join(o.Dir, "control")
	if err := syscall.Mkfifo(control, 0o600); err != nil {
		return errors.Join(fmt.Errorf("make the control pipe: %w", err), l.Close())
	}
	// Opened for both, so that it does not end when a writer does.
	commands, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	stop := context.AfterFunc(ctx, func() { commands.Close() })
	defer stop()
	var pids strings.Builder
	for _, h := range l.Hosts() {
		fmt.Fprintf(&pids, "%s %d\n", h.Name(), h.Pid())
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "hosts.pid"), []byte(pids.String()), 0o644); err != nil {
		return errors.Join(err, l.Close())
	}
	fmt.Println("up")
	for {
		var verb, name string
		if _, err := fmt.Fscanln(commands, &verb, &name); ctx.Err() != nil {
			return l.Close()
		} else if err != nil {
			fmt.Println("a command was not understood:", err)
			continue
		}
		h := l.Host(name)
		if h == nil {
			fmt.Println("no such host:", name)
			continue
		}
		act := h.RestoreLink
		if verb == "cut" {
			act = h.CutLink
		}
		if err := act(ctx); err != nil {
			fmt.Println(err)
		}
	}
}

// up starts this program once more, as the keeper of the lab, and waits until it says that it is up.
func up(dir string, args []string) error {
	if _, err := os.Stat(filepath.Join(dir, "keeper.pid")); err == nil {
		return fmt.Errorf("a lab is in %s already; end it with: down -dir %s", dir, dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir, "keeper.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	keeper := exec.Command(self, append([]string{"up", "-hold"}, args...)...)
	keeper.Stdout, keeper.Stderr = log, log
	keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := keeper.Start(); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "keeper.pid"), []byte(strconv.Itoa(keeper.Process.Pid)), 0o644); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- keeper.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		said, err := os.ReadFile(log.Name())
		if err != nil {
			return err
		}
		if string(said) == "up\n" {
			fmt.Printf("up in %s\n", dir)
			return nil
		}
		select {
		case <-tick.C:
		case <-ended:
			return errors.Join(fmt.Errorf("the lab did not start: %s", said), os.Remove(filepath.Join(dir, "keeper.pid")))
		}
	}
}

// hostPid finds the init of a host of a running lab.
func hostPid(dir, host string) (string, error) {
	list, err := os.ReadFile(filepath.Join(dir, "hosts.pid"))
	if err != nil {
		return "", fmt.Errorf("no lab is in %s: %w", dir, err)
	}
	for line := range strings.Lines(string(list)) {
		if name, pid, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == host {
			return pid, nil
		}
	}
	return "", fmt.Errorf("no host %q in %s; there are:\n%s", host, dir, list)
}

// on becomes the command in the host, with our streams.
func on(ctx context.Context, dir, host string, argv []string) error {
	pid, err := hostPid(dir, host)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", pid, "-n", "-m", "-u", "-p", "--"}, argv...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "HOME="+filepath.Join(dir, host, "home-of-root"))
	cmd.Cancel = func() error { return nil } // a terminal has sent the signal to the command itself
	return cmd.Run()
}

func link(dir, verb, host string) error {
	if _, err := hostPid(dir, host); err != nil {
		return err
	}
	pipe, err := os.OpenFile(filepath.Join(dir, "control"), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("reach the lab's keeper: %w", err)
	}
	_, err = fmt.Fprintln(pipe, verb, host)
	return errors.Join(err, pipe.Close())
}

// down asks the keeper to end, and waits for it.
func down(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "keeper.pid"))
	if err != nil {
		return fmt.Errorf("no lab is in %s: %w", dir, err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return fmt.Errorf("read the keeper of %s: %w", dir, err)
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err == nil && strings.Contains(string(line), "\x00-hold\x00") { // else it is gone, and the number may be another's
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			return fmt.Errorf("end the keeper: %w", err)
		}
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for syscall.Kill(pid, 0) == nil {
			<-tick.C
		}
	}
	return os.RemoveAll(dir)
}
