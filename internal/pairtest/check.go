package pairtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"georep/internal/change"
	"georep/internal/index"
	"georep/internal/plan"
	"georep/internal/rooted"
	"georep/internal/worker"
)

// stashPath is where the agent keeps what the index has in the stash.
const stashPath = ".georep/hold"

// CheckIndex makes sure that the index claims nothing that the secondary does not have, in the directories that no batch has left
// in doubt:
//
//   - every entry can be reached from the root or the stash: one that cannot would be taken for acknowledged when its directory
//     comes again;
//   - what it speaks of is there, is the same object, and has the state that was acknowledged;
//   - with Options.Checksum, without which a change under equal size and times may be overlooked for good: what the next scan of
//     the primary would pass over as unchanged has the same content on both sides.
//
// No run may be going on.
func (p *Pair) CheckIndex() error {
	x, err := index.Open(worker.IndexFile(p.State), index.Options{})
	if err != nil {
		return fmt.Errorf("check index: %w", err)
	}
	defer x.Close()
	secondary, err := rooted.Open(p.Secondary)
	if err != nil {
		return fmt.Errorf("check index: %w", err)
	}
	defer secondary.Close()
	left, err := x.Intents()
	if err != nil {
		return fmt.Errorf("check index: %w", err)
	}
	c := &check{x: x, secondary: secondary, doubt: map[change.ID]bool{}, checked: map[change.ID]string{}}
	for _, id := range left {
		c.doubt[id], c.doubt[change.StashID] = true, true // as the engine does
	}
	if err := c.claims(); err != nil || !p.Options.Checksum {
		return err
	}
	return p.checkPassedOver(c)
}

// check compares an index with the secondary that it speaks of.
type check struct {
	x         *index.Index
	secondary *rooted.Root
	doubt     map[change.ID]bool   // directories that the next run looks at
	checked   map[change.ID]string // directories that are where the index says, with their paths
	lies      []error
	reached   int64
}

func (c *check) wrong(format string, args ...any) {
	const enough = 20
	if len(c.lies) < enough {
		c.lies = append(c.lies, fmt.Errorf("the index is wrong: "+format, args...))
	}
}

// visit is a directory of which the index has entries.
type visit struct {
	id   change.ID
	path string
	sure bool // it is there on the secondary, for all that is known
}

// claims goes through all entries from the root and the stash on.
func (c *check) claims() error {
	dirs := []visit{{change.StashID, stashPath, !c.doubt[change.StashID]}}
	root, ok, err := c.x.Get(change.Place{})
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	if ok {
		self, err := c.secondary.Top().Self()
		if err != nil {
			return fmt.Errorf("read the secondary: %w", err)
		}
		if self.ID != root.Sec {
			c.wrong("the root is %s, not %s", self.ID, root.Sec)
		}
		c.state(".", &root, &self)
		dirs = append(dirs, visit{root.ID, "", true})
	}
	for len(dirs) > 0 {
		v := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		below, err := c.directory(v)
		if err != nil {
			return err
		}
		dirs = append(dirs, below...)
	}
	if total, _ := c.x.Totals(); c.reached != total {
		c.wrong("it holds %d entries, of which %d can be reached", total, c.reached)
	}
	return errors.Join(c.lies...)
}

// directory checks the entries of one directory, and gives the directories among them.
func (c *check) directory(v visit) (below []visit, err error) {
	var on *rooted.Dir
	if v.sure {
		if on, err = c.secondary.OpenDir(v.path); err != nil && v.id != change.StashID { // the stash is made when it is needed
			return nil, fmt.Errorf("read the secondary: %w", err)
		}
		err = nil
	}
	if on != nil {
		defer on.Close()
		c.checked[v.id] = v.path
	}
	err = c.x.List(v.id, "", func(name string, e change.Entry) error {
		c.reached++
		there := v.sure && c.entry(v, on, name, &e)
		if e.Kind == change.Dir && !e.ID.IsUnknown() {
			below = append(below, visit{e.ID, change.Join(v.path, name), there})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	return below, nil
}

// entry checks one entry of a directory that is there, and says whether the object is the one that was acknowledged.
func (c *check) entry(v visit, on *rooted.Dir, name string, e *change.Entry) bool {
	path := change.Join(v.path, name)
	var o change.Object
	err := errors.New("there is no stash")
	if on != nil {
		o, err = on.Stat(name)
	}
	same := err == nil && o.ID == e.Sec
	if c.doubt[v.id] {
		return same
	}
	if !same {
		c.wrong("%q (%s) is %s on the secondary, not %s: %v", path, e.ID, o.ID, e.Sec, err)
		return false
	}
	if err := on.ReadXattrs(name, &o); err != nil {
		c.wrong("%q cannot be read: %v", path, err)
	}
	if v.id != change.StashID {
		c.state(path, e, &o)
	}
	return true
}

// state checks the acknowledged state of an object.
func (c *check) state(path string, e *change.Entry, o *change.Object) {
	if e.Kind == change.Dir && c.doubt[e.ID] {
		return
	}
	if e.Kind != o.Kind || e.Target != o.Target {
		c.wrong("%q is a %s on the secondary (target %q), not a %s (target %q)", path, o.Kind, o.Target, e.Kind, e.Target)
	}
	if e.Kind != change.Symlink && e.Mode != o.Mode || e.UID != o.UID || e.GID != o.GID {
		c.wrong("%q has mode %o, owner %d:%d on the secondary, not %o, %d:%d", path, o.Mode, o.UID, o.GID, e.Mode, e.UID, e.GID)
	}
	if e.Kind == change.File && e.Size != o.Size {
		c.wrong("%q has %d bytes on the secondary, not %d", path, o.Size, e.Size)
	}
	known := e.Kind != change.Dir || e.Mtime != (change.Time{}) // the zero time stands for one that is to be set again
	if known && e.Mtime != o.Mtime {
		c.wrong("%q, a %s, has the time %v on the secondary, not %v", path, e.Kind, o.Mtime, e.Mtime)
	}
	if o.HasXattrs && e.XattrSum != plan.XattrSum(o.Xattrs) {
		c.wrong("%q has other extended attributes on the secondary", path)
	}
}

// checkPassedOver compares what the primary has with the secondary wherever a scan would find it unchanged.
func (p *Pair) checkPassedOver(c *check) error {
	primary, err := rooted.Open(p.Primary)
	if err != nil {
		return fmt.Errorf("check index: %w", err)
	}
	defer primary.Close()
	c.lies = nil
	for paths := []string{""}; len(paths) > 0; {
		path := paths[len(paths)-1]
		paths = paths[:len(paths)-1]
		below, err := c.passedOver(p, primary, path)
		if err != nil {
			return err
		}
		paths = append(paths, below...)
	}
	return errors.Join(c.lies...)
}

func (c *check) passedOver(p *Pair, primary *rooted.Root, path string) (below []string, err error) {
	dir, err := primary.OpenDir(path)
	if err != nil {
		return nil, fmt.Errorf("read the primary: %w", err)
	}
	defer dir.Close()
	self, err := dir.Self()
	if err != nil {
		return nil, fmt.Errorf("read the primary: %w", err)
	}
	there, sure := c.checked[self.ID]
	err = dir.Entries(nil, func(name string, kind change.Kind, _ uint64) error {
		if kind == change.Dir {
			below = append(below, change.Join(path, name))
		}
		if kind != change.File || !sure || c.doubt[self.ID] {
			return nil
		}
		o, err := dir.Stat(name)
		if err != nil {
			return err
		}
		e, ok, err := c.x.Get(change.Place{Dir: self.ID, Name: name})
		if err != nil || !ok || e.Racy || e.ID != o.ID || e.Size != o.Size || e.Mtime != o.Mtime || e.Ctime != o.Ctime {
			return err
		}
		a, b := change.Join(path, name), change.Join(there, name)
		if err := sameContent(filepath.Join(p.Primary, a), filepath.Join(p.Secondary, b)); err != nil {
			c.wrong("%q passes for unchanged: %v", a, err)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the primary: %w", err)
	}
	return below, nil
}

func sameContent(a, b string) error {
	fa, err := os.Open(a)
	if err != nil {
		return err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return err
	}
	defer fb.Close()
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := 0; ; {
		na, errA := io.ReadFull(fa, bufA)
		nb, errB := io.ReadFull(fb, bufB)
		if !bytes.Equal(bufA[:na], bufB[:nb]) {
			return fmt.Errorf("the contents differ in the block at %d", off)
		}
		if off += na; errA != nil || errB != nil {
			return nil
		}
	}
}
