package dial

import (
	"errors"
	"fmt"
	"strings"
)

// Target is where a copy goes: a directory here, or on another host.
type Target struct {
	User string // "" leaves it to ssh
	Host string // "" means here; a numeric IPv6 address is without brackets
	Path string // never empty; on another host relative to the account's home unless it begins with a slash
}

// Remote says whether the target is on another host.
func (t Target) Remote() bool { return t.Host != "" }

// String writes the target as ParseTarget reads it.
func (t Target) String() string {
	if !t.Remote() {
		if strings.Contains(strings.SplitN(t.Path, "/", 2)[0], ":") {
			return "./" + t.Path
		}
		return t.Path
	}
	host := t.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if t.User != "" {
		host = t.User + "@" + host
	}
	return host + ":" + t.Path
}

// ParseTarget reads [USER@]HOST:DEST, or DEST for a directory here. As with scp and rsync a colon before the first slash makes it another
// host's; a local name with a colon is written ./NAME. A numeric IPv6 address is put in brackets.
func ParseTarget(s string) (Target, error) {
	if s == "" {
		return Target{}, errors.New("the target is empty: write [USER@]HOST:DIRECTORY, or a directory")
	}
	if strings.IndexByte(s, 0) >= 0 {
		return Target{}, errors.New("the target has a NUL byte in it")
	}
	if strings.HasPrefix(s, "ssh://") {
		return Target{}, fmt.Errorf("target %q: write [USER@]HOST:DIRECTORY, and the port with --port", s)
	}
	login, path, ok := cutHost(s)
	if !ok {
		return Target{Path: s}, nil
	}
	t := Target{Path: path}
	t.Host = login
	if at := strings.LastIndexByte(login, '@'); at >= 0 {
		t.User, t.Host = login[:at], login[at+1:]
		if t.User == "" {
			return Target{}, fmt.Errorf("target %q: the user's name before @ is missing", s)
		}
	}
	if inner, ok := strings.CutPrefix(t.Host, "["); ok {
		t.Host = strings.TrimSuffix(inner, "]")
	}
	return t.checked(s)
}

// cutHost splits what is before the colon that ends a host from what is behind it. ok is false when there is no host.
func cutHost(s string) (login, path string, ok bool) {
	start := 0
	slash := strings.IndexByte(s, '/')
	if open := strings.IndexByte(s, '['); open >= 0 && (slash < 0 || open < slash) && (open == 0 || s[open-1] == '@') {
		end := strings.Index(s[open:], "]:")
		if end < 0 {
			return "", "", false
		}
		start = open + end
		slash = strings.IndexByte(s[start:], '/')
		if slash >= 0 {
			slash += start
		}
	}
	colon := strings.IndexByte(s[start:], ':')
	if colon < 0 || slash >= 0 && slash < start+colon {
		return "", "", false
	}
	return s[:start+colon], s[start+colon+1:], true
}

// checked refuses what ssh or a person would misunderstand, and resolves a leading ~, which no remote shell sees.
func (t Target) checked(s string) (Target, error) {
	switch {
	case t.Host == "":
		return Target{}, fmt.Errorf("target %q: the host before the colon is missing (write ./%s for a local name with a colon)", s, s)
	case strings.HasPrefix(t.Path, ":"):
		return Target{}, fmt.Errorf("target %q: HOST::MODULE is a module of an rsync daemon: georep speaks to hosts by ssh, write HOST:DIRECTORY", s)
	case t.Path == "":
		return Target{}, fmt.Errorf("target %q: the directory after the colon is missing", s)
	case strings.HasPrefix(t.Host, "-") || strings.HasPrefix(t.User, "-"):
		return Target{}, fmt.Errorf("target %q: a user or host that begins with - would be an option of ssh", s)
	case strings.ContainsAny(t.Host+t.User, "[]/"):
		return Target{}, fmt.Errorf("target %q: a user or host has no brackets or slashes in it", s)
	case strings.ContainsFunc(t.Host+t.User, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return Target{}, fmt.Errorf("target %q: a user or host has no blanks", s)
	}
	home, tilde := strings.CutPrefix(t.Path, "~")
	switch {
	case !tilde:
	case home == "" || strings.Trim(home, "/") == "" && home[0] == '/':
		t.Path = "."
	case home[0] == '/':
		t.Path = strings.TrimLeft(home, "/")
	default:
		return Target{}, fmt.Errorf("target %q: ~USER is not resolved: write the whole path", s)
	}
	return t, nil
}
