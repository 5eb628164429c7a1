package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func (l *Lab) sshConfig() string { return filepath.Join(l.dir, "ssh_config") }

// writeFiles makes what the hosts need on disk before they boot: keys, the user database, private directories.
func (l *Lab) writeFiles(ctx context.Context) error {
	if err := makeKey(ctx, filepath.Join(l.dir, "key")); err != nil {
		return err
	}
	hosts := "127.0.0.1 localhost\n::1 localhost\n"
	var known strings.Builder
	for _, h := range l.hosts {
		for _, dir := range []string{"data", "run/sshd", "home", "ssh", "private", "home-of-root"} {
			if err := os.MkdirAll(filepath.Join(h.dir, dir), 0o755); err != nil {
				return err
			}
		}
		hosts += fmt.Sprintf("%s %s\n%s %s\n", h.Addr(), h.name, h.Addr6(), h.name)
		key := filepath.Join(h.dir, "ssh", "ssh_host_ed25519_key")
		if err := makeKey(ctx, key); err != nil {
			return err
		}
		public, err := os.ReadFile(key + ".pub")
		if err != nil {
			return err
		}
		fmt.Fprintf(&known, "%s,%s,%s %s", h.name, h.Addr(), h.Addr6(), public)
	}
	files := map[string]string{"hosts": hosts, "known_hosts": known.String(), "ssh_config": l.clientConfig()}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(l.dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	for _, h := range l.hosts {
		if err := h.writeFiles(ctx); err != nil {
			return err
		}
	}
	return nil
}

// clientConfig makes ssh use the lab's key and check the lab's host keys, and nothing of the person who runs the lab.
func (l *Lab) clientConfig() string {
	return clientConfig("*", filepath.Join(l.dir, "key"), filepath.Join(l.dir, "known_hosts"))
}

func clientConfig(pattern, key, knownHosts string) string {
	return fmt.Sprintf(`Host %s
    IdentityFile %s
    IdentitiesOnly yes
    UserKnownHostsFile %s
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    UpdateHostKeys no
    PasswordAuthentication no
    KbdInteractiveAuthentication no
`, pattern, key, knownHosts)
}

// serverConfig is an sshd for tests: keys only, no PAM (which would want accounts and sessions that a lab does not have), and
// many connections at once.
func serverConfig(dir, authorizedKeys, more string) string {
	return fmt.Sprintf(`HostKey %s/ssh_host_ed25519_key
AuthorizedKeysFile %s
UsePAM no
StrictModes no
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UseDNS no
MaxStartups 2000
MaxSessions 2000
MaxAuthTries 20
PrintMotd no
Subsystem sftp internal-sftp
%s`, dir, authorizedKeys, more)
}

func (h *Host) writeFiles(ctx context.Context) error {
	public, err := os.ReadFile(filepath.Join(h.lab.dir, "key.pub"))
	if err != nil {
		return err
	}
	files := map[string]string{
		"ssh/sshd_config":     serverConfig("/etc/ssh", h.authorizedKeys(), "PidFile /run/sshd.pid\n"),
		"ssh/ssh_config":      h.lab.clientConfig(),
		"ssh/authorized_keys": string(public),
	}
	if err := h.users(files); err != nil {
		return err
	}
	for name, content := range files {
		mode := os.FileMode(0o644)
		if name == "shadow" {
			mode = 0o600
		}
		if err := os.WriteFile(filepath.Join(h.dir, name), []byte(content), mode); err != nil {
			return err
		}
	}
	for i, user := range h.lab.o.Users {
		home := filepath.Join(h.dir, "home", user)
		if err := os.MkdirAll(home, 0o755); err != nil {
			return err
		}
		if err := os.Chown(home, firstUser+i, firstUser+i); err != nil {
			return err
		}
	}
	for i, dir := range h.lab.o.Private {
		to := filepath.Join(h.dir, "private", fmt.Sprint(i))
		if err := run(ctx, "cp", "-a", dir, to); err != nil {
			return err
		}
	}
	if h.lab.o.Gluster {
		return h.forgetGluster()
	}
	return nil
}

// authorizedKeys is where sshd looks for keys: the lab's own one lets root and all users in everywhere.
func (h *Host) authorizedKeys() string {
	if h.lab.o.Gluster {
		return ".ssh/authorized_keys /etc/ssh/authorized_keys"
	}
	return "/etc/ssh/authorized_keys"
}

// firstUser is the uid and gid of the first of Options.Users.
const firstUser = 20_000

// users makes the host's own user database. It is edited here and not by useradd, which would change the machine's files, or
// fail on files that are mounted. An account without a password has "*" there: "!" would be a locked account, which sshd
// without PAM refuses.
func (h *Host) users(files map[string]string) error {
	for _, name := range []string{"passwd", "group", "shadow"} {
		content, err := os.ReadFile(filepath.Join("/etc", name))
		if err != nil {
			return err
		}
		lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
		if name == "shadow" {
			for i, line := range lines {
				if rest, isRoot := strings.CutPrefix(line, "root:"); isRoot {
					_, tail, _ := strings.Cut(rest, ":")
					lines[i] = "root:*:" + tail
				}
			}
		}
		if name == "passwd" && h.lab.o.Gluster {
			for i, line := range lines {
				if strings.HasPrefix(line, "root:") {
					lines[i] = "root:x:0:0:root:" + h.Home() + ":/bin/bash" // for the keys of its sessions
				}
			}
		}
		for i, user := range h.lab.o.Users {
			id := firstUser + i
			// The system may have an account of that name already, as Debian has one called backup.
			lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, user+":") })
			switch name {
			case "passwd":
				lines = append(lines, fmt.Sprintf("%s:x:%d:%d::/home/%s:/bin/bash", user, id, id, user))
			case "group":
				lines = append(lines, fmt.Sprintf("%s:x:%d:", user, id))
			case "shadow":
				lines = append(lines, user+":*:20000:0:99999:7:::")
			}
		}
		files[name] = strings.Join(lines, "\n") + "\n"
	}
	return nil
}

// bootScript mounts what is the host's own. It runs as the init, before the network is there.
func (h *Host) bootScript() string {
	var s strings.Builder
	fmt.Fprintf(&s, "set -e; hostname %s; mount --make-rprivate /; mount -t proc proc /proc; ip link set lo up\n", quote(h.name))
	fmt.Fprintf(&s, "rm -rf %[1]s/run; mkdir -p %[1]s/run/sshd; chmod 755 %[1]s/run %[1]s/run/sshd\n", quote(h.dir))
	bind := func(from, to string) {
		fmt.Fprintf(&s, "mount --bind %s %s\n", quote(filepath.Join(h.dir, from)), quote(to))
	}
	for i, dir := range h.lab.o.Private {
		bind(filepath.Join("private", fmt.Sprint(i)), dir)
	}
	bind("home", "/home")
	bind("ssh", "/etc/ssh")
	for _, name := range []string{"passwd", "group", "shadow"} {
		bind(name, "/etc/"+name)
	}
	bind("../hosts", "/etc/hosts")
	bind("run", "/run")
	if h.lab.o.Gluster {
		fmt.Fprintln(&s, "mkdir -p /run/gluster")
	}
	return s.String()
}

// startScript runs when the network is there: what the lab's maker wants, then sshd. Daemons must not die with the script.
func (h *Host) startScript() string {
	return "set -e\n{ " + h.lab.o.Boot + "\n:\n}\n" + h.daemons() + "$(command -v sshd || echo /usr/sbin/sshd) -f /etc/ssh/sshd_config -E /run/sshd.log"
}

// makeKey makes an ed25519 key pair without a passphrase, unless it is there.
func makeKey(ctx context.Context, path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return run(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", path)
}

// quote makes one word of a shell out of a string.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
