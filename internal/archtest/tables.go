package archtest

import "maps"

// maxFileLines and maxFunctionLines bound what a person must hold in mind at once; maxTestLines bounds a test function, which
// may tell a longer story.
const (
	maxFileLines     = 500
	maxFunctionLines = 60
	maxTestLines     = 100
)

// mayImport lists, for every room, the rooms that it may import. A room that is not listed may not exist: a new one begins
// with its line here. "*" is all that is shipped.
func mayImport() map[string][]string {
	all := map[string][]string{
		// The ground.
		"change":  {},
		"delta":   {},
		"rooted":  {"change"},
		"durable": {"change"},
		"config":  {"change"},
		"status":  {"change"},
		"dial":    {"change"},
		"gluster": {"change", "dial"},
		// The way of the data.
		"index":            {"change"},
		"checkpoint":       {"change", "index"},
		"source":           {"change", "rooted", "source/fanotify", "source/ignore", "source/inotify", "source/scan", "source/spill"},
		"source/brick":     {"change", "gluster", "source/changelog"},
		"source/changelog": {"change", "gluster"},
		"source/fanotify":  {"change", "rooted"},
		"source/ignore":    {"change"},
		"source/inotify":   {"change", "rooted"},
		"source/scan":      {"change", "rooted", "source/spill"},
		"source/spill":     {"change"},
		"plan":             {"change"},
		"wire":             {"change", "delta", "wire/wirepb"},
		"wire/wirepb":      {},
		"apply":            {"change", "delta", "rooted", "wire"},
		"apply/bygfid":     {"apply", "change", "delta", "gluster", "rooted", "wire"},
		"apply/bypath":     {"apply", "change", "delta", "rooted", "wire"},
		// The requests of wire are the words in which the engine speaks to its peer; see docs/decisions/rooms.md.
		"replicate": {"change", "delta", "plan", "status", "wire"},
		// Programs of the system that bring content over; see docs/decisions/transfer.md.
		"transfer": {"change", "dial"},
		// The way of the operator, as far as it is built.
		"worker": {
			"change", "checkpoint", "config", "delta", "dial", "durable", "gluster", "index", "plan", "replicate", "rooted", "source",
			"source/brick", "source/changelog", "source/ignore", "status", "transfer", "wire",
		},
		"agent":      {"apply", "apply/bygfid", "apply/bypath", "change", "delta", "durable", "gluster", "rooted", "wire"},
		"cli":        {"agent", "config", "dial", "divert", "durable", "session", "status", "worker"},
		"cli/mangen": {"cli", "config"},
		"cmd/georep": {"agent", "cli", "worker"},
		// Never shipped.
		"archtest":     {},
		"need":         {},
		"treetest":     {},
		"sourcetest":   {"*"},
		"pairtest":     {"*"},
		"lab":          {"need"},
		"lab/cmd":      {"lab"},
		"bench":        {"*"},
		"test":         {"*"},
		"test/brick":   {"*"},
		"test/gluster": {"*"},
	}
	maps.Copy(all, glusterRooms())
	return all
}

// glusterRooms are the operator's rooms of the Gluster face.
func glusterRooms() map[string][]string {
	return map[string][]string{
		"session":     {"config/gsyncdconf", "durable", "status"},
		"monitor":     {"durable"},
		"keys":        {"dial"},
		"divert":      {"dial", "durable"},
		"mountbroker": {"durable"},
		"gsyncd":      {"agent", "change", "config/gsyncdconf", "dial", "divert", "durable", "gluster", "keys", "monitor", "mountbroker", "session", "status", "worker"},
		"cmd/gsyncd":  {"agent", "gsyncd", "worker"},
		// What Gluster's own tools read and write of a session's configuration.
		"config/gsyncdconf": {},
	}
}

// neverShipped are the rooms for tests and benchmarks, with all below them. They may import testing, os/exec and
// golang.org/x/sys/unix, tests of every room may import them, and nothing that is shipped may.
func neverShipped() []string {
	return []string{"archtest", "need", "treetest", "sourcetest", "pairtest", "lab", "bench", "test", "cli/mangen"}
}

// restricted lists packages that only some rooms may import, each with the reason. Tests may import them everywhere.
func restricted() map[string][]string {
	return map[string][]string{
		// Programs are started in one place, where their end is waited for.
		"os/exec": {"dial"},
		// Raw system calls stay where descriptors are held: dial enlarges pipes, index gives memory back, agent confines itself.
		"golang.org/x/sys/unix": {"agent", "apply/bygfid", "dial", "durable", "gluster", "index", "rooted", "source/brick", "source/fanotify", "source/inotify"},
		"testing":               {},
		"testing/fstest":        {},
		"testing/iotest":        {},
		// A plan depends on nothing but its arguments; see pure.
		"unsafe": {"rooted", "source/fanotify", "source/inotify", "wire/wirepb"},
	}
}

// pure lists rooms that must not see the world, and what they may not import for it.
func pure() map[string][]string {
	return map[string][]string{
		"plan":      {"os", "time", "context", "net", "syscall", "log/slog", "io"},
		"replicate": {"os", "net", "os/exec"},
		// The ground does not log: it returns.
		"change": {"log", "log/slog", "os"}, "delta": {"log", "log/slog", "os"}, "rooted": {"log", "log/slog"},
		"durable": {"log", "log/slog"}, "config": {"log", "log/slog"}, "status": {"log", "log/slog"}, "dial": {"log", "log/slog"},
	}
}

// longFunctions are those that may be longer, by file and name ("internal/wire/codec.go decode"), with the reason.
func longFunctions() map[string]string {
	return map[string]string{}
}

// badNames are names of packages that put a decision off.
func badNames() []string {
	return []string{"util", "utils", "common", "helper", "helpers", "types", "base", "manager", "core", "misc", "shared", "lib", module}
}

// foreignWords are words of the places where the project was made. It speaks of itself alone. They are taken apart here, so
// that this file does not contain them.
func foreignWords() []string {
	return []string{"/wo" + "rk/", "/tmp/con" + "tract", "CON" + "TRACT.md", "session li" + "mit", "../sha" + "red/", "user-pa" + "in.md", "libra" + "ries.md", "design" + ".md",
		"as an A" + "I", "lan" + "guage model", "sub" + "agent", "the le" + "ad writes"}
}
