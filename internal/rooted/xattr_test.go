package rooted

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"georep/internal/change"
)

// TestNoAttributesForAMoment: a file system that has attributes does not cease to: that it says so of one object is an error, not an
// object without attributes.
func TestNoAttributesForAMoment(t *testing.T) {
	dir := t.TempDir()
	refuse := true
	r := open(t, dir, WithFaults(func(call, _ string) error {
		if refuse && call == "listxattr" {
			return unix.EOPNOTSUPP
		}
		return nil
	}))
	must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o600))
	var o change.Object
	if err := r.Top().ReadXattrs("f", &o); err != nil || len(o.Xattrs) > 0 {
		t.Errorf("a file system without attributes: %v %v", o.Xattrs, err)
	}
	refuse = false
	must(t, r.Top().ReadXattrs("f", &o))
	refuse = true
	if err := r.Top().ReadXattrs("f", &o); !is(err, unix.EOPNOTSUPP) {
		t.Errorf("one that had some: %v", err)
	}
}
