// Package brick mirrors real Gluster volumes, brick by brick.
package brick

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"georep/internal/agent"
	"georep/internal/change"
	"georep/internal/lab"
	"georep/internal/need"
	"georep/internal/treetest"
	"georep/internal/worker"
)

// role makes a process of this test a worker or an agent.
const role = "GEOREP_TEST_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "worker":
		err = runWorker()
	case "agent":
		err = agent.RunVolume(context.Background(), os.Stdin, os.Stdout, agent.Volume{
			Name: os.Args[1], LogFile: os.Args[2], Version: "test", Report: func(err error) { fmt.Fprintln(os.Stderr, "agent:", err) },
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// assignment is what a worker is told.
type assignment struct {
	Volume     string
	VolumeID   string
	Path       string
	Subvolume  int
	Subvolumes int
	Replicas   int
	NodeID     string
	Indirect   bool
	Secondary  string
	// SecondaryID is 32 hexadecimal digits, as VolumeID.
	SecondaryID string
	Hosts       []string
	WorkDir     string
	Program     string
	// XtimeSeconds is the time between two searches for what no journal tells.
	XtimeSeconds int
	Debug        bool
}

func runWorker() error {
	var a assignment
	if err := json.Unmarshal([]byte(os.Args[1]), &a); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	level := slog.LevelInfo
	if a.Debug {
		level = slog.LevelDebug
	}
	b := worker.Brick{
		Volume: a.Volume, Path: a.Path, Subvolume: a.Subvolume, Subvolumes: a.Subvolumes, Indirect: a.Indirect, Replicas: a.Replicas, NodeID: a.NodeID,
		SecondaryVolume: a.Secondary, Hosts: a.Hosts, WorkDir: a.WorkDir, LogFile: filepath.Join(a.WorkDir, "mount.log"),
		Log:        slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
		XtimeEvery: time.Duration(a.XtimeSeconds) * time.Second,
		Command: func(string) []string {
			return []string{"env", role + "=agent", a.Program, a.Secondary, "/var/log/glusterfs/agent.log"}
		},
	}
	var err error
	if b.VolumeID, err = change.ParseID(a.VolumeID); err != nil {
		return err
	}
	if b.SecondaryID, err = change.ParseID(a.SecondaryID); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	b.Report = func(r worker.BrickReport) { _ = out.Encode(r) }
	return worker.RunBrick(ctx, b)
}

// cluster is two hosts with a glusterd and a volume each.
type cluster struct {
	t      *testing.T
	lab    *lab.Lab
	bricks []string // of the primary volume, HOST:PATH
}

// newCluster makes a volume on the host p, or on several, and one on the host s. They are given as the words after "volume create NAME", with
// BRICK for each brick, which are on the hosts in turns. The volumes are mounted on the last of their hosts.
func newCluster(t *testing.T, primary, secondary string, hosts ...string) *cluster {
	t.Helper()
	need.Root(t)
	for _, program := range []string{"glusterd", "gluster", "glusterfs"} {
		need.Program(t, program)
	}
	if len(hosts) == 0 {
		hosts = []string{"p"}
	}
	l := lab.ForTest(t, lab.Options{Hosts: append(slices.Clone(hosts), "s"), Gluster: true})
	c := &cluster{t: t, lab: l}
	for _, h := range hosts[1:] {
		c.wait("peers", func() error { return c.try(hosts[0], "gluster", "peer", "probe", h) })
		c.wait("peers", func() error {
			if out := c.on(hosts[0], "gluster", "peer", "status"); strings.Count(out, "Peer in Cluster (Connected)") < slices.Index(hosts, h) {
				return errors.New(out)
			}
			return nil
		})
	}
	c.bricks = c.volume("vp", primary, hosts, "changelog.changelog on", "geo-replication.indexing on")
	c.volume("vs", secondary, []string{"s"})
	return c
}

// volume makes and mounts one volume, and gives its bricks.
func (c *cluster) volume(name, layout string, hosts []string, options ...string) []string {
	c.t.Helper()
	words, bricks := []string{"gluster", "--mode=script", "volume", "create", name}, []string(nil)
	for _, w := range strings.Fields(layout) {
		if w == "BRICK" {
			n := len(bricks)
			w = hosts[n%len(hosts)] + ":" + c.brick(hosts[n%len(hosts)], n)
			bricks = append(bricks, w)
		}
		words = append(words, w)
	}
	c.wait("volume create", func() error { return c.try(hosts[0], append(words, "force")...) })
	for _, option := range options {
		c.on(hosts[0], append([]string{"gluster", "--mode=script", "volume", "set", name}, strings.Fields(option)...)...)
	}
	c.on(hosts[0], "gluster", "--mode=script", "volume", "start", name)
	client := hosts[len(hosts)-1]
	c.on(client, "mkdir", "-p", "/mnt/"+name)
	c.wait("mount", func() error { return c.try(client, "mount", "-t", "glusterfs", "localhost:/"+name, "/mnt/"+name) })
	return bricks
}

// client is the host on which a volume is mounted: "p" stands for the primary's, "s" for the secondary's.
func (c *cluster) client(side string) *lab.Host {
	all := c.lab.Hosts()
	if side == "s" {
		return all[len(all)-1]
	}
	return all[len(all)-2]
}

func (c *cluster) brick(host string, n int) string {
	return filepath.Join(c.lab.Host(host).Dir(), fmt.Sprintf("brick%d", n))
}

func (c *cluster) mount(host string) string { return "/mnt/v" + host }

func (c *cluster) try(host string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := c.lab.Host(host).Command(ctx, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("on %s: %v: %w: %s", host, args, err, out)
	}
	return nil
}

func (c *cluster) on(host string, args ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := c.lab.Host(host).Command(ctx, args...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("on %s: %v: %v: %s", host, args, err, out)
	}
	return string(out)
}

// sh runs a script on the host that has a side's volume mounted.
func (c *cluster) sh(side, script string) string {
	c.t.Helper()
	return c.on(c.client(side).Name(), "bash", "-euc", script)
}

func (c *cluster) wait(what string, ready func() error) {
	c.t.Helper()
	deadline := time.NewTimer(60 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			c.t.Fatalf("%s: %v", what, err)
		}
	}
}

// running is a worker.
type running struct {
	c    *cluster
	cmd  *exec.Cmd
	done chan error
	mu   sync.Mutex
	last worker.BrickReport
}

// state is the last report.
func (r *running) state() worker.BrickReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// listen keeps the last report.
func (r *running) listen(in io.Reader, log io.Writer) {
	lines := json.NewDecoder(in)
	for {
		var report worker.BrickReport
		if lines.Decode(&report) != nil {
			return
		}
		if f := report.Event.Failure; f != nil {
			fmt.Fprintf(log, "%s %q: %s: %s\n", report.Event.Kind, f.Path, f.Op, f.Error)
		}
		r.mu.Lock()
		r.last = report
		r.mu.Unlock()
	}
}

// start runs the worker of a brick.
func (c *cluster) start(n, subvolume, subvolumes int, changes ...func(*assignment)) *running {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	host, path, _ := strings.Cut(c.bricks[n], ":")
	a := assignment{
		Volume: "vp", VolumeID: c.volumeID("p", "vp"), Path: path, Subvolume: subvolume, Subvolumes: subvolumes, Secondary: "vs", SecondaryID: c.volumeID("s", "vs"),
		Hosts: []string{"s"}, WorkDir: filepath.Join(c.lab.Host(host).Dir(), fmt.Sprintf("work%d", n)), Program: self, Debug: os.Getenv("GEOREP_TEST_DEBUG") != "",
	}
	for _, change := range changes {
		change(&a)
	}
	if a.Replicas > 1 {
		a.NodeID = strings.TrimSpace(c.on(host, "sed", "-n", "s/^UUID=//p", "/var/lib/glusterd/glusterd.info"))
	}
	text, err := json.Marshal(a)
	if err != nil {
		c.t.Fatal(err)
	}
	r := &running{c: c, done: make(chan error, 1)}
	r.cmd = c.lab.Host(host).Command(context.Background(), self, string(text))
	r.cmd.Env = append(r.cmd.Env, role+"=worker")
	logs := c.lab.Dir()
	if kept := os.Getenv("GEOREP_TEST_LOGS"); kept != "" {
		logs = kept
	}
	log, err := os.OpenFile(filepath.Join(logs, fmt.Sprintf("worker%d.log", n)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	reports, out := io.Pipe()
	r.cmd.Stdout, r.cmd.Stderr = out, log
	go r.listen(reports, log)
	if err := r.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		r.done <- r.cmd.Wait()
		_ = log.Close()
		_ = out.Close()
	}()
	c.t.Cleanup(func() {
		r.stop()
		if c.t.Failed() {
			text, _ := os.ReadFile(log.Name())
			c.t.Logf("worker of brick %d:\n%s", n, text[max(0, len(text)-logTail):])
		}
	})
	return r
}

// stop ends the worker in good order.
func (r *running) stop() {
	if r.cmd == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r.signal(syscall.SIGTERM)
	select {
	case <-r.done:
	case <-ctx.Done():
		r.signal(syscall.SIGQUIT) // it says where it is
		select {
		case <-r.done:
		case <-time.After(5 * time.Second):
			_ = r.cmd.Process.Kill()
			<-r.done
		}
		r.c.t.Errorf("the worker did not end")
	}
	r.cmd = nil
}

func (c *cluster) volumeID(side, volume string) string {
	c.t.Helper()
	return strings.ReplaceAll(strings.TrimSpace(c.sh(side, "sed -n s/^volume-id=//p /var/lib/glusterd/vols/"+volume+"/info")), "-", "")
}

// signal sends a signal to the worker.
func (r *running) signal(s syscall.Signal) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := lab.Signal(ctx, r.cmd, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		r.c.t.Logf("signal the worker: %v", err)
	}
	if s == syscall.SIGCONT { // its wrapper has stopped with it
		_ = r.cmd.Process.Signal(s)
	}
}

// logTail is how much of a worker's log is shown when a test has failed, in bytes.
const logTail = 10_000

// outside is the path of a host's mount for this process.
func (c *cluster) outside(host string) string {
	return fmt.Sprintf("/proc/%d/root%s", c.client(host).Pid(), c.mount(host))
}

// gfids lists the identity of everything below a directory of a mounted volume.
func gfids(top string) (map[string]string, error) {
	found := map[string]string{}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, top)
		if name == "/.georep" || name == "/.trashcan" {
			return fs.SkipDir
		}
		var id [64]byte
		n, err := unix.Lgetxattr(path, "glusterfs.gfid.string", id[:])
		if err != nil {
			return fmt.Errorf("read the GFID of %q: %w", path, err)
		}
		found[name] = string(id[:n])
		return nil
	})
	return found, err
}

// differences compares both volumes, GFIDs included.
func (c *cluster) differences() (string, error) {
	p, s := c.outside("p"), c.outside("s")
	differ, err := treetest.Compare(p, s, treetest.Options{Slack: 1 << 20})
	if err != nil || len(differ) > 0 {
		return treetest.Format(differ), err
	}
	a, err := gfids(p)
	if err != nil {
		return "", err
	}
	b, err := gfids(s)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for name, id := range a {
		if b[name] != id {
			fmt.Fprintf(&out, "%q: GFID %s, want %s\n", name, b[name], id)
		}
	}
	return out.String(), nil
}

// equal waits until both volumes hold the same.
func (c *cluster) equal() {
	c.t.Helper()
	limit := time.NewTimer(90 * time.Second)
	defer limit.Stop()
	for {
		differ, err := c.differences()
		if err == nil && differ == "" {
			return
		}
		select {
		case <-limit.C:
			c.t.Fatalf("the volumes differ: %v\n%s", err, differ)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func TestFirstFile(t *testing.T) {
	c := newCluster(t, "BRICK", "BRICK")
	c.start(0, 1, 1)
	c.sh("p", "cd "+c.mount("p")+"; echo hello >f")
	c.equal()
}
