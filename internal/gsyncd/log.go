package gsyncd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// logFile appends to a file by name. When the file was moved away, as by a rotation, the next line begins a new one.
type logFile struct {
	path string

	mu   sync.Mutex
	file *os.File
	info os.FileInfo
}

// openLog opens a log, making its directory if needed. A log that cannot be written is none: replication goes on without.
func openLog(path string) *logFile {
	// The directory above belongs to glusterd's installation.
	_ = os.Mkdir(filepath.Dir(path), 0o755)
	return &logFile{path: path}
}

func (l *logFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, err := os.Stat(l.path)
	if l.file == nil || err != nil || !os.SameFile(now, l.info) {
		if err := l.reopen(); err != nil {
			return 0, err
		}
	}
	return l.file.Write(line)
}

func (l *logFile) reopen() error {
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("open the log: %w", err)
	}
	l.file, l.info = f, info
	return nil
}

// handler writes records in the form that readers of Gluster's logs know:
//
//	[2026-11-20 23:18:34.123456] I [monitor] GLUSTER: starting a worker [{brick=/b1}, {node=host}]
type handler struct {
	to    io.Writer
	label string
	level slog.Level
	attrs []slog.Attr
	group string
}

// newLogger logs under a label; level is one of the names that the options have.
func newLogger(to io.Writer, label, level string) *slog.Logger {
	levels := map[string]slog.Level{"DEBUG": slog.LevelDebug, "WARNING": slog.LevelWarn, "ERROR": slog.LevelError}
	return slog.New(&handler{to: to, label: label, level: levels[level]})
}

func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	more := *h
	more.attrs = append(append([]slog.Attr(nil), h.attrs...), attrs...)
	return &more
}

func (h *handler) WithGroup(name string) slog.Handler {
	more := *h
	more.group += name + "."
	return &more
}

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	letter := map[slog.Level]string{slog.LevelDebug: "D", slog.LevelInfo: "I", slog.LevelWarn: "W", slog.LevelError: "E"}[r.Level]
	var pairs []string
	add := func(a slog.Attr) bool {
		pairs = append(pairs, "{"+h.group+a.Key+"="+oneLine(a.Value.String())+"}")
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	text := fmt.Sprintf("[%s] %s [%s] %s", r.Time.UTC().Format("2006-01-02 15:04:05.000000"), letter, h.label, oneLine(r.Message))
	if len(pairs) > 0 {
		text += " [" + strings.Join(pairs, ", ") + "]"
	}
	_, err := io.WriteString(h.to, text+"\n")
	return err
}

func oneLine(text string) string {
	return strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(strings.TrimSpace(text))
}

// event tells Gluster's event daemon, if one listens, that something has happened. Nobody waits for it, and nobody misses it.
func event(number int, pairs ...string) {
	var fields []string
	for i := 0; i+1 < len(pairs); i += 2 {
		fields = append(fields, pairs[i]+"="+pairs[i+1])
	}
	send(fmt.Sprintf("%d %d %s", time.Now().Unix(), number, strings.Join(fields, ";")))
}
