package gluster

import (
	"context"
	"encoding/xml"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestBehaviour62XML(t *testing.T) {
	s := clusters(t)
	s.active(t)
	text := s.on(t, "pnode1", "gluster", "--mode=script", "--xml", "volume", "geo-replication", "status")
	var answer struct {
		Return  int    `xml:"opRet"`
		Volume  string `xml:"geoRep>volume>name"`
		Session string `xml:"geoRep>volume>sessions>session>session_secondary"`
		Pairs   []struct {
			Fields []struct {
				XMLName xml.Name
				Value   string `xml:",chardata"`
			} `xml:",any"`
		} `xml:"geoRep>volume>sessions>session>pair"`
	}
	if err := xml.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	want := strings.Fields("primary_node primary_brick secondary_user secondary secondary_node status crawl_status entry data meta failures checkpoint_completed primary_node_uuid last_synced checkpoint_time checkpoint_completion_time")
	if answer.Return != 0 || answer.Volume != primary || !strings.Contains(answer.Session, ":ssh://snode1::svol:") || len(answer.Pairs) != 2 {
		t.Errorf("it is %+v", answer)
	}
	for _, pair := range answer.Pairs {
		var names []string
		for _, f := range pair.Fields {
			names = append(names, f.XMLName.Local)
			if f.Value == "" {
				t.Errorf("%s is empty", f.XMLName.Local)
			}
		}
		if strings.Join(names, " ") != strings.Join(want, " ") {
			t.Errorf("the fields are %v", names)
		}
	}
}

func TestBehaviour54And55GetState(t *testing.T) {
	s := clusters(t)
	s.active(t)
	s.on(t, "pnode1", "gluster", "get-state", "glusterd", "odir", s.Host("pnode1").Dir(), "file", "state", "detail")
	state := s.sh(t, "pnode1", "cat "+s.Host("pnode1").Dir()+"/state")
	for _, want := range []string{".pair1.session_secondary: ", "Active", ".pair1.primary_node: "} {
		if !strings.Contains(state, want) {
			t.Errorf("the state has no %q", want)
		}
	}
	if pid := s.pid(t, "pnode3"); pid != 0 {
		t.Error("a monitor runs on the node without a brick")
	}
	// Any node may be asked.
	rows := parseRows(t, s.on(t, "pnode3", geoArgs([]string{"status"})...))
	if len(rows) != 2 || rows["pnode1"]["STATUS"] == "" || rows["pnode2"]["STATUS"] == "" {
		t.Errorf("asked on the node without a brick: %v", rows)
	}
	s.on(t, "pnode3", geoArgs([]string{"pause"})...)
	s.on(t, "pnode3", geoArgs([]string{"resume"})...)
	s.on(t, "pnode3", geoArgs([]string{"stop"})...)
	s.on(t, "pnode3", geoArgs([]string{"start"})...)
}

func TestBehaviour65KilledWorker(t *testing.T) {
	s := clusters(t)
	s.active(t)
	s.sh(t, "pnode1", "pkill -9 -f 'gsyncd [w]orker'")
	s.eventually(t, "the row says Faulty", 3*time.Second, func() bool { return s.rows(t)["pnode1"]["STATUS"] == "Faulty" })
	s.eventually(t, "the worker is back", 30*time.Second, func() bool {
		status := s.rows(t)["pnode1"]["STATUS"]
		return status == "Active" || status == "Passive"
	})
	s.write(t, "after-the-kill")
	s.arrives(t, "after-the-kill")
}

func TestBehaviour66SecondaryNodeDown(t *testing.T) {
	s := clusters(t)
	s.active(t)
	node := func() string { return s.rows(t)["pnode2"]["SECONDARY NODE"] }
	s.eventually(t, "the worker of pnode2 is at snode2", 20*time.Second, func() bool { return node() == "snode2" })
	if err := s.Host("snode2").Kill(); err != nil {
		t.Fatal(err)
	}
	defer s.boot2(t)
	s.sh(t, "pnode2", "pkill -9 -f 'gsyncd [w]orker' || :") // to notice by the silence takes its time
	s.eventually(t, "the worker of pnode2 is at snode1", 40*time.Second, func() bool { return node() == "snode1" })
	s.write(t, "with-one-node")
	s.arrives(t, "with-one-node")
}

// boot2 gives snode2 its power back, and waits until its brick is there.
func (s *site) boot2(t *testing.T) {
	t.Helper()
	if err := s.Host("snode2").Boot(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "snode2 is back", 60*time.Second, func() bool {
		out, err := s.Host("snode2").Gluster(s.ctx, "volume", "status", "svol")
		return err == nil && strings.Count(out, " Y ") >= 2
	})
}

func TestBehaviour67SecondaryAway(t *testing.T) {
	s := clusters(t)
	s.stopped(t)
	restore := func() {
		for _, host := range []string{"snode1", "snode2"} {
			if err := s.Host(host).RestoreLink(s.ctx); err != nil {
				t.Error(err)
			}
		}
	}
	defer restore()
	for _, host := range []string{"snode1", "snode2"} {
		if err := s.Host(host).CutLink(s.ctx); err != nil {
			t.Fatal(err)
		}
	}
	s.geo(t, "start", "force")
	s.eventually(t, "a row says Faulty", 60*time.Second, func() bool { return s.count(t, "Faulty") >= 1 && s.count(t, "Active") == 0 })
	if log := s.logs(); !strings.Contains(log, "snode1") {
		t.Errorf("the log names no cause: %s", log)
	}
	restore()
	s.active(t)
	s.write(t, "after-the-cut")
	s.arrives(t, "after-the-cut")
}

func TestBehaviour68BrickDown(t *testing.T) {
	s := clusters(t)
	s.active(t)
	s.sh(t, "pnode1", "pkill -9 -f 'glusterfsd.*--brick-name .*[p]vol'")
	s.on(t, "pnode1", "gluster", "--mode=script", "volume", "start", primary, "force")
	s.write(t, "after-the-brick")
	s.arrives(t, "after-the-brick")
	s.geo(t, "stop")
	s.on(t, "pnode1", "gluster", "--mode=script", "volume", "stop", primary)
	s.geoFails(t, "needs to be started", "start")
	s.on(t, "pnode1", "gluster", "--mode=script", "volume", "start", primary)
	s.geo(t, "start")
	s.active(t)
}

func TestBehaviour49AddBrick(t *testing.T) {
	s := clusters(t)
	s.active(t)
	before := s.pid(t, "pnode1")
	s.on(t, "pnode1", "gluster", "--mode=script", "volume", "add-brick", primary, "replica", "2",
		"pnode1:"+s.Host("pnode1").Brick(primary, 2), "pnode2:"+s.Host("pnode2").Brick(primary, 3), "force")
	s.eventually(t, "another monitor", 10*time.Second, func() bool { now := s.pid(t, "pnode1"); return now != 0 && now != before })
	s.eventually(t, "the new brick has a worker", 10*time.Second, func() bool {
		return strings.TrimSpace(s.sh(t, "pnode1", "pgrep -fc 'gsyncd [w]orker' || :")) == "2"
	})
	s.eventually(t, "four rows that are at work", 60*time.Second, func() bool {
		out := s.geo(t, "status")
		return strings.Count(out, "Active")+strings.Count(out, "Passive") == 4
	})
	for i := range 8 {
		s.write(t, fmt.Sprintf("spread-%d", i))
	}
	for i := range 8 {
		s.arrives(t, fmt.Sprintf("spread-%d", i))
	}
}

func TestBehaviour70MetaVolume(t *testing.T) {
	s := clusters(t)
	s.stopped(t)
	s.geo(t, "config", "use-meta-volume", "true")
	defer s.geo(t, "config", "!use-meta-volume")
	s.geo(t, "start")
	s.eventually(t, "the rows say Faulty", 30*time.Second, func() bool { return strings.Count(s.geo(t, "status"), "Faulty") >= 2 })
	if log := s.logs(); !strings.Contains(log, "Meta-volume is not mounted. Worker Exiting...") {
		t.Errorf("the log does not say why: %s", log)
	}
}

func TestBehaviour74ManyRestarts(t *testing.T) {
	s := clusters(t)
	s.active(t)
	for range 3 {
		s.sh(t, "pnode1", "pkill -9 -f 'gsyncd [w]orker'")
		s.eventually(t, "the workers are back", 40*time.Second, func() bool {
			return strings.TrimSpace(s.sh(t, "pnode1", "pgrep -fc 'gsyncd [w]orker' || :")) != "0" && s.rows(t)["pnode1"]["STATUS"] != "Faulty"
		})
	}
	out := ""
	defer func() {
		if t.Failed() {
			t.Logf("zombies, mounts, workers: %s\n%s", out, s.sh(t, "pnode1", "ps axjf"))
		}
	}()
	s.eventually(t, "no zombie and no mount too many", 20*time.Second, func() bool {
		out = s.sh(t, "pnode1", "ps -eo stat= | grep -c '^Z' || :; pgrep -fc 'client-pid=-[4]' || :; pgrep -fc 'gsyncd [w]orker' || :")
		counts := strings.Fields(out)
		return counts[0] == "0" && counts[1] == counts[2]
	})
}

// TestBehaviour72Events listens where Gluster's event daemon would.
func TestBehaviour72Events(t *testing.T) {
	s := clusters(t)
	s.stopped(t)
	file := s.Host("pnode1").Dir() + "/events"
	ctx, cancel := context.WithCancel(s.ctx)
	listener := s.Host("pnode1").Command(ctx, "perl", "-MIO::Socket::INET", "-e",
		`my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 55555, Proto => "udp") or die; open F, ">", $ARGV[0] or die; F->autoflush; while (defined $s->recv(my $m, 4096)) { print F "$m\n" }`, file)
	if err := listener.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = listener.Wait() }()
	s.eventually(t, "somebody listens", 10*time.Second, func() bool { _, err := s.Host("pnode1").Run(s.ctx, "test", "-e", file); return err == nil })
	events := func(kind string) string { return s.sh(t, "pnode1", "grep ' "+kind+" ' "+file+" || :") }
	s.geo(t, "start")
	s.active(t)
	s.eventually(t, "a worker says what it is", 30*time.Second, func() bool { return events("93")+events("94") != "" })
	s.sh(t, "pnode1", "pkill -9 -f 'gsyncd [w]orker'")
	s.eventually(t, "the monitor says that it failed", 3*time.Second, func() bool { return events("91") != "" })
	form := `^[0-9]+ 91 primary_volume=pvol;primary_node=pnode1;primary_node_id=[0-9a-f-]{36};secondary_host=snode1;secondary_volume=svol;current_secondary_host=[^;]*;brick_path=/[^;]*$`
	for line := range strings.Lines(events("91")) {
		if !regexp.MustCompile(form).MatchString(strings.TrimSpace(line)) {
			t.Errorf("the event %q", line)
		}
	}
	form = `^[0-9]+ 9[34] primary_volume=pvol;primary_node=pnode1;primary_node_id=[0-9a-f-]{36};secondary_host=snode1;secondary_volume=svol;brick_path=/[^;]*$`
	for line := range strings.Lines(events("93") + events("94")) {
		if !regexp.MustCompile(form).MatchString(strings.TrimSpace(line)) {
			t.Errorf("the event %q", line)
		}
	}
}

func TestBehaviour69Takeover(t *testing.T) {
	s := clusters(t)
	s.active(t)
	one := func() string {
		var active []string
		for node, row := range s.rows(t) {
			if row["STATUS"] == "Active" {
				active = append(active, node)
			}
		}
		if len(active) != 1 {
			return ""
		}
		return active[0]
	}
	s.eventually(t, "exactly one of the pair is Active", 40*time.Second, func() bool { return one() != "" && s.count(t, "Passive") == 1 })
	for node, row := range s.rows(t) {
		if row["SECONDARY NODE"] == "" || row["STATUS"] == "Passive" && row["LAST_SYNCED"] != "N/A" {
			t.Errorf("the row of %s is %v", node, row)
		}
	}
	// glusterd and gluster are asked on pnode1, so the power of pnode2 goes.
	if one() == "pnode1" {
		s.sh(t, "pnode1", "pkill -9 -f 'glusterfsd.*--brick-name .*[p]vol'")
		s.eventually(t, "pnode2 takes over", 60*time.Second, func() bool { return s.rows(t)["pnode2"]["STATUS"] == "Active" })
		s.write(t, "after-a-takeover")
		s.arrives(t, "after-a-takeover")
		s.on(t, "pnode1", "gluster", "--mode=script", "volume", "start", primary, "force")
	}
	if err := s.Host("pnode2").Kill(); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "pnode1 is Active alone", 60*time.Second, func() bool { return s.rows(t)["pnode1"]["STATUS"] == "Active" })
	s.write(t, "after-the-power-failed")
	s.arrives(t, "after-the-power-failed")
	if err := s.Host("pnode2").Boot(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.peersBack(t)
	s.eventually(t, "one of the pair is Active", 90*time.Second, func() bool { return one() != "" && s.count(t, "Passive") == 1 })
}
