package dial

import (
	"bufio"
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// askTime is how long ssh may take to tell its configuration.
const askTime = 3 * time.Second

// gcm is how the names of the ciphers begin and end that processors with instructions for AES compute fastest: with the one that
// OpenSSH prefers, encryption takes more of the processors' time than all else that is done for a large file.
const (
	gcmPrefix = "aes"
	gcmSuffix = "-gcm@openssh.com"
)

// FastCiphers is a value for Options.Ciphers with which ssh encrypts faster on processors that have instructions for AES: ssh's own
// list in another order. It is "" where that is not ours to choose, because a person's or the host's configuration of ssh, or the options
// in Options.SSH, say which to use; and where Options.SSH is another program, or ssh cannot be asked.
func (o Options) FastCiphers(ctx context.Context) string {
	argv := append(append(o.Shell(), o.login()...), "-G", "--", o.Host)
	if len(o.Local) > 0 || o.Host == "" || filepath.Base(argv[0]) != "ssh" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	builtIn := configured(ctx, argv[0], "-F", "none", "-G", "--", o.Host)
	if builtIn == "" || builtIn != configured(ctx, argv...) {
		return ""
	}
	var first, rest []string
	for name := range strings.SplitSeq(builtIn, ",") {
		if strings.HasPrefix(name, gcmPrefix) && strings.HasSuffix(name, gcmSuffix) {
			first = append(first, name)
		} else {
			rest = append(rest, name)
		}
	}
	if len(first) == 0 {
		return ""
	}
	return strings.Join(append(first, rest...), ",")
}

// configured asks ssh for the ciphers that it would offer, called like that; "" if it does not tell.
func configured(ctx context.Context, argv ...string) string {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = askTime
	said, err := cmd.Output()
	if err != nil {
		return ""
	}
	for lines := bufio.NewScanner(bytes.NewReader(said)); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), "ciphers "); found {
			return value
		}
	}
	return ""
}
