package gsyncd

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"georep/internal/config/gsyncdconf"
)

func (w *world) all() map[string]string {
	w.t.Helper()
	values := map[string]string{}
	for _, line := range lines(w.good(w.sessionArgs("--config-get-all")...)) {
		name, value, _ := strings.Cut(line, ":")
		values[name] = value
	}
	return values
}

func TestBehaviour15And16And17GetAll(t *testing.T) {
	w := newWorld(t)
	out := lines(w.good("-c", w.path("/var/lib/glusterd/geo-replication/gsyncd_template.conf"), "--iprefix=/var", ":pvol", "geo@cs1::svol", "--config-get-all"))
	form := regexp.MustCompile(`^[a-z0-9_]+:.*$`)
	for _, line := range out {
		if !form.MatchString(line) {
			t.Errorf("the line %q", line)
		}
	}
	if !slices.IsSorted(out) {
		t.Error("not sorted")
	}
	want := map[string]string{
		"state_file": "/var/lib/glusterd/geo-replication/pvol_cs1_svol/monitor.status", "state_socket_unencoded": "",
		"georep_session_working_dir": "/var/lib/glusterd/geo-replication/pvol_cs1_svol/", "pid_file": "/var/run/gluster/gsyncd-pvol-cs1-svol.pid",
		"working_dir": "/var/lib/misc/gluster/gsyncd/pvol_cs1_svol/", "gluster_log_file": "/var/log/glusterfs/geo-replication/pvol_cs1_svol/mnt-${local_id}.log",
		"ssh_options": "-oPasswordAuthentication=no -oStrictHostKeyChecking=no -i /var/lib/glusterd/geo-replication/secret.pem",
		"sync_jobs":   "3", "use_meta_volume": "false", "sync_acls": "true", "sync_method": "native", "gluster_params": "aux-gfid-mount acl",
	}
	for name, value := range want {
		if !slices.Contains(out, name+":"+value) {
			t.Errorf("%s:%s is not among them", name, value)
		}
	}
	if len(out) != 67 {
		t.Errorf("%d options, want 67", len(out))
	}
	if got := w.good(w.sessionArgs("--config-get", "pid-file")...); got != "/var/run/gluster/gsyncd-pvol-cs1-svol.pid\n" {
		t.Errorf("the pid file is %q", got)
	}
}

func TestBehaviour18And19Names(t *testing.T) {
	w := newWorld(t)
	w.create()
	for _, name := range []string{"sync_jobs", "sync-jobs"} {
		if got := w.good(w.sessionArgs("--config-get", name)...); got != "3\n" {
			t.Errorf("%s is %q", name, got)
		}
	}
	if errs := w.fails(exitUsage, w.sessionArgs("--config-get", "X")...); errs != "Invalid config name \"X\"\n" {
		t.Errorf("it said %q", errs)
	}
	for _, o := range gsyncdconf.Builtin() {
		w.good("--config-check", o.Name)
		w.good("--config-check", strings.ReplaceAll(o.Name, "-", "_"))
	}
	for _, name := range []string{"nosuch", "all", "use-tarssh", ""} {
		w.fails(exitUsage, "--config-check", name)
	}
}

func TestBehaviour20To22Set(t *testing.T) {
	w := newWorld(t)
	w.create()
	set := func(name, value string) []string { return w.sessionArgs("--config-set", name, "--value="+value) }
	for name, value := range map[string]string{
		"sync-jobs": "0", "sync_jobs": "101", "change-interval": "abc", "secondary-timeout": "-1", "checkpoint": "86400", "use-meta-volume": "maybe",
		"sync-method": "scp", "log-level": "LOUD", "ssh-command": "/no/such/ssh", "ssh-port": "65536", "rsync-options": "a\nb",
	} {
		w.fails(exitValue, set(name, value)...)
	}
	w.fails(exitUsage, set("nosuch", "1")...)
	w.fails(exitNotConfigurable, set("working-dir", "/x")...)
	if text := w.read(w.conf()); text != "" {
		t.Errorf("a refused value left %q", text)
	}
	w.good(set("sync-jobs", "5")...)
	if text := w.read(w.conf()); !strings.Contains(text, "[vars]\n") || !strings.Contains(text, "sync-jobs = 5\n") {
		t.Errorf("it wrote %q", text)
	}
	before := w.read(w.conf())
	w.good("--path=/b1 --path=/b2 ", "-c", w.conf(), ":pvol", "ssh://cs1::svol:0b0f1c52-0d42-4a51-b1ee-5e4c49b5ad35", "--config-set", "session-owner", "--value=U")
	if w.read(w.conf()) != before {
		t.Error("session-owner was written")
	}
	w.good(set("use-meta-volume", "yes")...)
	if got := w.all()["use_meta_volume"]; got != "true" {
		t.Errorf("yes became %q", got)
	}
	w.good(w.sessionArgs("--config-del", "sync-jobs")...)
	w.good(w.sessionArgs("--config-del", "sync-jobs")...)
	w.good(w.sessionArgs("--config-del", "rsync_options")...)
	if text := w.read(w.conf()); strings.Contains(text, "sync-jobs") {
		t.Errorf("after del: %q", text)
	}
	w.fails(exitUsage, w.sessionArgs("--config-del", "nosuch")...)
}

func TestBehaviour23Values(t *testing.T) {
	w := newWorld(t)
	w.create()
	for _, value := range []string{"--bwlimit=5 --exclude a:b", "x", "a = b : c", "# not a comment", "[vars]", "%(x)s $HOME ${nothing}", "=x", ""} {
		w.good(w.sessionArgs("--config-set", "rsync-options", "--value="+value)...)
		if got := w.good(w.sessionArgs("--config-get", "rsync-options")...); got != value+"\n" {
			t.Errorf("%q came back as %q", value, got)
		}
		if got := w.all()["rsync_options"]; got != value {
			t.Errorf("%q is listed as %q", value, got)
		}
	}
}

func TestBehaviour24ReferenceFile(t *testing.T) {
	w := newWorld(t)
	w.create()
	text := `# by hand
[vars]
stime-xattr-prefix = trusted.glusterfs.19d3956f-ccf5-420a-85f9-ce0a1926c10d.7fa1dace-d40f-41b9-a222-5a3f561cc210
checkpoint = 1795217724
Sync-Method: tarssh
use-meta-volume = True
rsync-options = --one
   --two
something-else = kept

[sync-jobs]
value = 9
`
	w.write(w.conf(), text)
	got := w.all()
	for name, value := range map[string]string{
		"stime_xattr_prefix": "trusted.glusterfs.19d3956f-ccf5-420a-85f9-ce0a1926c10d.7fa1dace-d40f-41b9-a222-5a3f561cc210",
		"checkpoint":         "1795217724", "sync_method": "tarssh", "use_meta_volume": "true", "rsync_options": "--one --two", "something_else": "kept", "sync_jobs": "9",
	} {
		if got[name] != value {
			t.Errorf("%s is %q, want %q", name, got[name], value)
		}
	}
	w.good(w.sessionArgs("--config-set", "rsync_options", "--value=--three")...)
	want := strings.Replace(text, "rsync-options = --one\n   --two\n", "rsync-options = --three\n", 1)
	if got := w.read(w.conf()); got != want {
		t.Errorf("the file became\n%s\nwant\n%s", got, want)
	}
}

func TestBehaviour25OldFile(t *testing.T) {
	w := newWorld(t)
	w.create()
	old := `[__meta__]
version = 2.0
[peersrx . .]
remote_gsyncd = /nonexistent/gsyncd
[peers pvol svol]
session_owner = 19d3956f-ccf5-420a-85f9-ce0a1926c10d
use_tarssh = true
timeout = 77
sync_jobs = 4
stime_xattr_prefix = trusted.glusterfs.a.b
pid_file = /elsewhere
`
	w.write(w.conf(), old)
	got := w.all()
	for name, value := range map[string]string{
		"sync_method": "tarssh", "secondary_timeout": "77", "sync_jobs": "4", "stime_xattr_prefix": "trusted.glusterfs.a.b", "pid_file": "/var/run/gluster/gsyncd-pvol-cs1-svol.pid",
	} {
		if got[name] != value {
			t.Errorf("%s is %q, want %q", name, got[name], value)
		}
	}
	if w.read(w.conf()+".bkp") != old {
		t.Error("the old file was not kept")
	}
	if text := w.read(w.conf()); !strings.HasPrefix(text, "[vars]\n") || strings.Contains(text, "session") {
		t.Errorf("the new file is %q", text)
	}
}

func TestBehaviour26InvalidStored(t *testing.T) {
	w := newWorld(t)
	w.create()
	w.write(w.conf(), "[vars]\nchange-interval = abc\nsync-jobs = 5\nno value here\n")
	out, errs, code := w.run(w.sessionArgs("--config-get-all")...)
	if code != 0 || !strings.Contains(out, "\nchange_interval:5\n") || !strings.Contains(out, "\nsync_jobs:5\n") {
		t.Errorf("exit %d, %q", code, errs)
	}
	if !strings.Contains(errs, "abc") || !strings.Contains(errs, "change-interval") {
		t.Errorf("it did not say why: %q", errs)
	}
	w.good(w.sessionArgs("--config-set", "change-interval", "--value=6")...)
	w.write(w.conf(), strings.Replace(w.read(w.conf()), "no value here\n", "", 1))
	if got := w.all()["change_interval"]; got != "6" {
		t.Errorf("it could not be repaired: %q", got)
	}
}

func TestBehaviour27Atomic(t *testing.T) {
	w := newWorld(t)
	w.create()
	w.write(w.conf(), "[vars]\nsync-jobs = 1\n# the end\n")
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for n := range 25 {
				if _, errs, code := w.run(w.sessionArgs("--config-set", []string{"sync-jobs", "change-interval"}[i%2], fmt.Sprintf("--value=%d", n+1))...); code != 0 {
					t.Error(errs)
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() { writers.Wait(); close(ended) }()
	for done := false; !done; {
		select {
		case <-ended:
			done = true
		default:
		}
		text := w.read(w.conf())
		if !strings.HasPrefix(text, "[vars]\n") || !strings.HasSuffix(text, "# the end\n") && !strings.Contains(text, "# the end\n") || strings.Count(text, "sync-jobs") != 1 {
			t.Fatalf("a reader saw %q", text)
		}
	}
	if got := w.all(); got["sync_jobs"] != "25" || got["change_interval"] != "25" {
		t.Errorf("an update was lost: %v, %v", got["sync_jobs"], got["change_interval"])
	}
}

func TestConfigSubcommands(t *testing.T) {
	w := newWorld(t)
	w.create()
	w.good("config-set", "pvol", "cs1::svol", "--name", "sync-jobs", "--value", "5")
	if got := w.good("config-get", "pvol", "cs1::svol", "--name", "sync-jobs", "--only-value"); got != "5\n" {
		t.Errorf("%q", got)
	}
	w.fails(exitUsage, "config-get", "pvol", "cs1::svol", "--name", "ssh-port")
	if got := w.good("config-get", "pvol", "cs1::svol", "--name", "ssh_port", "--show-defaults", "--use-underscore"); got != "ssh_port:22\n" {
		t.Errorf("%q", got)
	}
	got := w.good("config-get", "pvol", "cs1::svol", "--name", "use-meta-volume", "--show-defaults", "--json")
	if got != `[{"name":"use-meta-volume","value":"False","default":"False","configurable":true,"modified":false}]`+"\n" {
		t.Errorf("%q", got)
	}
	w.good("config-check", "sync-jobs", "--value", "3")
	w.fails(exitValue, "config-check", "sync-jobs", "--value", "300")
	w.good("config-reset", "pvol", "cs1::svol", "all")
	if got := w.all()["sync_jobs"]; got != "3" {
		t.Errorf("%q", got)
	}
	w.good("monitor-status", "pvol", "cs1::svol", "Stopped")
	if got := w.good("status", "pvol", "cs1::svol", "--local-path", "/b", "--json"); !strings.Contains(got, `"worker_status":"Stopped"`) {
		t.Errorf("%q", got)
	}
}
