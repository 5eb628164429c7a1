// Package treetest is the independent judge of two trees, and the maker of storms that trees must survive.
//
// Compare says in what two trees differ. It shares no code with the product: it walks both trees in step by plain system
// calls, so that a mistake of the product cannot hide behind the same mistake here. Storm does random operations with few
// names, from a seed, and keeps their history. Both work as root and as a user, who sees and does less.
package treetest

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Property names what differs.
type Property string

// The properties that are compared. Missing and Extra are reported for the topmost entry only.
const (
	Missing Property = "missing" // in a, not in b
	Extra   Property = "extra"   // in b, not in a
	Kind    Property = "kind"
	Mode    Property = "mode" // permission bits with setuid, setgid and sticky
	UID     Property = "uid"
	GID     Property = "gid"
	Mtime   Property = "mtime" // nanoseconds; of directories and symlinks too
	Size    Property = "size"
	Content Property = "content"
	Blocks  Property = "blocks" // b has holes filled that a has
	Rdev    Property = "rdev"
	Target  Property = "target" // of a symlink
	Links   Property = "links"  // which names belong to one object
	// Xattr is followed by ":" and the attribute's name.
	Xattr Property = "xattr"
)

// Difference is one property of one path in which b is not like a.
type Difference struct {
	Path     string // relative to the top, "." for the top itself; any bytes
	Property Property
	A, B     string // for people
}

func (d Difference) String() string {
	return fmt.Sprintf("%q: %s: %s, want %s", d.Path, d.Property, d.B, d.A)
}

// Options of Compare. The zero value compares everything.
type Options struct {
	// Slack is by how many bytes a file of b may use more space than 1.05 times that of a. 0 means 128 KiB, which is above
	// what file systems differ by in metadata and below what a lost hole costs in tests.
	Slack int64
	// Ignore says which paths to leave out on both sides, directories with all below; may be nil. The entry ".georep" of
	// the top is always left out.
	Ignore func(path string) bool
	// Max is the number of differences after which Compare stops looking. 0 means 1000.
	Max int
	// NoOwner leaves out uid and gid, for a b that was written by a user who may not give files away.
	NoOwner bool
}

// Format lists differences for a test's output, at most 40.
func Format(differences []Difference) string {
	var b strings.Builder
	for i, d := range differences {
		if i == 40 {
			fmt.Fprintf(&b, "... and %d more\n", len(differences)-i)
			break
		}
		fmt.Fprintln(&b, d)
	}
	return b.String()
}

// Await compares again and again until b is like a, or ctx ends: then the error lists what still differs. Between two
// comparisons it pauses a twentieth of a second and at least as long as a comparison takes.
func Await(ctx context.Context, a, b string, o Options) error {
	for {
		start := time.Now()
		differences, err := Compare(a, b, o)
		if err == nil && len(differences) == 0 {
			return nil
		}
		pause := time.NewTimer(max(50*time.Millisecond, time.Since(start)))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			if err != nil {
				return fmt.Errorf("compare %s and %s: %w", a, b, err)
			}
			return fmt.Errorf("%s is not like %s (%w):\n%s", b, a, ctx.Err(), Format(differences))
		}
	}
}
