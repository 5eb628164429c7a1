// Package ignore decides by gitignore-like patterns which entries of a tree are left out.
//
// The patterns have the meaning of gitignore(5): a slash at the start or in the middle ties a pattern to the root, a slash at the
// end restricts it to directories, "**" spans directories, and the last pattern that matches an entry decides, so that a later
// "!pattern" takes back an earlier one. An entry below an excluded directory is always excluded. Names are bytes: the wildcards
// match what is not UTF-8 too, one byte for one "?".
package ignore

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
)

// Matcher is a compiled list of patterns. It is immutable and may be used by many goroutines at once.
type Matcher struct {
	rules []rule
}

// rule is one pattern in the form that the glob library takes.
type rule struct {
	glob    string // matched against the whole path, without slashes at its ends
	base    bool   // the glob has one component and is matched against the last component alone
	dirOnly bool
	include bool // the pattern began with "!"
}

// New compiles patterns in the order of their weight: a later one overrules an earlier one. Empty lines and lines that begin
// with "#" are comments. The error names the pattern that cannot be understood.
func New(patterns ...string) (*Matcher, error) {
	m := &Matcher{}
	for _, pattern := range patterns {
		r, ok, err := compile(pattern)
		if err != nil {
			return nil, err
		}
		if ok {
			m.rules = append(m.rules, r)
		}
	}
	return m, nil
}

// Empty says whether there is no pattern, so that nothing is ever excluded.
func (m *Matcher) Empty() bool { return m == nil || len(m.rules) == 0 }

// Excluded says whether the entry at path (relative to the root, without slashes at its ends) is left out, given that the
// directories above it are not.
func (m *Matcher) Excluded(path string, dir bool) bool {
	if m.Empty() || path == "" {
		return false
	}
	path = printable(path)
	last := path[strings.LastIndexByte(path, '/')+1:]
	for i := len(m.rules) - 1; i >= 0; i-- {
		r := &m.rules[i]
		if r.dirOnly && !dir {
			continue
		}
		name := path
		if r.base {
			name = last
		}
		if doublestar.MatchUnvalidated(r.glob, name) {
			return !r.include
		}
	}
	return false
}

// compile turns one line into a rule; ok is false for a comment.
func compile(pattern string) (r rule, ok bool, err error) {
	text := trimBlanks(strings.TrimSuffix(pattern, "\r"))
	if text == "" || text[0] == '#' {
		return rule{}, false, nil
	}
	if text[0] == '!' {
		r.include, text = true, text[1:]
	}
	if strings.HasSuffix(text, "/") {
		r.dirOnly, text = true, strings.TrimRight(text, "/")
	}
	anchored := strings.Contains(text, "/")
	text = strings.TrimPrefix(text, "/")
	if text == "" {
		return rule{}, false, fmt.Errorf("compile exclude pattern %q: it names nothing below the root", pattern)
	}
	r.base = !anchored
	if strings.HasSuffix(text, "/**") {
		text += "/*" // what is inside, but not the directory itself
	}
	r.glob = escapeBraces(printable(text))
	if !doublestar.ValidatePattern(r.glob) {
		return rule{}, false, fmt.Errorf("compile exclude pattern %q: a bracket is not closed, or a backslash ends it: write \\[ or \\\\ for the character itself", pattern)
	}
	return r, true, nil
}

// trimBlanks removes blanks at the end unless they are quoted with a backslash.
func trimBlanks(s string) string {
	for strings.HasSuffix(s, " ") && !strings.HasSuffix(s, `\ `) {
		s = s[:len(s)-1]
	}
	return s
}

// escapeBraces takes away the special meaning that braces have for the library and not in gitignore patterns.
func escapeBraces(s string) string {
	if !strings.ContainsAny(s, "{}") {
		return s
	}
	var b strings.Builder
	inClass := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			b.WriteByte(c)
			i++
			b.WriteByte(s[i])
			continue
		case c == '[':
			inClass = true
		case c == ']':
			inClass = false
		case (c == '{' || c == '}') && !inClass:
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// strayByte is where bytes that are not UTF-8 are put for the library, which takes all of them for the same character: the
// end of the last private plane, where no real name lies.
const strayByte = 0x10ff00

// printable gives s as valid UTF-8 such that different byte strings stay different.
func printable(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		c, n := utf8.DecodeRuneInString(s[i:])
		if c == utf8.RuneError && n == 1 {
			c = strayByte + rune(s[i])
		}
		b.WriteRune(c)
		i += n
	}
	return b.String()
}
