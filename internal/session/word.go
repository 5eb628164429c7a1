package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"georep/internal/durable"
)

// The words of a session's life, as glusterd writes and reads them.
const (
	Created         = "Created"
	Started         = "Started"
	Paused          = "Paused"
	Stopped         = "Stopped"
	ConfigCorrupted = "Config Corrupted"
	Switching       = "Switching Status File"
)

// ErrWord is the error of a word that is none of a session's life.
var ErrWord = errors.New("no status of a session")

// Words lists them.
func Words() []string { return []string{Created, Started, Paused, Stopped, ConfigCorrupted, Switching} }

// stateFile holds the word; its directory holds the status of the bricks.
func (s *Session) stateFile() string { return s.root + s.Config.Get("state-file") }

// Word is what glusterd or the monitor has noted last; "" when nothing has been.
func (s *Session) Word() string {
	text, err := os.ReadFile(s.stateFile())
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// SetWord notes a word, without a newline as glusterd wants it. The errors are ErrWord, and those of writing.
func (s *Session) SetWord(word string) error {
	if !slices.Contains(Words(), word) {
		return fmt.Errorf("%q: %w", word, ErrWord)
	}
	if err := os.MkdirAll(filepath.Dir(s.stateFile()), 0o755); err != nil {
		return fmt.Errorf("make the session's directory: %w", err)
	}
	return durable.WriteFile(s.stateFile(), []byte(word), 0o600)
}

// PidFile is the file that the monitor locks for its whole life.
func (s *Session) PidFile() string { return s.Path("pid-file") }

// Running says whether a monitor holds its lock.
func (s *Session) Running() bool {
	locked, err := durable.Locked(s.PidFile())
	return err == nil && locked
}

// Delete removes what belongs to the session on this node: its directory's content and the directory, the working directory, and the
// monitor's files. What is not there is no error.
func (s *Session) Delete() error {
	var errs []error
	working := s.Path("working-dir")
	pids, err := filepath.Glob(globLiteral(s.PidFile()) + "*")
	errs = append(errs, err)
	for _, path := range pids {
		errs = append(errs, os.Remove(path))
	}
	// A value in a damaged file must not make us remove something else.
	if within(working, filepath.Join(s.root, s.defaults().Get("gsyncd-miscdir"))) || within(working, filepath.Join(s.root, s.Config.Get("gsyncd-miscdir"))) {
		errs = append(errs, os.RemoveAll(working))
	}
	errs = append(errs, os.RemoveAll(s.Dir()))
	errs = slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, fs.ErrNotExist) })
	return errors.Join(errs...)
}

// globLiteral writes a path so that a pattern means just it.
func globLiteral(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// within says whether path is strictly below dir.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != "." && rel != ".." && !strings.HasPrefix(rel, "../")
}
