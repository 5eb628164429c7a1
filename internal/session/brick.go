package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"georep/internal/config/gsyncdconf"
	"georep/internal/durable"
)

// The states of a worker, as the gluster command shows them.
const (
	Initializing = "Initializing..."
	Active       = "Active"
	Passive      = "Passive"
	Faulty       = "Faulty"
)

// none stands for a value that there is not.
const none = "N/A"

// Brick is the status of one brick's worker, in the form that is on disk. Times are in seconds since 1970, 0 for none.
type Brick struct {
	SecondaryNode            string `json:"secondary_node"`
	WorkerStatus             string `json:"worker_status"`
	CrawlStatus              string `json:"crawl_status"`
	LastSynced               int64  `json:"last_synced"`
	LastSyncedEntry          int64  `json:"last_synced_entry"`
	Entry                    int64  `json:"entry"` // pending operations
	Data                     int64  `json:"data"`
	Meta                     int64  `json:"meta"`
	Failures                 int64  `json:"failures"`
	CheckpointCompleted      string `json:"checkpoint_completed"` // "N/A", "Yes" or "No"
	CheckpointTime           int64  `json:"checkpoint_time"`
	CheckpointCompletionTime int64  `json:"checkpoint_completion_time"`
}

// newBrick is what holds before anything is known.
func newBrick() Brick {
	return Brick{SecondaryNode: none, WorkerStatus: none, CrawlStatus: none, CheckpointCompleted: none}
}

// UnmarshalJSON reads what was written, by us or by other tools; a value of another type than expected counts as none.
func (b *Brick) UnmarshalJSON(data []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	*b = newBrick()
	texts := map[string]*string{
		"secondary_node": &b.SecondaryNode, "worker_status": &b.WorkerStatus, "crawl_status": &b.CrawlStatus, "checkpoint_completed": &b.CheckpointCompleted,
	}
	for name, to := range texts {
		var text string
		if json.Unmarshal(raw[name], &text) == nil {
			*to = text
		}
	}
	numbers := map[string]*int64{
		"last_synced": &b.LastSynced, "last_synced_entry": &b.LastSyncedEntry, "entry": &b.Entry, "data": &b.Data, "meta": &b.Meta,
		"failures": &b.Failures, "checkpoint_time": &b.CheckpointTime, "checkpoint_completion_time": &b.CheckpointCompletionTime,
	}
	for name, to := range numbers {
		var number float64
		if json.Unmarshal(raw[name], &number) == nil {
			*to = max(int64(number), 0)
		}
	}
	return nil
}

// BrickFile is the name of a brick's status file.
func BrickFile(brick string) string { return "brick_" + url.QueryEscape(brick) + ".status" }

func (s *Session) brickFile(brick string) string {
	return filepath.Join(filepath.Dir(s.stateFile()), BrickFile(brick))
}

// Brick is the stored status of a brick's worker. One that is not there, or cannot be read, is that of a worker that never ran.
func (s *Session) Brick(brick string) Brick {
	b := newBrick()
	text, err := os.ReadFile(s.brickFile(brick))
	if err != nil || json.Unmarshal(text, &b) != nil {
		return newBrick()
	}
	return b
}

// UpdateBrick changes the stored status of a brick's worker, while nobody else does. What does not change is not written.
func (s *Session) UpdateBrick(brick string, change func(*Brick)) error {
	unlock, err := lockDir(filepath.Dir(s.stateFile()), workerWait)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = os.Lstat(s.brickFile(brick))
	missing := errors.Is(err, fs.ErrNotExist)
	before := s.Brick(brick)
	after := before
	change(&after)
	if after == before && !missing {
		return nil
	}
	text, err := json.Marshal(after)
	if err != nil {
		return fmt.Errorf("write the status of %s: %w", brick, err)
	}
	return durable.WriteFile(s.brickFile(brick), text, 0o644)
}

// Restart clears what does not outlive a worker.
func (b *Brick) Restart() {
	b.SecondaryNode, b.CrawlStatus, b.Entry, b.Data, b.Meta = none, none, 0, 0, 0
}

// SetCheckpoint brings the checkpoint fields into line with the option (seconds since 1970, 0 for none). It says whether the checkpoint
// has been reached just now; now is what is noted as the time of that.
func (b *Brick) SetCheckpoint(option int64, now time.Time) (reached bool) {
	if option == 0 {
		b.CheckpointCompleted, b.CheckpointTime, b.CheckpointCompletionTime = none, 0, 0
		return false
	}
	if b.CheckpointTime != option || b.CheckpointCompleted == none {
		b.CheckpointCompleted, b.CheckpointTime, b.CheckpointCompletionTime = "No", option, 0
	}
	if b.CheckpointCompleted == "Yes" || b.LastSynced < option {
		return false
	}
	b.CheckpointCompleted, b.CheckpointCompletionTime = "Yes", now.Unix()
	return true
}

// Row is the status of a brick's worker as glusterd asks for it: names and values in the order in which they are printed.
func (s *Session) Row(brick string, local *time.Location) []gsyncdconf.Pair {
	b, word := s.Brick(brick), s.Word()
	if (word == Started || word == Paused) && !s.Running() || word == "" {
		word = Stopped
	}
	switch word {
	case Created, Paused, Stopped:
		b.WorkerStatus = word
	default:
		if b.WorkerStatus == none || b.WorkerStatus == "" {
			b.WorkerStatus = Initializing
		}
	}
	option, err := strconv.ParseInt(s.Config.Get("checkpoint"), 10, 64)
	if err != nil {
		option = 0
	}
	b.asOf(option)
	return b.row(local)
}

// asOf makes the checkpoint fields fit an option that the worker has not seen yet.
func (b *Brick) asOf(option int64) {
	switch {
	case option == 0:
		b.CheckpointCompleted, b.CheckpointTime, b.CheckpointCompletionTime = none, 0, 0
	case option != b.CheckpointTime && option <= b.LastSynced:
		b.CheckpointCompleted, b.CheckpointTime, b.CheckpointCompletionTime = "Yes", option, b.LastSynced
	case option != b.CheckpointTime:
		b.CheckpointCompleted, b.CheckpointTime, b.CheckpointCompletionTime = "No", option, 0
	}
}

func (b *Brick) row(local *time.Location) []gsyncdconf.Pair {
	active := b.WorkerStatus == Active
	value := func(text string) string {
		if !active || text == "" {
			return none
		}
		return strings.ReplaceAll(text, "\n", " ")
	}
	number := func(n int64) string { return value(strconv.FormatInt(max(n, 0), 10)) }
	clock := func(seconds int64, zone *time.Location) string {
		if !active || seconds <= 0 {
			return none
		}
		return time.Unix(seconds, 0).In(zone).Format(time.DateTime)
	}
	node := none
	if (active || b.WorkerStatus == Passive) && b.SecondaryNode != "" {
		node = b.SecondaryNode
	}
	return []gsyncdconf.Pair{
		{Name: "secondary_node", Value: node}, {Name: "worker_status", Value: b.WorkerStatus},
		{Name: "last_synced", Value: clock(b.LastSynced, local)}, {Name: "last_synced_utc", Value: clock(b.LastSynced, time.UTC)},
		{Name: "last_synced_entry", Value: strconv.FormatInt(b.LastSyncedEntry, 10)},
		{Name: "crawl_status", Value: value(b.CrawlStatus)},
		{Name: "entry", Value: number(b.Entry)}, {Name: "data", Value: number(b.Data)}, {Name: "meta", Value: number(b.Meta)},
		{Name: "failures", Value: number(b.Failures)},
		{Name: "checkpoint_completed", Value: value(b.CheckpointCompleted)},
		{Name: "checkpoint_time", Value: clock(b.CheckpointTime, local)}, {Name: "checkpoint_time_utc", Value: clock(b.CheckpointTime, time.UTC)},
		{Name: "checkpoint_completion_time", Value: clock(b.CheckpointCompletionTime, local)},
		{Name: "checkpoint_completion_time_utc", Value: clock(b.CheckpointCompletionTime, time.UTC)},
	}
}

// Checkpoint is the option as it is now, in seconds since 1970, 0 for none: of all options it alone takes effect without a restart.
func (s *Session) Checkpoint() (int64, error) {
	now, err := Place{Root: s.root, Template: s.template}.Open(s.Primary, s.Secondary, nil)
	if err != nil {
		return 0, err
	}
	return int64(now.Config.Int("checkpoint")), nil
}
