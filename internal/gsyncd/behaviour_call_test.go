package gsyncd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"georep/internal/need"
)

// The numbers of the tests are those of the behaviours in docs/gluster.md.

func TestBehaviour01Version(t *testing.T) {
	w := newWorld(t)
	need.Root(t)
	for _, uid := range []uint32{0, 65534} {
		cmd := w.command("--version")
		cmd.Env = cmd.Env[:1] // neither HOME nor anything else
		dir, err := os.MkdirTemp("/var/tmp", "georep-test-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		copyOf := filepath.Join(dir, "gsyncd") // the test's own directory is closed to others
		if err := os.Link(cmd.Path, copyOf); err != nil {
			if out, err := exec.Command("cp", cmd.Path, copyOf).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		cmd.Path = copyOf
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.Output()
		if err != nil || !strings.Contains(string(out), "gsyncd") || len(lines(string(out))) != 1 {
			t.Errorf("as uid %d: %q, %v", uid, out, err)
		}
		if took := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(); took.Milliseconds() > 100 && !underRace {
			t.Errorf("as uid %d it took %v of CPU", uid, took)
		}
	}
}

func TestBehaviour02VersionStartsNothing(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		// Without it the same is seen from the other side: a gluster in the way is not started.
		strace = ""
	}
	w := newWorld(t)
	bin := t.TempDir()
	w.write(bin+"/gluster", "#!/bin/sh\ntouch "+bin+"/called\n")
	if err := os.Chmod(bin+"/gluster", 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := w.command("--version")
	cmd.Env = append(cmd.Env, "PATH="+bin)
	if strace != "" {
		trace := filepath.Join(bin, "trace")
		cmd.Args = append([]string{"strace", "-f", "-e", "trace=execve,vfork,fork", "-o", trace}, append([]string{cmd.Path}, cmd.Args[1:]...)...)
		cmd.Path = strace
		defer func() {
			if n := strings.Count(w.read(trace), "execve("); n != 1 {
				t.Errorf("there were %d programs, not one", n)
			}
		}()
	}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin + "/called"); err == nil {
		t.Error("it started gluster")
	}
}

func TestBehaviour03NoDispatchUnderGlusterd(t *testing.T) {
	w := newWorld(t)
	env := map[string]string{glusterdCalled: "1", "SSH_ORIGINAL_COMMAND": "/usr/sbin/gluster volume info v"}
	out, errs, code := w.runAs("gsyncd", env, "--version")
	if code != 0 || !strings.Contains(out, "gsyncd") {
		t.Errorf("%q, %q, %d", out, errs, code)
	}
	if out, _, code := w.runAs("gsyncd", env, "--normalize-url", "h::v"); out != "ssh://h::v\n" || code != 0 {
		t.Errorf("%q, %d", out, code)
	}
}

func TestBehaviour04ClosedOutput(t *testing.T) {
	w := newWorld(t)
	w.create()
	for _, args := range [][]string{{"--version"}, w.sessionArgs("--config-get-all"), w.sessionArgs("--status-get", "--path", "/b")} {
		cmd := w.command(args...)
		// The shell ignores the signal for what it starts, as glusterd does.
		cmd.Args = append([]string{"sh", "-c", `trap "" PIPE; exec "$0" "$@"`, cmd.Path}, args...)
		cmd.Path = need.Program(t, "sh")
		r, stdout, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		cmd.Stdout = stdout
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stdout.Close()
		_ = cmd.Wait() // that it ends is what matters
	}
}

func TestBehaviour05FamilyArguments(t *testing.T) {
	w := newWorld(t)
	want := w.good(w.sessionArgs("--config-get-all")...)
	for _, family := range []string{"--inet", "--inet6"} {
		got := w.good("-c", w.conf(), family, "--iprefix=/elsewhere", ":pvol", "cs1::svol", "--config-get-all")
		if got != want {
			t.Errorf("with %s it printed something else", family)
		}
		if got := w.good(family, "--normalize-url", "h::v"); got != "ssh://h::v\n" {
			t.Errorf("%s: %q", family, got)
		}
		if got := w.good(family, "--canonicalize-url", "h::v"); len(lines(got)) != 1 {
			t.Errorf("%s: %q", family, got)
		}
		w.good("-c", w.conf(), family, "--iprefix=/var", ":pvol", "cs1::svol", "--status-get", "--path", "/b")
	}
}

func TestBehaviour06Template(t *testing.T) {
	need.Root(t)
	w := newWorld(t)
	w.good("--version")
	info, err := os.Stat(w.path("/var/lib/glusterd/geo-replication/gsyncd_template.conf"))
	if err != nil || info.Size() != 0 {
		t.Error(info, err)
	}
}

func TestBehaviour07NullStreams(t *testing.T) {
	w := newWorld(t)
	w.create()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, args := range [][]string{
		{"--canonicalize-url", "h::v", "u@h::v"}, {"-c", w.conf(), "--config-set-rx", "pid-file", "x", "."}, w.sessionArgs("--config-get-all"),
		w.sessionArgs("--config-set", "sync-jobs", "--value=4"), append([]string{"--delete", "--path-list=(null)"}, w.sessionArgs()...),
	} {
		cmd := w.command(args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = null, null, null
		if err := cmd.Run(); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestBehaviour08NothingElseOnOutput(t *testing.T) {
	w := newWorld(t)
	w.create()
	for _, c := range []struct {
		want int // lines; 0 for any number with a colon
		args []string
	}{
		{1, []string{"--version"}},
		{2, []string{"--canonicalize-url", "a::b", "ssh://c::d"}},
		{1, []string{"--normalize-url", "h::v"}},
		{1, w.sessionArgs("--config-get", "pid-file")},
		{0, w.sessionArgs("--config-get-all")},
		{0, w.sessionArgs("--status-get", "--path", "/no such brick")},
	} {
		args, want := c.args, c.want
		out := w.good(args...)
		if !strings.HasSuffix(out, "\n") || strings.HasPrefix(out, "\n") || strings.Contains(out, "\n\n") {
			t.Errorf("%q printed an empty line: %q", args, out)
		}
		if want > 0 && len(lines(out)) != want {
			t.Errorf("%q printed %q", args, out)
		}
		for _, line := range lines(out) {
			if want == 0 && (!strings.Contains(line, ":") || len(line) < 2) {
				t.Errorf("%q printed the line %q", args, line)
			}
		}
	}
	for _, args := range [][]string{
		{"--verify", "spawning", ":pvol", "cs1::svol"}, {"--config-check", "sync-jobs"}, w.sessionArgs("--config-set", "sync-jobs", "--value=4"),
		w.sessionArgs("--config-del", "sync-jobs"), append([]string{"--create", "Stopped"}, w.sessionArgs()...),
	} {
		if out := w.good(args...); out != "" {
			t.Errorf("%q printed %q", args, out)
		}
	}
}

func TestBehaviour09And10Normalize(t *testing.T) {
	w := newWorld(t)
	for given, want := range map[string]string{
		"h::v": "ssh://h::v", "ssh://h::v": "ssh://h::v", "ssh://u@h::v:0b0f1c52-0d42-4a51-b1ee-5e4c49b5ad35": "ssh://u@h::v",
		"root@h::v": "ssh://root@h::v", "fe80::1::v": "ssh://fe80::1::v",
	} {
		if got := w.good("--normalize-url", given); got != want+"\n" {
			t.Errorf("%s gave %q, want %q", given, got, want)
		}
	}
	for _, bad := range []string{"bad", "", "h:v", "::v", "h::", "@h::v", "u@::v", "-oProxyCommand=x::v", "h::-v", "h::a/b", "h ost::v", "h:::v"} {
		if out, _, code := w.run("--normalize-url", bad); code == 0 || out != "" {
			t.Errorf("%q gave %q, exit %d", bad, out, code)
		}
	}
}

func TestBehaviour11To13Canonicalize(t *testing.T) {
	w := newWorld(t)
	got := lines(w.good("--canonicalize-url", "localhost::v", "ssh://127.0.0.1::v:some-id", "u@localhost::v", "root@localhost::v", "localhost::w"))
	if len(got) != 5 {
		t.Fatalf("%d lines for 5 secondaries: %q", len(got), got)
	}
	if got[0] != "ssh://root@127.0.0.1:gluster://127.0.0.1:v" || got[1] != got[0] || got[3] != got[0] || got[2] == got[0] || got[4] == got[0] {
		t.Errorf("name, address, user, root, other volume: %q", got)
	}
	got = lines(w.good("--inet6", "--canonicalize-url", "no-such-host.invalid::v", "localhost::v"))
	if len(got) != 2 || got[0] == got[1] {
		t.Errorf("an unknown host with --inet6 gave %q", got)
	}
	got = lines(w.good("--canonicalize-url", "no-such-host.invalid::v", "NO-such-host.invalid::v", "other.invalid::v"))
	if len(got) != 3 || got[0] != got[1] || got[0] == got[2] {
		t.Errorf("unknown hosts gave %q", got)
	}
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("u%d@localhost::v", i))
	}
	if got := lines(w.good(append([]string{"--canonicalize-url"}, many...)...)); len(got) != 40 {
		t.Errorf("40 secondaries gave %d lines", len(got))
	}
	w.fails(exitFailed, "--canonicalize-url", "h::v", "bad")
}

// TestForced is what a key may ask for when sshd starts us in the place of that.
func TestForced(t *testing.T) {
	w := newWorld(t)
	ask := func(command string, args ...string) (string, int) {
		_, errs, code := w.runAs("gsyncd", map[string]string{"SSH_ORIGINAL_COMMAND": command}, args...)
		return errs, code
	}
	pairs := []string{"pair", "p", "v", "pair", "p2", "v2"}
	for command, args := range map[string][]string{
		"sh -c reboot":          nil,
		"gluster volume stop v": nil,
		"gluster --remote-host=elsewhere volume info v": nil,
		"gluster --log-file=/etc/passwd volume info v":  nil,
		"gluster volume info w":                         pairs,
		"gluster volume info":                           pairs,
		"gluster -- volume info v; reboot":              nil,
		"rsync --server -vlogDtpr . /etc":               nil,
		"rsync --server --sender -a . /proc/1/cwd":      nil,
		"rsync --server --log-file=/x . /proc/1/cwd":    nil,
		"tar --overwrite -xf - -C /etc":                 nil,
		"tar -cf - /etc":                                nil,
		"gsyncd config-set p h::v --name x --value y":   nil,
		"gsyncd":                               nil,
		"/nonexistent/gsyncd secondary p h::w": pairs,
		"/nonexistent/gsyncd secondary p2 h::v --georep":  pairs,
		"/nonexistent/gsyncd monitor p h::v":              pairs,
		"/nonexistent/gsyncd secondary p u@h::v:id extra": {"pair", "p", "other"},
	} {
		if errs, code := ask(command, args...); code != exitFailed || errs == "" {
			t.Errorf("%q with %q: exit %d, %q", command, args, code, errs)
		}
	}
	if errs, code := ask("", "pair", "p", "v"); code != exitFailed || !strings.Contains(errs, "not allowed") {
		t.Errorf("a login: exit %d, %q", code, errs)
	}
}

func TestBehaviour14SetRx(t *testing.T) {
	w := newWorld(t)
	conf := w.path("/var/lib/glusterd/new.conf")
	for _, args := range [][]string{{"ssh-command", "ssh -i x", ".", `\^ssh:`}, {"pid-file", "--monitor", "."}, {"no-such", ""}, {}} {
		w.good(append([]string{"-c", conf, "--config-set-rx"}, args...)...)
	}
	if text := w.read(conf); text != "" {
		t.Errorf("it wrote %q", text)
	}
	w.write(conf, "[vars]\nsync-jobs = 7\n")
	w.good("-c", conf, "--config-set-rx", "sync-jobs", "1", ".", ".")
	if text := w.read(conf); text != "[vars]\nsync-jobs = 7\n" {
		t.Errorf("it changed the file: %q", text)
	}
	w.fails(exitFailed, "-c", filepath.Dir(conf)+"/none/x", "--config-set-rx", "a", "b")
}
