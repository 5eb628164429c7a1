package gluster

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestBehaviour33And35Start(t *testing.T) {
	s := clusters(t)
	s.stopped(t)
	s.geo(t, "start")
	for _, host := range []string{"pnode1", "pnode2"} {
		s.eventually(t, "a monitor holds the pid file on "+host, time.Second, func() bool { return s.pid(t, host) != 0 })
		pid := s.pid(t, host)
		// After the name: state, parent, process group, session.
		stat := strings.Fields(s.sh(t, host, fmt.Sprintf("sed 's/.*) //' /proc/%d/stat", pid)))
		if stat[1] != "1" || stat[2] != fmt.Sprint(pid) || stat[3] != fmt.Sprint(pid) {
			t.Errorf("on %s the monitor %d has the parent %s, the group %s and the session %s", host, pid, stat[1], stat[2], stat[3])
		}
		if !s.locked(t, host) {
			t.Errorf("on %s nobody holds the lock", host)
		}
		s.eventually(t, "the word on "+host+" is Started", 2*time.Second, func() bool { return s.word(t, host) == "Started" })
	}
}

// locked asks as glusterd does: with a POSIX lock on the whole file.
func (s *site) locked(t *testing.T, host string) bool {
	t.Helper()
	out := s.sh(t, host, `perl -MFcntl -e 'open F, "+<", $ARGV[0] or do { print "free"; exit };
my $l = pack("s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0); fcntl(F, F_GETLK, $l) or die; my ($type) = unpack("s", $l); print $type == F_UNLCK ? "free" : "locked"' `+pidFile)
	return out == "locked"
}

func TestBehaviour34StartTwice(t *testing.T) {
	s := clusters(t)
	s.started(t)
	pid := s.pid(t, "pnode1")
	s.geoFails(t, "already started", "start")
	s.geo(t, "start", "force")
	if now := s.pid(t, "pnode1"); now != pid {
		t.Errorf("start force replaced the monitor %d by %d", pid, now)
	}
}

func TestBehaviour36And37OneMonitor(t *testing.T) {
	s := clusters(t)
	s.started(t)
	pid := s.pid(t, "pnode1")
	call := s.lib + `/gsyncd "--path=` + s.Host("pnode1").Brick(primary, 0) + ` " --monitor -c ` + sessionDir + `/gsyncd.conf --iprefix=/var :pvol --glusterd-uuid=$(sed -n s/UUID=//p /var/lib/glusterd/glusterd.info) snode1::svol`
	if out := s.sh(t, "pnode1", "export _GLUSTERD_CALLED_=1; "+call+" 2>&1; echo code $?"); !strings.Contains(out, "pidfile is taken, exiting.\ncode 2\n") {
		t.Errorf("a second monitor said %q", out)
	}
	if now := s.pid(t, "pnode1"); now != pid || !s.locked(t, "pnode1") {
		t.Errorf("the first monitor lost its place: %d, then %d", pid, now)
	}
	s.stopped(t)
	out := s.sh(t, "pnode1", "export _GLUSTERD_CALLED_=1; ( "+call+" & a=$!; "+call+" & b=$!; wait $a; echo code $?; wait $b; echo code $? ) 2>/dev/null")
	if strings.Count(out, "code 0") != 1 || strings.Count(out, "code 2") != 1 {
		t.Errorf("two at once said %q", out)
	}
	if monitors := s.sh(t, "pnode1", "pgrep -fc 'gsyncd [m]onitor' || :"); strings.TrimSpace(monitors) != "1" {
		t.Errorf("there are %s monitors", monitors)
	}
}

func TestBehaviour38LockBeforeParentEnds(t *testing.T) {
	s := clusters(t)
	for range 3 {
		s.stopped(t)
		s.geo(t, "start")
		if !s.locked(t, "pnode1") || !s.locked(t, "pnode2") {
			t.Fatal("start has returned and a lock is not held")
		}
	}
}

func TestBehaviour39And40PauseAndResume(t *testing.T) {
	s := clusters(t)
	s.active(t)
	s.geo(t, "pause")
	for _, host := range []string{"pnode1", "pnode2"} {
		if states := s.groupStates(t, host); strings.Trim(states, "T") != "" || states == "" {
			t.Errorf("on %s the processes of the session are in the states %q", host, states)
		}
		if word := s.word(t, host); word != "Paused" {
			t.Errorf("on %s the word is %q", host, word)
		}
	}
	for node, row := range s.rows(t) {
		if row["STATUS"] != "Paused" {
			t.Errorf("the row of %s says %q", node, row["STATUS"])
		}
	}
	s.geoFails(t, "already Paused", "pause")
	s.write(t, "written-while-paused")
	s.geo(t, "resume")
	s.geoFails(t, "is not Paused", "resume")
	if word := s.word(t, "pnode1"); word != "Started" {
		t.Errorf("the word is %q", word)
	}
	for _, host := range []string{"pnode1", "pnode2"} {
		if states := s.groupStates(t, host); strings.Contains(states, "T") {
			t.Errorf("on %s the processes of the session are in the states %q", host, states)
		}
	}
	s.eventually(t, "a row is Active again", 20*time.Second, func() bool { return s.count(t, "Active") >= 1 })
	s.arrives(t, "written-while-paused")
}

// groupStates are the states of the processes in the monitor's group, a letter each.
func (s *site) groupStates(t *testing.T, host string) string {
	t.Helper()
	return strings.Join(strings.Fields(s.sh(t, host, fmt.Sprintf("ps -o stat= --no-headers -g %d | cut -c1", s.pid(t, host)))), "")
}

// count is how many rows have a status.
func (s *site) count(t *testing.T, status string) int {
	t.Helper()
	n := 0
	for _, row := range s.rows(t) {
		if row["STATUS"] == status {
			n++
		}
	}
	return n
}

// active sees to it that the session runs and has an active worker.
func (s *site) active(t *testing.T) {
	t.Helper()
	s.started(t)
	s.eventually(t, "a row is Active", 60*time.Second, func() bool { return s.count(t, "Active") >= 1 })
}

// mounted is a directory on a node where a volume is mounted.
func (s *site) mounted(t *testing.T, host, volume string) string {
	t.Helper()
	dir := s.Host(host).Dir() + "/mnt-" + volume
	s.sh(t, host, "mountpoint -q "+dir+" || { mkdir -p "+dir+" && mount -t glusterfs localhost:"+volume+" "+dir+"; }")
	return dir
}

// write writes a file on the primary volume.
func (s *site) write(t *testing.T, name string) {
	t.Helper()
	s.sh(t, "pnode1", "echo "+name+" >"+s.mounted(t, "pnode1", primary)+"/"+name)
}

// arrives waits until a file is on the secondary volume, with its content.
func (s *site) arrives(t *testing.T, name string) {
	t.Helper()
	dir := s.mounted(t, "snode1", "svol")
	s.eventually(t, name+" arrives", 60*time.Second, func() bool {
		return s.sh(t, "snode1", "cat "+dir+"/"+name+" 2>/dev/null || :") == name+"\n"
	})
}

func TestBehaviour42Stop(t *testing.T) {
	s := clusters(t)
	s.active(t)
	groups := map[string]int{"pnode1": s.pid(t, "pnode1"), "pnode2": s.pid(t, "pnode2")}
	s.geo(t, "stop")
	for host, group := range groups {
		s.nothingLeft(t, host, group)
		if word := s.word(t, host); word != "Stopped" {
			t.Errorf("on %s the word is %q", host, word)
		}
	}
}

// nothingLeft checks that a session which was stopped has left nothing behind.
func (s *site) nothingLeft(t *testing.T, host string, group int) {
	t.Helper()
	s.eventually(t, "no process is left on "+host, 1500*time.Millisecond, func() bool {
		return s.sh(t, host, fmt.Sprintf("pgrep -g %d || :", group)) == ""
	})
	if _, err := s.Host(host).Run(s.ctx, "test", "-e", pidFile); err == nil {
		t.Errorf("on %s the pid file is left", host)
	}
	left := ""
	defer func() {
		if left != "" {
			t.Logf("on %s there is still: %s", host, left)
		}
	}()
	s.eventually(t, "no mount is left on "+host, 5*time.Second, func() bool {
		left = s.sh(t, host, "pgrep -af 'client-pid=-[4]' || :; mount | grep 'georep-mount-' || :; ls -d /run/gluster/georep-mounts/*/* 2>/dev/null || :")
		return left == ""
	})
}

func TestBehaviour43StopWhilePaused(t *testing.T) {
	s := clusters(t)
	s.active(t)
	s.geo(t, "pause")
	group := s.pid(t, "pnode1")
	s.geo(t, "stop")
	s.nothingLeft(t, "pnode1", group)
	s.geo(t, "start")
	s.active(t)
}

func TestBehaviour44KilledGroup(t *testing.T) {
	s := clusters(t)
	s.active(t)
	for _, host := range []string{"pnode1", "pnode2"} {
		s.sh(t, host, fmt.Sprintf("kill -9 -- -%d", s.pid(t, host)))
	}
	s.eventually(t, "the rows say Stopped", 3*time.Second, func() bool { return s.count(t, "Stopped") == 2 })
	if word := s.word(t, "pnode1"); word != "Started" {
		t.Errorf("the word is %q", word)
	}
	s.geo(t, "start")
	s.active(t)
}

func TestBehaviour60KilledMonitor(t *testing.T) {
	s := clusters(t)
	s.active(t)
	group := s.pid(t, "pnode1")
	s.sh(t, "pnode1", fmt.Sprintf("kill -9 %d", group))
	s.eventually(t, "the row says Stopped", 3*time.Second, func() bool { return s.rows(t)["pnode1"]["STATUS"] == "Stopped" })
	s.eventually(t, "the workers end with their monitor", 10*time.Second, func() bool { return s.sh(t, "pnode1", fmt.Sprintf("pgrep -g %d || :", group)) == "" })
	s.geo(t, "start", "force")
	s.active(t)
}

func TestBehaviour48ConfigRestarts(t *testing.T) {
	s := clusters(t)
	s.active(t)
	before := s.pid(t, "pnode1")
	s.geo(t, "config", "checkpoint", "now")
	if now := s.pid(t, "pnode1"); now != before {
		t.Errorf("a checkpoint restarted the monitor")
	}
	s.geo(t, "config", "sync-jobs", "4")
	s.eventually(t, "another monitor", 2*time.Second, func() bool { now := s.pid(t, "pnode1"); return now != 0 && now != before })
	s.geo(t, "config", "!sync-jobs")
	s.geo(t, "config", "!checkpoint")
	s.active(t)
}

func TestBehaviour50GlusterdRestart(t *testing.T) {
	s := clusters(t)
	s.active(t)
	before := s.pid(t, "pnode1")
	restart := func() {
		if err := s.Host("pnode1").RestartGlusterd(s.ctx); err != nil {
			t.Fatal(err)
		}
		s.peersBack(t)
	}
	restart()
	if now := s.pid(t, "pnode1"); now != before {
		t.Errorf("the monitor %d became %d", before, now)
	}
	s.sh(t, "pnode1", fmt.Sprintf("kill -9 -- -%d", before))
	restart()
	s.eventually(t, "glusterd starts the monitor again", 20*time.Second, func() bool { return s.pid(t, "pnode1") != 0 })
	s.stopped(t)
	restart()
	if pid := s.pid(t, "pnode1"); pid != 0 {
		t.Error("a stopped session was started")
	}
}

func TestBehaviour51PausedOverRestart(t *testing.T) {
	s := clusters(t)
	s.active(t)
	s.geo(t, "pause")
	s.sh(t, "pnode1", fmt.Sprintf("kill -9 -- -%d", s.pid(t, "pnode1")))
	if err := s.Host("pnode1").RestartGlusterd(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "the monitor is there again", 20*time.Second, func() bool { return s.pid(t, "pnode1") != 0 })
	s.eventually(t, "it is paused", 5*time.Second, func() bool { return s.groupStates(t, "pnode1") == "T" })
	if word := s.word(t, "pnode1"); word != "Paused" {
		t.Errorf("the word is %q", word)
	}
	s.peersBack(t)
	s.geo(t, "resume")
	s.active(t)
}

func TestBehaviour52VolumeCommands(t *testing.T) {
	s := clusters(t)
	s.started(t)
	s.failsOn(t, "pnode1", "geo-replication sessions are active for the volume pvol", "gluster", "--mode=script", "volume", "stop", primary)
	s.failsOn(t, "pnode1", "cannot be disabled while geo-replication sessions exist", "gluster", "--mode=script", "volume", "set", primary, "changelog.changelog", "off")
	s.geo(t, "pause")
	s.failsOn(t, "pnode1", "geo-replication sessions are active for the volume pvol", "gluster", "--mode=script", "volume", "stop", primary)
	s.geo(t, "resume")
	s.stopped(t)
}

// TestBehaviour53Snapshot checks what a snapshot takes along, where there is no thin LVM to make one.
func TestBehaviour53Snapshot(t *testing.T) {
	s := clusters(t)
	s.active(t)
	s.stopped(t)
	names := s.sh(t, "pnode1", "ls "+sessionDir)
	for _, want := range []string{"monitor.status\n", "gsyncd.conf\n", "%2Fpvol-0.status\n"} {
		if !strings.Contains(names, want) {
			t.Errorf("a snapshot would find %q", names)
		}
	}
}

func TestBehaviour45To47Delete(t *testing.T) {
	s := clusters(t)
	s.active(t)
	s.geoFails(t, "still active", "delete")
	s.stopped(t)
	brick := s.Host("pnode1").Brick(primary, 0)
	prefix := strings.TrimSpace(s.geo(t, "config", "stime-xattr-prefix"))
	if !strings.HasPrefix(prefix, "trusted.glusterfs.") {
		t.Fatalf("the prefix is %q", prefix)
	}
	s.sh(t, "pnode1", fmt.Sprintf("setfattr -n %s.stime -v 0x0000000100000002 %s; setfattr -n %s.entry_stime -v 0x0000000100000002 %s", prefix, brick, prefix, brick))
	s.geo(t, "delete")
	for _, host := range []string{"pnode1", "pnode2", "pnode3"} { // the last has no brick, and gets "(null)"
		left := s.sh(t, host, "ls -d "+sessionDir+" /var/lib/misc/gluster/gsyncd/pvol_snode1_svol "+pidFile+"* 2>/dev/null || :")
		if left != "" {
			t.Errorf("on %s %q is left", host, left)
		}
	}
	if got := s.sh(t, "pnode1", "getfattr -e hex -n "+prefix+".stime --absolute-names --only-values "+brick+" | od -An -tx1"); strings.TrimSpace(got) != "00 00 00 01 00 00 00 02" {
		t.Errorf("delete changed the time of the last sync to %q", got)
	}
	s.geo(t, "create", "push-pem", "force")
	s.geo(t, "config", "stime-xattr-prefix", prefix)
	s.geo(t, "delete", "reset-sync-time")
	for _, host := range []string{"pnode1", "pnode2"} {
		index := map[string]int{"pnode1": 0, "pnode2": 1}[host]
		out := s.sh(t, host, "getfattr -d -m 'stime' -e hex --absolute-names "+s.Host(host).Brick(primary, index))
		if !strings.Contains(out, prefix+".stime=0x0000000000000000\n") || strings.Contains(out, "entry_stime") {
			t.Errorf("after reset-sync-time %s has %q", host, out)
		}
	}
	s.geo(t, "create", "push-pem", "force")
}

func TestBehaviour41And80LongPause(t *testing.T) {
	s := clusters(t)
	s.started(t)
	s.geo(t, "config", "secondary-timeout", "10")
	defer s.geo(t, "config", "!secondary-timeout")
	s.active(t)
	agents := func() string { return s.sh(t, "snode1", "pgrep -f 'gsyncd.*[p]air pvol' || :") }
	if agents() == "" {
		t.Error("no agent is at work")
	}
	s.geo(t, "pause")
	s.eventually(t, "the agents end, and their mounts with them", 60*time.Second, func() bool {
		return agents()+s.sh(t, "snode1", "pgrep -f 'aux-[g]fid-mount.*volfile-id=svol' || :") == ""
	})
	s.write(t, "in-a-long-pause")
	s.geo(t, "resume")
	s.active(t)
	s.arrives(t, "in-a-long-pause")
}
