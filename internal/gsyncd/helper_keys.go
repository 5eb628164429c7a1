package gsyncd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"georep/internal/dial"
	"georep/internal/durable"
	"georep/internal/keys"
)

// nodeKeys are the lines of one node's keys as nodes tell them to each other.
type nodeKeys struct {
	Session string `json:"default_pub"`
	Tar     string `json:"tar_pub"`
}

// sshkeyHelper is gluster-georep-sshkey: "generate" makes the keys of all nodes of the pool, "node-generate" those of this one.
func (p *Program) sshkeyHelper(ctx context.Context, args []string) error {
	f := flags("gluster-georep-sshkey")
	bare := f.Bool("no-prefix", false, "")
	if err := f.Parse(args); err != nil || f.NArg() == 0 {
		return usage("usage: gluster-georep-sshkey generate [--no-prefix]")
	}
	switch f.Arg(0) {
	case "generate":
		return p.generateKeys(ctx, *bare)
	case "node-generate":
		session, tar, err := keys.Node(ctx, p.geoDir(), p.gsyncdPath(), f.Arg(1) != "no-prefix")
		return p.answerNode(nodeKeys{session, tar}, err)
	}
	return usage("usage: gluster-georep-sshkey generate [--no-prefix]")
}

func (p *Program) generateKeys(ctx context.Context, bare bool) error {
	prefix := "."
	if bare {
		prefix = "no-prefix"
	}
	nodes, err := p.onAll(ctx, "georep-sshkey.py", "node-generate", prefix)
	if err != nil {
		return err
	}
	var lines []string
	rows := [][]string{{"NODE", "NODE STATUS", "KEYGEN STATUS"}}
	for _, n := range nodes {
		rows = append(rows, []string{n.Host, n.status(), n.verdict()})
		if n.verdict() != "OK" {
			continue
		}
		var k nodeKeys
		if err := json.Unmarshal(n.answer.Output, &k); err != nil {
			return fmt.Errorf("read the keys of %s: %w", n.Host, err)
		}
		lines = append(lines, strings.TrimSpace(k.Session), strings.TrimSpace(k.Tar))
	}
	text := strings.Join(lines, "\n") + "\n"
	if err := durable.WriteFile(filepath.Join(p.geoDir(), keys.Common), []byte(text), 0o644); err != nil {
		return fmt.Errorf("write the public keys: %w", err)
	}
	if err := p.print(table(rows)...); err != nil {
		return err
	}
	if n := failures(nodes); n > 0 {
		return fmt.Errorf("%d nodes that are up have made no keys: see the table, mend the cause and run this again", n)
	}
	return nil
}

// gsecCreateHelper prints the lines of this node's keys.
func (p *Program) gsecCreateHelper(ctx context.Context, args []string) error {
	session, tar, err := keys.Node(ctx, p.geoDir(), p.gsyncdPath(), len(args) == 0 || args[0] != "container")
	if err != nil {
		return err
	}
	return p.print(session, tar)
}

// addSecretHelper lets the keys of a file in, for an account of this node.
func (p *Program) addSecretHelper(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return usage("usage: add_secret_pub USER FILE")
	}
	name := args[1]
	if !filepath.IsLocal(name) {
		return usage("%q is not below glusterd's directory", name)
	}
	more, err := os.ReadFile(filepath.Join(p.workDir(), name))
	if err != nil {
		return fmt.Errorf("read the public keys: %w", err)
	}
	to, err := lookupAccount(ctx, args[0])
	if err != nil {
		return err
	}
	config, err := os.ReadFile("/etc/ssh/sshd_config")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the configuration of sshd: %w", err)
	}
	path := keys.FileOf(string(config), to.name, to.home)
	return to.do(func() error { return authorize(path, string(more), p.gsyncdPath()) })
}

// authorize adds lines to an authorized_keys file.
func authorize(path, more, gsyncd string) error {
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("let keys in: %w", err)
	}
	present, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("let keys in: %w", err)
	}
	text, err := keys.Merge(string(present), more, gsyncd)
	if err != nil {
		return fmt.Errorf("let keys in: %w", err)
	}
	if text == string(present) && err == nil && len(present) > 0 {
		return nil
	}
	if err := durable.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("let keys in: %w", err)
	}
	return nil
}

// account is an account of this host.
type account struct {
	name, home string
	uid, gid   int
}

// lookupAccount finds an account wherever the system keeps them.
func lookupAccount(ctx context.Context, name string) (account, error) {
	out, err := dial.Output(ctx, dial.Brief{Argv: []string{"getent", "passwd", "--", name}})
	fields := strings.Split(strings.TrimSpace(string(out)), ":")
	if err != nil || len(fields) < 7 || fields[0] != name {
		return account{}, fmt.Errorf("there is no account %q on this host: make it with useradd", name)
	}
	uid, uidErr := strconv.Atoi(fields[2])
	gid, gidErr := strconv.Atoi(fields[3])
	if uidErr != nil || gidErr != nil {
		return account{}, fmt.Errorf("the account %q has no number", name)
	}
	return account{name, fields[5], uid, gid}, nil
}

// do works with files as the account, so that a link in its home leads to nothing that it may not change itself.
func (a account) do(work func() error) error {
	if os.Geteuid() != 0 || a.uid == 0 {
		return work()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its identity
		if err := errors.Join(syscall.Setfsgid(a.gid), syscall.Setfsuid(a.uid)); err != nil {
			done <- fmt.Errorf("become %s: %w", a.name, err)
			return
		}
		done <- work()
	}()
	return <-done
}

// setKeysHelper is set_geo_rep_pem_keys.sh: it takes the keys that push-pem has left in an account's home to all nodes of the secondary.
func (p *Program) setKeysHelper(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return usage("usage: set_geo_rep_pem_keys.sh USER PRIMARY-VOLUME SECONDARY-VOLUME")
	}
	user, pair := args[0], keys.Pair{Primary: args[1], Secondary: args[2]}
	if user == "root" {
		return errors.New("the keys of root are set when the session is created: this command is for other accounts")
	}
	to, err := lookupAccount(ctx, user)
	if err != nil {
		return err
	}
	name := pair.Primary + "_" + pair.Secondary + "_" + keys.Common
	var text []byte
	err = to.do(func() error {
		text, err = os.ReadFile(filepath.Join(to.home, name))
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: run 'gluster volume geo-replication %s %s@HOST::%s create push-pem' on the primary first", err, pair.Primary, user, pair.Secondary)
	}
	restricted, err := keys.RestrictAll(string(text), pair)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(p.geoDir(), name), []byte(restricted), 0o644); err != nil {
		return fmt.Errorf("take the keys over: %w", err)
	}
	for _, step := range [][]string{
		{"system::", "copy", "file", "/geo-replication/" + name},
		{"system::", "execute", "add_secret_pub", user, "geo-replication/" + name},
		{"volume", "set", pair.Secondary, "features.read-only", "on"},
	} {
		out, err := p.gluster(ctx, step...)
		if err != nil {
			return err
		}
		if said := strings.TrimSpace(string(out)); said != "" {
			if err := p.print(said); err != nil {
				return err
			}
		}
	}
	return nil
}

// adminSSH is ssh as root's administrator has it set up, with the key that the environment may name. A host whose key has changed is refused.
func (p *Program) adminSSH(port string, root bool) []string {
	argv := []string{"ssh", "-p", port, "-oPasswordAuthentication=no", "-oBatchMode=yes", "-oStrictHostKeyChecking=accept-new", "-oConnectTimeout=20"}
	if key := p.Getenv("GR_SSH_IDENTITY_KEY"); key != "" && root {
		argv = append(argv, "-i", key)
	}
	return argv
}

// remotely runs a command of a shell on another host, with a PATH in which a user finds gluster too.
func (p *Program) remotely(ctx context.Context, ssh []string, login, command string, input string) ([]byte, error) {
	argv := append(slices.Clone(ssh), login, "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; "+command)
	out, err := dial.Output(ctx, dial.Brief{Argv: argv, Env: p.cleanEnv(), In: strings.NewReader(input)})
	if err != nil {
		return out, fmt.Errorf("on %s: %w: %s", login, explainSSH(err), strings.TrimSpace(string(out)))
	}
	return out, nil
}
