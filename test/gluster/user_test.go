package gluster

import (
	"strings"
	"testing"
	"time"
)

const userTarget = user + "@snode1::svol"

// userGeo runs a command about the session of the unprivileged account.
func (s *site) userGeo(t *testing.T, args ...string) string {
	t.Helper()
	return s.on(t, "pnode1", append([]string{"gluster", "--mode=script", "volume", "geo-replication", primary, userTarget}, args...)...)
}

// brokered sees to it that the account may mount the secondary volume.
func (s *site) brokered(t *testing.T) {
	t.Helper()
	if strings.Contains(s.sh(t, "snode1", "cat /etc/glusterfs/glusterd.vol"), "mountbroker-geo-replication."+user) {
		return
	}
	s.on(t, "snode1", "gluster-mountbroker", "setup", "/var/mountbroker-root", user)
	s.on(t, "snode1", "gluster-mountbroker", "add", "svol", user)
	for _, host := range []string{"snode1", "snode2"} {
		if err := s.Host(host).RestartGlusterd(s.ctx); err != nil {
			t.Fatal(err)
		}
	}
	for _, host := range []string{"snode1", "snode2"} {
		s.eventually(t, "glusterd of "+host+" is back", 30*time.Second, func() bool {
			out, err := s.Host(host).Gluster(s.ctx, "peer", "status")
			return err == nil && strings.Contains(out, "(Connected)")
		})
	}
}

func TestBehaviour84Mountbroker(t *testing.T) {
	s := clusters(t)
	before := s.sh(t, "snode1", "cat /etc/glusterfs/glusterd.vol")
	s.brokered(t)
	out := s.on(t, "snode1", "gluster-mountbroker", "status")
	if strings.Count(out, "/var/mountbroker-root(OK)") != 2 || strings.Count(out, user+"(OK)") != 2 || strings.Count(out, user+"(svol)") != 2 {
		t.Errorf("status printed\n%s", out)
	}
	after := s.sh(t, "snode2", "cat /etc/glusterfs/glusterd.vol")
	for line := range strings.Lines(before) {
		if !strings.Contains(after, line) {
			t.Errorf("the line %q is gone", line)
		}
	}
	for _, line := range []string{"option mountbroker-root /var/mountbroker-root\n", "option geo-replication-log-group " + user + "\n", "option mountbroker-geo-replication." + user + " svol\n"} {
		if !strings.Contains(after, line) {
			t.Errorf("there is no line %q in\n%s", line, after)
		}
	}
	s.on(t, "snode1", "gluster-mountbroker", "add", "other", user)
	s.on(t, "snode1", "gluster-mountbroker", "remove", "--volume", "other", "--user", user)
	s.on(t, "snode1", "gluster-mountbroker", "remove", "--volume", "nosuch")
	if again := s.sh(t, "snode2", "cat /etc/glusterfs/glusterd.vol"); again != after {
		t.Errorf("after adding and removing it is\n%s", again)
	}
	if out, err := s.Host("snode1").Run(s.ctx, "gluster-mountbroker", "setup", "/var/mountbroker-root", "nosuchgroup"); err == nil || !strings.Contains(out, "NOT OK: User Group not exists") {
		t.Errorf("setup with an unknown group: %v, %s", err, out)
	}
	node := s.on(t, "snode1", s.lib+"/peer_mountbroker.py", "node-status")
	for _, part := range []string{`"ok":true`, `"nodeid":"`, `"mountbroker-root":"/var/mountbroker-root"`, `"geo-replication-log-group":"` + user + `"`, `"users":{"` + user + `":["svol"]}`, `"group_exists":true`, `"path_exists":true`} {
		if !strings.Contains(node, part) {
			t.Errorf("node-status has no %s: %s", part, node)
		}
	}
	if out := s.on(t, "snode1", "gluster", "system::", "execute", "mountbroker", "info"); !strings.Contains(out, user+": svol") {
		t.Errorf("the older program printed %s", out)
	}
}

// TestBehaviour78And79Unprivileged goes the way of the documentation for an account besides root.
func TestBehaviour78And79Unprivileged(t *testing.T) {
	s := clusters(t)
	s.active(t)
	s.write(t, "before-by-root") // what is there already is compared, with what the account may see
	s.arrives(t, "before-by-root")
	s.stopped(t)
	s.geo(t, "delete")
	s.sh(t, "snode1", "gluster --mode=script volume set svol features.read-only off")
	s.brokered(t)
	s.userGeo(t, "create", "push-pem", "force")
	s.eventually(t, "the keys are in the account's home", 30*time.Second, func() bool {
		_, err := s.Host("snode1").Run(s.ctx, "test", "-s", "/home/"+user+"/pvol_svol_common_secret.pem.pub")
		return err == nil
	})
	s.on(t, "snode1", s.lib+"/set_geo_rep_pem_keys.sh", user, primary, "svol")
	for _, host := range []string{"snode1", "snode2"} {
		s.authorized(t, host, "/home/"+user+"/.ssh/authorized_keys")
		if owner := s.sh(t, host, "stat -c '%U %a' /home/"+user+"/.ssh /home/"+user+"/.ssh/authorized_keys"); owner != user+" 700\n"+user+" 600\n" {
			t.Errorf("on %s: %q", host, owner)
		}
	}
	s.userGeo(t, "start")
	s.eventually(t, "a row is Active", 60*time.Second, func() bool {
		for _, row := range parseRows(t, s.userGeo(t, "status")) {
			if row["STATUS"] == "Active" && row["SECONDARY USER"] == user && row["SECONDARY NODE"] != "" {
				return true
			}
		}
		return false
	})
	s.write(t, "by-an-account")
	s.arrives(t, "by-an-account")
	s.userGeo(t, "stop")
	for _, host := range []string{"snode1", "snode2"} {
		s.eventually(t, "nothing is left of the mounts on "+host, 10*time.Second, func() bool {
			return s.sh(t, host, "ls /var/mountbroker-root/mb_hive; pgrep -f 'user-map-[r]oot' || :") == ""
		})
	}
	s.userGeo(t, "delete")
}

// authorized checks the keys that are let in: each for gsyncd and one pair of volumes.
func (s *site) authorized(t *testing.T, host, file string) {
	t.Helper()
	count := 0
	for line := range strings.Lines(s.sh(t, host, "cat "+file)) {
		if !strings.Contains(line, "command=") {
			continue
		}
		count++
		if !strings.HasPrefix(line, `restrict,command="`+s.lib+`/gsyncd pair pvol svol" ssh-ed25519 `) {
			t.Errorf("on %s the line %q lets in more", host, line)
		}
	}
	if count != 6 { // two keys of each of three nodes
		t.Errorf("on %s %d keys are let in, not 6", host, count)
	}
}
