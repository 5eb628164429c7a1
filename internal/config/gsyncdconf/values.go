package gsyncdconf

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The errors of an option that cannot be read or set. Their texts are those that Gluster's users know.
var (
	//lint:ignore ST1005 Gluster's users and scripts know this text
	ErrName = errors.New("Invalid config name")
	//lint:ignore ST1005 Gluster's users and scripts know this text
	ErrValue = errors.New("Invalid config value")
	//lint:ignore ST1005 Gluster's users and scripts know this text
	ErrConfigurable = errors.New("Not configurable")
)

// Table is the options that are known, by name.
type Table map[string]Option

// NewTable is the table as a template file has it: the built-in one, where the file has other defaults and checks. An unreadable line of
// the file is left out.
//
// The file comes with Gluster, whose default for sync-method is rsync. Ours is native, so only another method there counts as chosen.
func NewTable(template string) Table {
	t := Table{}
	for _, o := range Builtin() {
		t[o.Name] = o
	}
	sections, _ := ParseINI(template) // a broken line must not stop the others: whoever edited the file wants the rest to work
	for _, s := range sections {
		if strings.HasPrefix(s.Name, "__") {
			continue
		}
		name := Canonical(s.Name)
		o, known := t[name]
		if !known {
			o = foreign(name, s)
		}
		if value, ok := s.Get("value"); ok && !(name == "sync-method" && value == "rsync") {
			o.Default, o.Unset = value, false
		}
		t[name] = o
	}
	return t
}

// foreign is an option that only the file knows.
func foreign(name string, s Section) Option {
	o := Option{Name: name, Unset: true}
	if kind, ok := s.Get("type"); ok {
		o.Kind = map[string]Kind{"int": Int, "float": Float, "bool": Bool}[kind]
	}
	template, _ := s.Get("template")
	fixed, isFixed := s.Get("configurable")
	o.Template, o.Fixed = template == "true", isFixed && fixed == "false"
	if allowed, ok := s.Get("allowed_values"); ok {
		o.Check, o.Allowed = Choice, strings.Split(allowed, ",")
	}
	return o
}

// Find gives the option of a name in either spelling. The error is ErrName.
func (t Table) Find(name string) (Option, error) {
	o, ok := t[Canonical(name)]
	if !ok {
		return Option{}, fmt.Errorf("%w %q", ErrName, name)
	}
	return o, nil
}

// Accept checks a value that a person wants to set and gives it as it is to be stored. The errors are ErrName, ErrConfigurable and
// ErrValue, each with what was typed.
func (t Table) Accept(name, value string) (string, error) {
	o, err := t.Find(name)
	if err != nil {
		return "", err
	}
	if o.Fixed {
		return "", fmt.Errorf("%w %q", ErrConfigurable, name)
	}
	stored, ok := o.accept(value)
	if !ok {
		return "", fmt.Errorf("%w \"%s=%s\"%s", ErrValue, name, value, o.wants())
	}
	return stored, nil
}

func (o Option) accept(value string) (string, bool) {
	if strings.ContainsAny(value, "\n\x00") {
		return "", false
	}
	value = strings.TrimSpace(value)
	number, isInt := 0, false
	switch o.Kind {
	case Bool:
		switch strings.ToLower(value) {
		case "true", "yes", "1", "on":
			return "true", true
		case "false", "no", "0", "off":
			return "false", true
		}
		return "", false
	case Int:
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return "", false
		}
		number, isInt, value = n, true, strconv.Itoa(n)
	case Float:
		if _, err := strconv.ParseFloat(value, 64); err != nil {
			return "", false
		}
	}
	switch o.Check {
	case Choice:
		at := slices.IndexFunc(o.Allowed, func(a string) bool { return strings.EqualFold(a, value) })
		if at < 0 {
			return "", false
		}
		return o.Allowed[at], true
	case Range:
		return value, isInt && number >= o.Least && number <= o.Most
	case UnixTime:
		return value, time.Unix(int64(number), 0).UTC().Year() != 1970
	case Program:
		return value, runs(value)
	}
	return value, true
}

// wants is what a value must be, for the message about one that is not.
func (o Option) wants() string {
	switch {
	case o.Check == Choice:
		return ": it must be one of " + strings.Join(o.Allowed, ", ")
	case o.Check == Range:
		return fmt.Sprintf(": it must be a number from %d to %d", o.Least, o.Most)
	case o.Check == UnixTime:
		return ": it must be seconds since 1970"
	case o.Check == Program:
		return ": there is no such program"
	case o.Kind == Int:
		return ": it must be a number"
	case o.Kind == Bool:
		return ": it must be true or false"
	}
	return ""
}

// runs says whether value is a program that can be started.
func runs(value string) bool {
	candidates := []string{value}
	if !strings.Contains(value, "/") {
		candidates = nil
		for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/bin", "/sbin", "/bin") {
			candidates = append(candidates, filepath.Join(dir, value))
		}
	} else if !filepath.IsAbs(value) {
		return false
	}
	for _, path := range candidates {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}

// Config is what holds for one session.
type Config struct {
	table    Table
	own      map[string]string // of the session's file
	place    map[string]string // what templates may name besides options
	Warnings []string          // about values that are stored and cannot be used
}

// NewConfig reads a session's file; "" is that of a session that does not exist yet. Names are what templates may say besides options, such as
// "primary"; nothing may be given. A line that cannot be read becomes a warning.
func NewConfig(t Table, session string, names map[string]string) *Config {
	c := &Config{table: t, own: map[string]string{}, place: names}
	sections, err := ParseINI(session)
	if err != nil {
		c.Warnings = append(c.Warnings, err.Error())
	}
	for _, s := range sections {
		if s.Name == vars {
			for _, v := range s.Values {
				c.own[Canonical(v.Name)] = v.Value
			}
		} else if _, known := t[Canonical(s.Name)]; known {
			if value, ok := s.Get("value"); ok {
				c.own[Canonical(s.Name)] = value
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.own)) {
		o, known := t[name]
		if _, ok := o.accept(c.own[name]); known && o.Kind != Text && !ok {
			c.Warnings = append(c.Warnings, fmt.Sprintf("the stored value %q of %s is not valid and the default is used: set it again, or 'config !%s'", c.own[name], name, name))
			delete(c.own, name)
		}
	}
	return c
}

// raw gives the value of an option before templates; ok is false for one that has none.
func (c *Config) raw(name string) (value string, ok bool) {
	if value, ok := c.own[name]; ok {
		return value, true
	}
	o, known := c.table[name]
	return o.Default, known && !o.Unset
}

// Get gives the value of an option, by a name in either spelling, as it is printed; "" for one that is unset or unknown.
func (c *Config) Get(name string) string {
	value, _ := c.lookup(Canonical(name))
	return value
}

// Has says whether the session itself, and not only the defaults, has a value for the option.
func (c *Config) Has(name string) bool {
	_, ok := c.own[Canonical(name)]
	return ok
}

func (c *Config) lookup(name string) (string, bool) {
	value, ok := c.raw(name)
	o := c.table[name]
	switch {
	case !ok:
		return "", false
	case o.Template:
		value = c.expand(value)
	case o.Kind == Bool:
		value = strconv.FormatBool(isTrue(value))
	case o.Kind == Int:
		if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
			value = strconv.Itoa(n)
		}
	}
	return strings.ReplaceAll(value, "\n", " "), true
}

func isTrue(value string) bool {
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "true", "yes", "1", "on":
		return true
	}
	return false
}

// Int gives a number, at least 0.
func (c *Config) Int(name string) int {
	n, err := strconv.Atoi(c.Get(name))
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// Bool gives a switch.
func (c *Config) Bool(name string) bool { return c.Get(name) == "true" }

// All gives every option that has a value, sorted, the names with underscores as they are printed.
func (c *Config) All() []Pair {
	names := map[string]bool{}
	for name := range c.table {
		names[name] = true
	}
	for name := range c.own {
		names[name] = true
	}
	var all []Pair
	for name := range names {
		if value, ok := c.lookup(name); ok {
			all = append(all, Pair{strings.ReplaceAll(name, "-", "_"), value})
		}
	}
	slices.SortFunc(all, func(a, b Pair) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// expand replaces ${name} and $name once. A name that nobody knows stays as it is.
func (c *Config) expand(value string) string {
	var b strings.Builder
	for {
		at := strings.IndexByte(value, '$')
		if at < 0 {
			return b.String() + value
		}
		b.WriteString(value[:at])
		value = value[at:]
		name, length := placeholder(value)
		if replaced, ok := c.named(name); ok && length > 0 {
			b.WriteString(replaced)
			value = value[length:]
		} else {
			b.WriteByte('$')
			value = value[1:]
		}
	}
}

// placeholder reads a $name or ${name} at the beginning of s; length is 0 when there is none.
func placeholder(s string) (name string, length int) {
	isName := func(r rune) bool {
		return r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	}
	if inner, ok := strings.CutPrefix(s, "${"); ok {
		end := strings.IndexByte(inner, '}')
		if end <= 0 || strings.ContainsFunc(inner[:end], func(r rune) bool { return !isName(r) }) {
			return "", 0
		}
		return inner[:end], end + 3
	}
	end := 1
	for end < len(s) && isName(rune(s[end])) {
		end++
	}
	if end == 1 {
		return "", 0
	}
	return s[1:end], end
}

func (c *Config) named(name string) (string, bool) {
	if value, ok := c.place[name]; ok {
		return value, true
	}
	return c.raw(Canonical(name))
}
