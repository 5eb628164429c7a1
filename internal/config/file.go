package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"

	"github.com/pelletier/go-toml/v2"
)

// ReadFile sets options in m from the TOML file at path, but not those for which given says that the command line has them
// already. Patterns of the file come before those that m holds, so the command line has the last word. Keys are the
// names of the options that have InFile. A file that is not there is an error that is fs.ErrNotExist.
func ReadFile(path string, m *Mirror, given func(name string) bool) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read options: %w", err)
	}
	typed := m.Patterns
	m.Patterns = nil
	if err := parseFile(data, m, given); err != nil {
		return fmt.Errorf("read options from %s: %w", path, err)
	}
	m.Patterns = append(m.Patterns, typed...)
	return nil
}

func parseFile(data []byte, m *Mirror, given func(name string) bool) error {
	document := fileShape()
	decoder := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := decoder.Decode(document.Addr().Interface()); err != nil {
		return explain(err)
	}
	for i, o := range fileOptions() {
		found := document.Field(i).Interface()
		isList := o.Bind(m).Type() == "PATTERN"
		if found == nil || (!isList && given(o.Name)) {
			continue
		}
		if err := setAll(o.Bind(m), found, isList); err != nil {
			return fmt.Errorf("%s: %w", o.Name, err)
		}
	}
	return nil
}

func setAll(value Value, found any, isList bool) error {
	all, err := texts(found, isList)
	if err != nil {
		return err
	}
	for _, text := range all {
		if err := value.Set(text); err != nil {
			return err
		}
	}
	return nil
}

func fileOptions() []Option {
	var in []Option
	for _, o := range Options() {
		if o.InFile {
			in = append(in, o)
		}
	}
	return in
}

// fileShape makes a struct with one field an option, because only with a struct does the decoder say in which line an
// unknown key stands.
func fileShape() reflect.Value {
	var fields []reflect.StructField
	for i, o := range fileOptions() {
		fields = append(fields, reflect.StructField{
			Name: "Option" + strconv.Itoa(i), Type: reflect.TypeFor[any](), Tag: reflect.StructTag(`toml:"` + o.Name + `"`),
		})
	}
	return reflect.New(reflect.StructOf(fields)).Elem()
}

// texts turns what TOML has for one option into the texts that Set reads.
func texts(found any, isList bool) ([]string, error) {
	switch v := found.(type) {
	case string:
		return []string{v}, nil
	case bool:
		return []string{strconv.FormatBool(v)}, nil
	case int64:
		return []string{strconv.FormatInt(v, 10)}, nil
	case []any:
		var all []string
		for _, item := range v {
			s, ok := item.(string)
			if !ok || !isList {
				return nil, fmt.Errorf("want %s", map[bool]string{true: "a list of strings", false: "one value, not a list"}[isList])
			}
			all = append(all, s)
		}
		return all, nil
	}
	return nil, fmt.Errorf("want a string, a number, true or false, not %T", found)
}

// explain makes one sentence of what the decoder found.
func explain(err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		first := unknown.Errors[0]
		row, _ := first.Position()
		key := ""
		if k := first.Key(); len(k) > 0 {
			key = k[0]
		}
		for _, o := range Options() {
			if o.Name == key {
				return fmt.Errorf("line %d: %q can only be given on the command line, as --%s", row, key, key)
			}
		}
		if meant := Suggest(key); meant != "" {
			return fmt.Errorf("line %d: unknown option %q, did you mean %q?", row, key, meant)
		}
		return fmt.Errorf("line %d: unknown option %q: 'georep mirror --help' lists the options", row, key)
	}
	var syntax *toml.DecodeError
	if errors.As(err, &syntax) {
		row, column := syntax.Position()
		return fmt.Errorf("line %d, column %d: %w", row, column, err)
	}
	return err
}
