package gluster

import (
	"strings"
	"testing"
	"time"
)

// TestBehaviour89Mixed runs one session with georep on one primary node and GlusterFS's own program on the other. The secondary has georep
// on both nodes, and hands the other's worker over.
func TestBehaviour89Mixed(t *testing.T) {
	s := clusters(t)
	s.active(t)
	s.stopped(t)
	s.on(t, "pnode2", s.bin+"/georep", "gluster", "uninstall")
	defer func() {
		s.geo(t, "stop", "force")
		s.on(t, "pnode2", s.bin+"/georep", "gluster", "install")
	}()
	s.geo(t, "start")
	atWork := func(host string) bool {
		status := s.rows(t)[host]["STATUS"]
		return status == "Active" || status == "Passive"
	}
	s.eventually(t, "both nodes are at work", 90*time.Second, func() bool { return atWork("pnode1") && atWork("pnode2") })
	if out := s.sh(t, "pnode2", "pgrep -af 'python.*gsyncd.py [w]orker' | head -1"); !strings.Contains(out, "syncdaemon/gsyncd.py") {
		t.Errorf("on pnode2 runs %q", out)
	}
	if out := s.sh(t, "snode1", "pgrep -af 'gsyncd.* secondary' || :") + s.sh(t, "snode2", "pgrep -af 'gsyncd.* secondary' || :"); !strings.Contains(out, "syncdaemon/gsyncd.py") {
		t.Errorf("no secondary node serves GlusterFS's own worker: %q", out)
	}
	s.write(t, "in-a-mixed-session")
	s.arrives(t, "in-a-mixed-session")
}
