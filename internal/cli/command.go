package cli

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"georep/internal/config"
)

// Commands is the tree of commands, for the generator of the manual pages.
func Commands() *cobra.Command { return (&Program{}).commands() }

func (p *Program) commands() *cobra.Command {
	root := &cobra.Command{
		Use:   "georep",
		Short: "Keep a copy of a directory on another host, exactly and at once",
		Long: `georep mirrors a directory to another host over ssh: first completely, then change by change as it happens.
Names, owners, modes, times, links, holes, extended attributes and ACLs arrive as they are, a rename moves no content,
and after any interruption the next start goes on where the last one ended.`,
		Example: `  georep mirror /srv/data backup.example.org:/srv/copy         follow changes until Ctrl-C
  georep mirror --once --dry-run /srv/data /mnt/copy           show what a copy to another disk would do`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(p.mirrorCommand(), p.glusterCommand(), p.versionCommand(), p.agentCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

func unknownCommand(root *cobra.Command, name string) error {
	err := fmt.Errorf("there is no command %q", name)
	if similar := root.SuggestionsFor(name); len(similar) > 0 {
		err = fmt.Errorf("there is no command %q, did you mean %q?", name, similar[0])
	}
	return &usageError{err: err}
}

// flagError makes one sentence of what the flag parser found.
func flagError(cmd *cobra.Command, err error) error {
	command := ""
	if cmd.HasParent() {
		command = cmd.Name()
	}
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		name := unknown.GetSpecifiedName()
		err = fmt.Errorf("there is no flag %s", dashed(name))
		if meant := config.Suggest(name); meant != "" && command == "mirror" && len(name) > 1 {
			err = fmt.Errorf("there is no flag --%s, did you mean --%s?", name, meant)
		}
	}
	var missing *pflag.ValueRequiredError
	if errors.As(err, &missing) {
		err = fmt.Errorf("%s needs a value", dashed(missing.GetSpecifiedName()))
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		err = fmt.Errorf("--%s: %w", invalid.GetFlag().Name, invalid.Unwrap())
	}
	return &usageError{err: err, command: command}
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// wantNothing refuses arguments of a command that has none.
func wantNothing(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &usageError{err: fmt.Errorf("%s takes no arguments, but %q was given", cmd.CommandPath(), args[0]), command: cmd.Name()}
	}
	return nil
}

func (p *Program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  wantNothing,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(p.Out, "georep %s (%s, %s/%s)\n", p.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// agentCommand is the other end of a mirror. It is hidden, for only georep itself starts it; its arguments belong to the
// agent, which must also understand those of another version.
func (p *Program) agentCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "agent --root DIR --session ID",
		Short:              "Serve a mirror's destination over standard input and output (started by georep itself)",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := p.untilTerminated(cmd.Context())
			defer stop()
			return p.Agent(ctx, p.In, p.Out, p.Err, p.Version, args)
		},
	}
}

// groupedUsage prints a command's flags under the headings of the table of options.
func groupedUsage(cmd *cobra.Command, width int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:\n  %s\n\nExamples:\n%s\n", cmd.UseLine(), cmd.Example)
	groups := map[config.Group]*pflag.FlagSet{}
	for _, o := range config.Options() {
		if groups[o.Group] == nil {
			groups[o.Group] = pflag.NewFlagSet(string(o.Group), pflag.ContinueOnError)
			groups[o.Group].SortFlags = false
		}
		groups[o.Group].AddFlag(cmd.Flags().Lookup(o.Name))
	}
	for _, group := range config.Groups() {
		fmt.Fprintf(&b, "\n%s:\n%s", group, groups[group].FlagUsagesWrapped(width))
	}
	return b.String()
}
