package dial

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		"":                              nil,
		"  ssh  ":                       {"ssh"},
		"ssh -p 22\t-v":                 {"ssh", "-p", "22", "-v"},
		`ssh -i '/my key' -o "A=b c"`:   {"ssh", "-i", "/my key", "-o", "A=b c"},
		`a\ b 'it'\''s' "q\"\\\$\x"`:    {"a b", "it's", `q"\$\x`},
		`'' ""`:                         {"", ""},
		`-oProxyCommand='ssh -W %h:%p'`: {"-oProxyCommand=ssh -W %h:%p"},
		`$HOME *`:                       {"$HOME", "*"},
	} {
		if got, err := Words(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v", line, got, err)
		}
	}
	for _, line := range []string{`'open`, `"open`, `end\`, `"open\"`} {
		if got, err := Words(line); err == nil {
			t.Errorf("%s: got %q", line, got)
		}
	}
}

// TestQuoteIsReadTheSame by our own splitting and by a shell.
func TestQuoteIsReadTheSame(t *testing.T) {
	special := []string{"", "a", "a b", "it's", `"`, `\`, "$HOME", "`id`", "*", "~", "a\nb", "!x", "#", "-n", "caf\xc3\xa9", "a;b&c|d", "(x)", "{a,b}", "=x"}
	rapid.Check(t, func(t *rapid.T) {
		args := rapid.SliceOfN(rapid.SampledFrom(special), 1, 5).Draw(t, "args")
		if got, err := Words(Quote(args)); err != nil || !slices.Equal(got, args) {
			t.Fatalf("%s: got %q, %v", Quote(args), got, err)
		}
	})
	for _, arg := range special {
		out, err := exec.Command("sh", "-c", "printf '%s|' "+Quote([]string{arg, arg + "x"})).Output()
		if err != nil || string(out) != arg+"|"+arg+"x|" {
			t.Errorf("%q: the shell read %q, %v", arg, out, err)
		}
	}
}

func FuzzWords(f *testing.F) {
	f.Add(`ssh -i '/my key' -o "A=b c" \x`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := Words(line)
		if err != nil {
			return
		}
		again, err := Words(Quote(words))
		if err != nil || !slices.Equal(again, words) {
			t.Fatalf("got %q, %v, want %q", again, err, words)
		}
	})
}

func TestParseTarget(t *testing.T) {
	for s, want := range map[string]Target{
		"/srv/copy":            {Path: "/srv/copy"},
		"copy":                 {Path: "copy"},
		"./a:b":                {Path: "./a:b"},
		"dir/a:b":              {Path: "dir/a:b"},
		"host:/srv":            {Host: "host", Path: "/srv"},
		"host:srv/a:b":         {Host: "host", Path: "srv/a:b"},
		"me@host:x":            {User: "me", Host: "host", Path: "x"},
		"me@corp@host:x":       {User: "me@corp", Host: "host", Path: "x"},
		"[::1]:/srv":           {Host: "::1", Path: "/srv"},
		"me@[fe80::1%eth0]:/s": {User: "me", Host: "fe80::1%eth0", Path: "/s"},
		"[host]:x":             {Host: "host", Path: "x"},
		"host:~/x y":           {Host: "host", Path: "x y"},
		"host:~":               {Host: "host", Path: "."},
		"host:~/":              {Host: "host", Path: "."},
		"192.0.2.1:/a\nb":      {Host: "192.0.2.1", Path: "/a\nb"},
		"[dir]/x:y":            {Path: "[dir]/x:y"},
		"a/[b]:c":              {Path: "a/[b]:c"},
	} {
		got, err := ParseTarget(s)
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v", s, got, err)
		}
		if again, err := ParseTarget(got.String()); err != nil || again != got {
			t.Errorf("%q: written as %q it is %+v, %v", s, got.String(), again, err)
		}
	}
	for s, text := range map[string]string{
		"":               "empty",
		"host:":          "missing",
		":x":             "missing",
		"@host:x":        "user",
		"host::module":   "rsync daemon",
		"ssh://host/x":   "--port",
		"-oProxy=x:/srv": "option",
		"-x@host:/srv":   "option",
		"me@-host:/srv":  "option",
		"ho st:/srv":     "blanks",
		"host:~bob/x":    "~USER",
		"a\x00b":         "NUL",
		"[]:x":           "missing",
	} {
		if got, err := ParseTarget(s); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %+v, %v", s, got, err)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"me@[fe80::1%eth0]:/s", "host:~/x", "./a:b", "a[b]:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseTarget(s)
		if err != nil {
			return
		}
		if got.Path == "" || strings.HasPrefix(got.Host, "-") || strings.HasPrefix(got.User, "-") {
			t.Errorf("%q: got %+v", s, got)
		}
		if again, err := ParseTarget(got.String()); err == nil && again.Remote() != got.Remote() {
			t.Errorf("%q: got %+v, and written as %q %+v", s, got, got.String(), again)
		}
	})
}
