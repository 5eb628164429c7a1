package dial

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Cause is what kept a program on another host from serving.
type Cause int

// The causes.
const (
	CauseOther       Cause = iota
	CauseNoSSH             // the ssh command is not there
	CauseName              // the host's name has no address
	CauseRefused           // nothing listens at the port
	CauseUnreachable       // no answer, or no way to the host
	CauseHostKey           // the host's key is not known
	CauseHostChanged       // the host's key is another than the known one
	CauseDenied            // no key or password was accepted
	CauseConfig            // ssh does not accept its configuration or a key file
	CauseBusy              // the server closes connections before the login
	CauseNotFound          // the program is not there
	CauseCannotRun         // the program is there, but does not run
	CauseNoShell           // the account does not allow commands
	CauseLost              // the connection broke
)

// Problem says in one sentence why a program did not serve, and what to do.
type Problem struct {
	Cause  Cause
	Text   string
	Status int    // exit status, or 128 and a signal's number; 0 when the program did not start
	Stderr string // the last of what it wrote to standard error
	Err    error  // of starting; may be nil
}

func (p *Problem) Error() string { return p.Text }

// Unwrap gives the error of starting, if there was one.
func (p *Problem) Unwrap() error { return p.Err }

// startProblem explains why a local program could not be started.
func startProblem(name string, err error) error {
	p := &Problem{Cause: CauseOther, Err: err, Text: fmt.Sprintf("start %s: %v", name, err)}
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, syscall.ENOENT) {
		p.Cause = CauseNoSSH
		p.Text = fmt.Sprintf("the command %q was not found on this host: install it (for ssh the OpenSSH client), or give --ssh-command", name)
	}
	return p
}

// symptom is a phrase by which a cause is known. What ssh says is all there is to go by: it ends with status 255 whatever
// happened, and its messages are not translated.
type symptom struct {
	phrase string
	cause  Cause
	text   string // %s is the host
}

// symptoms, the most specific first.
func symptoms() []symptom {
	return []symptom{
		{"REMOTE HOST IDENTIFICATION HAS CHANGED", CauseHostChanged, "the host key of %s is not the one that is known: find out whether the host was reinstalled or whether somebody is in between; if the new key is right, remove the old one with ssh-keygen -R"},
		{"Host key verification failed", CauseHostKey, "the host key of %s is not known: connect once with ssh by hand, compare the key's fingerprint and accept it"},
		{"Could not resolve hostname", CauseName, "the host name %s could not be resolved: check its spelling, and DNS or /etc/hosts"},
		{"Connection refused", CauseRefused, "%s refused the connection: check that an ssh server runs there, and its port (--port)"},
		{"Connection timed out", CauseUnreachable, "%s did not answer: check that the host is up and that no firewall blocks the port (--port)"},
		{"Operation timed out", CauseUnreachable, "%s did not answer: check that the host is up and that no firewall blocks the port (--port)"},
		{"No route to host", CauseUnreachable, "there is no route to %s: check the network and that the host is up"},
		{"Network is unreachable", CauseUnreachable, "the network of %s cannot be reached: check this host's network"},
		{"UNPROTECTED PRIVATE KEY FILE", CauseConfig, "ssh refused a private key for %s because others can read it: remove their access with chmod 600"},
		{"Bad owner or permissions", CauseConfig, "ssh refused its configuration for %s because others can write it: check the owner and mode of ~/.ssh/config"},
		{"Bad configuration option", CauseConfig, "ssh does not understand its configuration for %s: mend what it names"},
		{"Too many authentication failures", CauseDenied, "%s refused the login after too many keys were offered: name the right one with IdentityFile and IdentitiesOnly in ~/.ssh/config"},
		{"Permission denied (", CauseDenied, "%s refused the login: check the user name, and that a key of yours is in its ~/.ssh/authorized_keys (try: ssh HOST true)"},
		{"Unable to negotiate", CauseConfig, "ssh and the server of %s have no algorithm in common: update the older of them"},
		{"kex_exchange_identification", CauseBusy, "%s closed the connection before the login: check that the port is an ssh server's (--port), and if several connections are open its MaxStartups"},
		{"This account is currently not available", CauseNoShell, "the account on %s does not allow commands: give it a shell"},
		{"not responding", CauseLost, "the connection to %s was lost: the host did not answer for 45 seconds"},
		{"Broken pipe", CauseLost, "the connection to %s was lost"},
		{"Connection reset by", CauseLost, "the connection to %s was lost"},
		{"Connection closed by", CauseLost, "%s closed the connection: see its ssh server's log"},
	}
}

// Exit statuses of shells and of ssh.
const (
	statusCannotRun = 126
	statusNotFound  = 127
	statusSSH       = 255
)

// Explain says why the program of o, which ended with that status and wrote that to standard error, did not serve.
func Explain(o Options, status int, stderr string) error {
	p := &Problem{Status: status, Stderr: stderr}
	where, program := o.Host, ""
	if len(o.Local) > 0 {
		where, program = "this host", filepath.Base(o.Local[0])
	} else if len(o.Args) > 0 {
		program = o.Args[0]
	}
	last := lastLine(stderr)
	switch {
	case status == statusNotFound:
		p.Cause = CauseNotFound
		p.Text = fmt.Sprintf("the command %q was not found on %s: install georep there, or give --remote-georep PATH", program, where)
		return p
	case status == statusCannotRun:
		p.Cause = CauseCannotRun
		p.Text = fmt.Sprintf("the command %q on %s cannot be run (%s): check its permissions, and that it was built for that host's processor", program, where, last)
		return p
	}
	if len(o.Local) == 0 {
		for _, s := range symptoms() {
			if strings.Contains(stderr, s.phrase) && (status == statusSSH || s.cause == CauseNoShell) {
				p.Cause, p.Text = s.cause, fmt.Sprintf(s.text, where)
				if s.cause == CauseConfig {
					p.Text += " (" + lineWith(stderr, s.phrase) + ")"
				}
				return p
			}
		}
	}
	switch {
	case status == statusSSH && len(o.Local) == 0:
		p.Text = fmt.Sprintf("ssh to %s failed", where)
		if last == "" {
			p.Text += fmt.Sprintf(" without a message: the command %q may have been killed there (see that host's log), or the connection was cut", program)
		}
	case status > 128 && status < 128+65:
		p.Text = fmt.Sprintf("the command %q on %s was ended by the signal %q", program, where, syscall.Signal(status-128))
	default:
		p.Text = fmt.Sprintf("the command %q on %s ended with status %d", program, where, status)
	}
	if last != "" {
		p.Text += ": " + last
	}
	return p
}

// lastLine gives the last line that says something, fit to be shown.
func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return shown(s[strings.LastIndexByte(s, '\n')+1:])
}

// lineWith gives the first line that holds the phrase, fit to be shown.
func lineWith(s, phrase string) string {
	for line := range strings.Lines(s) {
		if strings.Contains(line, phrase) {
			return shown(strings.TrimSpace(line))
		}
	}
	return ""
}

// shown makes foreign text fit to be shown.
func shown(s string) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:500], "")
	}
	return s
}
