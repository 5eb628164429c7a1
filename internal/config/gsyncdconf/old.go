package gsyncdconf

import (
	"slices"
	"strings"
)

// Upgrade turns a session's file of the layout of Gluster 3 and 4.0, with a section "[peers PRIMARY SECONDARY]", into the present one. ok is
// false, and the text as it was, for any other file.
func Upgrade(text, primary, secondaryVolume string) (upgraded string, ok bool) {
	sections, _ := ParseINI(text) // the lines that can be read are what can be kept
	at := slices.IndexFunc(sections, func(s Section) bool { return isOld(s.Name, primary, secondaryVolume) })
	if at < 0 {
		return text, false
	}
	b := "[" + vars + "]\n"
	table := NewTable("")
	for _, v := range sections[at].Values {
		name, value := Canonical(v.Name), v.Value
		switch name {
		case "session-owner": // belongs to no option any more
			continue
		case "use-tarssh":
			name, value = "sync-method", map[bool]string{true: "tarssh", false: "rsync"}[isTrue(value)]
		case "timeout":
			name = "secondary-timeout"
		}
		if o, known := table[name]; known && o.Fixed {
			continue // where things are is not the session's to say any more
		}
		b = SetVar(b, name, value)
	}
	return b, true
}

func isOld(section, primary, secondaryVolume string) bool {
	words := strings.Fields(section)
	return len(words) == 3 && words[0] == "peers" && words[1] == primary && words[2] == secondaryVolume
}
