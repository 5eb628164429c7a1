// Package keys makes the ssh keys of a node, and the lines that let them in on a secondary: for geo-replication of certain volumes, and
// for nothing else.
package keys

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Pair is a primary and a secondary volume that a key is for.
type Pair struct{ Primary, Secondary string }

// Line is one line of an authorized_keys file that holds a key.
type Line struct {
	Options []string // each as it is written, with its quotes
	Type    string   // "ssh-ed25519"
	Blob    string   // the key itself, in base64
	Comment string
}

// ErrLine is the error of a line that holds no key.
var ErrLine = errors.New("no public key")

// ErrVolume is the error of a name that is none of a volume, and that must not get into a command line.
var ErrVolume = errors.New("no name of a volume")

// ParseLine reads a line of an authorized_keys file.
func ParseLine(text string) (Line, error) {
	words := split(strings.TrimSpace(text), " \t")
	for i, word := range words {
		if i > 1 {
			break
		}
		if !isType(word) || i+1 >= len(words) {
			continue
		}
		l := Line{Type: word, Blob: words[i+1], Comment: strings.Join(words[i+2:], " ")}
		if i == 1 {
			l.Options = split(words[0], ",")
		}
		return l, nil
	}
	return Line{}, fmt.Errorf("%q: %w", text, ErrLine)
}

func isType(word string) bool {
	return strings.HasPrefix(word, "ssh-") || strings.HasPrefix(word, "ecdsa-") || strings.HasPrefix(word, "sk-")
}

// split cuts at any of the separators, but not within quotes. Empty parts are left out.
func split(text, separators string) []string {
	var parts []string
	var part strings.Builder
	quoted := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && quoted && i+1 < len(text) && text[i+1] == '"':
			part.WriteString(`\"`)
			i++
			continue
		case c == '"':
			quoted = !quoted
		case !quoted && strings.IndexByte(separators, c) >= 0:
			if part.Len() > 0 {
				parts = append(parts, part.String())
				part.Reset()
			}
			continue
		}
		part.WriteByte(c)
	}
	if part.Len() > 0 {
		parts = append(parts, part.String())
	}
	return parts
}

// String writes the line.
func (l Line) String() string {
	words := []string{l.Type, l.Blob}
	if len(l.Options) > 0 {
		words = append([]string{strings.Join(l.Options, ",")}, words...)
	}
	if l.Comment != "" {
		words = append(words, l.Comment)
	}
	return strings.Join(words, " ")
}

// Command is the forced command of the line; ok is false when it has none.
func (l Line) Command() (command string, ok bool) {
	for _, option := range l.Options {
		if value, isCommand := strings.CutPrefix(option, `command="`); isCommand {
			return strings.TrimSuffix(strings.ReplaceAll(value, `\"`, `"`), `"`), true
		}
	}
	return "", false
}

// Pairs are the volumes for which the line lets its key in. ok is false when its command is not gsyncd; no pairs mean all volumes.
func (l Line) Pairs() (pairs []Pair, ok bool) {
	command, _ := l.Command()
	words := strings.Fields(command)
	if len(words) == 0 || filepath.Base(words[0]) != "gsyncd" {
		return nil, false
	}
	for rest := words[1:]; len(rest) >= 3 && rest[0] == "pair"; rest = rest[3:] {
		pairs = append(pairs, Pair{rest[1], rest[2]})
	}
	return pairs, true
}

// volumeName is what glusterd allows.
var volumeName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]*$`)

// Restrict gives the line with which sshd starts this gsyncd for the key, whatever it asks for, and for these pairs only; none mean all.
func (l Line) Restrict(gsyncd string, pairs []Pair) (Line, error) {
	command := gsyncd
	for _, p := range pairs {
		for _, name := range []string{p.Primary, p.Secondary} {
			if !volumeName.MatchString(name) {
				return Line{}, fmt.Errorf("%q: %w", name, ErrVolume)
			}
		}
		command += " pair " + p.Primary + " " + p.Secondary
	}
	l.Options = []string{"restrict", `command="` + command + `"`}
	return l, nil
}

// RestrictAll rewrites those lines of a text that are for gsyncd, so that they are for one pair. Other lines stay.
func RestrictAll(text string, pair Pair) (string, error) {
	var b strings.Builder
	for raw := range strings.Lines(text) {
		l, err := ParseLine(raw)
		if err == nil {
			if _, ours := l.Pairs(); ours {
				command, _ := l.Command()
				if l, err = l.Restrict(strings.Fields(command)[0], []Pair{pair}); err != nil {
					return "", err
				}
				raw = l.String() + "\n"
			}
		}
		b.WriteString(raw)
	}
	return b.String(), nil
}

// Merge adds lines to the text of an authorized_keys file. sshd heeds only the first line of a key, so a key that is there already for other
// pairs gets the new pairs on that line. A key that may do more already stays as it is. Gsyncd is the program's path on this host.
func Merge(text, more, gsyncd string) (string, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if text == "" {
		lines = nil
	}
	for raw := range strings.Lines(more) {
		raw = strings.TrimSpace(raw)
		added, err := ParseLine(raw)
		if err != nil {
			if raw == "" || raw[0] == '#' {
				continue
			}
			return "", err
		}
		if lines, err = merge(lines, added, gsyncd); err != nil {
			return "", err
		}
	}
	if len(lines) == 0 {
		return "", nil
	}
	return strings.Join(lines, "\n") + "\n", nil
}

func merge(lines []string, added Line, gsyncd string) ([]string, error) {
	pairs, ours := added.Pairs()
	if ours {
		restricted, err := added.Restrict(gsyncd, pairs)
		if err != nil {
			return nil, err
		}
		added = restricted
	}
	for i, raw := range lines {
		present, err := ParseLine(raw)
		if err != nil || present.Blob != added.Blob {
			continue
		}
		known, isOurs := present.Pairs()
		if !isOurs || !ours {
			if raw == added.String() {
				return lines, nil
			}
			continue
		}
		if len(known) == 0 {
			return lines, nil // it is let in for all volumes already, as the reference does it
		}
		for _, p := range pairs {
			if !slices.Contains(known, p) {
				known = append(known, p)
			}
		}
		if len(pairs) == 0 {
			known = nil
		}
		widened, err := added.Restrict(gsyncd, known)
		if err != nil {
			return nil, err
		}
		lines[i] = widened.String()
		return lines, nil
	}
	return append(lines, added.String()), nil
}
