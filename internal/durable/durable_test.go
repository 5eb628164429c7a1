package durable

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

func TestWriteFile(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	for _, step := range []struct {
		data string
		perm fs.FileMode
	}{{"one", 0o644}, {"", 0o600}, {"a longer one", 0o640}} {
		if err := WriteFile(path, []byte(step.data), step.perm); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		info, _ := os.Stat(path)
		if err != nil || string(got) != step.data || info.Mode() != step.perm {
			t.Errorf("got %q, %v, %v", got, info.Mode(), err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
	if err := WriteFile(filepath.Join(dir, "none", "state"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestOldOrNew: whoever reads while it is replaced sees one whole content.
func TestOldOrNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	whole := func(c byte) []byte { return []byte(strings.Repeat(string(c), 100000)) }
	if err := WriteFile(path, whole('a'), 0o600); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var reads atomic.Int64
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			got, err := os.ReadFile(path)
			if err != nil || len(got) != 100000 || strings.Trim(string(got), string(got[0])) != "" {
				t.Errorf("%d bytes, %v", len(got), err)
				return
			}
			reads.Add(1)
		}
	})
	for i := 0; i < 20 || reads.Load() < 20; i++ {
		if err := WriteFile(path, whole('a'+byte(i%26)), 0o600); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			break
		}
	}
	close(stop)
	wg.Wait()
}

func TestLockExcludes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	// In this process too, and closing another descriptor of the file does not drop it.
	if data, err := os.ReadFile(path); err != nil || string(data) != strconv.Itoa(os.Getpid())+"\n" {
		t.Errorf("the file says %q, %v", data, err)
	}
	for range 2 {
		_, err = Lock(path)
		var locked *LockedError
		if !errors.Is(err, ErrLocked) || !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Path != path {
			t.Errorf("got %v", err)
		}
	}
	if err := held.Unlock(); err != nil {
		t.Fatal(err)
	}
	if held, err = Lock(path); err != nil {
		t.Fatal(err)
	}
	// A file put in its place is another lock; the old one excludes nobody any more.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	again, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(held.Unlock(), again.Unlock()); err != nil {
		t.Error(err)
	}
	if _, err := Lock(filepath.Join(path, "below")); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("got %v", err)
	}
}

// holderEnv names the lock that the process which TestLockEndsWithItsHolder starts shall hold.
const holderEnv = "GEOREP_DURABLE_LOCK"

func TestMain(m *testing.M) {
	if path := os.Getenv(holderEnv); path != "" {
		if _, err := Lock(path); err != nil {
			os.Stdout.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Stdout.WriteString("held\n")
		bufio.NewReader(os.Stdin).ReadString('\n')
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestLockEndsWithItsHolder: the message names the process, and after it was killed the lock is free.
func TestLockEndsWithItsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holderEnv+"="+path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "held\n" {
		t.Fatalf("%q, %v", line, err)
	}
	_, err = Lock(path)
	if want := path + " is locked by process " + strconv.Itoa(cmd.Process.Pid); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	held, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := held.Unlock(); err != nil {
		t.Error(err)
	}
}
