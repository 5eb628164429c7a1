package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"georep/internal/lab"
	"georep/internal/treetest"
)

// world is where everything happens: two hosts, a directory, and the program under test.
type world struct {
	options
	out    io.Writer
	lab    *lab.Lab
	source *lab.Host
	target *lab.Host
	own    bool     // dir is ours to remove
	mounts []string // of the hosts' disks
	trims  bool     // what is deleted on them can be given back to the file system that they are on
	number int      // of directories that were given names
}

// programs are what is compared with, and the Debian packages that have them.
func programs() map[string]string {
	return map[string]string{"rsync": "rsync", "tar": "tar", "lsyncd": "lsyncd", "ssh": "openssh-client", "sshd": "openssh-server", "ip": "iproute2", "mkfs.ext4": "e2fsprogs", "mount": "mount", "nsenter": "util-linux", "fstrim": "util-linux"}
}

func newWorld(ctx context.Context, o options, out io.Writer) (_ *world, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("root is needed, for hosts made of namespaces")
	}
	// Where a user's PATH often does not look.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return nil, err
	}
	var missing []string
	for program, pkg := range programs() {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, pkg)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return nil, fmt.Errorf("missing: apt-get install %s (./bench/run does it)", strings.Join(missing, " "))
	}
	w := &world{options: o, out: out}
	if w.dir == "" {
		if w.dir, err = os.MkdirTemp("", "georep-bench-"); err != nil {
			return nil, err
		}
		w.own = true
	} else if w.dir, err = filepath.Abs(w.dir); err != nil {
		return nil, err
	} else if err := os.MkdirAll(w.dir, 0o755); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.georep == "" {
		w.georep = filepath.Join(w.dir, "georep")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", w.georep, "georep/cmd/georep")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if said, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build georep: %w: %s", err, said)
		}
	} else if w.georep, err = filepath.Abs(w.georep); err != nil {
		return nil, err
	}
	for _, host := range []string{"primary", "secondary"} {
		if err := w.addDisk(ctx, host); err != nil {
			return nil, err
		}
	}
	if w.lab, err = lab.Start(ctx, lab.Options{}); err != nil {
		return nil, err
	}
	w.source, w.target = w.lab.Host("primary"), w.lab.Host("secondary")
	return w, nil
}

func (w *world) close() error {
	var errs []error
	if w.lab != nil {
		errs = append(errs, w.lab.Close())
	}
	for _, at := range w.mounts {
		errs = append(errs, command(context.Background(), "umount", at), os.RemoveAll(at), os.Remove(at+".img"))
	}
	if w.own {
		errs = append(errs, os.RemoveAll(w.dir))
	}
	return errors.Join(errs...)
}

// diskSize is the size of a host's disk in bytes. It takes space only where something was written.
const diskSize = 256 << 30

// addDisk gives a host a file system of its own, in a file: as on two machines, nobody waits for the other's data when he syncs,
// and no events of the other's file system arrive.
func (w *world) addDisk(ctx context.Context, host string) error {
	at := filepath.Join(w.dir, host)
	if err := os.Mkdir(at, 0o755); err != nil {
		return err
	}
	image, err := os.Create(at + ".img")
	if err != nil {
		return err
	}
	if err := errors.Join(image.Truncate(diskSize), image.Close()); err != nil {
		return err
	}
	// One inode for 16 KiB, as is usual, are enough for ten million files.
	if err := command(ctx, "mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", "-i", "16384", image.Name()); err != nil {
		return err
	}
	if err := command(ctx, "mount", "-o", "loop,init_itable=0", image.Name(), at); err != nil {
		return err
	}
	w.mounts = append(w.mounts, at)
	w.trims = command(ctx, "fstrim", at) == nil
	return nil
}

// command runs a program of this machine.
func command(ctx context.Context, argv ...string) error {
	said, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("run %s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(said)))
	}
	return nil
}

// place is a new name on the disk of a host.
func (w *world) place(host, what string) string {
	w.number++
	return filepath.Join(w.dir, host, fmt.Sprintf("%s-%d", what, w.number))
}

// newSource and newTarget make new empty directories on the primary and on the secondary.
func (w *world) newSource() (string, error) {
	path := w.place("primary", "source")
	return path, os.Mkdir(path, 0o755)
}

func (w *world) newTarget() (string, error) {
	path := w.place("secondary", "target")
	return path, os.Mkdir(path, 0o755)
}

// describe prints the machine and the versions.
func (w *world) describe(ctx context.Context) error {
	first := func(argv ...string) string {
		said, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
		line, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
		if err != nil && line == "" {
			return "unknown"
		}
		return strings.Join(strings.Fields(line), " ")
	}
	rows := [][]string{
		{"processors", fmt.Sprintf("%d x %s", runtime.NumCPU(), processor())},
		{"kernel", first("uname", "-sr")},
		{"file system", "ext4 in a file on " + first("stat", "-f", "-c", "%T", w.dir)},
		{"go", runtime.Version()},
		{"georep", first(w.georep, "version")},
		{"ssh", first("ssh", "-V")},
		{"rsync", first("rsync", "--version")},
		{"tar", first("tar", "--version")},
		{"lsyncd", first("lsyncd", "--version")},
	}
	table(w.out, []string{"what", "version"}, rows)
	return ctx.Err()
}

func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(info)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// traffic is what the primary's network card has sent and received, headers included.
type traffic struct{ out, in int64 }

func (w *world) traffic() (traffic, error) {
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", w.source.Pid()))
	if err != nil {
		return traffic{}, fmt.Errorf("read the traffic: %w", err)
	}
	for line := range strings.Lines(string(table)) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		if fields := strings.Fields(rest); ok && name == "eth0" && len(fields) > 8 {
			in, err := strconv.ParseInt(fields[0], 10, 64)
			out, err2 := strconv.ParseInt(fields[8], 10, 64)
			return traffic{out, in}, errors.Join(err, err2)
		}
	}
	return traffic{}, errors.New("read the traffic: the primary has no eth0")
}

// sample is one run.
type sample struct {
	took time.Duration
	cpu  time.Duration // of all processes on both hosts
	wire traffic
}

// measure runs a command on the primary and then syncs the disk of the secondary: nobody is done before its data is safe.
func (w *world) measure(ctx context.Context, argv ...string) (sample, error) {
	before, err := w.traffic()
	if err != nil {
		return sample{}, err
	}
	began, busy := time.Now(), w.processors()
	if err := w.do(ctx, argv...); err != nil {
		return sample{}, err
	}
	if err := w.do(ctx, "sync", "-f", filepath.Join(w.dir, "secondary")); err != nil {
		return sample{}, err
	}
	took := time.Since(began)
	after, err := w.traffic()
	return sample{took: took, cpu: w.processors() - busy, wire: traffic{after.out - before.out, after.in - before.in}}, err
}

// processors is the time that processors have worked for the commands on the primary and for all that the secondary's sshd has
// started, in user mode and for them in the kernel; what the kernel does on its own account is not in it.
func (w *world) processors() time.Duration {
	var children syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &children); err != nil {
		return 0
	}
	sum := time.Duration(children.Utime.Nano() + children.Stime.Nano())
	for _, p := range append(lab.Descendants(w.target.Pid()), lab.Process{Pid: w.target.Pid()}) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid))
		if err != nil {
			continue // it has ended, and its parent counts it
		}
		_, rest, _ := strings.Cut(string(line), ") ")
		for _, field := range strings.Fields(rest)[11:15] { // utime, stime, and those of its children
			if ticks, err := strconv.ParseInt(field, 10, 64); err == nil {
				sum += time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 everywhere
			}
		}
	}
	return sum
}

// do runs a command on the primary.
func (w *world) do(ctx context.Context, argv ...string) error {
	cmd := w.source.Command(ctx, argv...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.Discard, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(said.String()))
	}
	return nil
}

// shell runs a script on the primary.
func shell(script string, args ...string) []string {
	return append([]string{"bash", "-o", "pipefail", "-c", script, "bash"}, args...)
}

// mirror is the command line of georep.
func (w *world) mirror(state, source, target string, more ...string) []string {
	argv := []string{w.georep, "mirror", "--quiet", "--state-dir", state, "--remote-georep", w.georep}
	return append(append(argv, more...), source, "secondary:"+target)
}

// settle removes what the last run made, and lets nothing of it weigh on the next: neither what is to be written still, nor the space that
// it took, which on a RAM disk is memory.
func (w *world) settle(ctx context.Context, remove ...string) error {
	for _, path := range remove {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	for _, at := range w.mounts {
		if err := w.do(ctx, "sync", "-f", at); err != nil {
			return err
		}
		if len(remove) > 0 && w.trims {
			if err := command(ctx, "fstrim", at); err != nil {
				return err
			}
		}
	}
	return nil
}

// equal makes sure that a run did what it was timed for.
func equal(a, b string) error {
	different, err := treetest.Compare(a, b, treetest.Options{Max: 1})
	if err != nil {
		return err
	}
	if len(different) > 0 {
		return fmt.Errorf("the copy differs from the source: %v", different[0])
	}
	return nil
}
