package status

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Whatever a call returns, a person is told what to do about it, in one line.
func TestHintIsNeverEmpty(t *testing.T) {
	for errno := range 140 {
		for _, side := range []Side{Source, Destination} {
			for _, call := range []string{"", "fchown", "fsetxattr", "linkat", "openat", "mknodat", "write"} {
				hint := Hint(errno, side, call)
				if hint == "" || strings.ContainsAny(hint, "\n") || strings.HasSuffix(hint, ".") || strings.Contains(hint, "%!") {
					t.Errorf("Hint(%d, %s, %q) = %q", errno, side, call, hint)
				}
			}
		}
	}
}

func TestHintNamesTheCause(t *testing.T) {
	for _, test := range []struct {
		errno syscall.Errno
		side  Side
		call  string
		want  string
	}{
		{syscall.ENOSPC, Destination, "write", "the destination is full"},
		{syscall.ENOSPC, Destination, "fsetxattr", "no room for attributes"},
		{syscall.EDQUOT, Destination, "write", "quota"},
		{syscall.EACCES, Source, "openat", "may not read"},
		{syscall.EACCES, Destination, "openat", "may not write"},
		{syscall.EPERM, Destination, "fchownat", "--no-owner"},
		{syscall.EPERM, Destination, "mknodat", "run the remote georep as root"},
		{syscall.EPERM, Destination, "unlinkat", "chattr -i -a"},
		{syscall.EPERM, Source, "openat", "run georep as root"},
		{syscall.EROFS, Destination, "openat", "read-only"},
		{syscall.EIO, Source, "read", "dmesg"},
		{syscall.ENAMETOOLONG, Destination, "openat", "shorten"},
		{syscall.EMLINK, Destination, "linkat", "hard links"},
		{syscall.ELOOP, Destination, "openat2", "symlink"},
		{syscall.EXDEV, Destination, "openat2", "one file system"},
		{syscall.ENOTEMPTY, Destination, "unlinkat", "not from here"},
		{syscall.EOPNOTSUPP, Destination, "fsetxattr", "ACL"},
		{syscall.EMFILE, Source, "openat", "ulimit -n"},
		{syscall.EPROTO, Source, "read", "dmesg"},
	} {
		if got := Hint(int(test.errno), test.side, test.call); !strings.Contains(got, test.want) {
			t.Errorf("Hint(%v, %s, %s) = %q, want it to say %q", test.errno, test.side, test.call, got, test.want)
		}
	}
}

// Programs read the JSON, so its names are a promise.
func TestEventAsJSON(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e := Event{
		Kind: EntryFailed, Time: at,
		Failure:  &Failure{Path: "a\xffb", Op: "write", Errno: 28, Side: Destination, Count: 2, Last: at},
		Snapshot: Snapshot{State: StateLive, Lag: 1500 * time.Millisecond, RecoveryPoint: at, EntriesDone: 7},
	}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	failure, _ := got["failure"].(map[string]any)
	snapshot, _ := got["snapshot"].(map[string]any)
	for name, pair := range map[string][2]any{
		"event":          {got["event"], "entry-failed"},
		"path":           {failure["path"], "a\ufffdb"},
		"path_base64":    {failure["path_base64"], "Yf9i"},
		"side":           {failure["side"], "destination"},
		"lag_seconds":    {snapshot["lag_seconds"], 1.5},
		"state":          {snapshot["state"], "live"},
		"recovery_point": {snapshot["recovery_point"], "2026-01-02T03:04:05Z"},
		"entries_done":   {snapshot["entries_done"], 7.0},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %v, want %v", name, pair[0], pair[1])
		}
	}
	if _, ok := failure["first"]; ok {
		t.Error("a time that is not known is shown")
	}
	if planned, _ := json.Marshal(PlannedChange{Op: "move", Path: "new", From: "\xfe"}); !strings.Contains(string(planned), `"from_base64":"/g=="`) {
		t.Errorf("a planned change lost its bytes: %s", planned)
	}
}

func TestSnapshotReadsBack(t *testing.T) {
	want := Snapshot{State: StateSyncing, Lag: time.Minute, Deleted: 3, Events: EventsFanotify}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Snapshot
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if json.Unmarshal([]byte(`{"entries_done":"x"}`), &got) == nil {
		t.Error("a text was taken for a number")
	}
}
