package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"georep/internal/config"
)

const mirrorLong = `Mirror makes DEST hold exactly what SOURCE holds and keeps it so. What is in DEST and not in SOURCE is removed there.
DEST is a directory on another host that ssh reaches and that has georep in its PATH, or a directory on this host.
A slash at the end of SOURCE makes no difference: the content of SOURCE becomes the content of DEST.

It follows changes until Ctrl-C, which finishes what is in flight; a second Ctrl-C ends at once. The next start goes on
where this one ended, however it ended.

Exit codes: 0 everything was acknowledged, or a live mirror was stopped; 1 entries failed, each is listed; 2 the command
line is wrong; 3 deletions wait for a person (see --allow-delete); 130 interrupted before the end.`

const mirrorExample = `  georep mirror /srv/data backup.example.org:/srv/copy
  georep mirror --once /srv/data root@[2001:db8::7]:/srv/copy
  georep mirror --exclude '*.tmp' --exclude /cache/ --bwlimit 10M /srv/data /mnt/disk/copy`

func (p *Program) mirrorCommand() *cobra.Command {
	m := config.NewMirror()
	cmd := &cobra.Command{
		Use:                   "mirror [flags] SOURCE [USER@]HOST:DEST|DEST",
		DisableFlagsInUseLine: true,
		Short:                 "Make a directory on another host equal to one here, and keep it equal",
		Long:                  mirrorLong,
		Example:               mirrorExample,
		Args:                  mirrorArgs,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) < 2 {
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
	bindFlags(cmd, m)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := readConfig(cmd, m); err != nil {
			return &usageError{err: err, command: "mirror"}
		}
		options, err := p.workerOptions(m, args[0], args[1])
		if err != nil {
			return &usageError{err: err, command: "mirror"}
		}
		return p.runMirror(cmd.Context(), m, options)
	}
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		_, err := fmt.Fprint(cmd.OutOrStderr(), groupedUsage(cmd, terminalWidth(p.Out)))
		return err
	})
	return cmd
}

func mirrorArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 2 {
		return nil
	}
	return &usageError{err: fmt.Errorf("mirror wants two arguments, a source and a destination, and got %d", len(args)), command: "mirror"}
}

// bindFlags makes a flag of each row of the table.
func bindFlags(cmd *cobra.Command, m *config.Mirror) {
	cmd.Flags().SortFlags = false
	for _, o := range config.Options() {
		flag := cmd.Flags().VarPF(o.Bind(m), o.Name, o.Short, o.Help)
		if flag.Value.Type() == "bool" {
			flag.NoOptDefVal = "true"
		}
		complete := cobra.FixedCompletions(o.Values, cobra.ShellCompDirectiveNoFileComp)
		switch flag.Value.Type() {
		case "DIR":
			complete = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
		case "FILE", "PATH", "COMMAND":
			continue
		}
		// The only error is a flag that is registered twice, which the table excludes.
		_ = cmd.RegisterFlagCompletionFunc(o.Name, complete)
	}
}

// readConfig adds what the configuration file says. The default file need not exist; one that was asked for must.
func readConfig(cmd *cobra.Command, m *config.Mirror) error {
	err := config.ReadFile(m.ConfigFile, m, cmd.Flags().Changed)
	if errors.Is(err, fs.ErrNotExist) && !cmd.Flags().Changed("config") {
		err = nil
	}
	if err != nil {
		return err
	}
	return m.Check()
}
