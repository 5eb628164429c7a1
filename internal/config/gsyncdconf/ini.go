package gsyncdconf

import (
	"fmt"
	"strings"
)

// Section is one section of a file, with the names in lower case.
type Section struct {
	Name   string
	Values []Pair
}

// Pair is one name and its value.
type Pair struct{ Name, Value string }

// Get gives the value of a name in the section; of a name that stands there twice the last.
func (s Section) Get(name string) (string, bool) {
	for i := len(s.Values) - 1; i >= 0; i-- {
		if s.Values[i].Name == name {
			return s.Values[i].Value, true
		}
	}
	return "", false
}

// line is what one line of a file is.
type line struct {
	kind  lineKind
	name  string // of the section, or of the value
	value string
}

type lineKind int

const (
	lineOther        lineKind = iota // blank, or a comment
	lineSection                      // [name]
	lineValue                        // name = value, or name: value
	lineContinuation                 // more of the value above
	lineBroken                       // none of these
)

// classify reads one line. inValue says that a value stands above, which an indented line continues.
func classify(text string, inValue bool) line {
	trimmed := strings.TrimSpace(text)
	switch {
	case trimmed == "", trimmed[0] == '#', trimmed[0] == ';':
		return line{}
	case inValue && (text[0] == ' ' || text[0] == '\t'):
		return line{kind: lineContinuation, value: trimmed}
	case trimmed[0] == '[' && strings.Contains(trimmed, "]"):
		return line{kind: lineSection, name: trimmed[1:strings.LastIndexByte(trimmed, ']')]}
	}
	at := strings.IndexAny(trimmed, "=:")
	if at <= 0 {
		return line{kind: lineBroken}
	}
	return line{kind: lineValue, name: strings.ToLower(strings.TrimSpace(trimmed[:at])), value: strings.TrimSpace(trimmed[at+1:])}
}

// ParseINI reads a file as Gluster's own tools write and read it. What is no section, value, comment or continuation is an error that
// names the line; all else has been read then. Sections of one name are one.
func ParseINI(text string) ([]Section, error) {
	var sections []Section
	var err error
	current, inValue := -1, false
	number := 0
	for raw := range strings.Lines(text) {
		number++
		l := classify(strings.TrimRight(raw, "\r\n"), inValue)
		switch {
		case l.kind == lineOther:
			continue
		case l.kind == lineSection:
			current, inValue = find(&sections, l.name), false
		case l.kind == lineValue && current >= 0:
			sections[current].Values = append(sections[current].Values, Pair{l.name, l.value})
			inValue = true
		case l.kind == lineContinuation:
			last := &sections[current].Values[len(sections[current].Values)-1]
			last.Value = strings.TrimSpace(last.Value + "\n" + l.value)
		case err == nil:
			err = fmt.Errorf("line %d is neither a section nor a value: %q", number, strings.TrimSpace(raw))
		}
	}
	return sections, err
}

func find(sections *[]Section, name string) int {
	for i, s := range *sections {
		if s.Name == name {
			return i
		}
	}
	*sections = append(*sections, Section{Name: name})
	return len(*sections) - 1
}

// vars is the section in which a session's file has its values.
const vars = "vars"

// SetVar gives the text of a session's file in which the value of a name is another. All other lines stay as they are.
func SetVar(text, name, value string) string {
	lines, at := dropVar(text, name)
	entry := name + " = " + value
	if at < 0 {
		if end := sectionEnd(lines); end >= 0 {
			at = end
		} else {
			lines = append(lines, "["+vars+"]")
			at = len(lines)
		}
	}
	lines = append(lines[:at], append([]string{entry}, lines[at:]...)...)
	return strings.Join(lines, "\n") + "\n"
}

// DeleteVar gives the text of a session's file without a name.
func DeleteVar(text, name string) string {
	lines, _ := dropVar(text, name)
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// dropVar takes all lines of a value, however its name is spelled, out of the section of values; at is where the first was, or -1.
func dropVar(text, name string) (lines []string, at int) {
	at = -1
	inVars, inValue, dropping := false, false, false
	for raw := range strings.Lines(text) {
		raw = strings.TrimRight(raw, "\r\n")
		l := classify(raw, inValue)
		switch l.kind {
		case lineSection:
			inVars, inValue, dropping = l.name == vars, false, false
		case lineValue:
			inValue = true
			dropping = inVars && Canonical(l.name) == Canonical(name)
			if dropping && at < 0 {
				at = len(lines)
			}
		}
		if dropping && (l.kind == lineValue || l.kind == lineContinuation) {
			continue
		}
		lines = append(lines, raw)
	}
	return lines, at
}

// sectionEnd is the line behind the last value of the section of values; -1 when there is no such section.
func sectionEnd(lines []string) int {
	end, inVars := -1, false
	for i, raw := range lines {
		l := classify(raw, false)
		switch {
		case l.kind == lineSection:
			inVars = l.name == vars
		case l.kind == lineOther:
			continue
		}
		if inVars {
			end = i + 1
		}
	}
	return end
}
