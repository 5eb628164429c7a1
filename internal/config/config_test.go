package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"errors"

	"github.com/google/go-cmp/cmp"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "4096": 4096, "1k": 1024, "10M": 10 << 20, "2.5MiB": 5 << 19, "1 GiB": 1 << 30, "1GB": 1e9, "7b": 7, "1T": 1 << 40,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "M", "-1", "1X", "1.2.3", "1MiBs", "1e3", "99999999T", "NaN", "1 0"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "none": 0, "500K": 500 << 10, "2.5MiB/s": 5 << 19, "100Mbit": 12_500_000, "1Gbit/s": 125_000_000, "8kbit": 1000, "80bit": 10,
	} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("ParseRate(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "fast", "1Mbits", "-3M", "1M/h"} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("ParseRate(%q) = %d, want an error", text, got)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "0.5d": 12 * time.Hour} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "10", "-1s", "d", "soon"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", text, got)
		}
	}
}

func TestParseDeleteLimit(t *testing.T) {
	before := DeleteLimit{Percent: 25, Entries: 1000}
	for text, want := range map[string]DeleteLimit{
		"10%": {10, 1000}, "0%:0": {0, 0}, "100%": {100, 1000}, "2.5%:50": {2.5, 50},
	} {
		if got, err := ParseDeleteLimit(text, before); err != nil || got != want {
			t.Errorf("ParseDeleteLimit(%q) = %v, %v, want %v", text, got, err, want)
		}
		if again, err := ParseDeleteLimit(want.String(), DeleteLimit{}); err != nil || again != want {
			t.Errorf("%v does not read back what it prints: %v, %v", want, again, err)
		}
	}
	for _, text := range []string{"", "25", "101%", "-1%", "NaN%", "25%:", "25%:-1", "25%:many", "1000:25%"} {
		if got, err := ParseDeleteLimit(text, before); err == nil || got != before {
			t.Errorf("ParseDeleteLimit(%q) = %v, %v, want an error and no change", text, got, err)
		}
	}
}

// Each row must be fit for a flag, a line of the manual and a key: a name, a help of one sentence, a default that Set accepts.
func TestTableIsSound(t *testing.T) {
	names, shorts := map[string]bool{}, map[string]bool{}
	for _, o := range Options() {
		if !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(o.Name) || names[o.Name] {
			t.Errorf("%q is no name, or there twice", o.Name)
		}
		if o.Short != "" && shorts[o.Short] {
			t.Errorf("-%s is there twice", o.Short)
		}
		names[o.Name], shorts[o.Short] = true, true
		if o.Help == "" || strings.HasSuffix(o.Help, ".") || strings.Contains(o.Help, "|") {
			t.Errorf("%s: help %q", o.Name, o.Help)
		}
		m := NewMirror()
		value := o.Bind(m)
		if got := value.String(); o.Default != got {
			t.Errorf("%s: the table says the default is %q, and it is %q", o.Name, o.Default, got)
		}
		if o.Default != "" {
			if err := value.Set(o.Default); err != nil {
				t.Errorf("%s: the default cannot be set: %v", o.Name, err)
			}
		}
		if diff := cmp.Diff(NewMirror(), m); diff != "" {
			t.Errorf("%s: setting the default changes something: %s", o.Name, diff)
		}
		if value.Type() != "PATTERN" {
			if err := value.Set("\x00"); err == nil {
				t.Errorf("%s accepts a NUL", o.Name)
			}
		}
	}
}

// write puts a configuration file into a directory of the test.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mirror.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func none(string) bool { return false }

func TestReadFile(t *testing.T) {
	path := write(t, `
# comments are fine
exclude = ["*.tmp", "/cache/"]
include = ["/cache/keep"]
bwlimit = "10M"
compress = true
sync-jobs = 7
port = 2222
scan-interval = "15m"
delete-limit = "5%:10"
ssh-command = "ssh -i '/root/my key'"
`)
	m := NewMirror()
	m.Patterns = []string{"typed"}
	m.Port = 22
	if err := ReadFile(path, m, func(name string) bool { return name == "port" || name == "exclude" }); err != nil {
		t.Fatal(err)
	}
	want := NewMirror()
	want.Patterns = []string{"*.tmp", "/cache/", "!/cache/keep", "typed"}
	want.BwLimit, want.Compress, want.SyncJobs, want.Port = 10<<20, true, 7, 22
	want.ScanInterval, want.DeleteLimit = 15*time.Minute, DeleteLimit{5, 10}
	want.SSHCommand = "ssh -i '/root/my key'"
	if diff := cmp.Diff(want, m); diff != "" {
		t.Error(diff)
	}
}

// What a person gets wrong is answered with the place and the fix.
func TestReadFileErrors(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"bwlimit = \"10M\"\nbwlimt = 3\n", `line 2: unknown option "bwlimt", did you mean "bwlimit"?`},
		{"zzzzzz = 3\n", `line 1: unknown option "zzzzzz": 'georep mirror --help' lists the options`},
		{"\nallow-delete = true\n", `line 2: "allow-delete" can only be given on the command line, as --allow-delete`},
		{"once = true\n", `can only be given on the command line`},
		{"bwlimit = \n", `line 1`},
		{"bwlimit = 'fast'\n", `bwlimit: "fast" is not a rate`},
		{"bwlimit = 12.5\n", `bwlimit: want a string, a number, true or false`},
		{"compress = 'perhaps'\n", `compress: "perhaps" is not a switch`},
		{"sync-jobs = 0\n", `sync-jobs: "0" is not a number from 1 to 64`},
		{"sync-jobs = [1, 2]\n", `sync-jobs: want one value, not a list`},
		{"exclude = [1]\n", `exclude: want a list of strings`},
		{"exclude = [\"a\\nb\"]\n", `exclude: "a\nb" is not a pattern`},
		{"sync-method = 'ftp'\n", `sync-method: "ftp" is not one of native, rsync, tarssh`},
		{"scan-interval = '1ms'\n", `scan-interval: "1ms" is too short`},
		{"[mirror]\nport = 1\n", `unknown option "mirror"`},
	} {
		err := ReadFile(write(t, test.text), NewMirror(), none)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got %v, want %s", test.text, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: the error is not one line: %v", test.text, err)
		}
	}
	if err := ReadFile(filepath.Join(t.TempDir(), "none"), NewMirror(), none); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
}

func TestCheckFindsContradictions(t *testing.T) {
	for _, m := range []Mirror{{JSON: true, Quiet: true}, {AllowDelete: true, DryRun: true}} {
		if m.Check() == nil {
			t.Errorf("%+v is accepted", m)
		}
	}
	if err := NewMirror().Check(); err != nil {
		t.Error(err)
	}
}

func FuzzReadFile(f *testing.F) {
	f.Add([]byte("bwlimit = '1M'\nexclude = ['a']\n"))
	f.Add([]byte("[a]\nb = {c = 1}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := NewMirror()
		if err := parseFile(data, m, none); err == nil && (m.SyncJobs < 1 || m.Port < 0 || m.BwLimit < 0) {
			t.Errorf("accepted impossible values: %+v", m)
		}
	})
}
