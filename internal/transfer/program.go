package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"georep/internal/dial"
)

// rsync brings all that dir links to into the part directory. What is there of a file already is used.
func (c *Carrier) rsync(ctx context.Context, dir string, progress func(int64)) error {
	argv := []string{
		"rsync", "--copy-links", "--dirs", "--inplace", "--sparse", "--ignore-times", "--perms", "--chmod=F0600",
		"--secluded-args", "--info=progress2", "--outbuf=L",
	}
	if c.o.Limit > 0 {
		argv = append(argv, "--bwlimit="+strconv.FormatInt(max(1, c.o.Limit>>10), 10))
	}
	if c.o.Compress {
		argv = append(argv, "--compress")
	}
	target := anchored(c.o.Part) + "/"
	if c.o.Remote.Host != "" {
		argv = append(argv, "--rsh="+rsyncWords(c.o.Remote.Shell()))
		target = dial.Target{User: c.o.Remote.User, Host: c.o.Remote.Host, Path: target}.String()
	}
	p, err := start(ctx, dial.Options{Local: append(argv, "--", dir+"/", target)})
	if err != nil {
		return startError(err, "rsync", here)
	}
	defer p.stop()
	if err := p.CloseWrite(); err != nil {
		return fmt.Errorf("run rsync: %w", err)
	}
	readProgress(p, func(n int64) {
		c.reserve(n)
		progress(n)
	})
	return c.ended(p, "rsync", c.there()) // it is here, so a status of not found is from there
}

// anchored keeps a path from being taken for an option or for another host's.
func anchored(path string) string {
	if strings.HasPrefix(path, "/") {
		return path
	}
	return "./" + path
}

// rsyncWords quotes a command as rsync takes it apart: by blanks, with single quotes that are doubled within.
func rsyncWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "'" + strings.ReplaceAll(w, "'", "''") + "'"
	}
	return strings.Join(quoted, " ")
}

// readProgress reads what rsync says with --info=progress2 until its end: lines, or parts of them that are drawn over, that begin
// with the bytes so far, in groups of digits.
func readProgress(r io.Reader, progress func(n int64)) {
	var line []byte
	last := int64(0)
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		for _, b := range buf[:n] {
			if b != '\r' && b != '\n' {
				if len(line) < 256 {
					line = append(line, b)
				}
				continue
			}
			if now := leadingNumber(line); now > last {
				progress(now - last)
				last = now
			}
			line = line[:0]
		}
		if err != nil {
			return // the exit status tells what happened
		}
	}
}

func leadingNumber(line []byte) int64 {
	first, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
	digits := bytes.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, first)
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// reserve takes what rsync has sent from the rate that all connections share, so that they wait meanwhile.
func (c *Carrier) reserve(n int64) {
	if c.o.Limiter == nil {
		return
	}
	for burst := int64(max(1, c.o.Limiter.Burst())); n > 0; n -= burst {
		c.o.Limiter.ReserveN(time.Now(), int(min(n, burst)))
	}
}

// tar pipes an archive of all that dir links to into a tar that unpacks it in the part directory.
func (c *Carrier) tar(ctx context.Context, dir string, names []string, progress func(int64)) error {
	from, err := start(ctx, dial.Options{Local: append([]string{
		"tar", "--create", "--dereference", "--sparse", "--mode=0600", "--owner=0", "--group=0", "--file=-", "--directory=" + dir,
	}, names...)})
	if err != nil {
		return startError(err, "tar", here)
	}
	defer from.stop()
	if err := from.CloseWrite(); err != nil {
		return fmt.Errorf("run tar: %w", err)
	}
	unpack := []string{"tar", "-x", "-f", "-", "-C", anchored(c.o.Part)}
	o := dial.Options{Local: unpack}
	if c.o.Remote.Host != "" {
		o = c.o.Remote
		o.Args = unpack
		if c.o.Compress {
			if len(o.SSH) == 0 {
				o.SSH = []string{"ssh"}
			}
			o.SSH = append(o.SSH[:len(o.SSH):len(o.SSH)], "-C")
		}
	}
	to, err := start(ctx, o)
	if err != nil {
		return startError(err, "tar", c.there())
	}
	defer to.stop()
	_, copying := io.Copy(to, &limitedReader{ctx: ctx, r: from, limiter: c.o.Limiter, progress: progress})
	err = to.CloseWrite()
	if _, reading := io.Copy(io.Discard, to); err == nil {
		err = reading
	}
	if receiving := c.ended(to, "tar", c.there()); receiving != nil {
		return receiving // why copying broke off, if it did
	}
	if copying != nil || err != nil {
		return fmt.Errorf("run tar: %w", errors.Join(copying, err))
	}
	err = c.ended(from, "tar", here)
	var status *statusError
	if errors.As(err, &status) && status.status == 1 {
		return nil // a file changed while it was read: the check of its content decides
	}
	return err
}

// limitedReader slows reading down to the shared rate.
type limitedReader struct {
	ctx      context.Context
	r        io.Reader
	limiter  *rate.Limiter
	progress func(int64)
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.limiter != nil {
		p = p[:min(len(p), max(1, l.limiter.Burst()))]
	}
	n, err := l.r.Read(p)
	if n > 0 && l.limiter != nil {
		if err := l.limiter.WaitN(l.ctx, n); err != nil {
			return 0, err
		}
	}
	l.progress(int64(n))
	return n, err
}

// process is a program that runs until it ends by itself or the context does.
type process struct {
	*dial.Conn
	unwatch func() bool
}

func start(ctx context.Context, o dial.Options) (*process, error) {
	conn, err := dial.Command(ctx, o)
	if err != nil {
		return nil, err
	}
	return &process{conn, context.AfterFunc(ctx, conn.Terminate)}, nil
}

func (p *process) stop() {
	p.unwatch()
	select {
	case <-p.Done():
	default:
		p.Terminate() // it is still there although nobody wants what it does
	}
	_ = p.Close() // it has no error of its own
}

// startError says why a program did not start.
func startError(err error, program, where string) error {
	var problem *dial.Problem
	if errors.As(err, &problem) && problem.Cause == dial.CauseNoSSH {
		return &missingError{program, where}
	}
	return fmt.Errorf("start %s: %w", program, err)
}

// statusError is the end of a program with a status that is not 0.
type statusError struct {
	program, why string
	status       int
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("%s ended with status %d", e.program, e.status)
	if e.why != "" {
		text += " (" + e.why + ")"
	}
	return text
}

// Exit statuses of shells and ssh.
const (
	statusNotFound = 127
	statusSSH      = 255
)

// ended waits for the end of a program and says what was wrong with it.
func (c *Carrier) ended(p *process, program, where string) error {
	err := p.Explain()
	var problem *dial.Problem
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &problem):
		return err
	case problem.Status == statusNotFound:
		return &missingError{program, where}
	case problem.Status == statusSSH && program == "tar" && where != here:
		return problem
	}
	return &statusError{program, firstLine(problem.Stderr), problem.Status}
}

// firstLine is where a program tells what went wrong; later lines tell what followed from it.
func firstLine(text string) string {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			return line[:min(len(line), 300)]
		}
	}
	return ""
}
