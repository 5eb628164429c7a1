package wire

import (
	"bytes"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/cpu"
)

const (
	helloWord  = "georep"
	helloLimit = 4 << 10  // bytes of a greeting's line
	noiseLimit = 64 << 10 // bytes that may come before the agent's greeting
)

// FeatureAES is named in the greeting of an agent whose processor has instructions for AES.
const FeatureAES = "aes"

// FastAES says whether this host's processor has instructions for AES, as encryption by AES-GCM needs them to be fast.
func FastAES() bool {
	return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL || cpu.S390X.HasAESGCM
}

// Greeting is what an end of the connection says of itself in the line that comes first:
//
//	georep PROTOCOL VERSION oldest=N features=a,b KEY=VALUE...
type Greeting struct {
	Protocol int    // the newest version of the protocol that it speaks
	Oldest   int    // the oldest
	Version  string // of the program, for people
	Features []string
	Options  map[string]string // from the worker: options of the session that matter to the agent
}

// Has says whether the feature was named.
func (g Greeting) Has(feature string) bool { return slices.Contains(g.Features, feature) }

// line gives the greeting as it is sent, with its newline.
func (g Greeting) line() (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %s oldest=%d", helloWord, g.Protocol, url.QueryEscape(g.Version), g.Oldest)
	if len(g.Features) > 0 {
		quoted := make([]string, len(g.Features))
		for i, f := range g.Features {
			quoted[i] = url.QueryEscape(f)
		}
		b.WriteString(" features=" + strings.Join(quoted, ","))
	}
	keys := make([]string, 0, len(g.Options))
	for k := range g.Options {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		fmt.Fprintf(&b, " opt.%s=%s", url.QueryEscape(k), url.QueryEscape(g.Options[k]))
	}
	b.WriteByte('\n')
	if b.Len() > helloLimit {
		return "", fmt.Errorf("make greeting: %d bytes of options and features are more than %d", b.Len(), helloLimit)
	}
	return b.String(), nil
}

// parseGreeting reads a greeting's line without its newline. Keys that it does not know are overlooked.
func parseGreeting(line string) (Greeting, error) {
	words := strings.Split(line, " ")
	if len(words) < 3 || words[0] != helloWord {
		return Greeting{}, protocolError("%q is no greeting", clean(line, 80))
	}
	n, err := strconv.Atoi(words[1])
	if err != nil || n < 0 || n > 1<<20 { // 0 is what came before the first release
		return Greeting{}, protocolError("%q is no version of the protocol", clean(words[1], 20))
	}
	version, err := url.QueryUnescape(words[2])
	if err != nil {
		return Greeting{}, protocolError("the version in the greeting cannot be read")
	}
	g := Greeting{Protocol: n, Oldest: n, Version: clean(version, 100)}
	for _, word := range words[3:] {
		if err := g.parseWord(word); err != nil {
			return Greeting{}, err
		}
	}
	if g.Oldest < 0 || g.Oldest > g.Protocol {
		return Greeting{}, protocolError("the greeting names versions %d to %d", g.Oldest, g.Protocol)
	}
	return g, nil
}

func (g *Greeting) parseWord(word string) error {
	key, value, _ := strings.Cut(word, "=")
	switch {
	case key == "oldest":
		n, err := strconv.Atoi(value)
		if err != nil {
			return protocolError("%q is no version of the protocol", clean(value, 20))
		}
		g.Oldest = n
	case key == "features":
		for quoted := range strings.SplitSeq(value, ",") {
			f, err := url.QueryUnescape(quoted)
			if err != nil {
				return protocolError("a feature in the greeting cannot be read")
			}
			g.Features = append(g.Features, clean(f, 200))
		}
	case strings.HasPrefix(key, "opt."):
		k, err := url.QueryUnescape(key[len("opt."):])
		if err != nil {
			return protocolError("an option in the greeting cannot be read")
		}
		v, err := url.QueryUnescape(value)
		if err != nil {
			return protocolError("an option in the greeting cannot be read")
		}
		if g.Options == nil {
			g.Options = map[string]string{}
		}
		g.Options[k] = v
	}
	return nil
}

// HelloProblem says what was wrong with the other side's greeting.
type HelloProblem int

// The problems.
const (
	HelloNothing  HelloProblem = 1 + iota // the stream ended, or the time was up, before anything came
	HelloNoise                            // something came, but no greeting
	HelloTerminal                         // the remote side allocated a terminal, which spoils the stream
	HelloTooOld                           // the other side is too old
	HelloTooNew                           // the other side is too new
)

// HelloError says why no connection came about, as a sentence with what to do.
type HelloError struct {
	Problem HelloProblem
	Text    string
	Err     error // of reading; may be nil
}

func (e *HelloError) Error() string { return e.Text }

// Unwrap gives the error of reading, if there was one.
func (e *HelloError) Unwrap() error { return e.Err }

// findGreeting reads from r until the agent's greeting, past what login scripts print on standard output. rest is what was read
// beyond the greeting.
func findGreeting(r io.Reader) (g Greeting, rest []byte, err error) {
	var seen []byte
	chunk := make([]byte, 4<<10)
	for lineStart := 0; ; {
		n, err := r.Read(chunk)
		seen = append(seen, chunk[:n]...)
		for {
			end := bytes.IndexByte(seen[lineStart:], '\n')
			if end < 0 {
				break
			}
			line := seen[lineStart : lineStart+end]
			lineStart += end + 1
			g, ok, err := isGreeting(line)
			if err != nil {
				return g, nil, err
			}
			if ok {
				return g, seen[lineStart:], nil
			}
		}
		if err != nil {
			return Greeting{}, nil, noGreeting(seen, err)
		}
		if len(seen) > noiseLimit {
			return Greeting{}, nil, noGreeting(seen, nil)
		}
	}
}

// isGreeting says whether a line is a greeting. Lines that only begin like one are not.
func isGreeting(line []byte) (Greeting, bool, error) {
	if !bytes.HasPrefix(line, []byte(helloWord+" ")) || len(line) > helloLimit {
		return Greeting{}, false, nil
	}
	line, terminal := bytes.CutSuffix(line, []byte("\r"))
	g, err := parseGreeting(string(line))
	if err != nil {
		return Greeting{}, false, nil
	}
	if terminal {
		return g, false, &HelloError{Problem: HelloTerminal, Text: "ssh allocated a terminal on the remote host, which changes the bytes that pass: " +
			"remove RequestTTY from your ssh configuration for this host"}
	}
	return g, true, nil
}

// noGreeting makes the error for a stream without a greeting.
func noGreeting(seen []byte, err error) error {
	if err == io.EOF {
		err = nil
	}
	text := strings.TrimSpace(clean(string(seen), 300))
	if text == "" {
		return &HelloError{Problem: HelloNothing, Err: err, Text: "the remote georep did not answer: " +
			"check that georep is installed on the remote host and in its PATH, or give --remote-georep PATH"}
	}
	return &HelloError{Problem: HelloNoise, Err: err, Text: fmt.Sprintf("the remote georep did not answer, only this came: %q: "+
		"check that georep is installed on the remote host and in its PATH (or give --remote-georep PATH), "+
		"and that the account's login scripts and shell allow commands", text)}
}

// agree gives the version of the protocol that both speak.
func agree(mine, theirs Greeting, here, there string) (int, error) {
	if theirs.Protocol < mine.Oldest {
		return 0, &HelloError{Problem: HelloTooOld, Text: fmt.Sprintf("the georep %s is too old (version %s speaks protocol %d, this one needs %d to %d): update georep %s",
			there, theirs.Version, theirs.Protocol, mine.Oldest, mine.Protocol, there)}
	}
	if theirs.Oldest > mine.Protocol {
		return 0, &HelloError{Problem: HelloTooNew, Text: fmt.Sprintf("the georep %s is too old (version %s speaks protocol %d, the one %s, version %s, needs %d to %d): update georep %s",
			here, mine.Version, mine.Protocol, there, theirs.Version, theirs.Oldest, theirs.Protocol, here)}
	}
	return min(mine.Protocol, theirs.Protocol), nil
}

// clean makes foreign text fit to be shown: valid UTF-8 without control characters, of at most limit bytes or a little less.
func clean(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	s = strings.ToValidUTF8(s, "?")
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}

// readGreeting reads a greeting that must come first. rest is what was read beyond it.
func readGreeting(r io.Reader) (g Greeting, rest []byte, err error) {
	seen := make([]byte, 0, helloLimit)
	for {
		n, err := r.Read(seen[len(seen):cap(seen)])
		seen = seen[:len(seen)+n]
		if line, rest, ok := bytes.Cut(seen, []byte("\n")); ok {
			g, err := parseGreeting(string(line))
			return g, rest, err
		}
		if err == io.EOF && len(seen) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return g, nil, err
		}
		if len(seen) == cap(seen) {
			return g, nil, protocolError("a greeting is longer than %d bytes", helloLimit)
		}
	}
}
