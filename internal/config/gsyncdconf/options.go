// Package gsyncdconf is the configuration that Gluster's own tools read and write for a geo-replication session: the table of its
// options, the template in /etc/glusterfs, and a session's gsyncd.conf.
//
// It works on texts and values and reads no file; which files there are, and how they are replaced, is for who calls.
package gsyncdconf

import "strings"

// Kind is the type of an option's value.
type Kind int

// The kinds.
const (
	Text Kind = iota
	Int
	Float
	Bool
)

// Check is what a new value must be, besides of its kind.
type Check int

// The checks.
const (
	Any      Check = iota
	Choice         // one of Allowed
	Range          // from Least to Most
	UnixTime       // seconds since 1970, and not within that year
	Program        // an executable file: by absolute path, or by name in PATH
)

// Option is one row of the table.
type Option struct {
	Name     string // with dashes, but for the one name that Gluster writes with underscores
	Kind     Kind
	Default  string
	Unset    bool // known, but without a value until somebody gives one
	Fixed    bool // not for a person to set
	Template bool // $names in the value are replaced
	Check    Check
	Allowed  []string
	Least    int
	Most     int
}

// Underscored is the only option whose name is written with underscores.
const Underscored = "state_socket_unencoded"

// Canonical gives the spelling of the table for a name with dashes or underscores, in any case.
func Canonical(name string) string {
	name = strings.ToLower(name)
	if strings.ReplaceAll(name, "-", "_") == Underscored {
		return Underscored
	}
	return strings.ReplaceAll(name, "_", "-")
}

// Methods are the values of sync-method. The first is ours and the default.
func Methods() []string { return []string{"native", "rsync", "tarssh"} }

const (
	sessionName = "${primary}_${primary_secondary_host}_${secondaryvol}"
	geoLogs     = "${gluster_logdir}/geo-replication/"
	remoteLogs  = "${gluster_logdir}/geo-replication-secondaries/"
	keyOptions  = "-oPasswordAuthentication=no -oStrictHostKeyChecking=no -i ${glusterd_workdir}/geo-replication/"
)

// Builtin is the table as it is where no template file is, or where that says nothing.
func Builtin() []Option {
	var all []Option
	for _, part := range [][]Option{placeOptions(), sessionOptions(), behaviourOptions(), levelOptions(), programOptions()} {
		all = append(all, part...)
	}
	return all
}

func placeOptions() []Option {
	place := func(name, value string) Option {
		return Option{Name: name, Default: value, Fixed: true, Template: true}
	}
	return []Option{
		{Name: "glusterd-workdir", Default: "/var/lib/glusterd"},
		{Name: "gluster-logdir", Default: "/var/log/glusterfs"},
		{Name: "gluster-rundir", Default: "/var/run/gluster"},
		{Name: "gsyncd-miscdir", Default: "/var/lib/misc/gluster/gsyncd"},
		place("pid-file", "${gluster_rundir}/gsyncd-${primary}-${primary_secondary_host}-${secondaryvol}.pid"),
		place("state-file", "${glusterd_workdir}/geo-replication/"+sessionName+"/monitor.status"),
		place("georep-session-working-dir", "${glusterd_workdir}/geo-replication/"+sessionName+"/"),
		place("working-dir", "${gsyncd_miscdir}/"+sessionName+"/"),
		place("cli-log-file", geoLogs+"cli.log"),
		place("log-file", geoLogs+sessionName+"/gsyncd.log"),
		place("changelog-log-file", geoLogs+sessionName+"/changes-${local_id}.log"),
		place("gluster-log-file", geoLogs+sessionName+"/mnt-${local_id}.log"),
		place("secondary-log-file", remoteLogs+sessionName+"/gsyncd.log"),
		place("secondary-gluster-log-file", remoteLogs+sessionName+"/mnt-${primary_node}-${primary_brick_id}.log"),
		place("secondary-gluster-log-file-mbr", remoteLogs+sessionName+"/mnt-mbr-${primary_node}-${primary_brick_id}.log"),
		{Name: "ssh-options", Default: keyOptions + "secret.pem", Template: true},
		{Name: "ssh-options-tar", Default: keyOptions + "tar_ssh.pem", Template: true},
	}
}

// sessionOptions are what the monitor finds out and notes.
func sessionOptions() []Option {
	return []Option{
		{Name: "primary-bricks", Unset: true, Fixed: true},
		{Name: "secondary-bricks", Unset: true, Fixed: true},
		{Name: "primary-volume-id", Unset: true, Fixed: true},
		{Name: "secondary-volume-id", Unset: true, Fixed: true},
		{Name: "primary-replica-count", Kind: Int, Default: "1", Fixed: true},
		{Name: "primary-disperse-count", Kind: Int, Default: "1", Fixed: true},
		{Name: "primary-distribution-count", Kind: Int, Default: "1", Fixed: true},
		{Name: "stime-xattr-prefix"},
	}
}

func behaviourOptions() []Option {
	return []Option{
		{Name: "checkpoint", Kind: Int, Default: "0", Check: UnixTime},
		{Name: "access-mount", Kind: Bool, Default: "false"},
		{Name: "secondary-access-mount", Kind: Bool, Default: "false"},
		{Name: "isolated-secondarys"},
		{Name: "allow-network"},
		{Name: "changelog-batch-size", Kind: Int, Default: "727040"},
		{Name: "changelog-archive-format", Default: "%Y%m"},
		{Name: "change-interval", Kind: Int, Default: "5"},
		{Name: "change-detector", Default: "changelog", Check: Choice, Allowed: []string{"changelog", "xsync"}},
		{Name: "secondary-timeout", Kind: Int, Default: "120"},
		{Name: "connection-timeout", Kind: Int, Default: "60"},
		{Name: "replica-failover-interval", Kind: Int, Default: "1"},
		{Name: "use-meta-volume", Kind: Bool, Default: "false"},
		{Name: "meta-volume-mnt", Default: "/run/gluster/shared_storage"},
		{Name: "sync-method", Default: "native", Check: Choice, Allowed: Methods()},
		{Name: "sync-jobs", Kind: Int, Default: "3", Check: Range, Least: 1, Most: 100},
		{Name: "ignore-deletes", Kind: Bool, Default: "false"},
		{Name: "special-sync-mode"},
		{Name: "gfid-conflict-resolution", Kind: Bool, Default: "true"},
		{Name: "log-rsync-performance", Kind: Bool, Default: "false"},
		{Name: "rsync-opt-ignore-missing-args", Kind: Bool, Default: "true"},
		{Name: "rsync-opt-existing", Kind: Bool, Default: "true"},
		{Name: "use-rsync-xattrs", Kind: Bool, Default: "false"},
		{Name: "sync-xattrs", Kind: Bool, Default: "true"},
		{Name: "sync-acls", Kind: Bool, Default: "true"},
		{Name: "max-rsync-retries", Kind: Int, Default: "10"},
		{Name: Underscored},
	}
}

func levelOptions() []Option {
	level := func(name string) Option {
		return Option{Name: name, Default: "INFO", Check: Choice, Allowed: []string{"ERROR", "INFO", "WARNING", "DEBUG"}}
	}
	return []Option{
		level("cli-log-level"), level("log-level"), level("gluster-log-level"), level("changelog-log-level"),
		level("secondary-log-level"), level("secondary-gluster-log-level"),
	}
}

func programOptions() []Option {
	return []Option{
		{Name: "gluster-cli-options"},
		{Name: "remote-gsyncd"},
		{Name: "gluster-command-dir", Default: "/usr/sbin"},
		{Name: "secondary-gluster-command-dir", Default: "/usr/sbin"},
		{Name: "gluster-params", Default: "aux-gfid-mount acl"},
		{Name: "secondary-gluster-params", Default: "aux-gfid-mount acl"},
		{Name: "gluster-command", Default: "gluster", Check: Program},
		{Name: "ssh-port", Kind: Int, Default: "22", Check: Range, Least: 1, Most: 65535},
		{Name: "ssh-command", Default: "ssh", Check: Program},
		{Name: "tar-command", Default: "tar", Check: Program},
		{Name: "rsync-command", Default: "rsync", Check: Program},
		{Name: "rsync-options"},
		{Name: "rsync-ssh-options"},
	}
}
