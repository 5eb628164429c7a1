package gsyncd

import (
	"context"
	"fmt"
	"strings"

	"georep/internal/session"
)

// call is one invocation as glusterd and the gluster command make it.
type call struct {
	verb       string   // "--monitor", "--config-get", ...
	subject    string   // what follows the verb: an option's name, a status
	positional []string // all other words: the primary with its colon, the secondary, URLs
	value      string
	hasValue   bool
	paths      []string // bricks
	configFile string
	nodeID     string
	pauseOnStart, resetSyncTime,
	inet6 bool
}

// subjectVerbs are followed by a word that belongs to them.
var subjectVerbs = map[string]bool{
	"--config-get": true, "--config-set": true, "--config-del": true, "--config-check": true, "--create": true, "--verify": true,
}

var plainVerbs = map[string]bool{
	"--version": true, "--config-get-all": true, "--monitor": true, "--delete": true, "--normalize-url": true, "--canonicalize-url": true,
	"--secondaryvoluuid-get": true, "--slavevoluuid-get": true, "--status-get": true, "--config-set-rx": true, "--help": true,
}

// parseLegacy reads the arguments of glusterd's calls. Unknown flags are passed over, because glusterd may put one for the family of its
// addresses anywhere.
func parseLegacy(args []string) (call, error) {
	var c call
	next := func(i *int) string {
		*i++
		if *i < len(args) {
			return args[*i]
		}
		return ""
	}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case plainVerbs[arg]:
			c.verb = arg
			if arg == "--config-set-rx" {
				return c, nil // what follows are names and values of old, which may look like anything
			}
		case subjectVerbs[arg]:
			c.verb = arg
			c.subject = next(&i)
		case arg == "-c":
			c.configFile = next(&i)
		case arg == "--path":
			c.paths = append(c.paths, next(&i))
		case strings.HasPrefix(arg, "--path="):
			c.paths = append(c.paths, pathList(arg)...)
		case strings.HasPrefix(arg, "--path-list="):
			c.paths = append(c.paths, pathList(strings.TrimPrefix(arg, "--path-list="))...)
		case strings.HasPrefix(arg, "--value="):
			c.value, c.hasValue = strings.TrimPrefix(arg, "--value="), true
		case strings.HasPrefix(arg, "--glusterd-uuid="):
			c.nodeID = strings.TrimPrefix(arg, "--glusterd-uuid=")
		case arg == "--pause-on-start":
			c.pauseOnStart = true
		case arg == "--reset-sync-time":
			c.resetSyncTime = true
		case arg == "--inet6":
			c.inet6 = true
		case strings.HasPrefix(arg, "-"):
		default:
			c.positional = append(c.positional, arg)
		}
	}
	if c.verb == "" {
		return c, usage("usage: %s", usageText)
	}
	return c, nil
}

// pathList reads "--path=/a --path=/b ", which is one word. A node without bricks has "(null)" there.
func pathList(word string) []string {
	var paths []string
	for part := range strings.SplitSeq(" "+word, " --path=") {
		if part = strings.TrimSpace(part); part != "" && part != "(null)" {
			paths = append(paths, part)
		}
	}
	return paths
}

// session reads the session that the call is about.
func (p *Program) session(c call) (*session.Session, error) {
	if len(c.positional) < 2 {
		return nil, usage("%s needs a primary volume and a secondary", c.verb)
	}
	return p.open(c.positional[0], c.positional[1], nil)
}

// legacy carries out one of glusterd's calls.
func (p *Program) legacy(ctx context.Context, c call) error {
	switch c.verb {
	case "--version":
		return p.print(fmt.Sprintf("gsyncd.py 4.0.0 (georep %s)", p.Version))
	case "--help":
		return p.print(usageText)
	case "--config-set-rx":
		return p.touch(c.configFile)
	case "--normalize-url":
		return p.normalize(c.positional)
	case "--canonicalize-url":
		return p.canonicalize(ctx, c.positional, c.inet6)
	case "--secondaryvoluuid-get", "--slavevoluuid-get":
		return p.volumeID(ctx, c.positional, c.inet6)
	case "--verify":
		return nil // that this program runs is the answer
	case "--config-check":
		return p.configCheck(c.subject, c.value, c.hasValue)
	}
	s, err := p.session(c)
	if err != nil {
		return err
	}
	switch c.verb {
	case "--config-get-all":
		return p.configAll(s)
	case "--config-get":
		return p.configGet(s, c.subject)
	case "--config-set":
		return p.configSet(s, c.subject, c.value)
	case "--config-del":
		return p.configDelete(s, c.subject)
	case "--create":
		return s.SetWord(c.subject)
	case "--status-get":
		return p.statusGet(s, c.paths)
	case "--delete":
		return p.delete(s, c.paths, c.resetSyncTime)
	}
	return p.startMonitor(ctx, s, monitorStart{node: c.nodeID, bricks: c.paths, paused: c.pauseOnStart, secondary: c.positional[1]})
}
