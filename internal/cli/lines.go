package cli

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"georep/internal/status"
)

// moving is the line that tells where things stand.
func (d *display) moving(now time.Time, s status.Snapshot) string {
	var parts, speed []string
	switch {
	case !d.caught:
		soFar := ""
		if s.ScanRunning {
			soFar = " so far"
		}
		parts = append(parts,
			fmt.Sprintf("%s of %s", count(s.EntriesDone), entries(s.EntriesTotal)),
			fmt.Sprintf("%s of %s%s", size(s.BytesDone), size(s.BytesTotal), soFar))
		if rest, ok := d.eta.remaining(now); ok && soFar == "" && s.BacklogEntries != 0 {
			parts = append(parts, about(rest)+" left")
		}
		speed = append(speed, count(int64(s.EntryRate))+"/s", size(int64(s.ByteRate))+"/s")
	default:
		lag := "lag " + span(s.Lag)
		if s.RecoveryPoint.IsZero() {
			lag = "not yet equal" // as long as something fails or is held back, no moment is known to which it equals
		}
		parts = append(parts, lag, "backlog "+entries(s.BacklogEntries))
		if s.BacklogBytes > 0 {
			parts = append(parts, size(s.BacklogBytes))
		}
		if s.State == status.StateSyncing {
			speed = append(speed, count(int64(s.EntryRate))+"/s", size(int64(s.ByteRate))+"/s")
		}
		speed = append(speed, "copied "+size(s.ContentSent), "deleted "+count(s.Deleted))
		if s.Events != "" {
			speed = append(speed, s.Events)
		}
	}
	if s.Failing > 0 {
		parts = append(parts, count(int64(s.Failing))+" failing")
	}
	if s.HeldDeletions > 0 {
		parts = append(parts, count(s.HeldDeletions)+" deletions held")
	}
	// What can be cut off where a terminal is narrow comes last.
	return fmt.Sprintf("%-8s  %s", s.State, strings.Join(append(parts, speed...), ", "))
}

// total is the last line.
func (d *display) total(s status.Snapshot) string {
	took := d.now().Sub(d.begun)
	if d.m.DryRun {
		return fmt.Sprintf("dry run: compared %s in %s, nothing was changed", entries(s.EntriesTotal), span(took))
	}
	text := fmt.Sprintf("%s equal, %s of content sent, %s on the wire, %s deleted, in %s",
		entries(s.EntriesDone), size(s.ContentSent), size(s.WireOut+s.WireIn), count(s.Deleted), span(took))
	if s.BacklogEntries > 0 {
		text += ", " + entries(s.BacklogEntries) + " left"
	}
	return text
}

// failureLine names what failed and what to do about it.
func failureLine(f status.Failure) string {
	text := f.Error
	if text == "" && f.Errno != 0 {
		text = syscall.Errno(f.Errno).Error()
	}
	if f.Call != "" {
		text = f.Call + ": " + text
	}
	hint := f.Hint
	if hint == "" {
		hint = status.Hint(f.Errno, f.Side, f.Call)
	}
	times := ""
	if f.Count > 1 {
		times = fmt.Sprintf(" (tried %d times)", f.Count)
	}
	return fmt.Sprintf("failed: %s: cannot %s on the %s: %s%s; %s", place(f.Path), doing(f.Op), f.Side, printable(text), times, printable(hint))
}

// place shows a path below the mirrored directory, which itself has the path "" or ".".
func place(path string) string {
	if path == "" || path == "." {
		return "the top directory"
	}
	return quoted(path)
}

// doing is an operation as a verb for a person.
func doing(op string) string {
	switch op {
	case "set":
		return "set attributes"
	case "drop":
		return "delete"
	case "times":
		return "set times"
	case "adopt":
		return "compare"
	case "":
		return "copy"
	}
	return op
}

// plannedLine is one line of a dry run, in columns: what, which kind, which path, and how much content may travel for it.
func plannedLine(c status.PlannedChange) string {
	path := place(c.Path)
	if c.From != "" {
		path = quoted(c.From) + " -> " + path
	}
	if c.Bytes > 0 && c.From == "" && (c.Op == "make" || c.Op == "write" || c.Op == "adopt") {
		path += " (" + size(c.Bytes) + ")"
	}
	return fmt.Sprintf("%-6s %-10s %s", c.Op, c.Kind, path)
}
