// Package config is the table of options: name, type, default, help and check of each, read from flags and from a TOML file.
//
// One row of the table makes the flag, the key of the file, the line in the manual and the check, so the four cannot differ.
// A value is always set from text, whether a person typed it or a file holds it.
package config

import (
	"fmt"
	"strings"
	"time"
)

// Mirror holds the values of all options of the command mirror.
type Mirror struct {
	Once, DryRun, Checksum bool
	NoOwner                bool
	AllowDelete            bool
	DeleteLimit            DeleteLimit
	Patterns               []string // lines as in a gitignore file, in order; the last that matches a path decides

	BwLimit      int64 // bytes per second over all connections; 0: no limit
	Compress     bool
	SyncJobs     int // connections, and large files that travel at once
	SyncMethod   string
	ScanInterval time.Duration

	Port         int // 0: what the ssh configuration says
	SSHCommand   string
	RemoteGeorep string
	StateDir     string // "": the user's default place

	ConfigFile           string
	JSON, Quiet, Verbose bool
}

// Value is one option's value as text. It has the methods of pflag.Value, so it can be a flag as it is.
type Value interface {
	// Set parses text and stores it; on an error the value stays as it was. Options that collect may be set many times.
	Set(text string) error
	// String is the present value in a form that Set reads; "" for one that is not set.
	String() string
	// Type is the placeholder for help texts: "RATE", "DIR"; "bool" for a switch.
	Type() string
}

// Group says which options belong together for a reader.
type Group string

// The groups, in the order of the help.
const (
	What       Group = "What is mirrored"
	Deletions  Group = "Deletions"
	Transfer   Group = "Transfer"
	Connection Group = "Connection"
	Output     Group = "Output and state"
)

// Groups lists the groups in the order of the help.
func Groups() []Group { return []Group{What, Deletions, Transfer, Connection, Output} }

// Option is one row of the table.
type Option struct {
	Name    string // of the flag, without dashes, and of the key in the file
	Short   string // one letter, or ""
	Group   Group
	Default string // as the help shows it
	Help    string // one sentence, no full stop
	InFile  bool   // may stand in a file; an answer to one run's question may not
	Values  []string
	value   func(m *Mirror) Value
}

// Bind gives the option's value within m.
func (o Option) Bind(m *Mirror) Value { return o.value(m) }

// DefaultFile is the file that is read when --config does not name one. It need not exist.
const DefaultFile = "/etc/georep/mirror.toml"

// NewMirror gives all options their defaults.
func NewMirror() *Mirror {
	return &Mirror{
		DeleteLimit: DeleteLimit{Percent: 25, Entries: 1000}, SyncJobs: 3, SyncMethod: "native", ScanInterval: time.Hour,
		SSHCommand: "ssh", RemoteGeorep: "georep", ConfigFile: DefaultFile,
	}
}

// Options is the table for the command mirror, in the order in which a person should read it.
func Options() []Option {
	var all []Option
	all = append(all, whatOptions()...)
	all = append(all, deleteOptions()...)
	all = append(all, transferOptions()...)
	all = append(all, connectionOptions()...)
	return append(all, outputOptions()...)
}

func whatOptions() []Option {
	return []Option{
		{Name: "once", Group: What, Default: "false", Help: "synchronise once and exit, instead of following changes",
			value: func(m *Mirror) Value { return switchValue{&m.Once} }},
		{Name: "dry-run", Short: "n", Group: What, Default: "false", Help: "show what would be done and do nothing",
			value: func(m *Mirror) Value { return switchValue{&m.DryRun} }},
		{Name: "exclude", Group: What, InFile: true, Help: "leave out what matches this gitignore pattern; may be given many times, and the last pattern that matches decides",
			value: func(m *Mirror) Value { return patternValue{&m.Patterns, ""} }},
		{Name: "include", Group: What, InFile: true, Help: "mirror what matches although an --exclude before it matches too",
			value: func(m *Mirror) Value { return patternValue{&m.Patterns, "!"} }},
		{Name: "no-owner", Group: What, Default: "false", InFile: true, Help: "leave owner and group on the destination as its account makes them, and setuid and setgid off",
			value: func(m *Mirror) Value { return switchValue{&m.NoOwner} }},
		{Name: "checksum", Short: "c", Group: What, Default: "false", Help: "compare the content of all files, not only sizes and times (finds changes that kept both)",
			value: func(m *Mirror) Value { return switchValue{&m.Checksum} }},
		{Name: "scan-interval", Group: What, Default: "1h", InFile: true, Help: "compare the whole tree this often while following changes, in case an event was lost",
			value: func(m *Mirror) Value { return durationValue{&m.ScanInterval, time.Second} }},
	}
}

func deleteOptions() []Option {
	return []Option{
		{Name: "delete-limit", Group: Deletions, Default: "25%:1000", InFile: true, Help: "hold deletions when they are more than this share of all entries and more than this number",
			value: func(m *Mirror) Value { return limitValue{&m.DeleteLimit} }},
		{Name: "allow-delete", Group: Deletions, Default: "false", Help: "carry out the deletions that were held (this run only)",
			value: func(m *Mirror) Value { return switchValue{&m.AllowDelete} }},
	}
}

func transferOptions() []Option {
	return []Option{
		{Name: "bwlimit", Group: Transfer, Default: "0", InFile: true, Help: "send at most this much per second over all connections together, for example 10M or 100Mbit (0: no limit)",
			value: func(m *Mirror) Value { return rateValue{&m.BwLimit} }},
		{Name: "compress", Short: "z", Group: Transfer, Default: "false", InFile: true, Help: "compress with zstd what shrinks",
			value: func(m *Mirror) Value { return switchValue{&m.Compress} }},
		{Name: "sync-jobs", Group: Transfer, Default: "3", InFile: true, Help: "connections to open at most, and large files that travel at once, 1 to 64",
			value: func(m *Mirror) Value { return intValue{&m.SyncJobs, 1, 64} }},
		{Name: "sync-method", Group: Transfer, Default: "native", InFile: true, Help: "what brings new content over: native, or the system's rsync or tar (tarssh), which georep checks",
			Values: []string{"native", "rsync", "tarssh"},
			value:  func(m *Mirror) Value { return choiceValue{&m.SyncMethod, []string{"native", "rsync", "tarssh"}} }},
	}
}

func connectionOptions() []Option {
	return []Option{
		{Name: "port", Short: "p", Group: Connection, Default: "0", InFile: true, Help: "port of the remote ssh server (0: as the ssh configuration says)",
			value: func(m *Mirror) Value { return intValue{&m.Port, 0, 65535} }},
		{Name: "ssh-command", Short: "e", Group: Connection, Default: "ssh", InFile: true, Help: "the ssh to run, with its own options: 'ssh -i /root/.ssh/mirror'",
			value: func(m *Mirror) Value { return textValue{&m.SSHCommand, "COMMAND"} }},
		{Name: "remote-georep", Group: Connection, Default: "georep", InFile: true, Help: "path of georep on the remote host",
			value: func(m *Mirror) Value { return textValue{&m.RemoteGeorep, "PATH"} }},
	}
}

func outputOptions() []Option {
	return []Option{
		{Name: "state-dir", Group: Output, InFile: true, Help: "keep the state of mirrors below this directory (root: /var/lib/georep, others: ~/.local/state/georep)",
			value: func(m *Mirror) Value { return textValue{&m.StateDir, "DIR"} }},
		{Name: "config", Group: Output, Default: DefaultFile, Help: "read options from this TOML file; flags win over it",
			value: func(m *Mirror) Value { return textValue{&m.ConfigFile, "FILE"} }},
		{Name: "json", Group: Output, Default: "false", Help: "print one JSON object a line for each event",
			value: func(m *Mirror) Value { return switchValue{&m.JSON} }},
		{Name: "quiet", Short: "q", Group: Output, Default: "false", Help: "print only what went wrong",
			value: func(m *Mirror) Value { return switchValue{&m.Quiet} }},
		{Name: "verbose", Short: "v", Group: Output, Default: "false", Help: "log what happens inside, on the error output",
			value: func(m *Mirror) Value { return switchValue{&m.Verbose} }},
	}
}

// Check finds options that do not go together. The error is a sentence for the person who typed them.
func (m *Mirror) Check() error {
	switch {
	case m.JSON && m.Quiet:
		return fmt.Errorf("--json and --quiet contradict each other: give one of them")
	case m.AllowDelete && m.DryRun:
		return fmt.Errorf("--allow-delete deletes and --dry-run does nothing: give one of them")
	}
	return nil
}

// Suggest gives the name of the option that name was most likely meant to be, or "".
func Suggest(name string) string {
	best, distance := "", 3
	for _, o := range Options() {
		if d := editDistance(name, o.Name); d < distance || (strings.HasPrefix(o.Name, name) && len(name) > 2) {
			best, distance = o.Name, d
		}
	}
	return best
}

// editDistance counts the single-byte edits between two names.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
