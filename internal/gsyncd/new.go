package gsyncd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"georep/internal/config/gsyncdconf"
	"georep/internal/session"
)

// subcommands are the calls of administrators, of our own monitor, and of other nodes.
func (p *Program) subcommands() map[string]func(context.Context, []string) error {
	return map[string]func(context.Context, []string) error{
		"monitor":        p.monitorCommand,
		"worker":         p.workerCommand,
		"secondary":      func(ctx context.Context, args []string) error { return p.secondary(ctx, args, nil) },
		"monitor-status": p.monitorStatusCommand,
		"status":         p.statusCommand,
		"config-check":   p.configCheckCommand,
		"config-get":     p.configGetCommand,
		"config-set":     p.configSetCommand,
		"config-reset":   p.configResetCommand,
		"voluuidget":     p.volumeIDCommand,
		"delete":         p.deleteCommand,
	}
}

// flags is a set of flags that may stand anywhere among the arguments.
func flags(name string) *pflag.FlagSet {
	f := pflag.NewFlagSet(name, pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	f.StringP("config-file", "c", "", "")
	f.Bool("debug", false, "")
	return f
}

// parse reads the arguments of a subcommand that has so many words.
func parse(f *pflag.FlagSet, args []string, words int) error {
	if err := f.Parse(args); err != nil {
		return usage("gsyncd %s: %w", f.Name(), err)
	}
	if f.NArg() != words {
		return usage("gsyncd %s: %d words are given, not %d", f.Name(), f.NArg(), words)
	}
	return nil
}

func (p *Program) monitorCommand(ctx context.Context, args []string) error {
	f := flags("monitor")
	var o monitorStart
	f.StringVar(&o.node, "local-node-id", "", "")
	f.StringArrayVar(&o.bricks, "local-path", nil, "")
	f.BoolVar(&o.paused, "pause-on-start", false, "")
	daemon := f.Bool("daemon", false, "") // given by ourselves to the process that stays
	f.Bool("use-gconf-volinfo", false, "")
	if err := parse(f, args, 2); err != nil {
		return err
	}
	s, err := p.open(f.Arg(0), f.Arg(1), nil)
	if err != nil {
		return err
	}
	o.secondary = f.Arg(1)
	if debug, err := f.GetBool("debug"); *daemon || err == nil && debug {
		return p.runMonitor(ctx, s, o, *daemon)
	}
	return p.startMonitor(ctx, s, o)
}

func (p *Program) monitorStatusCommand(_ context.Context, args []string) error {
	f := flags("monitor-status")
	if err := parse(f, args, 3); err != nil {
		return err
	}
	s, err := p.open(f.Arg(0), f.Arg(1), nil)
	if err != nil {
		return err
	}
	return s.SetWord(f.Arg(2))
}

func (p *Program) statusCommand(_ context.Context, args []string) error {
	f := flags("status")
	brick := f.String("local-path", "", "")
	asJSON := f.Bool("json", false, "")
	if err := parse(f, args, 2); err != nil {
		return err
	}
	s, err := p.open(f.Arg(0), f.Arg(1), nil)
	if err != nil {
		return err
	}
	if !*asJSON {
		return p.statusGet(s, []string{*brick})
	}
	values := map[string]string{}
	for _, v := range s.Row(*brick, time.Local) {
		values[v.Name] = v.Value
	}
	text, err := json.Marshal(values)
	if err != nil {
		return fmt.Errorf("print the status: %w", err)
	}
	return p.print(string(text))
}

func (p *Program) configCheckCommand(_ context.Context, args []string) error {
	f := flags("config-check")
	value := f.String("value", "", "")
	if err := parse(f, args, 1); err != nil {
		return err
	}
	return p.configCheck(f.Arg(0), *value, f.Changed("value"))
}

// shownOption is an option as config-get --json prints it, with the capitals that its readers know.
type shownOption struct {
	Name         string `json:"name"`
	Value        string `json:"value"`
	Default      string `json:"default"`
	Configurable bool   `json:"configurable"`
	Modified     bool   `json:"modified"`
}

func (p *Program) configGetCommand(_ context.Context, args []string) error {
	f := flags("config-get")
	name := f.String("name", "", "")
	defaults, onlyValue := f.Bool("show-defaults", false, ""), f.Bool("only-value", false, "")
	underscore, asJSON := f.Bool("use-underscore", false, ""), f.Bool("json", false, "")
	if err := parse(f, args, 2); err != nil {
		return err
	}
	s, err := p.open(f.Arg(0), f.Arg(1), nil)
	if err != nil {
		return err
	}
	if *name != "" {
		if _, err := p.Place.Table().Find(*name); (err != nil || !*defaults) && !s.Config.Has(*name) {
			return fmt.Errorf("%w %q", gsyncdconf.ErrName, *name)
		}
	}
	var lines []string
	var shown []shownOption
	for _, v := range s.Config.All() {
		if *name != "" && gsyncdconf.Canonical(v.Name) != gsyncdconf.Canonical(*name) || !*defaults && !s.Config.Has(v.Name) {
			continue
		}
		label := v.Name
		if !*underscore {
			label = gsyncdconf.Canonical(v.Name)
		}
		o, _ := p.Place.Table().Find(v.Name)
		shown = append(shown, shownOption{label, capital(v.Value), capital(o.Default), !o.Fixed, s.Config.Has(v.Name)})
		if *onlyValue {
			lines = append(lines, v.Value)
		} else {
			lines = append(lines, label+":"+v.Value)
		}
	}
	if !*asJSON {
		return p.print(lines...)
	}
	text, err := json.Marshal(shown)
	if err != nil {
		return fmt.Errorf("print the options: %w", err)
	}
	return p.print(string(text))
}

// capital writes a switch as readers of the JSON know it.
func capital(value string) string {
	switch value {
	case "true":
		return "True"
	case "false":
		return "False"
	}
	return value
}

func (p *Program) configSetCommand(_ context.Context, args []string) error {
	f := flags("config-set")
	name, value := f.String("name", "", ""), f.String("value", "", "")
	if err := parse(f, args, 2); err != nil {
		return err
	}
	s, err := p.open(f.Arg(0), f.Arg(1), nil)
	if err != nil {
		return err
	}
	return p.configSet(s, *name, *value)
}

func (p *Program) configResetCommand(_ context.Context, args []string) error {
	f := flags("config-reset")
	if err := parse(f, args, 3); err != nil {
		return err
	}
	s, err := p.open(f.Arg(0), f.Arg(1), nil)
	if err != nil {
		return err
	}
	return p.configDelete(s, f.Arg(2))
}

func (p *Program) volumeIDCommand(ctx context.Context, args []string) error {
	f := flags("voluuidget")
	inet6 := f.Bool("inet6", false, "")
	if err := parse(f, args, 2); err != nil {
		return err
	}
	return p.volumeID(ctx, []string{(session.Secondary{Host: f.Arg(0), Volume: f.Arg(1)}).String()}, *inet6)
}

func (p *Program) deleteCommand(_ context.Context, args []string) error {
	f := flags("delete")
	bricks := f.StringArray("path", nil, "")
	reset := f.Bool("reset-sync-time", false, "")
	if err := parse(f, args, 2); err != nil {
		return err
	}
	s, err := p.open(strings.TrimPrefix(f.Arg(0), ":"), f.Arg(1), nil)
	if err != nil {
		return err
	}
	return p.delete(s, *bricks, *reset)
}
