// Package session is a geo-replication session of a Gluster volume as it is on disk: its name, its files, its configuration, and the
// status that glusterd asks for.
package session

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Secondary is the other end of a session.
type Secondary struct {
	User   string // "" is root
	Host   string
	Volume string
	ID     string // of the volume, when it is known
}

// ErrURL is the error of a secondary that cannot be read.
var ErrURL = errors.New("not of the form [USER@]HOST::VOLUME")

// ParseSecondary reads [ssh://][USER@]HOST::VOLUME[:ID].
func ParseSecondary(text string) (Secondary, error) {
	rest := strings.TrimPrefix(text, "ssh://")
	at := strings.LastIndex(rest, "::")
	if at <= 0 {
		return Secondary{}, fmt.Errorf("%q: %w", text, ErrURL)
	}
	s := Secondary{Host: rest[:at]}
	s.Volume, s.ID, _ = strings.Cut(rest[at+2:], ":")
	if user := strings.LastIndexByte(s.Host, '@'); user >= 0 {
		s.User, s.Host = s.Host[:user], s.Host[user+1:]
		if s.User == "" {
			return Secondary{}, fmt.Errorf("%q: %w", text, ErrURL)
		}
	}
	bad := strings.ContainsFunc(s.User+s.Host+s.Volume+s.ID, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' || r == '@' })
	if bad || s.Host == "" || s.Volume == "" || s.Host[0] == '-' || s.Volume[0] == '-' || strings.HasPrefix(s.User, "-") || strings.HasSuffix(s.Host, ":") {
		return Secondary{}, fmt.Errorf("%q: %w", text, ErrURL)
	}
	return s, nil
}

// Login is the account there; root when none is named.
func (s Secondary) Login() string {
	if s.User == "" {
		return "root"
	}
	return s.User
}

// String is [USER@]HOST::VOLUME.
func (s Secondary) String() string {
	text := s.Host + "::" + s.Volume
	if s.User != "" {
		text = s.User + "@" + text
	}
	return text
}

// URL is ssh://[USER@]HOST::VOLUME, as glusterd stores it.
func (s Secondary) URL() string { return "ssh://" + s.String() }

// Canonical is one text for all spellings of one secondary, when every spelling of its host has the same address.
func (s Secondary) Canonical(address string) string {
	return "ssh://" + s.Login() + "@" + address + ":gluster://127.0.0.1:" + s.Volume
}

// Addresses gives each host's address for Canonical. Hosts that are all spelled alike need no resolving, which may take long; resolve is
// asked only when there are two spellings. A host that it cannot resolve stands for itself.
func Addresses(all []Secondary, resolve func(hosts []string) map[string]string) map[string]string {
	own := map[string]string{}
	var names []string
	for _, s := range all {
		host := strings.ToLower(strings.TrimSuffix(s.Host, "."))
		if _, seen := own[s.Host]; !seen {
			own[s.Host] = host
			if _, err := netip.ParseAddr(host); err != nil {
				names = append(names, s.Host)
			}
		}
	}
	distinct := map[string]bool{}
	for _, host := range own {
		distinct[host] = true
	}
	if len(distinct) < 2 || len(names) == 0 {
		return own
	}
	for host, address := range resolve(names) {
		if address != "" {
			own[host] = address
		}
	}
	return own
}
