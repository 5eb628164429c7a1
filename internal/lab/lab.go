// Package lab makes hosts out of one machine: for tests, for benchmarks and for work by hand.
//
// A host is a set of namespaces (network, mount, UTS, PID) with an sshd, addresses and a name of its own; the hosts of a lab
// are on one bridge that lives in a namespace too, so that no packet leaves the lab and labs do not see each other. Nothing
// of a lab has a name outside: when its processes end, which they do at the latest when the process that started them
// ends in whatever way, the kernel removes the rest. The hosts share the machine's root file system, /tmp included; /run,
// /home, /etc/ssh, /etc/hosts and the user database are each host's own.
//
// Where a real sshd is enough, Sshd runs one on the loopback address without root, and where a bad line is needed, Proxy
// is one.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"georep/internal/need"
)

// Options of a lab. The zero value makes two hosts, primary and secondary.
type Options struct {
	// Hosts are the names, at most 200.
	Hosts []string
	// Users are accounts besides root, which every host gets; each has a home in /home of the host.
	Users []string
	// Private are further directories, by absolute path, of which every host gets its own copy: what is in them now is
	// copied. They must exist.
	Private []string
	// Boot is a shell script that each host runs when it boots, after its file systems and its network are there and before
	// its sshd starts. A daemon that it starts lives until the host ends.
	Boot string
	// Gluster gives each host a glusterd of its own, which Boot comes before, and accounts of whose homes sshd reads the keys.
	Gluster bool
	// Dir is where files of the lab are kept. "" makes a temporary directory, which Close removes.
	Dir string
}

// Lab is a running set of hosts. Its methods may be called at once by several goroutines, Close excepted.
type Lab struct {
	hosts     []*Host
	byName    map[string]*Host
	dir       string
	removeDir bool
	lan       *namespace
	o         Options
}

// ForTest starts a lab that ends with the test. The test ends at once when the machine cannot have one.
func ForTest(t testing.TB, o Options) *Lab {
	t.Helper()
	need.Root(t)
	for _, program := range programs {
		need.Program(t, program)
	}
	if o.Gluster {
		need.Program(t, "glusterd")
		need.Program(t, "gluster")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l, err := Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return l
}

// programs are what a lab needs installed, by Debian package: iproute2, util-linux, openssh-server, openssh-client.
var programs = []string{"ip", "nsenter", "setpriv", "sshd", "ssh-keygen", "ssh", "bash", "mount"}

// Start makes a lab and waits until every host answers on its ssh port. It needs root. Ctx bounds the start only.
func Start(ctx context.Context, o Options) (_ *Lab, err error) {
	if len(o.Hosts) == 0 {
		o.Hosts = []string{"primary", "secondary"}
	}
	if len(o.Hosts) > 200 {
		return nil, fmt.Errorf("start a lab: %d hosts, at most 200", len(o.Hosts))
	}
	for _, program := range programs {
		if _, err := find(program); err != nil {
			return nil, fmt.Errorf("start a lab: %w", err)
		}
	}
	if o.Gluster {
		o = withGluster(o)
	}
	l := &Lab{dir: o.Dir, o: o, byName: map[string]*Host{}}
	if l.dir == "" {
		if l.dir, err = os.MkdirTemp("", "georep-lab-"); err != nil {
			return nil, fmt.Errorf("start a lab: %w", err)
		}
		l.removeDir = true
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if err := os.Chmod(l.dir, 0o755); err != nil { // accounts besides root pass through it
		return nil, fmt.Errorf("start a lab: %w", err)
	}
	for i, name := range o.Hosts {
		h := &Host{lab: l, name: name, number: i + 1, dir: filepath.Join(l.dir, name), cable: fmt.Sprintf("cable%d", i+1)}
		l.hosts = append(l.hosts, h)
		l.byName[name] = h
	}
	if err := l.writeFiles(ctx); err != nil {
		return nil, fmt.Errorf("start a lab: %w", err)
	}
	if err := l.startLAN(ctx); err != nil {
		return nil, fmt.Errorf("start a lab: %w", err)
	}
	for _, h := range l.hosts {
		if err := h.Boot(ctx); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// startLAN makes the namespace with the bridge.
func (l *Lab) startLAN(ctx context.Context) error {
	script := "mount --make-rprivate / && ip link add bridge type bridge && ip link set bridge up && ip link set lo up"
	lan, err := startNamespace(ctx, script, filepath.Join(l.dir, "lan.log"))
	if err != nil {
		return fmt.Errorf("make the network: %w", err)
	}
	l.lan = lan
	return nil
}

// Hosts are all hosts in the order of Options.
func (l *Lab) Hosts() []*Host { return l.hosts }

// Host is the host of that name; nil when there is none.
func (l *Lab) Host(name string) *Host { return l.byName[name] }

// Dir is the directory of the lab's files, the same path in every host and outside.
func (l *Lab) Dir() string { return l.dir }

// Close ends all hosts with all that runs in them, and removes the files of the lab unless Options.Dir was given.
func (l *Lab) Close() error {
	var errs []error
	for _, h := range l.hosts {
		errs = append(errs, h.Kill())
	}
	if l.lan != nil {
		errs = append(errs, l.lan.kill())
	}
	if l.removeDir {
		errs = append(errs, os.RemoveAll(l.dir))
	}
	return errors.Join(errs...)
}

// find looks for a program also where a user's PATH often does not.
func find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + program); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("find program: %w", err)
}

// run runs a program to its end; the error holds what it said.
func run(ctx context.Context, argv ...string) error {
	path, err := find(argv[0])
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, path, argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("run %s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
