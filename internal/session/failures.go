package session

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"georep/internal/durable"
	"georep/internal/status"
)

// MaxFailures is how many failing entries of a brick are listed by path. All are kept, tried again and counted.
const MaxFailures = 10_000

// WorkerDir is where the worker of a brick keeps its state.
func (s *Session) WorkerDir(brick string) string {
	return filepath.Join(s.Path("working-dir"), BrickNames(brick, "")["local_id"], "georep")
}

// BrickFailures are the failing entries of one brick, as its worker has listed them last.
type BrickFailures struct {
	Brick    string           `json:"brick"`
	Failing  int              `json:"failing"` // all, listed or not
	Failures []status.Failure `json:"failures"`
}

func (s *Session) failuresFile(brick string) string {
	return filepath.Join(s.WorkerDir(brick), "failures.json")
}

// SaveFailures lists what waits on a brick.
func (s *Session) SaveFailures(f BrickFailures) error {
	slices.SortFunc(f.Failures, func(a, b status.Failure) int { return cmp.Compare(a.Path, b.Path) })
	text, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("list what failed: %w", err)
	}
	return durable.WriteFile(s.failuresFile(f.Brick), text, 0o600)
}

// LoadFailures gives what was listed of a brick; nothing is no error.
func (s *Session) LoadFailures(brick string) (BrickFailures, error) {
	return loadFailures(s.failuresFile(brick), brick)
}

func loadFailures(path, brick string) (BrickFailures, error) {
	f := BrickFailures{Brick: brick}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil {
		return f, fmt.Errorf("read what failed: %w", err)
	}
	return f, nil
}

// Failures gives what waits on all bricks of this node.
func (s *Session) Failures() ([]BrickFailures, error) {
	files, err := filepath.Glob(filepath.Join(globLiteral(s.Path("working-dir")), "*", "georep", "failures.json"))
	if err != nil {
		return nil, fmt.Errorf("look for what failed: %w", err)
	}
	var all []BrickFailures
	for _, file := range files {
		f, err := loadFailures(file, "")
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}
