package wire

import (
	"fmt"
	"strings"

	"georep/internal/change"
)

const (
	maxXattrs    = 16384
	maxXattrName = 255
)

// Validate checks that r is a request that can be sent: names, kinds, sizes and what its operation needs. The agent
// checks the same again on what it receives.
func (r *Request) Validate() error {
	if r.Op < change.Make || r.Op > change.Times {
		return fmt.Errorf("operation %d is unknown", r.Op)
	}
	if err := r.At.validate(); err != nil {
		return err
	}
	if err := r.From.validate(); err != nil {
		return err
	}
	if len(r.Names) > MaxNames {
		return fmt.Errorf("%d further names are more than %d", len(r.Names), MaxNames)
	}
	for i := range r.Names {
		if err := r.Names[i].validate(); err != nil {
			return err
		}
		if r.Names[i].IsRoot() {
			return fmt.Errorf("further name %d is empty", i)
		}
	}
	switch r.Op {
	case change.Link, change.Move:
		if r.From.IsRoot() || r.At.IsRoot() {
			return fmt.Errorf("%s of the root", r.Op)
		}
	case change.Make, change.Write, change.Drop:
		if r.At.IsRoot() {
			return fmt.Errorf("%s of the root", r.Op)
		}
	}
	if r.Object.Kind == change.Symlink && r.Object.Target == "" && (r.Op == change.Make || r.Op == change.Adopt) {
		return fmt.Errorf("a symlink without a target")
	}
	if r.HasInline && (r.Object.Kind != change.File || int64(len(r.Inline)) != r.Object.Size) {
		return fmt.Errorf("%d bytes of content for a %s of %d bytes", len(r.Inline), r.Object.Kind, r.Object.Size)
	}
	if !r.HasInline && len(r.Inline) > 0 {
		return fmt.Errorf("content without its mark")
	}
	return validateObject(&r.Object, r.Op != change.Drop)
}

func (r *Ref) validate() error {
	if r.Name == "" {
		if r.Dir.Path != "" || !r.Dir.Sec.IsZero() {
			return fmt.Errorf("directory %q without a name in it", clean(r.Dir.Path, 200))
		}
		return nil
	}
	if !change.ValidName(r.Name) {
		return fmt.Errorf("%q is no name", clean(r.Name, 300))
	}
	return r.Dir.validate()
}

func (d *Dir) validate() error {
	if d.Path == "" {
		return nil
	}
	if len(d.Path) > MaxPath {
		return fmt.Errorf("a path has %d bytes, more than %d", len(d.Path), MaxPath)
	}
	for part := range strings.SplitSeq(d.Path, "/") {
		if !change.ValidName(part) {
			return fmt.Errorf("%q is no relative path", clean(d.Path, 200))
		}
	}
	return nil
}

// validateObject checks an object; it may be without a kind when needKind is false.
func validateObject(o *change.Object, needKind bool) error {
	switch o.Kind {
	case change.FIFO, change.CharDev, change.Dir, change.BlockDev, change.File, change.Symlink, change.Socket:
	default:
		if needKind || o.Kind != 0 {
			return fmt.Errorf("%s is unknown", o.Kind)
		}
	}
	switch {
	case o.Mode > 0o7777:
		return fmt.Errorf("mode %#o is not one", o.Mode)
	case o.Mtime.Nsec > 999_999_999 || o.Ctime.Nsec > 999_999_999:
		return fmt.Errorf("a time has %d nanoseconds", max(o.Mtime.Nsec, o.Ctime.Nsec))
	case o.Size < 0 || o.Blocks < 0:
		return fmt.Errorf("size %d with %d blocks", o.Size, o.Blocks)
	case len(o.Target) > MaxTarget || strings.IndexByte(o.Target, 0) >= 0:
		return fmt.Errorf("%q is no target of a symlink", clean(o.Target, 100))
	case !o.HasXattrs && len(o.Xattrs) > 0:
		return fmt.Errorf("extended attributes without their mark")
	case len(o.Xattrs) > maxXattrs:
		return fmt.Errorf("%d extended attributes are more than %d", len(o.Xattrs), maxXattrs)
	}
	for i := range o.Xattrs {
		x := &o.Xattrs[i]
		if x.Name == "" || len(x.Name) > maxXattrName || strings.IndexByte(x.Name, 0) >= 0 {
			return fmt.Errorf("%q is no name of an extended attribute", clean(x.Name, 300))
		}
		if len(x.Value) > MaxXattr {
			return fmt.Errorf("extended attribute %q has %d bytes, more than %d", clean(x.Name, 300), len(x.Value), MaxXattr)
		}
		if i > 0 && o.Xattrs[i-1].Name >= x.Name {
			return fmt.Errorf("extended attributes are not sorted at %q", clean(x.Name, 300))
		}
	}
	return nil
}

// requestSize is what a request takes of MaxRequestBytes, given the bytes of its message: about the memory that it needs where
// it waits.
func requestSize(payload int, r *Request) int64 {
	return int64(payload + 64*len(r.Names) + 48*len(r.Object.Xattrs))
}
