// Command mangen writes the manual pages, and the tables of options in the user guide, from the commands themselves.
//
// It is run by hand after a change of commands or options ("go run ./internal/cli/mangen", at the top of the tree), and a
// test fails when that was forgotten. It is a program of its own so that georep does not carry the formatter.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"georep/internal/cli"
	"georep/internal/config"
)

const (
	manualDir = "docs/man"
	guideFile = "docs/guide.md"
	begin     = "<!-- options: written by go run ./internal/cli/mangen -->\n"
	end       = "<!-- end of options -->\n"
)

func main() {
	if err := generate("."); err != nil {
		fmt.Fprintln(os.Stderr, "mangen:", err)
		os.Exit(1)
	}
}

// generate brings all generated documents below the top of the tree up to date.
func generate(top string) error {
	pages, err := manual()
	if err != nil {
		return err
	}
	for name, page := range pages {
		if err := os.WriteFile(filepath.Join(top, manualDir, name), page, 0o644); err != nil {
			return err
		}
	}
	guide, err := os.ReadFile(filepath.Join(top, guideFile))
	if err != nil {
		return err
	}
	guide, err = withOptions(guide)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(top, guideFile), guide, 0o644)
}

// manual gives the manual pages by file name.
func manual() (map[string][]byte, error) {
	pages := map[string][]byte{}
	// The date is that of the format of the pages, so that they change only when their text does.
	date := time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)
	var write func(c *cobra.Command) error
	write = func(c *cobra.Command) error {
		c.DisableAutoGenTag = true
		name := strings.ReplaceAll(c.CommandPath(), " ", "-")
		var page bytes.Buffer
		header := &doc.GenManHeader{Title: strings.ToUpper(name), Section: "1", Date: &date, Source: "georep", Manual: "georep manual"}
		if err := doc.GenMan(c, header, &page); err != nil {
			return fmt.Errorf("write the page of %s: %w", name, err)
		}
		pages[name+".1"] = page.Bytes()
		for _, child := range c.Commands() {
			if child.IsAvailableCommand() && !child.IsAdditionalHelpTopicCommand() && child.Name() != "help" {
				if err := write(child); err != nil {
					return err
				}
			}
		}
		return nil
	}
	root := cli.Commands()
	root.DisableAutoGenTag = true
	return pages, write(root)
}

// withOptions replaces what stands between the two marks of the guide by the tables of options.
func withOptions(guide []byte) ([]byte, error) {
	before, rest, ok := bytes.Cut(guide, []byte(begin))
	_, after, closed := bytes.Cut(rest, []byte(end))
	if !ok || !closed {
		return nil, errors.New("the guide has lost its marks for the options")
	}
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(begin)
	for _, group := range config.Groups() {
		fmt.Fprintf(&b, "\n**%s**\n\n| flag | default | in the file | meaning |\n| --- | --- | --- | --- |\n", group)
		for _, o := range config.Options() {
			if o.Group == group {
				b.WriteString(row(o))
			}
		}
	}
	b.WriteString("\n" + end)
	b.Write(after)
	return b.Bytes(), nil
}

func row(o config.Option) string {
	flag := "--" + o.Name
	if kind := o.Bind(config.NewMirror()).Type(); kind != "bool" {
		flag += " " + kind
	}
	if o.Short != "" {
		flag = "-" + o.Short + ", " + flag
	}
	standard, inFile := "", "no"
	if o.Default != "" && o.Default != "false" {
		standard = "`" + o.Default + "`"
	}
	if o.InFile {
		inFile = "yes"
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s |\n", flag, standard, inFile, o.Help)
}
