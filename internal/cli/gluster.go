package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"georep/internal/divert"
	"georep/internal/session"
)

const glusterLong = `Gluster puts georep in the place of GlusterFS's own geo-replication: glusterd and the gluster command stay as they are, and
'gluster volume geo-replication ...' works as its documentation says, carried out by georep.

Install on every node of both clusters. Running sessions go on with the program that they were started with until they are stopped and
started. GlusterFS's own programs stay beside ours, and 'uninstall' gives them their place back.`

const glusterExample = `  georep gluster install
  georep gluster status
  georep gluster failures gvol-primary geoaccount@snode1::gvol-secondary
  georep gluster uninstall`

func (p *Program) glusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "gluster",
		Short:   "Carry out GlusterFS's geo-replication, in the place of its own programs",
		Long:    glusterLong,
		Example: glusterExample,
		Args:    wantNothing,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.glusterInstallCommand(), p.glusterStatusCommand(), p.glusterUninstallCommand(), p.glusterFailuresCommand())
	return cmd
}

func (p *Program) glusterInstallCommand() *cobra.Command {
	var binary string
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Put georep in the place of GlusterFS's geo-replication on this node",
		Long: `Install puts georep's gsyncd in the place of GlusterFS's, and of the helper programs that belong to it: gluster-georep-sshkey,
gluster-mountbroker, set_geo_rep_pem_keys.sh, gverify.sh, and the hook that pushes keys. The binary is tried first as glusterd will use it. An
upgrade of GlusterFS's packages changes nothing, for dpkg is told. Do it again to bring a newer georep in.`,
		Args: wantNothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := wantRoot(); err != nil {
				return err
			}
			gsyncd, err := p.gsyncdBinary(binary)
			if err != nil {
				return err
			}
			if err := (divert.Node{}).Install(cmd.Context(), gsyncd); err != nil {
				return err
			}
			fmt.Fprintln(p.Out, "georep is in the place of GlusterFS's geo-replication on this node. Do the same on all other nodes of both clusters;")
			fmt.Fprintln(p.Out, "sessions that run go on with the old program until 'gluster volume geo-replication VOLUME SECONDARY stop' and 'start'.")
			return nil
		},
	}
	cmd.Flags().StringVar(&binary, "binary", "", "install this gsyncd (default: the one beside georep)")
	return cmd
}

// gsyncdBinary finds the gsyncd that belongs to this georep.
func (p *Program) gsyncdBinary(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	dir := filepath.Dir(p.Executable)
	places := []string{filepath.Join(dir, "gsyncd"), filepath.Join(dir, "../lib/georep/gsyncd"), filepath.Join(dir, "../libexec/georep/gsyncd")}
	for _, path := range places {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("georep's gsyncd is not at %s: name it with --binary", places[0])
}

func wantRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("this changes files of the system: run it as root")
	}
	return nil
}

func (p *Program) glusterUninstallCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "uninstall",
		Short: "Give GlusterFS's own geo-replication its place back on this node",
		Args:  wantNothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := wantRoot(); err != nil {
				return err
			}
			if err := (divert.Node{}).Uninstall(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintln(p.Out, "GlusterFS's own geo-replication has its place back on this node. Sessions go on from where they are when they are stopped and started.")
			return nil
		},
	}
}

func (p *Program) glusterStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say which programs of GlusterFS's geo-replication are georep's on this node",
		Long:  "Status lists the programs, whose they are, and what gsyncd calls itself. The exit code is 0 when all are georep's, else 1.",
		Args:  wantNothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			node := divert.Node{}
			programs, err := node.Programs(cmd.Context())
			if err != nil {
				return err
			}
			ours := 0
			for _, program := range programs {
				whose := "GlusterFS's"
				switch {
				case program.Missing:
					whose = "missing"
				case program.Ours && program.Known:
					whose = "georep's (an upgrade of the package keeps it)"
				case program.Ours:
					whose = "georep's (an upgrade of the package overwrites it: install again then)"
				}
				if program.Ours {
					ours++
				}
				fmt.Fprintf(p.Out, "%-85s %s\n", program.Path, whose)
			}
			fmt.Fprintf(p.Out, "gsyncd calls itself: %s\n", divert.Version(cmd.Context(), programs[len(programs)-1].Path))
			if ours < len(programs) {
				return &exitError{code: ExitFailed, err: fmt.Errorf("%d of %d programs are georep's: run 'georep gluster install'", ours, len(programs))}
			}
			return nil
		},
	}
}

func (p *Program) glusterFailuresCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "failures VOLUME [USER@]HOST::VOLUME",
		Short: "List what could not be applied to the secondary so far, by path",
		Long: `Failures lists the entries of this node's bricks that could not be applied to the secondary so far, each with the reason and with what to
do. They are tried again by themselves and hold up nothing else. Run it on each primary node; the column FAILURES of the status says
how many there are. The exit code is 0 when there are none, else 1.`,
		Example: "  georep gluster failures gvol-primary geoaccount@snode1::gvol-secondary",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return &usageError{err: fmt.Errorf("%s takes a volume and a secondary", cmd.CommandPath()), command: "gluster failures"}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return p.listFailures(args[0], args[1], asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a brick")
	return cmd
}

func (p *Program) listFailures(volume, secondary string, asJSON bool) error {
	to, err := session.ParseSecondary(secondary)
	if err != nil {
		return &usageError{err: err, command: "gluster failures"}
	}
	s, err := session.Place{}.Open(volume, to, nil)
	if err != nil {
		return &usageError{err: err, command: "gluster failures"}
	}
	if !s.Exists() {
		return fmt.Errorf("%w on this node: 'gluster volume geo-replication status' lists the sessions", session.ErrMissing)
	}
	bricks, err := s.Failures()
	if err != nil {
		return err
	}
	total := 0
	for _, b := range bricks {
		total += len(b.Failures)
		if asJSON {
			if err := json.NewEncoder(p.Out).Encode(b); err != nil {
				return err
			}
			continue
		}
		for _, f := range b.Failures {
			fmt.Fprintf(p.Out, "%s\n  %s: %s: %s; %s\n  %d times since %s, again at %s; brick %s\n", printable(f.Path), f.Op, f.Call, f.Error, f.Hint, f.Count,
				f.First.Local().Format(time.DateTime), f.Next.Local().Format(time.DateTime), b.Brick)
		}
	}
	if total > 0 {
		return &exitError{code: ExitFailed}
	}
	if !asJSON {
		fmt.Fprintln(p.Out, "nothing waits on the bricks of this node")
	}
	return nil
}
