// Package gluster tests georep in the place of Gluster's geo-replication, under real glusterds on hosts of a lab.
package gluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"georep/internal/lab"
	"georep/internal/need"
)

// The cast: a primary cluster of two nodes with bricks and one without, a secondary one of two nodes, and an account there.
const (
	user    = "geoaccount"
	primary = "pvol"
	target  = "snode1::svol"
)

// site is the two clusters, made once for all tests of the package.
type site struct {
	*lab.Lab
	bin string // directory of our programs
	lib string // directory of Gluster's
	ctx context.Context
}

var shared struct {
	once sync.Once
	site *site
	err  error
	end  func()
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.end != nil {
		shared.end()
	}
	os.Exit(code)
}

// clusters gives the site; the first test that asks for it makes it.
func clusters(t *testing.T) *site {
	t.Helper()
	need.Root(t)
	need.Program(t, "glusterd")
	need.Program(t, "sshd")
	shared.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 25*time.Minute)
		s := &site{lib: lab.GlusterLib(), ctx: ctx}
		shared.site = s
		shared.err = s.up(ctx)
		shared.end = func() {
			if s.Lab != nil {
				if err := s.Close(); err != nil {
					fmt.Fprintln(os.Stderr, "close the lab:", err)
				}
			}
			cancel()
			os.RemoveAll(s.bin)
		}
	})
	if shared.err != nil {
		t.Fatalf("the clusters could not be made: %v", shared.err)
	}
	return shared.site
}

func (s *site) up(ctx context.Context) error {
	var err error
	if s.bin, err = os.MkdirTemp("", "georep-gluster-"); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", s.bin+"/", "georep/cmd/gsyncd", "georep/cmd/georep")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	if err := os.Chmod(s.bin, 0o755); err != nil {
		return err
	}
	s.Lab, err = lab.Start(ctx, lab.Options{
		Hosts: []string{"pnode1", "pnode2", "pnode3", "snode1", "snode2"}, Users: []string{user}, Gluster: true, Boot: s.boot(),
	})
	if err != nil {
		return err
	}
	if err := s.Peer(ctx, "pnode1", "pnode2", "pnode3"); err != nil {
		return err
	}
	if err := s.Peer(ctx, "snode1", "snode2"); err != nil {
		return err
	}
	if err := s.Volume(ctx, primary, "replica 2", "pnode1", "pnode2"); err != nil {
		return err
	}
	if err := s.Volume(ctx, "svol", "replica 2", "snode1", "snode2"); err != nil {
		return err
	}
	_, err = s.Host("pnode1").Run(ctx, "gluster-georep-sshkey", "generate")
	return err
}

// boot gives each host a package database of its own, for what dpkg-divert writes, and installs georep.
func (s *site) boot() string {
	return `
d=/run/dpkg; mkdir -p $d/info $d/updates $d/triggers $d/parts $d/alternatives; : >$d/status; : >$d/available
cp /var/lib/dpkg/arch $d/ 2>/dev/null || :
mount --bind $d /var/lib/dpkg
` + s.bin + "/georep gluster install\n"
}

// on runs a command on a host, which must succeed.
func (s *site) on(t *testing.T, host string, args ...string) string {
	t.Helper()
	out, err := s.Host(host).Run(s.ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sh is on with a line of a shell.
func (s *site) sh(t *testing.T, host, line string) string {
	t.Helper()
	return s.on(t, host, "bash", "-c", line)
}

// geo runs a geo-replication command on pnode1, which must succeed.
func (s *site) geo(t *testing.T, args ...string) string {
	t.Helper()
	return s.patiently(t, "pnode1", geoArgs(args)...)
}

// patiently is on for a gluster command, which is given again as long as glusterd is busy with another one and says so.
func (s *site) patiently(t *testing.T, host string, args ...string) string {
	t.Helper()
	var out string
	var err error
	s.eventually(t, "glusterd is not busy", 4*time.Minute, func() bool {
		out, err = s.Host(host).Run(s.ctx, args...)
		return err == nil || !strings.Contains(out, "Another transaction is in progress")
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// peersBack waits until the glusterds of the primary nodes see each other, after one of them was started again.
func (s *site) peersBack(t *testing.T) {
	t.Helper()
	for _, host := range []string{"pnode1", "pnode2", "pnode3"} {
		s.eventually(t, "the peers of "+host+" are back", 60*time.Second, func() bool {
			out, err := s.Host(host).Gluster(s.ctx, "peer", "status")
			return err == nil && strings.Count(out, "Peer in Cluster (Connected)") == 2
		})
	}
}

func geoArgs(args []string) []string {
	return append([]string{"gluster", "--mode=script", "volume", "geo-replication", primary, target}, args...)
}

// geoFails runs a geo-replication command on pnode1, which must fail with a text that contains want.
func (s *site) geoFails(t *testing.T, want string, args ...string) {
	t.Helper()
	s.failsOn(t, "pnode1", want, geoArgs(args)...)
}

func (s *site) failsOn(t *testing.T, host, want string, args ...string) {
	t.Helper()
	out, err := s.Host(host).Run(s.ctx, args...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(out, want) {
		t.Errorf("%q on %s: %v, it printed %q, want %q", args, host, err, out, want)
	}
}

// word is the session's word on a host.
func (s *site) word(t *testing.T, host string) string {
	t.Helper()
	return s.sh(t, host, "cat "+sessionDir+"/monitor.status")
}

const (
	sessionDir = "/var/lib/glusterd/geo-replication/pvol_snode1_svol"
	pidFile    = "/var/run/gluster/gsyncd-pvol-snode1-svol.pid"
	sessionLog = "/var/log/glusterfs/geo-replication/pvol_snode1_svol/gsyncd.log"
)

// created sees to it that the session exists.
func (s *site) created(t *testing.T) {
	t.Helper()
	if _, err := s.Host("pnode1").Run(s.ctx, "test", "-e", sessionDir); err != nil {
		s.geo(t, "create", "push-pem")
	}
}

// started sees to it that the session runs.
func (s *site) started(t *testing.T) {
	t.Helper()
	s.created(t)
	if s.word(t, "pnode1") == "Paused" && s.pid(t, "pnode1") != 0 {
		s.geo(t, "resume", "force")
	}
	if s.pid(t, "pnode1") == 0 || s.pid(t, "pnode2") == 0 {
		s.geo(t, "start", "force")
	}
}

// stopped sees to it that the session exists and does not run.
func (s *site) stopped(t *testing.T) {
	t.Helper()
	s.created(t)
	s.geo(t, "stop", "force")
}

// pid is the process, as the host numbers it, that holds the pid file; 0 when none does.
func (s *site) pid(t *testing.T, host string) int {
	t.Helper()
	out := s.sh(t, host, "grep -q . "+pidFile+" 2>/dev/null && ! flock -n -E 9 /dev/null true; cat "+pidFile+" 2>/dev/null || :")
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		return 0
	}
	if s.sh(t, host, fmt.Sprintf("if tr '\\0' ' ' </proc/%d/cmdline 2>/dev/null | grep -q ' monitor '; then echo yes; fi", pid)) == "" {
		return 0
	}
	return pid
}

// eventually waits until a condition holds.
func (s *site) eventually(t *testing.T, what string, within time.Duration, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, within)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s\n%s", within, what, s.logs())
		}
	}
}

// logs is what the session's programs have noted on the primary nodes.
func (s *site) logs() string {
	var b strings.Builder
	for _, host := range []string{"pnode1", "pnode2"} {
		out, _ := s.Host(host).Run(s.ctx, "tail", "-n", "12", sessionLog) // only to explain a failure
		fmt.Fprintf(&b, "-- %s\n%s", host, out)
	}
	return b.String()
}

// row is the status of a brick, by node, as `status detail` shows it, by the header's names.
func (s *site) rows(t *testing.T, args ...string) map[string]map[string]string {
	t.Helper()
	if len(args) == 0 {
		args = []string{"status", "detail"}
	}
	return parseRows(t, s.geo(t, args...))
}

func parseRows(t *testing.T, text string) map[string]map[string]string {
	t.Helper()
	all := strings.Split(text, "\n")
	rows := map[string]map[string]string{}
	var header string
	for _, line := range all {
		switch {
		case strings.HasPrefix(line, "PRIMARY NODE"):
			header = line
		case header == "" || strings.HasPrefix(line, "---") || strings.TrimSpace(line) == "":
		default:
			row := map[string]string{}
			for _, column := range columns(header) {
				end := min(column.end, len(line))
				if column.start < end {
					row[column.name] = strings.TrimSpace(line[column.start:end])
				}
			}
			rows[row["PRIMARY NODE"]] = row
		}
	}
	if header == "" {
		t.Fatalf("no table in %q", text)
	}
	return rows
}

type column struct {
	name       string
	start, end int
}

// columns reads the header, in which names are separated by at least two blanks.
func columns(header string) []column {
	var found []column
	for i := 0; i < len(header); {
		if header[i] == ' ' {
			i++
			continue
		}
		end := strings.Index(header[i:], "  ")
		if end < 0 {
			end = len(header) - i
		}
		if n := len(found); n > 0 {
			found[n-1].end = i
		}
		found = append(found, column{strings.TrimSpace(header[i : i+end]), i, 1 << 20})
		i += end
	}
	return found
}
