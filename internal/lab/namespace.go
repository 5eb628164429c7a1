package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// namespace is a process in network, mount, UTS and PID namespaces of its own. It is the init of its PID namespace: a bash,
// because that reaps orphans, which a sleep does not. When it ends the kernel ends all that is in the namespace.
type namespace struct {
	cmd  *exec.Cmd
	life io.Closer // the far end of the init's stdin; it reads from it and ends at its end, even when we are killed
	pid  int
	done chan struct{} // closed when the init was waited for
}

// ready is the line by which the init says that its script has run.
const ready = "ready"

// startNamespace runs a shell script as init of new namespaces and returns when the script has ended well. What the init and
// its children print goes to the log file.
func startNamespace(ctx context.Context, script, log string) (*namespace, error) {
	bash, err := find("bash")
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer readyR.Close()
	// "read" blocks on stdin for the life of the host; bash reaps its children meanwhile. Descriptor 3 must not leak to daemons.
	whole := "PATH=$PATH:/usr/sbin:/sbin\n{ " + script + "\n} 3>&- </dev/null && echo " + ready + " >&3 && exec 3>&- && while read -r _; do :; done"
	cmd := exec.Command(bash, "-c", whole)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, []*os.File{readyW}
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWPID, Setsid: true}
	life, err := cmd.StdinPipe()
	if err != nil {
		readyW.Close()
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		readyW.Close()
		life.Close()
		return nil, fmt.Errorf("start an init: %w", err)
	}
	readyW.Close()
	n := &namespace{cmd: cmd, life: life, pid: cmd.Process.Pid, done: make(chan struct{})}
	go func() {
		defer close(n.done)
		_ = cmd.Wait() // it never ends well: it is killed, or its script failed, which its log tells
	}()
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(n.pid, syscall.SIGKILL) })
	defer stop()
	line, err := bufio.NewReader(readyR).ReadString('\n')
	if err == nil && line == ready+"\n" {
		return n, nil
	}
	err = errors.Join(n.kill(), ctx.Err())
	said, _ := os.ReadFile(log) // the log is only to explain the failure
	return nil, errors.Join(err, fmt.Errorf("an init failed: %s", strings.TrimSpace(string(said))))
}

// kill ends everything in the namespace at once, as a power failure does, and waits for it. Killing twice is fine.
func (n *namespace) kill() error {
	n.life.Close()
	select {
	case <-n.done:
		return nil
	default:
	}
	if err := n.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill an init: %w", err)
	}
	<-n.done
	return nil
}

// alive says whether the init runs.
func (n *namespace) alive() bool {
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

// enter is a command that runs argv within the namespaces, and that takes it along when it is killed itself.
func (n *namespace) enter(ctx context.Context, argv ...string) *exec.Cmd {
	nsenter, err := find("nsenter")
	if err != nil {
		nsenter = "nsenter" // Start will say that it is missing
	}
	args := []string{"-t", fmt.Sprint(n.pid), "-n", "-m", "-u", "-p", "--", "setpriv", "--pdeathsig", "KILL", "--"}
	return exec.CommandContext(ctx, nsenter, append(args, argv...)...)
}

// inside runs do on a thread that is in the network namespace. The thread is never used for anything else.
func (n *namespace) inside(do func() error) error {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", n.pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a network namespace: %w", err)
	}
	defer unix.Close(fd)
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the runtime ends the thread with the goroutine
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter a network namespace: %w", err)
			return
		}
		done <- do()
	}()
	return <-done
}
