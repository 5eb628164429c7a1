// Package mountbroker lets an unprivileged account of a secondary node mount certain volumes: it keeps what glusterd reads about that in
// its own configuration.
package mountbroker

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"georep/internal/durable"
)

// The options of glusterd that are for the mountbroker.
const (
	rootOption  = "mountbroker-root"
	groupOption = "geo-replication-log-group"
	userPrefix  = "mountbroker-geo-replication."
)

// Volfile is the text of glusterd.vol. What is not changed stays as it is, comments included.
type Volfile struct{ lines []string }

// Read reads glusterd.vol.
func Read(path string) (*Volfile, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read glusterd's configuration: %w", err)
	}
	return Parse(string(text)), nil
}

// Parse reads the text of glusterd.vol.
func Parse(text string) *Volfile {
	return &Volfile{strings.Split(strings.TrimRight(text, "\n"), "\n")}
}

// String writes it.
func (v *Volfile) String() string { return strings.Join(v.lines, "\n") + "\n" }

// Write replaces glusterd.vol.
func (v *Volfile) Write(path string) error {
	if err := durable.WriteFile(path, []byte(v.String()), 0o644); err != nil {
		return fmt.Errorf("write glusterd's configuration: %w", err)
	}
	return nil
}

// option reads a line "option NAME VALUE".
func option(line string) (name, value string, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 3 || fields[0] != "option" {
		return "", "", false
	}
	return fields[1], strings.Join(fields[2:], " "), true
}

// Options are all options in their order.
func (v *Volfile) Options() (names []string, values map[string]string) {
	values = map[string]string{}
	for _, line := range v.lines {
		if name, value, ok := option(line); ok {
			if _, twice := values[name]; !twice {
				names = append(names, name)
			}
			values[name] = value
		}
	}
	return names, values
}

// Get gives an option's value, or "".
func (v *Volfile) Get(name string) string {
	_, values := v.Options()
	return values[name]
}

// Set gives an option a value; "" takes it out.
func (v *Volfile) Set(name, value string) {
	at := -1
	kept := v.lines[:0:0]
	for _, line := range v.lines {
		if n, _, ok := option(line); ok && n == name {
			if at < 0 {
				at = len(kept)
			}
			continue
		}
		kept = append(kept, line)
	}
	if value != "" {
		if at < 0 {
			if at = slices.IndexFunc(kept, func(line string) bool { return strings.TrimSpace(line) == "end-volume" }); at < 0 {
				at = len(kept)
			}
		}
		kept = slices.Insert(kept, at, "    option "+name+" "+value)
	}
	v.lines = kept
}

// Status is what glusterd.vol says of the mountbroker.
type Status struct {
	Root  string
	Group string
	Users map[string][]string // the volumes of each account
}

// Status reads it.
func (v *Volfile) Status() Status {
	names, values := v.Options()
	s := Status{Root: values[rootOption], Group: values[groupOption], Users: map[string][]string{}}
	for _, name := range names {
		if user, ok := strings.CutPrefix(name, userPrefix); ok {
			s.Users[user] = volumes(values[name])
		}
	}
	return s
}

func volumes(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
}

// The errors of a request that cannot be carried out.
var (
	ErrGroup  = errors.New("Group is not available") //lint:ignore ST1005 scripts know this text
	ErrName   = errors.New("a name of an account or volume has letters, digits, dots, dashes and underscores only")
	ErrAnswer = errors.New("what glusterd answers is not understood")
)

var plainName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.$-]*$`)

// Setup names the directory of mounts and the group whose accounts may use it.
func (v *Volfile) Setup(root, group string) error {
	if !plainName.MatchString(group) || strings.ContainsAny(root, " \t\n") || !strings.HasPrefix(root, "/") {
		return fmt.Errorf("%s, %s: %w", root, group, ErrName)
	}
	v.Set(rootOption, root)
	v.Set(groupOption, group)
	return nil
}

// Add lets an account mount a volume.
func (v *Volfile) Add(volume, user string) error {
	if v.Get(rootOption) == "" || v.Get(groupOption) == "" {
		return ErrGroup
	}
	if !plainName.MatchString(user) || !plainName.MatchString(volume) {
		return fmt.Errorf("%s, %s: %w", user, volume, ErrName)
	}
	list := volumes(v.Get(userPrefix + user))
	if !slices.Contains(list, volume) {
		list = append(list, volume)
	}
	v.Set(userPrefix+user, strings.Join(list, ","))
	return nil
}

// Remove takes a volume from an account; "" is every volume, or every account. What is not there is no error.
func (v *Volfile) Remove(volume, user string) {
	for name, list := range v.Status().Users {
		if user != "" && name != user {
			continue
		}
		if volume == "" {
			list = nil
		}
		list = slices.DeleteFunc(list, func(one string) bool { return one == volume })
		v.Set(userPrefix+name, strings.Join(list, ","))
	}
}
