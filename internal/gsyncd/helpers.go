package gsyncd

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"georep/internal/dial"
	"georep/internal/mountbroker"
	"georep/internal/session"
)

// HookName is the hook script that glusterd runs when a session has been created.
const HookName = "S56glusterd-geo-rep-create-post.sh"

// helpers are the programs besides gsyncd that we stand for, by the names under which they are started.
func (p *Program) helpers() map[string]func(context.Context, []string) error {
	return map[string]func(context.Context, []string) error{
		"gluster-georep-sshkey":   p.sshkeyHelper,
		"peer_georep-sshkey.py":   p.sshkeyHelper,
		"peer_gsec_create":        p.gsecCreateHelper,
		"peer_add_secret_pub":     p.addSecretHelper,
		"set_geo_rep_pem_keys.sh": p.setKeysHelper,
		"gluster-mountbroker":     p.mountbrokerHelper,
		"peer_mountbroker.py":     p.mountbrokerHelper,
		"peer_mountbroker":        p.oldMountbrokerHelper,
		"gverify.sh":              p.verifyHelper,
		HookName:                  p.createdHook,
	}
}

// workDir is glusterd's working directory, as glusterd says in the environment of what it starts.
func (p *Program) workDir() string {
	if dir := p.Getenv("GLUSTERD_WORKDIR"); dir != "" {
		return p.Place.Root + dir
	}
	return p.Place.Root + session.DefaultWorkDir
}

func (p *Program) geoDir() string { return filepath.Join(p.workDir(), "geo-replication") }

// logDir is the directory of Gluster's logs.
func (p *Program) logDir() string { return p.Place.Root + "/var/log/glusterfs" }

// gsyncdPath is where gsyncd is for others: beside us, be we started by that name or not.
func (p *Program) gsyncdPath() string { return filepath.Join(filepath.Dir(p.Executable), "gsyncd") }

// gluster runs the gluster command and gives what it printed.
func (p *Program) gluster(ctx context.Context, args ...string) ([]byte, error) {
	out, err := dial.Output(ctx, dial.Brief{Argv: append([]string{glusterPath(), "--mode=script"}, args...), Env: p.cleanEnv()})
	if err != nil {
		return out, fmt.Errorf("gluster %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return out, nil
}

// nodeID is glusterd's id of this node.
func (p *Program) nodeID() (string, error) {
	text, err := os.ReadFile(filepath.Join(p.workDir(), "glusterd.info"))
	if err != nil {
		return "", fmt.Errorf("find the id of this node: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "UUID="); ok {
			return id, nil
		}
	}
	return "", fmt.Errorf("find the id of this node: glusterd.info has none")
}

// answer is what a command on one node of the pool says, in one line of JSON.
type answer struct {
	OK     bool            `json:"ok"`
	NodeID string          `json:"nodeid"`
	Output json.RawMessage `json:"output,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// answerNode prints what a command of one node has done. That it failed is part of the answer, and no failure of the program.
func (p *Program) answerNode(output any, failed error) error {
	id, err := p.nodeID()
	if failed == nil {
		failed = err
	}
	a := answer{OK: failed == nil, NodeID: id}
	if failed != nil {
		a.Error = failed.Error()
	} else if a.Output, err = json.Marshal(output); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	text, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return p.print(string(text))
}

// node is a node of the pool with its answer.
type node struct {
	Host      string `xml:"hostname"`
	ID        string `xml:"uuid"`
	Connected int    `xml:"connected"`
	answer    *answer
}

// onAll has every node of the pool run one of the programs peer_NAME.
func (p *Program) onAll(ctx context.Context, name string, args ...string) ([]node, error) {
	out, err := p.gluster(ctx, append([]string{"system::", "execute", name}, args...)...)
	if err != nil {
		return nil, err
	}
	answers := map[string]*answer{}
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		var a answer
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			return nil, fmt.Errorf("%w: %q", mountbroker.ErrAnswer, line)
		}
		answers[a.NodeID] = &a
	}
	out, err = p.gluster(ctx, "pool", "list", "--xml")
	if err != nil {
		return nil, err
	}
	var pool struct {
		Nodes []node `xml:"peerStatus>peer"`
	}
	if err := xml.Unmarshal(out, &pool); err != nil {
		return nil, fmt.Errorf("list the nodes of the pool: %w", err)
	}
	for i := range pool.Nodes {
		pool.Nodes[i].answer = answers[pool.Nodes[i].ID]
	}
	return pool.Nodes, nil
}

// nodeStatus is the column NODE STATUS.
func (n node) status() string {
	if n.Connected == 1 {
		return "UP"
	}
	return "DOWN"
}

// verdict is the column about what was to be done on the node.
func (n node) verdict() string {
	switch {
	case n.answer == nil && n.Connected == 1:
		return "NOT OK: no answer"
	case n.answer == nil:
		return "N/A"
	case !n.answer.OK:
		return "NOT OK: " + n.answer.Error
	}
	return "OK"
}

// failures counts the nodes that are up and have not done it.
func failures(nodes []node) int {
	count := 0
	for _, n := range nodes {
		if n.Connected == 1 && n.verdict() != "OK" {
			count++
		}
	}
	return count
}

// table draws rows under a header. The first column is centred, the others are flush right.
func table(rows [][]string) []string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	rule := "+"
	for _, width := range widths {
		rule += strings.Repeat("-", width+2) + "+"
	}
	lines := []string{rule}
	for r, row := range rows {
		line := "|"
		for i, cell := range row {
			space := widths[i] - utf8.RuneCountInString(cell)
			left := space
			if r == 0 || i == 0 {
				left = space / 2
				if space%2 == 1 && utf8.RuneCountInString(cell)%2 == 0 {
					left++ // as the table that scripts know does it
				}
			}
			line += " " + strings.Repeat(" ", left) + cell + strings.Repeat(" ", space-left) + " |"
		}
		lines = append(lines, line)
		if r == 0 {
			lines = append(lines, rule)
		}
	}
	return append(lines, rule)
}
