// Package status is what an operator is told: the named states, counters, failures and events of one worker, as plain values.
//
// It imports nothing of ours, so that the worker which knows and the views which show (terminal, JSON, web) share it.
// Everything in a Snapshot comes from acknowledgements of the secondary, never from what the worker hopes.
package status

import (
	"encoding/base64"
	"encoding/json"
	"time"
	"unicode/utf8"
)

// State is what a worker is doing.
type State string

// The states of a worker.
const (
	StateScanning State = "scanning" // comparing the whole source with what the secondary has acknowledged
	StateSyncing  State = "syncing"  // the scan has finished; what it found is being sent
	StateLive     State = "live"     // following changes as they happen
	StateHalted   State = "halted"   // deletions wait for a person; other changes go on
	StateStopped  State = "stopped"  // not running
)

// Crawl is how changes are found at the moment.
type Crawl string

// The crawls, with the names that Gluster users know.
const (
	CrawlHybrid    Crawl = "Hybrid Crawl"    // the whole tree is compared
	CrawlHistory   Crawl = "History Crawl"   // a recorded history is read
	CrawlChangelog Crawl = "Changelog Crawl" // changes are taken as they happen
)

// The values of Snapshot.Events: where live changes come from.
const (
	EventsFanotify = "fanotify"
	EventsInotify  = "inotify"
	EventsNone     = "none"
)

// Side says on which host something failed.
type Side string

// The two sides.
const (
	Source      Side = "source"
	Destination Side = "destination"
)

// EventKind names what an Event tells.
type EventKind string

// The kinds of events.
const (
	Connected    EventKind = "connected"     // the agent on the other side has answered; Text: its version and whether it is confined
	ScanStarted  EventKind = "scan-started"  // a scan of the whole source begins
	ScanProgress EventKind = "scan-progress" // now and then while it runs
	ScanDone     EventKind = "scan-done"     // EntriesTotal and BytesTotal are final for now
	Progress     EventKind = "progress"      // now and then while there is work, and about once a second while live
	EntryFailed  EventKind = "entry-failed"  // Failure says what; it is tried again at Failure.Next
	EntryHealed  EventKind = "entry-healed"  // Failure.Path has been applied after all
	Halted       EventKind = "halted"        // deletions are held back until a person decides; Text: why
	CaughtUp     EventKind = "caught-up"     // all that was known is acknowledged
	LinkLost     EventKind = "link-lost"     // the connection ended; Text: why, and what happens next
	Notice       EventKind = "notice"        // Text: something worth one line, such as a limit that was met
	Planned      EventKind = "planned"       // dry run only: Planned is what would be done
	Done         EventKind = "done"          // the worker ends; the Snapshot is final
)

// Event is one thing that happened, with the state of affairs right after it.
type Event struct {
	Kind     EventKind      `json:"event"`
	Time     time.Time      `json:"time"`
	Text     string         `json:"text,omitempty"`
	Failure  *Failure       `json:"failure,omitempty"` // EntryFailed, EntryHealed
	Planned  *PlannedChange `json:"planned,omitempty"` // Planned
	Caught   time.Time      `json:"caught,omitzero"`   // CaughtUp: what happened before this moment of the source is acknowledged, fails, or is held back
	Snapshot Snapshot       `json:"snapshot"`
}

// Snapshot is the state of one worker at one moment. Counters run since the worker started, unless they say otherwise.
type Snapshot struct {
	State  State  `json:"state"`
	Crawl  Crawl  `json:"crawl,omitempty"`
	Events string `json:"events,omitempty"` // one of the Events constants

	EntriesDone  int64 `json:"entries_done"`  // applied on the secondary or found equal; see RecoveryPoint for what is safe there
	EntriesTotal int64 `json:"entries_total"` // known so far: grows while ScanRunning
	BytesDone    int64 `json:"bytes_done"`    // of file content, logical size; counts while a file is on its way
	BytesTotal   int64 `json:"bytes_total"`   // known so far: grows while ScanRunning
	ContentSent  int64 `json:"content_sent"`  // bytes of file content that travelled, before compression; what the secondary had already is not in it
	WireOut      int64 `json:"wire_out"`      // bytes written to all connections
	WireIn       int64 `json:"wire_in"`       // bytes read from all connections
	Deleted      int64 `json:"deleted"`       // entries removed on the secondary; a rename removes none

	BacklogEntries int64 `json:"backlog_entries"` // known and not yet done, failing ones included
	BacklogBytes   int64 `json:"backlog_bytes"`
	Failing        int   `json:"failing"`        // entries in the failure ledger now
	HeldDeletions  int64 `json:"held_deletions"` // deletions that wait for a person

	Lag           time.Duration `json:"-"`                       // age of RecoveryPoint, by the source's clock; JSON: lag_seconds
	RecoveryPoint time.Time     `json:"recovery_point,omitzero"` // the moment of the source that the secondary equals; zero: none yet
	EntryRate     float64       `json:"entries_per_second"`      // over the last seconds
	ByteRate      float64       `json:"bytes_per_second"`        // over the last seconds
	Connections   int           `json:"connections"`             // open ones
	ScanRunning   bool          `json:"scan_running"`            // totals still grow
}

// Failure is one entry of the failure ledger: something that could not be applied so far and is tried again.
type Failure struct {
	Path  string    `json:"path"` // relative to the mirrored directory, raw bytes; JSON adds path_base64 when it is not UTF-8
	Op    string    `json:"op"`   // what was to be done: "make", "write", ...
	Call  string    `json:"call"` // the system call that failed, may be empty
	Errno int       `json:"errno,omitempty"`
	Error string    `json:"error"` // for a person, without the path
	Hint  string    `json:"hint"`  // what to do; Hint gives it
	Side  Side      `json:"side"`
	Count int       `json:"count"` // times tried
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
	Next  time.Time `json:"next,omitzero"` // when it is tried again
}

// PlannedChange is one line of a dry run.
type PlannedChange struct {
	Op    string `json:"op"`             // "make", "link", "move", "set", "write", "adopt", "drop"
	Path  string `json:"path"`           // relative to the mirrored directory, raw bytes; JSON adds path_base64 when it is not UTF-8
	From  string `json:"from,omitempty"` // link and move: the present path
	Kind  string `json:"kind,omitempty"` // "file", "directory", ...
	Bytes int64  `json:"bytes,omitempty"`
}

// MarshalJSON gives the lag in seconds.
func (s Snapshot) MarshalJSON() ([]byte, error) {
	type plain Snapshot
	return json.Marshal(struct {
		plain
		LagSeconds float64 `json:"lag_seconds"`
	}{plain(s), s.Lag.Seconds()})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Snapshot) UnmarshalJSON(data []byte) error {
	type plain Snapshot
	var v struct {
		plain
		LagSeconds float64 `json:"lag_seconds"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	*s = Snapshot(v.plain)
	s.Lag = time.Duration(v.LagSeconds * float64(time.Second))
	return nil
}

// MarshalJSON adds the exact bytes of a path that JSON cannot hold.
func (f Failure) MarshalJSON() ([]byte, error) {
	type plain Failure
	return json.Marshal(struct {
		plain
		PathBase64 string `json:"path_base64,omitempty"`
	}{plain(f), rawBytes(f.Path)})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (f *Failure) UnmarshalJSON(data []byte) error {
	type plain Failure
	var v struct {
		plain
		PathBase64 []byte `json:"path_base64"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	*f = Failure(v.plain)
	if len(v.PathBase64) > 0 {
		f.Path = string(v.PathBase64)
	}
	return nil
}

// MarshalJSON adds the exact bytes of paths that JSON cannot hold.
func (p PlannedChange) MarshalJSON() ([]byte, error) {
	type plain PlannedChange
	return json.Marshal(struct {
		plain
		PathBase64 string `json:"path_base64,omitempty"`
		FromBase64 string `json:"from_base64,omitempty"`
	}{plain(p), rawBytes(p.Path), rawBytes(p.From)})
}

// rawBytes is base64 of a path that is not UTF-8, and empty for one that is.
func rawBytes(path string) string {
	if utf8.ValidString(path) {
		return ""
	}
	return base64.StdEncoding.EncodeToString([]byte(path))
}

// The keys of log records, so that one search finds a thing in every log.
const (
	LogPath   = "path"
	LogOp     = "op"
	LogCall   = "call"
	LogErrno  = "errno"
	LogError  = "error"
	LogSide   = "side"
	LogCount  = "count"
	LogHint   = "hint"
	LogSource = "source"
	LogTarget = "target"
	LogBytes  = "bytes"
	LogTook   = "took"
	LogState  = "state"
)
