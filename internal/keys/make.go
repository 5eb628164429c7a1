package keys

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"georep/internal/dial"
)

// The names of a node's keys in glusterd's directory for geo-replication.
const (
	Secret    = "secret.pem"  // for the session itself
	TarSecret = "tar_ssh.pem" // for sync-method tarssh of the reference
	Common    = "common_secret.pem.pub"
)

// Make gives the public key of a private one, which is made when there is none. A private key without its public part is made anew, as
// the reference does.
func Make(ctx context.Context, path string) (public string, err error) {
	text, err := os.ReadFile(path + ".pub")
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the key: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("make a key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	if _, err := dial.Output(ctx, dial.Brief{Argv: []string{"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path}}); err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	text, err = os.ReadFile(path + ".pub")
	if err != nil {
		return "", fmt.Errorf("read the key: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// Node makes the keys of this node and gives their lines for other hosts. With a prefix the lines are for gsyncd, whose path is given; without
// one they are the bare keys, which let in to everything.
func Node(ctx context.Context, dir, gsyncd string, prefix bool) (session, tar string, err error) {
	lines := make([]string, 2)
	for i, name := range []string{Secret, TarSecret} {
		public, err := Make(ctx, filepath.Join(dir, name))
		if err != nil {
			return "", "", err
		}
		if prefix {
			l, err := ParseLine(public)
			if err != nil {
				return "", "", fmt.Errorf("read the key %s: %w", name, err)
			}
			if l, err = l.Restrict(gsyncd, nil); err != nil {
				return "", "", err
			}
			public = l.String()
		}
		lines[i] = public
	}
	return lines[0], lines[1], nil
}

// FileOf finds where sshd looks for the keys of an account, by the text of its configuration: the last line counts, and of several files
// the first that is the account's own.
func FileOf(sshdConfig, user, home string) string {
	names := []string{".ssh/authorized_keys"}
	for raw := range strings.Lines(sshdConfig) {
		fields := strings.Fields(raw)
		if len(fields) > 0 && strings.EqualFold(fields[0], "Match") {
			break // what follows is for some connections only
		}
		if len(fields) > 1 && strings.EqualFold(fields[0], "AuthorizedKeysFile") && fields[1] != "none" {
			names = fields[1:]
		}
	}
	best := ""
	for _, name := range names {
		name = strings.Trim(name, `"`)
		own := strings.Contains(name, "%h") || strings.Contains(name, "%u") || !filepath.IsAbs(name)
		path := strings.NewReplacer("%%", "%", "%h", home, "%u", user).Replace(name)
		if !filepath.IsAbs(path) {
			path = filepath.Join(home, path)
		}
		if own {
			return path
		}
		if best == "" {
			best = path
		}
	}
	return best
}
