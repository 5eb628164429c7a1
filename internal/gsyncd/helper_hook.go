package gsyncd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"georep/internal/dial"
	"georep/internal/durable"
	"georep/internal/gluster"
	"georep/internal/keys"
	"georep/internal/session"
)

// push is what glusterd tells its hook when a session has been created.
type push struct {
	primary, pubFile, user, host, volume, port string
}

// parsePush reads the arguments of the hook. ok is false when no keys are to be pushed, or not by this node.
func parsePush(args []string) (push, bool) {
	var o push
	if len(args) < 2 {
		return o, false
	}
	o.primary = strings.TrimPrefix(args[0], "--volname=")
	values := map[string]string{}
	for part := range strings.SplitSeq(args[1], ",") {
		if name, value, ok := strings.Cut(part, "="); ok {
			values[name] = value
		}
	}
	o.pubFile, o.user, o.host = values["pub_file"], values["secondary_user"], values["secondary_ip"]
	o.volume, o.port = values["secondary_vol"], values["ssh_port"]
	port, err := strconv.Atoi(o.port)
	whole := !slices.Contains([]string{o.primary, o.pubFile, o.user, o.host, o.volume}, "") && err == nil && port > 0
	return o, whole && values["is_push_pem"] == "1"
}

// createdHook brings the keys of all primary nodes to the secondary, and notes the secondary's host keys for all primary nodes. Nobody waits
// for it, so what goes wrong is in the log of the session.
func (p *Program) createdHook(ctx context.Context, args []string) error {
	o, ok := parsePush(args)
	if !ok {
		return nil
	}
	s, err := p.open(o.primary, o.host+"::"+o.volume, nil)
	if err != nil {
		return err
	}
	log := newLogger(openLog(s.Path("log-file")), "push-pem", "INFO")
	if err := p.push(ctx, o, s, log); err != nil {
		log.Error("the keys are not on the secondary: mend the cause and run 'create push-pem force'", "reason", err)
		return err
	}
	log.Info("the keys are on the secondary", "host", o.host)
	return nil
}

func (p *Program) push(ctx context.Context, o push, s *session.Session, log *slog.Logger) error {
	text, err := os.ReadFile(o.pubFile)
	if err != nil {
		return fmt.Errorf("read the public keys: %w", err)
	}
	pair := keys.Pair{Primary: o.primary, Secondary: o.volume}
	restricted, err := keys.RestrictAll(string(text), pair)
	if err != nil {
		return err
	}
	root := o.user == "root"
	ssh, login := p.adminSSH(o.port, root), o.user+"@"+o.host
	name := o.primary + "_" + o.volume + "_" + keys.Common
	if root {
		dir := filepath.Dir(o.pubFile)
		steps := "umask 022; cat >" + quote(filepath.Join(dir, name)+"_tmp") + " && mv " + quote(filepath.Join(dir, name)+"_tmp") + " " + quote(filepath.Join(dir, name)) +
			" && gluster --mode=script system:: copy file /geo-replication/" + name + " && gluster --mode=script system:: execute add_secret_pub root geo-replication/" + name +
			" && gluster --mode=script volume set " + o.volume + " features.read-only on"
		if _, err := p.remotely(ctx, ssh, login, steps, restricted); err != nil {
			return err
		}
	} else {
		steps := "umask 077; cd && cat >common_secret.pem.pub_tmp && mv common_secret.pem.pub_tmp " + quote(name)
		if _, err := p.remotely(ctx, ssh, login, steps, restricted); err != nil {
			return err
		}
		log.Info("as root on " + o.host + " run: set_geo_rep_pem_keys.sh " + o.user + " " + o.primary + " " + o.volume)
	}
	return p.pin(ctx, o, s, ssh, login)
}

// pin notes the keys of all hosts of the secondary, and gives them to all primary nodes.
func (p *Program) pin(ctx context.Context, o push, s *session.Session, ssh []string, login string) error {
	hosts := []string{o.host}
	out, err := p.remotely(ctx, ssh, login, "gluster --xml --remote-host=localhost volume info "+o.volume, "")
	if err != nil {
		return err
	}
	volume, err := gluster.FindVolume(out, o.volume)
	if err != nil {
		return err
	}
	for _, b := range volume.Bricks {
		if !slices.Contains(hosts, b.Host) {
			hosts = append(hosts, b.Host)
		}
	}
	// A host that does not answer now is noted when a worker meets it first.
	found, err := dial.Output(ctx, dial.Brief{Argv: append([]string{"ssh-keyscan", "-T", "10", "-p", o.port}, hosts...), Env: p.cleanEnv()})
	var exit *dial.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("ask for the host keys: %w", err)
	}
	if err := p.agree(ctx, string(found), o); err != nil {
		return err
	}
	path := knownHosts(s)
	if err := durable.WriteFile(path, found, 0o644); err != nil {
		return fmt.Errorf("note the host keys: %w", err)
	}
	_, err = p.gluster(ctx, "system::", "copy", "file", "/geo-replication/"+filepath.Base(path))
	return err
}

// errHostKey is the error of a host that has answered with another key than the administrator's ssh knows.
var errHostKey = errors.New("it has another key than root's known_hosts says: somebody may be in between")

// agree checks that the session's host has shown the key that the administrator's ssh knows of it.
func (p *Program) agree(ctx context.Context, found string, o push) error {
	name := o.host
	if o.port != "22" {
		name = "[" + o.host + "]:" + o.port
	}
	known, err := dial.Output(ctx, dial.Brief{Argv: []string{"ssh-keygen", "-F", name}, Env: p.cleanEnv()})
	if err != nil || len(known) == 0 {
		return nil // the administrator's ssh knows the host by other means, such as a certificate
	}
	for line := range strings.Lines(found) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != name {
			continue
		}
		for other := range strings.Lines(string(known)) {
			of := strings.Fields(other)
			if len(of) < 3 || of[0] == "#" || of[1] != fields[1] {
				continue
			}
			if of[2] != fields[2] {
				return fmt.Errorf("%s: %w", o.host, errHostKey)
			}
		}
	}
	return nil
}

// quote makes one word of a shell out of a text.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
