package gsyncd

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"georep/internal/durable"
	"georep/internal/session"
	"georep/internal/status"
	"georep/internal/worker"
)

// status is what a status call prints for a brick.
func (w *world) status(brick string) map[string]string {
	w.t.Helper()
	values := map[string]string{}
	for _, line := range lines(w.good(w.sessionArgs("--status-get", "--path", brick)...)) {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			w.t.Errorf("the line %q", line)
		}
		values[name] = value
	}
	return values
}

// session opens the session of the world.
func (w *world) session() *session.Session {
	w.t.Helper()
	to, err := session.ParseSecondary("cs1::svol")
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := session.Place{Root: w.root}.Open("pvol", to, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// running makes the session one with a monitor.
func (w *world) running(word string) *session.Session {
	w.t.Helper()
	s := w.session()
	lock, err := durable.Lock(s.PidFile())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { lock.File().Close() })
	if err := s.SetWord(word); err != nil {
		w.t.Fatal(err)
	}
	return s
}

var statusNames = []string{
	"worker_status", "secondary_node", "crawl_status", "last_synced", "last_synced_utc", "entry", "data", "meta", "failures", "checkpoint_time",
	"checkpoint_time_utc", "checkpoint_completed", "checkpoint_completion_time", "checkpoint_completion_time_utc",
}

func TestBehaviour56And61BeforeStart(t *testing.T) {
	w := newWorld(t)
	w.create()
	for _, brick := range []string{"/b1", "/no/such brick"} {
		got := w.status(brick)
		for _, name := range statusNames {
			want := "N/A"
			if name == "worker_status" {
				want = "Created"
			}
			if got[name] != want {
				t.Errorf("%s is %q, want %q", name, got[name], want)
			}
		}
	}
}

func TestBehaviour57BrickFile(t *testing.T) {
	w := newWorld(t)
	w.create()
	s := w.session()
	if err := s.UpdateBrick("/a b/c~d", func(b *session.Brick) { b.WorkerStatus = session.Active }); err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := json.Unmarshal([]byte(w.read(filepath.Join(s.Dir(), "brick_%2Fa+b%2Fc~d.status"))), &values); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"secondary_node", "worker_status", "crawl_status", "checkpoint_completed"} {
		if _, ok := values[name].(string); !ok {
			t.Errorf("%s is %v", name, values[name])
		}
	}
	for _, name := range []string{"last_synced", "last_synced_entry", "entry", "data", "meta", "failures", "checkpoint_time", "checkpoint_completion_time"} {
		if _, ok := values[name].(float64); !ok {
			t.Errorf("%s is %v", name, values[name])
		}
	}
	if len(values) != 12 {
		t.Errorf("there are %d values: %v", len(values), values)
	}
	// What another tool has written is read, whatever is wrong with it.
	w.write(filepath.Join(s.Dir(), session.BrickFile("/x")), `{"worker_status":"Passive","last_synced":"N/A","failures":-3,"more":[1]}`)
	if b := s.Brick("/x"); b.WorkerStatus != "Passive" || b.LastSynced != 0 || b.Failures != 0 || b.CrawlStatus != "N/A" {
		t.Errorf("it is read as %+v", b)
	}
}

func TestBehaviour58And59And63Rows(t *testing.T) {
	w := newWorld(t)
	w.create()
	s := w.running(session.Started)
	r := newReporter(s, workerFlags{brick: "/b1", feedback: -1}, newLogger(&strings.Builder{}, "test", "INFO"))
	at := time.Date(2026, 11, 20, 23, 18, 34, 0, time.UTC)
	state := worker.BrickInitializing
	r.report(worker.BrickReport{State: worker.BrickActive, Crawl: status.CrawlChangelog, Host: "cs2", Synced: at, Entries: 7, Data: 5, Metadata: 2, Snapshot: status.Snapshot{Failing: 3}})
	r.write(&state)
	got := w.status("/b1")
	for name, want := range map[string]string{
		"worker_status": "Active", "secondary_node": "cs2", "crawl_status": "Changelog Crawl", "last_synced": at.Local().Format(time.DateTime),
		"last_synced_utc": "2026-11-20 23:18:34", "entry": "7", "data": "5", "meta": "2", "failures": "3", "checkpoint_completed": "N/A",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	// A time never goes back, and what waits is not forgotten by a new worker.
	r.report(worker.BrickReport{State: worker.BrickPassive, Host: "cs1", Synced: at.Add(-time.Hour), Entries: -1, Snapshot: status.Snapshot{Failing: 3}})
	r.write(&state)
	got = w.status("/b1")
	for _, name := range statusNames {
		want := map[string]string{"worker_status": "Passive", "secondary_node": "cs1"}[name]
		if want == "" {
			want = "N/A"
		}
		if got[name] != want {
			t.Errorf("passive: %s is %q, want %q", name, got[name], want)
		}
	}
	if err := s.UpdateBrick("/b1", (*session.Brick).Restart); err != nil {
		t.Fatal(err)
	}
	if b := s.Brick("/b1"); b.Failures != 3 || b.LastSynced != at.Unix() || b.Entry != 0 || b.SecondaryNode != "N/A" {
		t.Errorf("after a restart: %+v", b)
	}
}

func TestBehaviour60NoMonitor(t *testing.T) {
	w := newWorld(t)
	w.create()
	s := w.session()
	for _, word := range []string{session.Started, session.Paused} {
		if err := s.SetWord(word); err != nil {
			t.Fatal(err)
		}
		if got := w.status("/b1")["worker_status"]; got != "Stopped" {
			t.Errorf("%s without a monitor is shown as %q", word, got)
		}
	}
	if text := w.read(filepath.Join(s.Dir(), "monitor.status")); text != "Paused" {
		t.Errorf("the word became %q", text)
	}
	w.fails(exitFailed, append([]string{"--create", "Nonsense"}, w.sessionArgs()...)...)
	w.write(filepath.Join(s.Dir(), "monitor.status"), "")
	if got := w.status("/b1")["worker_status"]; got != "Stopped" {
		t.Errorf("an empty word is shown as %q", got)
	}
}

func TestBehaviour71Checkpoint(t *testing.T) {
	w := newWorld(t)
	w.create()
	s := w.running(session.Started)
	log := &strings.Builder{}
	r := newReporter(s, workerFlags{brick: "/b1", feedback: -1}, newLogger(log, "test", "INFO"))
	state := worker.BrickInitializing
	tell := func(synced time.Time) map[string]string {
		r.report(worker.BrickReport{State: worker.BrickActive, Host: "cs1", Synced: synced})
		r.write(&state)
		return w.status("/b1")
	}
	now := time.Now().Truncate(time.Second)
	tell(now.Add(-time.Minute))
	w.good(w.sessionArgs("--config-set", "checkpoint", fmt.Sprintf("--value=%d", now.Unix()))...)
	if got := w.status("/b1"); got["checkpoint_completed"] != "No" || got["checkpoint_time"] != now.Format(time.DateTime) || got["checkpoint_completion_time"] != "N/A" {
		t.Errorf("before the worker sees it: %v", got)
	}
	if got := tell(now.Add(-time.Second)); got["checkpoint_completed"] != "No" {
		t.Errorf("one second early: %v", got)
	}
	if got := tell(now); got["checkpoint_completed"] != "Yes" || got["checkpoint_completion_time"] == "N/A" {
		t.Errorf("when it is reached: %v", got)
	}
	tell(now.Add(time.Hour))
	if n := strings.Count(log.String(), "the checkpoint is reached"); n != 1 {
		t.Errorf("it was told %d times", n)
	}
	w.good(w.sessionArgs("--config-del", "checkpoint")...)
	if got := tell(now.Add(2 * time.Hour)); got["checkpoint_completed"] != "N/A" || got["checkpoint_time"] != "N/A" {
		t.Errorf("when it is taken away: %v", got)
	}
}

func TestBehaviour64ConcurrentStatus(t *testing.T) {
	w := newWorld(t)
	w.create()
	s := w.running(session.Started)
	if err := s.UpdateBrick("/b1", func(b *session.Brick) { b.WorkerStatus = session.Active }); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Dir(), session.BrickFile("/b1"))
	var all sync.WaitGroup
	const writers, each = 50, 4
	for range writers {
		all.Go(func() {
			mine := w.session()
			for range each {
				if err := mine.UpdateBrick("/b1", func(b *session.Brick) { b.Failures++ }); err != nil {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for range each {
				text, err := os.ReadFile(path)
				if err != nil || !json.Valid(text) {
					t.Errorf("a reader saw %q, %v", text, err)
				}
			}
		})
	}
	all.Wait()
	if got := s.Brick("/b1").Failures; got != writers*each {
		t.Errorf("%d of %d updates are there", got, writers*each)
	}
}

func TestBehaviour73LogIsReopened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "log")
	log := newLogger(openLog(path), "monitor", "INFO")
	log.Info("first\nline", "brick", "/b1")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	log.Info("second")
	log.Debug("not this")
	for name, want := range map[string]string{path + ".1": `I [monitor] first\nline [{brick=/b1}]`, path: "I [monitor] second"} {
		text, err := os.ReadFile(name)
		if err != nil || !strings.HasSuffix(string(text), want+"\n") || strings.Count(string(text), "\n") != 1 {
			t.Errorf("%s has %q, %v", name, text, err)
		}
	}
}

func TestFailuresAreListed(t *testing.T) {
	w := newWorld(t)
	w.create()
	s := w.running(session.Started)
	if err := os.MkdirAll(s.WorkerDir("/b1"), 0o755); err != nil {
		t.Fatal(err)
	}
	open := func() (*reporter, *worker.BrickState) {
		state := worker.BrickInitializing
		return newReporter(s, workerFlags{brick: "/b1", feedback: -1}, newLogger(&strings.Builder{}, "test", "INFO")), &state
	}
	told := func(kind status.EventKind, path string, failing int) worker.BrickReport {
		r := worker.BrickReport{State: worker.BrickActive, Snapshot: status.Snapshot{Failing: failing}, Event: status.Event{Kind: kind}}
		if path != "" {
			r.Event.Failure = &status.Failure{Path: path, Op: "make", Error: "no space", Count: 1}
		}
		return r
	}
	listed := func() string {
		t.Helper()
		all, err := s.Failures()
		if err != nil {
			t.Fatal(err)
		}
		var paths []string
		for _, b := range all {
			for _, f := range b.Failures {
				paths = append(paths, f.Path)
			}
		}
		return strings.Join(paths, " ")
	}
	r, state := open()
	r.report(told(status.EntryFailed, "b\xff", 1))
	r.report(told(status.EntryFailed, "a", 2))
	r.write(state)
	if got := listed(); got != "a b\xff" {
		t.Errorf("two failures are listed as %q", got)
	}
	r, state = open() // another worker
	r.report(told(status.EntryHealed, "a", 1))
	r.write(state)
	if got := listed(); got != "b\xff" {
		t.Errorf("after one has healed: %q", got)
	}
	r.report(told(status.CaughtUp, "", 0))
	r.write(state)
	if got := listed(); got != "" {
		t.Errorf("after all have healed: %q", got)
	}
}

// TestFrozenHolderOfTheLock is what a pause may lead to: a process is frozen in the middle of an update. glusterd's calls must be answered.
func TestFrozenHolderOfTheLock(t *testing.T) {
	w := newWorld(t)
	w.create()
	s := w.session()
	holder, err := os.Open(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	if err := syscall.Flock(int(holder.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	w.good(append([]string{"--create", "Paused"}, w.sessionArgs()...)...)
	w.good(append([]string{"--create", "Started"}, w.sessionArgs()...)...)
	w.good(w.sessionArgs("--config-set", "sync-jobs", "--value=4")...)
	w.good(w.sessionArgs("--config-get-all")...)
	w.good(w.sessionArgs("--status-get", "--path", "/b1")...)
	if got := w.read(filepath.Join(s.Dir(), "monitor.status")); got != "Started" {
		t.Errorf("the word is %q", got)
	}
}
