package ignore

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"georep/internal/need"
)

func TestExcluded(t *testing.T) {
	for _, c := range []struct {
		patterns string // one a line
		path     string
		dir      bool
		want     bool
	}{
		{"*.tmp", "a/b/c.tmp", false, true},
		{"*.tmp", "a/c.tmpx", false, false},
		{"/a", "a", false, true},
		{"/a", "b/a", false, false},
		{"a/b", "c/a/b", false, false},
		{"cache/", "x/cache", true, true},
		{"cache/", "x/cache", false, false},
		{"**/b", "a/c/b", false, true},
		{"a/**", "a/c/b", false, true},
		{"a/**", "a", true, false},
		{"a/**/b", "a/b", false, true},
		{"a/**/b", "a/x/y/b", false, true},
		{"*\n!keep", "keep", false, false},
		{"!keep\n*", "keep", false, true},
		{"# no pattern", "# no pattern", false, false},
		{`\#x`, "#x", false, true},
		{`\!x`, "!x", false, true},
		{"a ", "a", false, true},
		{`a\ `, "a ", false, true},
		{"{a,b}", "a", false, false},
		{"{a,b}", "{a,b}", false, true},
		{"[a-c]x", "bx", false, true},
		{"[!a-c]x", "bx", false, false},
		{"?", "\xff", false, true},
		{"\xff*", "\xffa", false, true},
		{"\xff*", "\xfea", false, false},
		{"new\\\nline", "x", false, false},
	} {
		m, err := New(strings.Split(c.patterns, "\n")...)
		if c.path == "x" {
			if err == nil {
				t.Errorf("%q is taken", c.patterns)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.patterns, err)
		} else if got := m.Excluded(c.path, c.dir); got != c.want {
			t.Errorf("%q, %q, directory %v: %v", c.patterns, c.path, c.dir, got)
		}
	}
	for _, bad := range []string{"[a", "/", "!/", `a\`} {
		if _, err := New(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	var none *Matcher
	if !none.Empty() || none.Excluded("a", false) {
		t.Error("no matcher leaves something out")
	}
}

// TestEqualsGit asks git about random patterns and paths.
func TestEqualsGit(t *testing.T) {
	git := need.Program(t, "git")
	dir := t.TempDir()
	if out, err := exec.Command(git, "init", "-q", dir).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v\n%s", err, out)
	}
	part := rapid.SampledFrom([]string{"a", "b", "c", "*", "?", "a*", "*b", "[ab]", "[!a]", "**", "a?c", "ab"})
	name := rapid.SampledFrom([]string{"a", "b", "c", "ab", "abc", "ba"})
	rapid.Check(t, func(r *rapid.T) {
		var patterns []string
		for range rapid.IntRange(1, 4).Draw(r, "patterns") {
			p := strings.Join(rapid.SliceOfN(part, 1, 3).Draw(r, "parts"), "/")
			p = rapid.SampledFrom([]string{"", "", "/", "!"}).Draw(r, "before") + p + rapid.SampledFrom([]string{"", "", "/"}).Draw(r, "behind")
			patterns = append(patterns, p)
		}
		m, err := New(patterns...)
		if err != nil {
			r.Fatal(err)
		}
		var paths []string
		for range 12 {
			paths = append(paths, strings.Join(rapid.SliceOfN(name, 1, 3).Draw(r, "path"), "/"))
		}
		if err := os.WriteFile(dir+"/.gitignore", []byte(strings.Join(patterns, "\n")+"\n"), 0o600); err != nil {
			r.Fatal(err)
		}
		check := exec.Command(git, append([]string{"-C", dir, "check-ignore", "--no-index", "--"}, paths...)...)
		out, err := check.Output()
		if exit, failed := err.(*exec.ExitError); failed && exit.ExitCode() > 1 {
			r.Fatalf("git: %v\n%s", err, exit.Stderr)
		}
		ignored := strings.Fields(string(bytes.TrimSpace(out)))
		for _, path := range paths {
			got := false
			for i := range len(path) + 1 { // git asks for each directory above, too
				if i == len(path) || path[i] == '/' {
					if got = m.Excluded(path[:i], i < len(path)); got {
						break
					}
				}
			}
			if want := slices.Contains(ignored, path); got != want {
				r.Fatalf("patterns %q, path %q: left out %v, by git %v", patterns, path, got, want)
			}
		}
	})
}
