package gluster

import (
	"strings"
	"testing"
)

func TestBehaviour28Config(t *testing.T) {
	s := clusters(t)
	s.created(t)
	if out := s.geo(t, "config"); !strings.Contains(out, "\nsync_jobs:3\n") {
		t.Errorf("config printed %q", out)
	}
	for _, name := range []string{"sync-jobs", "sync_jobs"} {
		if out := s.geo(t, "config", name); out != "3\n" {
			t.Errorf("config %s printed %q", name, out)
		}
	}
	s.geo(t, "config", "sync-jobs", "5")
	for _, host := range []string{"pnode1", "pnode2", "pnode3"} {
		if conf := s.sh(t, host, "cat "+sessionDir+"/gsyncd.conf"); !strings.Contains(conf, "sync-jobs = 5") {
			t.Errorf("on %s the session's file is %q", host, conf)
		}
	}
	if out := s.geo(t, "config", "sync-jobs"); out != "5\n" {
		t.Errorf("after setting it: %q", out)
	}
	s.geo(t, "config", "!sync-jobs")
	if out := s.geo(t, "config", "sync-jobs"); out != "3\n" {
		t.Errorf("after taking it out: %q", out)
	}
	s.geo(t, "config", "rsync-options", "-z -c")
	s.geo(t, "config", "!rsync-options")
	s.geoFails(t, "Invalid option", "config", "nosuch", "1")
	s.geoFails(t, "Reserved option", "config", "pid-file", "/x")
	s.geoFails(t, "failed", "config", "sync-jobs", "0")
	s.geoFails(t, "failed", "config", "working-dir", "/x")
	s.geoFails(t, "Invalid value", "config", "log-level", "loud")
	s.geo(t, "config", "checkpoint", "now")
	s.geo(t, "config", "checkpoint", "2016-10-25 15:30:45")
	s.geo(t, "config", "!checkpoint")
	xml := s.on(t, "pnode1", "gluster", "--mode=script", "--xml", "volume", "geo-replication", primary, target, "config")
	if !strings.Contains(xml, "<sync_jobs>3</sync_jobs>") {
		t.Errorf("config --xml: %s", xml)
	}
}

func TestBehaviour30Create(t *testing.T) {
	s := clusters(t)
	s.created(t)
	s.stopped(t)
	s.geo(t, "delete")
	s.geo(t, "create", "push-pem")
	for _, host := range []string{"pnode1", "pnode2", "pnode3"} {
		if word := s.word(t, host); word != "Created" {
			t.Errorf("on %s the word is %q", host, word)
		}
		s.on(t, host, "test", "-f", sessionDir+"/gsyncd.conf")
		if info := s.sh(t, host, "cat /var/lib/glusterd/vols/pvol/info"); !strings.Contains(info, "secondary1=") || !strings.Contains(info, "ssh://snode1::svol") {
			t.Errorf("on %s the volume's file has no secondary: %s", host, info)
		}
	}
	info := s.on(t, "pnode1", "gluster", "volume", "info", primary)
	for _, option := range []string{"changelog.changelog: on", "geo-replication.ignore-pid-check: on", "geo-replication.indexing: on"} {
		if !strings.Contains(info, option) {
			t.Errorf("%s is not among the volume's options", option)
		}
	}
}

func TestBehaviour31CreateTwice(t *testing.T) {
	s := clusters(t)
	s.created(t)
	s.geoFails(t, "Session between pvol and snode1::svol is already created", "create", "push-pem")
	s.geo(t, "create", "push-pem", "force")
}

func TestBehaviour32OtherHostOfTheSameSecondary(t *testing.T) {
	s := clusters(t)
	s.stopped(t)
	other := []string{"gluster", "--mode=script", "volume", "geo-replication", primary, "snode2::svol", "create", "no-verify"}
	s.failsOn(t, "pnode1", "already created! Cannot create with new secondary", other...)
	s.on(t, "pnode1", append(other, "force")...)
	s.on(t, "pnode1", "test", "-e", "/var/lib/glusterd/geo-replication/pvol_snode2_svol/monitor.status")
	if _, err := s.Host("pnode1").Run(s.ctx, "test", "-e", sessionDir); err == nil {
		t.Error("the old directory is still there")
	}
	s.on(t, "pnode1", "gluster", "--mode=script", "volume", "geo-replication", primary, "snode2::svol", "stop", "force")
	s.on(t, "pnode1", "gluster", "--mode=script", "volume", "geo-replication", primary, "snode2::svol", "delete")
}

// TestCreateMessages is what create says when the secondary is not as it must be.
func TestBehaviour85Verify(t *testing.T) {
	s := clusters(t)
	create := func(target string, more ...string) []string {
		return append([]string{"gluster", "--mode=script", "volume", "geo-replication", primary, target, "create"}, more...)
	}
	if _, err := s.Host("pnode1").Run(s.ctx, "test", "-e", sessionDir); err == nil {
		s.stopped(t)
		s.geo(t, "delete")
	}
	s.failsOn(t, "pnode1", "nosuch.invalid not reachable.", create("nosuch.invalid::svol", "push-pem")...)
	s.failsOn(t, "pnode1", "snode1 not reachable.", create(target, "ssh-port", "2222", "push-pem")...)
	s.failsOn(t, "pnode1", "Passwordless ssh login has not been setup with snode1 for user nobody.", create("nobody@snode1::svol", "push-pem", "force")...)
	s.failsOn(t, "pnode1", "Unable to mount and fetch secondary volume details. Please check the log: /var/log/glusterfs/geo-replication/gverify-secondarymnt.log", create("snode1::nosuch", "push-pem", "force")...)
	mounted := s.Host("snode1").Dir() + "/mnt"
	s.sh(t, "snode1", "gluster --mode=script volume set svol features.read-only off; mkdir -p "+mounted+" && mount -t glusterfs localhost:svol "+mounted+" && touch "+mounted+"/file")
	s.failsOn(t, "pnode1", "snode1::svol is not empty. Please delete existing files in snode1::svol and retry, or use force", create(target, "push-pem")...)
	s.on(t, "pnode1", create(target, "push-pem", "force")...)
	s.geo(t, "delete")
	s.sh(t, "snode1", "gluster --mode=script volume set svol features.read-only off; rm -f "+mounted+"/file; umount "+mounted)
	if out := s.sh(t, "pnode1", "ls -d /tmp/gverify-* 2>/dev/null; mount | grep gverify || :"); out != "" {
		t.Errorf("it left %q", out)
	}
	s.on(t, "pnode1", create(target, "push-pem")...)
}
