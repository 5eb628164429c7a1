package gluster

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestBehaviour81And82Keys(t *testing.T) {
	s := clusters(t)
	common := "/var/lib/glusterd/geo-replication/common_secret.pem.pub"
	before := s.sh(t, "pnode1", "cat "+common)
	out := s.on(t, "pnode1", "gluster-georep-sshkey", "generate")
	want := "+-----------+-------------+---------------+\n|    NODE   | NODE STATUS | KEYGEN STATUS |\n"
	if !strings.HasPrefix(out, want) || strings.Count(out, "|          UP |            OK |") != 3 || !strings.Contains(out, "| localhost |") {
		t.Errorf("it printed\n%s", out)
	}
	after := s.sh(t, "pnode1", "cat "+common)
	if sorted(after) != sorted(before) {
		t.Error("the keys have changed")
	}
	if n := strings.Count(after, `restrict,command="`+s.lib+`/gsyncd" ssh-ed25519 `); n != 6 {
		t.Errorf("%d lines, want 6: %s", n, after)
	}
	if out := s.on(t, "pnode1", "gluster", "system::", "execute", "gsec_create"); !strings.Contains(out, common) {
		t.Errorf("gsec_create printed %q", out)
	}
	if again := s.sh(t, "pnode1", "cat "+common); sorted(again) != sorted(before) {
		t.Errorf("gsec_create gave other lines: %s", again)
	}
	s.on(t, "pnode1", "gluster", "system::", "execute", "gsec_create", "container")
	if bare := s.sh(t, "pnode1", "cat "+common); strings.Contains(bare, "command=") || strings.Count(bare, "ssh-ed25519 ") != 6 {
		t.Errorf("container gave %s", bare)
	}
	// A node of the pool with Gluster's own program makes keys of its own kind, and both kinds are understood.
	s.sh(t, "pnode2", "ln -sf peer_georep-sshkey.py.distrib "+s.lib+"/peer_georep-sshkey.py")
	defer s.sh(t, "pnode2", "ln -sf gsyncd "+s.lib+"/peer_georep-sshkey.py")
	s.on(t, "pnode1", "gluster-georep-sshkey", "generate")
	mixed := s.sh(t, "pnode1", "cat "+common)
	if strings.Count(mixed, "\n") != 6 || strings.Count(mixed, "\ncommand=")+strings.Count(mixed, "restrict,command=") < 5 {
		t.Errorf("a mixed pool gave %s", mixed)
	}
	s.sh(t, "pnode2", "ln -sf gsyncd "+s.lib+"/peer_georep-sshkey.py")
	s.on(t, "pnode1", "gluster-georep-sshkey", "generate")
}

func sorted(text string) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	for i := range all {
		for j := i + 1; j < len(all); j++ {
			if all[j] < all[i] {
				all[i], all[j] = all[j], all[i]
			}
		}
	}
	return strings.Join(all, "\n")
}

func TestBehaviour83AddSecret(t *testing.T) {
	s := clusters(t)
	dir := "/var/lib/glusterd/geo-replication"
	s.sh(t, "snode1", "ssh-keygen -q -t ed25519 -N '' -f /run/key; echo 'command=\"/usr/libexec/glusterfs/gsyncd\"' $(cat /run/key.pub) >"+dir+"/one.pub; echo 'restrict,command=\"/x/gsyncd pair a b\"' $(cat /run/key.pub) >"+dir+"/two.pub")
	file := "/home/" + user + "/.ssh/authorized_keys"
	s.sh(t, "snode1", "cp -a "+file+" /run/keep 2>/dev/null; rm -f "+file)
	defer s.sh(t, "snode1", "cp -a /run/keep "+file+" 2>/dev/null || rm -f "+file)
	add := func(name string) string {
		s.sh(t, "snode1", "GLUSTERD_WORKDIR=/var/lib/glusterd "+s.lib+"/peer_add_secret_pub "+user+" geo-replication/"+name)
		return s.sh(t, "snode1", "cat "+file)
	}
	first := add("two.pub")
	if !strings.HasPrefix(first, `restrict,command="`+s.lib+`/gsyncd pair a b" ssh-ed25519 `) {
		t.Errorf("it let in %q", first)
	}
	if again := add("two.pub"); again != first {
		t.Errorf("twice gave %q", again)
	}
	s.sh(t, "snode1", "sed -i 's/pair a b/pair c d/' "+dir+"/two.pub")
	if both := add("two.pub"); strings.Count(both, "\n") != 1 || !strings.Contains(both, "/gsyncd pair a b pair c d\"") {
		t.Errorf("for another pair it has %q", both)
	}
	s.sh(t, "snode1", "cp /etc/ssh/sshd_config /run/sshd_config; sed -i '/^AuthorizedKeysFile/d' /etc/ssh/sshd_config; echo 'AuthorizedKeysFile /run/keys-%u' >>/etc/ssh/sshd_config; mkdir -p /run/there; sed -i 's,/run/keys-%u,%h/keys/%u,' /etc/ssh/sshd_config")
	defer s.sh(t, "snode1", "cp /run/sshd_config /etc/ssh/sshd_config")
	s.sh(t, "snode1", "GLUSTERD_WORKDIR=/var/lib/glusterd "+s.lib+"/peer_add_secret_pub "+user+" geo-replication/one.pub")
	if got := s.sh(t, "snode1", "cat /home/"+user+"/keys/"+user); !strings.Contains(got, `restrict,command="`+s.lib+`/gsyncd" ssh-ed25519`) {
		t.Errorf("with another AuthorizedKeysFile it let in %q", got)
	}
}

func TestBehaviour86Hook(t *testing.T) {
	s := clusters(t)
	s.created(t)
	hook := "/var/lib/glusterd/hooks/1/gsync-create/post/S56glusterd-geo-rep-create-post.sh"
	for _, argument := range []string{"This argument will stop the hooks script", "is_push_pem=0,pub_file=x,secondary_user=root,secondary_ip=snode1,secondary_vol=svol,ssh_port=22", "is_push_pem=1"} {
		if out := s.on(t, "pnode1", hook, "--volname=pvol", argument); out != "" {
			t.Errorf("%q made it print %q", argument, out)
		}
	}
	s.sh(t, "snode1", "sed -i /command=/d "+s.Host("snode1").Home()+"/.ssh/authorized_keys 2>/dev/null || :")
	s.on(t, "pnode1", hook, "--volname=pvol", "is_push_pem=1,pub_file=/var/lib/glusterd/geo-replication/common_secret.pem.pub,secondary_user=root,secondary_ip=snode1,secondary_vol=svol,ssh_port=22")
	for _, host := range []string{"snode1", "snode2"} {
		s.authorized(t, host, s.Host(host).Home()+"/.ssh/authorized_keys")
	}
	for _, host := range []string{"pnode1", "pnode2", "pnode3"} {
		known := s.sh(t, host, "cat /var/lib/glusterd/geo-replication/pvol_snode1_svol.known_hosts")
		if !strings.Contains(known, "snode1 ssh-ed25519 ") || !strings.Contains(known, "snode2 ssh-ed25519 ") {
			t.Errorf("on %s the host keys are %q", host, known)
		}
	}
	// glusterd runs all in the directory that begins with S.
	if out := s.sh(t, "pnode1", "ls /var/lib/glusterd/hooks/1/gsync-create/post"); strings.Count("\n"+out, "\nS") != 1 {
		t.Errorf("the directory has %q", out)
	}
}

// ssh asks the secondary for something with the key of the session.
func (s *site) ssh(t *testing.T, login, command string) (string, error) {
	t.Helper()
	return s.Host("pnode1").Run(s.ctx, "ssh", "-F", "/dev/null", "-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR", "-oIdentitiesOnly=yes",
		"-i", "/var/lib/glusterd/geo-replication/secret.pem", login, command)
}

func TestBehaviour75To77ForcedCommand(t *testing.T) {
	s := clusters(t)
	s.created(t)
	s.eventually(t, "the keys are there", 30*time.Second, func() bool {
		_, err := s.ssh(t, "snode1", "/usr/sbin/gluster --xml --remote-host=localhost volume info svol")
		return err == nil
	})
	for _, command := range []string{"gluster --xml --remote-host=localhost volume info svol", "/nonexistent/gsyncd --version"} {
		out, err := s.ssh(t, "snode1", command)
		if err != nil || out == "" {
			t.Errorf("%q: %v", command, err)
		}
	}
	for _, command := range []string{
		"gluster volume stop svol", "gluster volume info", "gluster volume info other", "gluster --mode=script volume set svol features.read-only off", "rsync --server -e.Lsfx . /etc", "sh -c 'touch /run/x'",
		"touch /run/x", "", "scp -t /run", "/nonexistent/gsyncd secondary other snode1::svol", "tar --overwrite -xf - -C /etc", "gsyncd config-set pvol snode1::svol --name x --value y",
	} {
		out, err := s.ssh(t, "snode1", command)
		if err == nil || !strings.Contains(fmt.Sprint(err), "exit status 1:") {
			t.Errorf("%q: %v, %q", command, err, out)
		}
	}
	if _, err := s.Host("snode1").Run(s.ctx, "test", "-e", "/run/x"); err == nil {
		t.Error("a command was run")
	}
	// Standard output carries only the protocol: its first words are text.
	out, err := s.ssh(t, "snode1", "/nonexistent/gsyncd secondary pvol snode1::svol --georep")
	if err != nil || !strings.HasPrefix(strings.TrimSpace(out), "georep 1 ") {
		t.Errorf("the agent's first words are %q (%v)", out, err)
	}
	s.eventually(t, "the agent leaves no mount at the end of its input", 5*time.Second, func() bool {
		return s.sh(t, "snode1", "pgrep -f 'aux-[g]fid-mount.*volfile-id=svol' || :") == ""
	})
}
