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
	parts := []string{}
	switch {
	case s.ScanRunning && !d.caught:
		parts = append(parts,
			fmt.Sprintf("%s of %s so far", count(s.EntriesDone), entries(s.EntriesTotal)),
			fmt.Sprintf("%s of %s so far", size(s.BytesDone), size(s.BytesTotal)),
			rate(s.EntryRate, s.ByteRate))
	case !d.caught || s.State == status.StateSyncing:
		parts = append(parts,
			fmt.Sprintf("%s of %s", count(s.EntriesDone), entries(s.EntriesTotal)),
			fmt.Sprintf("%s of %s", size(s.BytesDone), size(s.BytesTotal)),
			rate(s.EntryRate, s.ByteRate))
		if rest, ok := d.eta.remaining(now); ok && s.BacklogEntries != 0 {
			parts = append(parts, about(rest)+" left")
		}
	default:
		parts = append(parts, "lag "+span(s.Lag), "backlog "+entries(s.BacklogEntries))
		if s.BacklogBytes > 0 {
			parts = append(parts, size(s.BacklogBytes))
		}
		parts = append(parts, "copied "+size(s.ContentSent), "deleted "+count(s.Deleted))
		if s.Events != "" {
			parts = append(parts, s.Events)
		}
	}
	if s.Failing > 0 {
		parts = append(parts, count(int64(s.Failing))+" failing")
	}
	if s.HeldDeletions > 0 {
		parts = append(parts, count(s.HeldDeletions)+" deletions held")
	}
	return fmt.Sprintf("%-8s  %s", s.State, strings.Join(parts, ", "))
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
	return fmt.Sprintf("failed: %s: cannot %s on the %s: %s%s; %s", quoted(f.Path), doing(f.Op), f.Side, printable(text), times, printable(hint))
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

// plannedLine is one line of a dry run, in columns: what, which kind, which path.
func plannedLine(c status.PlannedChange) string {
	path := quoted(c.Path)
	if c.Path == "" {
		path = "the top directory"
	}
	if c.From != "" {
		path = quoted(c.From) + " -> " + path
	}
	if c.Bytes > 0 {
		path += " (" + size(c.Bytes) + ")"
	}
	return fmt.Sprintf("%-6s %-10s %s", c.Op, c.Kind, path)
}
