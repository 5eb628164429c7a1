package gsyncd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"georep/internal/config/gsyncdconf"
	"georep/internal/session"
)

// touch makes a file that glusterd wants to be there, and leaves one that is.
func (p *Program) touch(path string) error {
	if path == "" {
		return usage("--config-set-rx needs -c FILE")
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("make the configuration file: %w", err)
	}
	return f.Close()
}

func (p *Program) normalize(urls []string) error {
	if len(urls) != 1 {
		return usage("--normalize-url needs one secondary")
	}
	s, err := session.ParseSecondary(urls[0])
	if err != nil {
		return err
	}
	return p.print(s.URL())
}

func (p *Program) canonicalize(ctx context.Context, urls []string, inet6 bool) error {
	if len(urls) == 0 {
		return usage("--canonicalize-url needs a secondary")
	}
	var all []session.Secondary
	for _, url := range urls {
		s, err := session.ParseSecondary(url)
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	resolver := func(hosts []string) map[string]string { return resolve(ctx, hosts) }
	if inet6 {
		resolver = func([]string) map[string]string { return nil }
	}
	addresses := session.Addresses(all, resolver)
	var lines []string
	for _, s := range all {
		lines = append(lines, s.Canonical(addresses[s.Host]))
	}
	return p.print(lines...)
}

// resolveWait bounds the look-up of names. glusterd waits meanwhile, holding its lock.
const resolveWait = 2 * time.Second

// resolve finds the hosts' addresses, all at once; one that is not found in time is left out.
func resolve(ctx context.Context, hosts []string) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, resolveWait)
	defer cancel()
	found := make([]string, len(hosts))
	var all sync.WaitGroup
	for i, host := range hosts {
		all.Go(func() {
			for _, network := range []string{"ip4", "ip6"} {
				if addresses, err := net.DefaultResolver.LookupNetIP(ctx, network, host); err == nil && len(addresses) > 0 {
					found[i] = addresses[0].Unmap().String()
					return
				}
			}
		})
	}
	all.Wait()
	byHost := map[string]string{}
	for i, host := range hosts {
		byHost[host] = found[i]
	}
	return byHost
}

// volumeID prints the id of a volume of another cluster, or nothing when it cannot be had, which glusterd takes for a failure.
func (p *Program) volumeID(ctx context.Context, urls []string, inet6 bool) error {
	if len(urls) != 1 {
		return usage("--secondaryvoluuid-get needs one secondary")
	}
	s, err := session.ParseSecondary(urls[0])
	if err != nil {
		return err
	}
	volume, err := p.askVolume(ctx, s.Host, s.Volume, inet6)
	if err != nil {
		fmt.Fprintln(p.Err, err)
		return nil
	}
	return p.print(volume.ID)
}

func (p *Program) configCheck(name, value string, hasValue bool) error {
	t := p.Place.Table()
	o, err := t.Find(name)
	if err != nil {
		if gsyncdconf.Canonical(name) == sessionOwner {
			return nil
		}
		return err
	}
	if hasValue {
		_, err = t.Accept(o.Name, value)
	}
	return err
}

// sessionOwner is an option of old that glusterd still sets at every start.
const sessionOwner = "session-owner"

func (p *Program) configAll(s *session.Session) error {
	if err := s.Upgrade(); err != nil {
		fmt.Fprintln(p.Err, err) // the file can still be read as it is
	} else if s, err = p.Place.Open(s.Primary, s.Secondary, nil); err != nil {
		return err
	}
	for _, warning := range s.Config.Warnings {
		fmt.Fprintln(p.Err, warning)
	}
	var lines []string
	for _, v := range s.Config.All() {
		lines = append(lines, v.Name+":"+v.Value)
	}
	return p.print(lines...)
}

func (p *Program) configGet(s *session.Session, name string) error {
	if _, err := p.Place.Table().Find(name); err != nil && !s.Config.Has(name) {
		return err
	}
	return p.print(s.Config.Get(name))
}

func (p *Program) configSet(s *session.Session, name, value string) error {
	if gsyncdconf.Canonical(name) == sessionOwner {
		return nil
	}
	if err := s.Upgrade(); err != nil {
		return err
	}
	return s.Set(name, value)
}

func (p *Program) configDelete(s *session.Session, name string) error {
	if err := s.Upgrade(); err != nil {
		return err
	}
	return s.Unset(name)
}

func (p *Program) statusGet(s *session.Session, paths []string) error {
	if len(paths) != 1 {
		return usage("--status-get needs --path BRICK")
	}
	var lines []string
	for _, v := range s.Row(paths[0], time.Local) {
		lines = append(lines, v.Name+": "+v.Value)
	}
	return p.print(lines...)
}

// delete removes the session from this node, and with reset the marks from which a later session of the same pair would go on.
func (p *Program) delete(s *session.Session, bricks []string, reset bool) error {
	if s.Running() {
		return errors.New("the session is running: stop it first")
	}
	var errs []error
	for _, brick := range bricks {
		dir := mountDir(s, brick)
		errs = append(errs, clearMounts(dir))
		_ = os.Remove(dir) // what could not be cleared was told
	}
	prefix := s.Config.Get("stime-xattr-prefix")
	if reset && prefix != "" {
		for _, brick := range bricks {
			errs = append(errs, resetMarks(filepath.Join(p.Place.Root, brick), prefix))
		}
	}
	return errors.Join(append(errs, s.Delete())...)
}

func resetMarks(brick, prefix string) error {
	err := syscall.Setxattr(brick, prefix+".stime", make([]byte, 8), 0)
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("reset the time of the last sync on %s: %w", brick, err)
	}
	err = syscall.Removexattr(brick, prefix+".entry_stime")
	if err != nil && !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ENODATA) {
		return fmt.Errorf("reset the time of the last sync on %s: %w", brick, err)
	}
	return nil
}
