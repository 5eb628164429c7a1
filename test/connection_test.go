package test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"georep/internal/lab"
	"georep/internal/need"
)

// script makes an executable file and gives its path.
func script(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "georep")
	must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755))
	return path
}

// refused is a port of loopback at which nobody listens, which a test may connect to in vain.
func refused(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, l.Close())
	return l.Addr().(*net.TCPAddr).Port
}

// edited is the ssh configuration of the site with a line changed.
func (s *site) edited(old, with string) string {
	s.t.Helper()
	text := read(s.sshd.SSHConfig())
	if !strings.Contains(text, old) {
		s.t.Fatalf("%q is not in %s", old, text)
	}
	path := filepath.Join(s.t.TempDir(), "ssh_config")
	must(s.t, os.WriteFile(path, []byte(strings.Replace(text, old, with, 1)), 0o600))
	return "ssh -F " + path
}

// TestMustP10AndP26ConnectionProblems demands of each thing that may be wrong with a connection one sentence, which names the cause and what
// to do, and a process that ends with 1 and does not hang.
func TestMustP10AndP26ConnectionProblems(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("file", []byte("x"))
	other := lab.SshdForTest(t)
	command(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(t.TempDir(), "key"))
	stranger := filepath.Join(t.TempDir(), "stranger")
	command(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", stranger)
	knownHosts := filepath.Join(filepath.Dir(s.sshd.SSHConfig()), "known_hosts")
	for name, c := range map[string]struct {
		flags []string
		want  []string
	}{
		"wrong host":         {[]string{"--ssh-command", s.edited("HostName 127.0.0.1", "HostName no-such-host.invalid")}, []string{"could not be resolved", "check its spelling"}},
		"refused port":       {[]string{"--port", fmt.Sprint(refused(t))}, []string{"refused the connection", "--port"}},
		"refused key":        {[]string{"--ssh-command", s.edited("IdentityFile ", "IdentityFile "+stranger+"\n    #")}, []string{"refused the login", "authorized_keys"}},
		"unknown host key":   {[]string{"--ssh-command", s.edited(knownHosts, os.DevNull)}, []string{"host key", "not known", "connect once"}},
		"changed host key":   {[]string{"--port", fmt.Sprint(other.Port())}, []string{"host key", "not the one that is known", "ssh-keygen -R"}},
		"bad ssh option":     {[]string{"--ssh-command", s.edited("IdentitiesOnly yes", "NoSuchOption yes")}, []string{"ssh does not understand its configuration", "nosuchoption"}},
		"no ssh":             {[]string{"--ssh-command", "/none/ssh"}, []string{`"/none/ssh" was not found on this host`, "--ssh-command"}},
		"missing georep":     {[]string{"--remote-georep", "/none/georep"}, []string{`"/none/georep" was not found`, "install georep there", "--remote-georep"}},
		"not executable":     {[]string{"--remote-georep", "/etc/passwd"}, []string{`"/etc/passwd"`, "cannot be run", "permissions"}},
		"older georep":       {[]string{"--remote-georep", script(t, "echo 'georep 0 0.0.1 oldest=0'; cat >/dev/null")}, []string{"too old", "0.0.1", "update georep on the remote host"}},
		"newer georep":       {[]string{"--remote-georep", script(t, "echo 'georep 9 9.0.0 oldest=8'; cat >/dev/null")}, []string{"too old", "update georep here"}},
		"only a banner":      {[]string{"--remote-georep", script(t, "echo 'Welcome.'")}, []string{"Welcome.", "installed"}},
		"silence":            {[]string{"--remote-georep", script(t, "exit 0")}, []string{"did not answer", "--remote-georep"}},
		"dies":               {[]string{"--remote-georep", script(t, "kill -9 $$")}, []string{"without a message", "killed"}},
		"no place for it":    {[]string{"--remote-georep", script(t, "shift 3; exec "+s.program+` agent --root /none/below "$@"`)}, []string{"/none does not exist", "make it first"}},
		"another subcommand": {[]string{"--remote-georep", script(t, "echo 'georep: there is no command \"agent\"' >&2; exit 2")}, []string{"there is no command"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := *s
			s.t, s.state = t, filepath.Join(t.TempDir(), "state")
			r := s.runs(append([]string{"--once"}, c.flags...)...)
			r.ended(1)
			text := r.problem()
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("the message lacks %q: %s", want, text)
				}
			}
			if strings.Count(text, text[:min(len(text), 30)]) > 1 {
				t.Errorf("it says the same twice: %s", text)
			}
			t.Log(text)
		})
	}
}

// TestSilentPort demands that a host that takes connections and says nothing does not hold a mirror up for ever: Ctrl-C ends it at once.
func TestSilentPort(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.proxy.CutAll(lab.Silence)
	r := s.start()
	await(t, "a connection", func() bool { return s.proxy.Accepted() > 0 })
	must(t, r.cmd.Process.Signal(os.Interrupt))
	r.wait()
	r.ended(0)
}

// TestLoginBanner demands that what login scripts print on both ways does no harm, however long it is.
func TestLoginBanner(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("file", noise(1, 1<<20))
	s.flags = []string{"--remote-georep", script(t, fmt.Sprintf(`
printf 'Welcome to this host.\r\nAuthorized use only.\n\ngeorep is great\ngeorep 99\n'
head -c 20000 /dev/urandom
printf 'no newline at the end'
echo 'to standard error' >&2
exec %s "$@"`, s.program))}
	s.copied()
}

// TestLostLinkIsMadeAgain demands of a live mirror that it survives each way of losing the link, says so, and goes on by itself.
func TestLostLinkIsMadeAgain(t *testing.T) {
	for name, lose := range map[string]func(s *site, r *run){
		"reset":       func(s *site, _ *run) { s.proxy.CutAll(lab.Reset) },
		"half closed": func(s *site, _ *run) { s.proxy.Cut(lab.Down, lab.HalfEnd) },
		"half open":   func(s *site, _ *run) { s.proxy.Cut(lab.Up, lab.HalfEnd) },
		"silent": func(s *site, r *run) { // nobody is told: the two ends have to notice
			s.proxy.CutAll(lab.Silence)
			r.awaits("link-lost", nil)
			s.proxy.Restore()
		},
		"frozen agent": func(s *site, r *run) {
			pids := s.agents()
			for _, pid := range pids {
				command(s.t, "kill", "-STOP", fmt.Sprint(pid))
			}
			r.awaits("link-lost", nil)
			for _, pid := range pids {
				_ = exec.Command("kill", "-CONT", fmt.Sprint(pid)).Run() // it may be gone
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.write("file", []byte("1"))
			r := s.start()
			r.caughtUp()
			s.follows()
			s.write("another", []byte("2"))
			lose(s, r)
			s.write("more", []byte("3"))
			s.follows()
			r.awaits("link-lost", nil)
			r.stop(syscall.SIGINT)
			s.copied()
		})
	}
}

// TestMustP25UnprivilegedDestination copies to an account that is not root: what it may do is done, and the rest is named with the cause.
func TestMustP25UnprivilegedDestination(t *testing.T) {
	t.Parallel()
	need.Root(t)
	l := lab.ForTest(t, lab.Options{Users: []string{"keeper"}})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	primary, secondary := l.Host("primary"), l.Host("secondary")
	source := filepath.Join(primary.Dir(), "source")
	must(t, os.Mkdir(source, 0o755))
	w := tree{t, source}
	const keeper = 20_000 // the first account of a lab
	w.file("mine", []byte("of the account"))
	w.file("theirs", []byte("of root"))
	w.node("device", 0o020600, 0x103)
	for _, name := range []string{"", "mine"} {
		w.own(name, keeper, keeper)
	}
	program := filepath.Join(l.Dir(), "georep")
	command(t, "cp", georep(t), program)
	mirror := func() *run {
		r := start(t, primary.Command(ctx, program, "mirror", "--json", "--once", "--remote-georep", program, source, "keeper@secondary:copy"))
		r.wait()
		return r
	}
	r := mirror()
	r.ended(1)
	copied := func(name string) string {
		out, err := secondary.Command(ctx, "cat", "/home/keeper/copy/"+name).Output()
		if err != nil {
			return ""
		}
		return string(out)
	}
	if got := copied("mine"); got != "of the account" {
		t.Errorf("what belongs to the account was not copied: %q", got)
	}
	named := map[string]string{}
	for _, f := range r.last().Failures {
		named[f.Path] = f.Error + "; " + f.Hint
	}
	for _, name := range []string{"theirs", "device"} {
		if !strings.Contains(named[name], "root") {
			t.Errorf("%s: %q does not say that it needs root", name, named[name])
		}
	}
	if len(named) != 2 {
		t.Errorf("what failed: %v", named)
	}
	w.remove("device")
	w.own("theirs", keeper, keeper)
	mirror().ended(0)
	if got := copied("theirs"); got != "of root" {
		t.Errorf("after the cause was mended: %q", got)
	}
}

// TestCableIsPulled pulls the cable of the secondary for good, and its power, under a live mirror, in a lab of two hosts.
func TestCableIsPulled(t *testing.T) {
	t.Parallel()
	l := lab.ForTest(t, lab.Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	primary, secondary := l.Host("primary"), l.Host("secondary")
	s := &site{t: t, source: filepath.Join(primary.Dir(), "source"), dest: filepath.Join(secondary.Dir(), "copy")}
	must(t, os.Mkdir(s.source, 0o755))
	for i := range 200 {
		s.write(fmt.Sprintf("d%d/%d", i%9, i), noise(byte(i), i*500))
	}
	program := filepath.Join(l.Dir(), "georep")
	command(t, "cp", georep(t), program)
	r := start(t, primary.Command(ctx, program, "mirror", "--json", "--state-dir", filepath.Join(primary.Dir(), "state"), "--remote-georep", program, s.source, "secondary:"+s.dest))
	r.caughtUp()
	s.follows()
	must(t, secondary.CutLink(ctx))
	s.write("while it is cut", noise(1, 100_000))
	r.awaits("link-lost", nil)
	must(t, secondary.RestoreLink(ctx))
	s.follows()
	s.write("before the power fails", noise(2, 3<<20))
	must(t, secondary.Kill())
	s.write("while it is down", noise(3, 100_000))
	must(t, secondary.Boot(ctx))
	s.follows()
	must(t, lab.Signal(ctx, r.cmd, syscall.SIGINT))
	r.wait()
	r.ended(0)
	s.equal()
}
