package monitor

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"georep/internal/durable"
)

// ErrRunning says that another monitor holds the pid file.
var ErrRunning = errors.New("pidfile is taken, exiting.") //lint:ignore ST1005 scripts know this text

// The descriptors that Launch gives to the daemon.
const (
	lockFD  = 3
	readyFD = 4
)

// Launch starts argv as a daemon: a session and process group of its own, without a terminal, with the lock of the pid file. It returns
// when that file holds the daemon's number. The lock is taken here and passed on, so that there is no moment without it. The error is
// ErrRunning when somebody holds it.
func Launch(pidFile string, argv, env []string) error {
	lock, err := durable.Lock(pidFile)
	if errors.Is(err, durable.ErrLocked) {
		return ErrRunning
	}
	if err != nil {
		return err
	}
	if err := launch(lock.File(), argv, env); err != nil {
		return errors.Join(fmt.Errorf("start the monitor: %w", err), lock.Unlock())
	}
	return lock.File().Close() // the daemon has it too
}

// launch starts the daemon with the locked file and waits for its word.
func launch(locked *os.File, argv, env []string) error {
	if err := locked.Chmod(0o644); err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	daemon, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Dir: "/", Env: env, Files: []*os.File{null, null, null, locked, theirs}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	theirs.Close()
	if err != nil {
		return err
	}
	if n, _ := ready.Read(make([]byte, 1)); n != 1 {
		state, err := daemon.Wait()
		return errors.Join(fmt.Errorf("it ended at once: %v", state), err)
	}
	return daemon.Release()
}

// Daemon is what a process that Launch has started calls first. The lock is held until the process ends.
func Daemon(pidFile string) (*durable.Held, error) {
	lock, err := durable.Inherit(lockFD, pidFile)
	if err != nil {
		return nil, err
	}
	ready := os.NewFile(readyFD, "ready")
	if ready == nil {
		return nil, errors.New("start the monitor: nobody waits for it")
	}
	defer ready.Close()
	if _, err := ready.Write([]byte{1}); err != nil {
		return nil, fmt.Errorf("start the monitor: %w", err)
	}
	return lock, nil
}
