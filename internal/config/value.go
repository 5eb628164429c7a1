package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

type switchValue struct{ to *bool }

func (v switchValue) Set(text string) error {
	b, err := strconv.ParseBool(text)
	if err != nil {
		return fmt.Errorf("%q is not a switch: write true or false", text)
	}
	*v.to = b
	return nil
}
func (v switchValue) String() string { return strconv.FormatBool(*v.to) }
func (v switchValue) Type() string   { return "bool" }

type textValue struct {
	to   *string
	kind string
}

func (v textValue) Set(text string) error {
	if text == "" || strings.ContainsRune(text, 0) {
		return fmt.Errorf("%s must not be empty", v.kind)
	}
	*v.to = text
	return nil
}
func (v textValue) String() string { return *v.to }
func (v textValue) Type() string   { return v.kind }

type intValue struct {
	to          *int
	least, most int
}

func (v intValue) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < v.least || n > v.most {
		return fmt.Errorf("%q is not a number from %d to %d", text, v.least, v.most)
	}
	*v.to = n
	return nil
}
func (v intValue) String() string { return strconv.Itoa(*v.to) }
func (v intValue) Type() string   { return "N" }

type rateValue struct{ to *int64 }

func (v rateValue) Set(text string) error {
	n, err := ParseRate(text)
	if err != nil {
		return err
	}
	if n > 0 && n < 1024 {
		return fmt.Errorf("%q is less than 1K per second: give more, or 0 for no limit", text)
	}
	*v.to = n
	return nil
}
func (v rateValue) String() string { return FormatSize(*v.to) }
func (v rateValue) Type() string   { return "RATE" }

type durationValue struct {
	to    *time.Duration
	least time.Duration
}

func (v durationValue) Set(text string) error {
	d, err := ParseDuration(text)
	if err != nil {
		return err
	}
	if d < v.least {
		return fmt.Errorf("%q is too short: give at least %v", text, v.least)
	}
	*v.to = d
	return nil
}

// String drops the zero parts that time.Duration prints: "1h" and not "1h0m0s".
func (v durationValue) String() string {
	text := v.to.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
func (v durationValue) Type() string { return "DURATION" }

type limitValue struct{ to *DeleteLimit }

func (v limitValue) Set(text string) error {
	limit, err := ParseDeleteLimit(text, *v.to)
	if err != nil {
		return err
	}
	*v.to = limit
	return nil
}
func (v limitValue) String() string { return v.to.String() }
func (v limitValue) Type() string   { return "SHARE[:N]" }

type choiceValue struct {
	to      *string
	choices []string
}

func (v choiceValue) Set(text string) error {
	if !slices.Contains(v.choices, text) {
		return fmt.Errorf("%q is not one of %s", text, strings.Join(v.choices, ", "))
	}
	*v.to = text
	return nil
}
func (v choiceValue) String() string { return *v.to }
func (v choiceValue) Type() string   { return "METHOD" }

// patternValue collects lines of a gitignore file; an include is an exclude with "!" before it.
type patternValue struct {
	to     *[]string
	prefix string
}

func (v patternValue) Set(text string) error {
	if text == "" || strings.ContainsAny(text, "\n\x00") {
		return fmt.Errorf("%q is not a pattern: write one line as in a gitignore file, for example '*.tmp' or '/cache/'", text)
	}
	if text[0] == '#' {
		return fmt.Errorf(`%q would be a comment in a gitignore file: write '\%s' for names that begin with #`, text, text)
	}
	*v.to = append(*v.to, v.prefix+text)
	return nil
}

// String is empty: what was collected is not one value that Set could read back.
func (v patternValue) String() string { return "" }
func (v patternValue) Type() string   { return "PATTERN" }
