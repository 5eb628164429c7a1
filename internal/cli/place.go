package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"georep/internal/config"
	"georep/internal/dial"
	"georep/internal/worker"
)

// workerOptions turns what was typed into what the worker wants. Errors are mistakes of the command line.
func (p *Program) workerOptions(m *config.Mirror, source, destination string) (worker.Options, error) {
	from, err := sourceDirectory(source)
	if err != nil {
		return worker.Options{}, err
	}
	target, err := dial.ParseTarget(destination)
	if err != nil {
		return worker.Options{}, err
	}
	if target.Host == "" {
		if target.Path, err = localDestination(from, target.Path); err != nil {
			return worker.Options{}, err
		}
	}
	if err := worker.CheckPatterns(m.Patterns); err != nil {
		return worker.Options{}, err
	}
	base, err := p.stateBase(m.StateDir)
	if err != nil {
		return worker.Options{}, err
	}
	patterns := m.Patterns
	if inside, ok := beneath(from, base); ok {
		if inside == "" {
			return worker.Options{}, fmt.Errorf("the state directory is SOURCE itself: choose another with --state-dir")
		}
		patterns = append(patterns[:len(patterns):len(patterns)], "/"+literalPattern(inside)+"/")
	}
	return worker.Options{
		Source: from, StateDir: mirrorState(base, from, target), Target: target,
		Once: m.Once || m.DryRun, DryRun: m.DryRun, Checksum: m.Checksum, NoOwner: m.NoOwner, AllowDelete: m.AllowDelete,
		Patterns: patterns, BwLimit: m.BwLimit, Compress: m.Compress, SyncJobs: m.SyncJobs,
		Port: m.Port, SSHCommand: m.SSHCommand, RemoteGeorep: m.RemoteGeorep, SyncMethod: m.SyncMethod,
		DeletePercent: m.DeleteLimit.Percent, DeleteEntries: m.DeleteLimit.Entries, ScanInterval: m.ScanInterval,
		Version: p.Version, Executable: p.Executable, Interactive: isTerminal(p.In),
	}, nil
}

// sourceDirectory gives the absolute path of the source without symlinks, so that one tree has one name.
func sourceDirectory(source string) (string, error) {
	if source == "" {
		return "", errors.New("SOURCE is empty: name a directory")
	}
	path, err := filepath.Abs(source)
	if err != nil {
		return "", fmt.Errorf("find the source %s: %w", source, err)
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if target, parse := dial.ParseTarget(source); parse == nil && target.Host != "" {
			return "", fmt.Errorf("the source %s is on another host: run georep there, it mirrors from the host it runs on", source)
		}
		return "", fmt.Errorf("the source %s does not exist: name a directory of this host", source)
	}
	if err != nil {
		return "", fmt.Errorf("find the source: %w", err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return "", fmt.Errorf("find the source: %w", err)
	}
	if !info.IsDir() {
		return "", fmt.Errorf("the source %s is not a directory: name the directory that holds it", source)
	}
	dir, err := os.Open(real)
	if err == nil {
		_, err = dir.Readdirnames(1)
		dir.Close()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("the source %s cannot be read: %w: run georep as an account that may read it", source, err)
	}
	return real, nil
}

// localDestination gives the absolute path of a destination on this host, which must neither hold the source nor lie in it.
func localDestination(source, destination string) (string, error) {
	path, err := realPath(destination)
	if err != nil {
		return "", fmt.Errorf("find the destination: %w", err)
	}
	_, inside := beneath(source, path)
	_, around := beneath(path, source)
	switch {
	case source == path:
		return "", fmt.Errorf("source and destination are the same directory %s", source)
	case inside:
		return "", fmt.Errorf("the destination %s lies inside the source: choose one outside", destination)
	case around:
		return "", fmt.Errorf("the source lies inside the destination %s, which would be overwritten: choose another", destination)
	}
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return "", fmt.Errorf("the destination %s is not a directory: name a directory, or one to be made", destination)
	}
	if _, err := os.Stat(filepath.Dir(path)); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the directory %s, in which the destination would be made, does not exist: make it first", filepath.Dir(path))
	}
	return path, nil
}

// realPath resolves the symlinks of as much of a path as exists.
func realPath(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	rest := ""
	for have := abs; ; have = filepath.Dir(have) {
		real, err := filepath.EvalSymlinks(have)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || have == filepath.Dir(have) {
			return "", err
		}
		rest = filepath.Join(filepath.Base(have), rest)
	}
}

// beneath says whether path is dir or lies in it, and where: "" for dir itself.
func beneath(dir, path string) (string, bool) {
	if path == dir {
		return "", true
	}
	return strings.CutPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// stateBase is the directory below which each mirror keeps its state.
func (p *Program) stateBase(given string) (string, error) {
	switch {
	case given != "":
		return realPath(given)
	case os.Geteuid() == 0:
		return "/var/lib/georep", nil
	case p.Getenv("XDG_STATE_HOME") != "":
		return realPath(filepath.Join(p.Getenv("XDG_STATE_HOME"), "georep"))
	case p.Getenv("HOME") != "":
		return realPath(filepath.Join(p.Getenv("HOME"), ".local/state/georep"))
	}
	return "", errors.New("neither XDG_STATE_HOME nor HOME is set, so there is no place for the state: give --state-dir DIR")
}

// mirrorState is the directory of one mirror. Its name starts with what a person recognises and ends with a hash of both
// ends, so that two mirrors never share one.
func mirrorState(base, source string, target dial.Target) string {
	readable := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' {
			return r
		}
		return '-'
	}, filepath.Base(source))
	path := target.Path
	if len(path) > 1 {
		path = strings.TrimRight(path, "/")
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{source, target.User, target.Host, path}, "\x00")))
	return filepath.Join(base, readable[:min(len(readable), 40)]+"-"+hex.EncodeToString(sum[:8]))
}

// literalPattern escapes what a gitignore pattern would take as special.
func literalPattern(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
