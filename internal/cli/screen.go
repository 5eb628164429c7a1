package cli

import (
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// screen writes lines and, on a terminal, one line at the bottom that is drawn anew. Two streams may show on the same
// terminal, so everything that is written to either goes through here. It may be used from many goroutines.
type screen struct {
	mu     sync.Mutex
	out    io.Writer
	errs   io.Writer
	fd     int
	live   bool // out is a terminal: the bottom line exists
	bottom string
}

func newScreen(out, errs io.Writer) *screen {
	s := &screen{out: out, errs: errs}
	s.fd, s.live = terminal(out)
	return s
}

// terminal says whether w is one, and its descriptor.
func terminal(w io.Writer) (int, bool) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, false
	}
	return int(f.Fd()), term.IsTerminal(int(f.Fd()))
}

// isTerminal says whether a person may be typing at r.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// terminalWidth is the number of columns of w, and 80 when it is no terminal.
func terminalWidth(w io.Writer) int {
	if fd, ok := terminal(w); ok {
		if width, _, err := term.GetSize(fd); err == nil && width > 0 {
			return width
		}
	}
	return 80
}

// line writes a line, which must end without a newline, to the normal output.
func (s *screen) line(text string) { s.write(s.out, []byte(text+"\n")) }

// problem writes a line to the error output.
func (s *screen) problem(text string) { s.write(s.errs, []byte(text+"\n")) }

func (s *screen) write(w io.Writer, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	// Output that cannot be written has nobody to be told about it, and the mirror matters more.
	_, _ = w.Write(data)
	s.draw()
}

// status shows text at the bottom, cut to the width of the terminal; "" removes the line.
func (s *screen) status(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.live || text == s.bottom {
		return
	}
	s.erase()
	s.bottom = text
	s.draw()
}

func (s *screen) erase() {
	if s.live && s.bottom != "" {
		_, _ = io.WriteString(s.out, "\r\x1b[K")
	}
}

func (s *screen) draw() {
	if !s.live || s.bottom == "" {
		return
	}
	shown := s.bottom
	// A line that reaches the last column would wrap, and the part above could not be erased.
	if width := terminalWidth(s.out); len(shown) >= width {
		shown = shown[:width-1]
	}
	_, _ = io.WriteString(s.out, shown)
}

// logWriter is the error output for a logger.
func (s *screen) logWriter() io.Writer { return logWriter{s} }

type logWriter struct{ s *screen }

func (w logWriter) Write(data []byte) (int, error) {
	w.s.write(w.s.errs, []byte(strings.ToValidUTF8(string(data), "\ufffd")))
	return len(data), nil
}
