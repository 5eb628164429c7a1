package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"georep/internal/config/gsyncdconf"
	"georep/internal/durable"
)

// DefaultTemplate is the template file that comes with Gluster.
const DefaultTemplate = "/etc/glusterfs/gsyncd.conf"

// DefaultWorkDir is glusterd's working directory unless the template says another.
const DefaultWorkDir = "/var/lib/glusterd"

// Session is one primary volume and one secondary. It need not exist on disk.
type Session struct {
	Primary   string
	Secondary Secondary
	Config    *gsyncdconf.Config

	table gsyncdconf.Table
	names map[string]string
	root  string // before every path, for tests; "" else

	template string // of the place
}

// ErrMissing says that a session has no directory: it has not been created, or has been deleted.
var ErrMissing = errors.New("the session does not exist")

// Place is where a program finds the files of sessions.
type Place struct {
	Root     string // a directory that stands for /, for tests; "" is /
	Template string // path of the template; "" is DefaultTemplate
}

// Table is the table of options of this place. A template that is missing or cannot be read leaves the built-in one.
func (p Place) Table() gsyncdconf.Table {
	path := p.Template
	if path == "" {
		path = filepath.Join(p.Root, DefaultTemplate)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return gsyncdconf.NewTable("") // an account on the secondary may not be allowed to read it
	}
	return gsyncdconf.NewTable(string(text))
}

// Open reads a session's configuration. A session that does not exist has the defaults. Extra are names for templates besides those of
// the session itself, such as "local_path"; nil for none.
func (p Place) Open(primary string, secondary Secondary, extra map[string]string) (*Session, error) {
	s := &Session{Primary: primary, Secondary: secondary, table: p.Table(), root: p.Root, template: p.Template}
	if primary == "" || strings.ContainsAny(primary, "/\x00") {
		return nil, fmt.Errorf("%q is no name of a volume", primary)
	}
	s.names = map[string]string{
		"primary": primary, "primaryvol": primary, "primary_secondary_host": secondary.Host, "remotehost": secondary.Host,
		"secondaryuser": secondary.Login(), "secondaryvol": secondary.Volume, "secondary": secondary.String(),
	}
	for name, value := range extra {
		s.names[name] = value
	}
	return s, s.reload()
}

// BrickNames are the names for templates that belong to one brick.
func BrickNames(brick, node string) map[string]string {
	id := strings.Trim(strings.ReplaceAll(brick, "/", "-"), "-")
	return map[string]string{"local_path": brick, "local_id": id, "primary_brick_id": id, "primary_node": node}
}

func (s *Session) reload() error {
	text, err := os.ReadFile(s.ConfigPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("read the configuration: %w", err)
	}
	s.Config = gsyncdconf.NewConfig(s.table, string(text), s.names)
	return nil
}

// defaults are the options without what the session's own file says: where that file is must not depend on it.
func (s *Session) defaults() *gsyncdconf.Config {
	return gsyncdconf.NewConfig(s.table, "", s.names)
}

// Path gives an absolute path of the options as it is on disk.
func (s *Session) Path(option string) string { return s.root + s.Config.Get(option) }

// Dir is the session's directory, which glusterd makes.
func (s *Session) Dir() string {
	return filepath.Join(s.root, filepath.Clean(s.defaults().Get("georep-session-working-dir")))
}

// ConfigPath is the session's own configuration file.
func (s *Session) ConfigPath() string { return filepath.Join(s.Dir(), "gsyncd.conf") }

// WorkDir is glusterd's working directory.
func (s *Session) WorkDir() string { return s.Path("glusterd-workdir") }

// GeoDir is the directory with keys and sessions.
func (s *Session) GeoDir() string { return filepath.Join(s.WorkDir(), "geo-replication") }

// Exists says whether the session has been created on this node.
func (s *Session) Exists() bool {
	info, err := os.Stat(s.Dir())
	return err == nil && info.IsDir()
}

// Accept checks a value without a session.
func (s *Session) Accept(name, value string) (string, error) { return s.table.Accept(name, value) }

// Set stores a checked value for an option in the session's file; the errors are those of gsyncdconf.Table.Accept, and ErrMissing.
func (s *Session) Set(name, value string) error {
	stored, err := s.table.Accept(name, value)
	if err != nil {
		return err
	}
	return s.Note(name, stored)
}

// Note stores what the program itself has found out, such as stime-xattr-prefix. A value that stands there already writes nothing.
func (s *Session) Note(name, value string) error {
	name = gsyncdconf.Canonical(name)
	return s.rewrite(func(text string) string {
		if s.Config.Has(name) && s.Config.Get(name) == value {
			return text
		}
		return gsyncdconf.SetVar(text, name, value)
	})
}

// Unset takes an option out of the session's file; one that is not there is no error. "all" takes all out.
func (s *Session) Unset(name string) error {
	if name == "all" {
		return s.rewrite(func(string) string { return "[vars]\n" })
	}
	if _, err := s.table.Find(name); err != nil && !s.Config.Has(name) {
		return err
	}
	return s.rewrite(func(text string) string { return gsyncdconf.DeleteVar(text, name) })
}

// rewrite replaces the session's file while nobody else does.
func (s *Session) rewrite(change func(text string) string) error {
	unlock, err := lockDir(s.Dir(), callWait)
	if err != nil {
		return err
	}
	defer unlock()
	before, err := os.ReadFile(s.ConfigPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the configuration: %w", err)
	}
	if err := s.reload(); err != nil {
		return err
	}
	after := change(string(before))
	if after == string(before) {
		return nil
	}
	if err := durable.WriteFile(s.ConfigPath(), []byte(after), 0o644); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return s.reload()
}

// Upgrade brings a file of an old layout into the present one and keeps the old one beside it with ".bkp" at the end. Any other file
// stays as it is.
func (s *Session) Upgrade() error {
	text, err := os.ReadFile(s.ConfigPath())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	upgraded, old := gsyncdconf.Upgrade(string(text), s.Primary, s.Secondary.Volume)
	if !old {
		return nil
	}
	if err := durable.WriteFile(s.ConfigPath()+".bkp", text, 0o644); err != nil {
		return fmt.Errorf("keep the old configuration: %w", err)
	}
	return s.rewrite(func(string) string { return upgraded })
}

// A process that glusterd has frozen for a pause may hold the lock as long as that lasts. So nobody waits for it without end, glusterd's calls
// least of all. Files are replaced in one step: without the lock they are whole all the same.
const (
	callWait   = time.Second
	workerWait = 10 * time.Second
)

// lockDir holds a directory against others who use this function, in this process or another, or goes on without after a while.
func lockDir(dir string, wait time.Duration) (unlock func(), err error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is not there", ErrMissing, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the session: %w", err)
	}
	limit := time.NewTimer(wait)
	defer limit.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { d.Close() }, nil
		}
		if !errors.Is(err, syscall.EINTR) && !errors.Is(err, syscall.EWOULDBLOCK) {
			d.Close()
			return nil, fmt.Errorf("lock the session: %w", err)
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return func() { d.Close() }, nil
		}
	}
}
