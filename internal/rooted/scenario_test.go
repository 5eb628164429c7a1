package rooted

import (
	"context"
	"os"

	"georep/internal/change"
)

func background() context.Context { return context.Background() }

// firstOf runs steps until one fails.
func firstOf(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func own(mode uint32) change.Attr {
	return change.Attr{Mode: mode, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Mtime: change.Time{Sec: 1000, Nsec: 7}}
}

func scenarioNames(r *Root, d *Dir) error {
	attr := own(0o711)
	attr.Xattrs = []change.Xattr{{Name: "user.a", Value: []byte("1")}, {Name: "user.b", Value: []byte("2")}}
	return firstOf(
		func() error { return d.Mkdir("sub", 0o700) },
		func() error { return d.Symlink("target", "link") },
		func() error { return d.Mknod("fifo", change.FIFO, 0o600, 0) },
		func() error { return d.Link("fifo", d, "fifo2") },
		func() error { return d.Rename("fifo2", d, "fifo3", NoReplace) },
		func() error { return d.Rename("fifo3", d, "fifo4", 0) },
		func() error { _, err := d.Stat("link"); return err },
		func() error { _, err := d.StatLite("link"); return err },
		func() error { _, err := d.Self(); return err },
		func() error { _, err := d.Path(); return err },
		func() error { _, err := d.Handle("sub"); return err },
		func() error { return d.SetAttr("sub", change.Dir, attr, true, true) },
		func() error { return d.SetAttr("sub", change.Dir, own(0o700), true, true) },
		func() error { return d.SetTimes("sub", change.Time{Sec: 3}) },
		func() error { return d.SetTimes("", change.Time{Sec: 3}) },
		func() error { return d.ReadXattrs("sub", &change.Object{}) },
		func() error { return d.Entries(nil, func(string, change.Kind, uint64) error { return nil }) },
		func() error { return d.Unlink("fifo4") },
		func() error { return d.Rmdir("sub") },
		func() error { return d.Mkdir("tree", 0o700) },
		func() error {
			sub, err := d.OpenDir("tree")
			if err != nil {
				return err
			}
			defer sub.Close()
			return sub.Mkdir("deeper", 0o700)
		},
	)
}

func scenarioFiles(d *Dir) error {
	f, err := d.OpenTemp(0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	attr := own(0o640)
	attr.Xattrs = []change.Xattr{{Name: "user.a", Value: []byte("1")}}
	err = firstOf(
		func() error { _, err := f.WriteAt([]byte("some content"), 0); return err },
		func() error { return f.Truncate(20000) },
		func() error { return f.Punch(0, 4096) },
		func() error { return f.SetAttr(attr, true, true) },
		func() error { return f.LinkTo(d, "file") },
		func() error { return f.ReadXattrs(&change.Object{}) },
		func() error { _, err := f.Stat(); return err },
		f.Sync,
	)
	if err != nil {
		return err
	}
	src, err := d.OpenFile("file")
	if err != nil {
		return err
	}
	defer src.Close()
	to, err := d.Create("copy", 0o600)
	if err != nil {
		return err
	}
	defer to.Close()
	return firstOf(
		func() error { return src.Fadvise(Sequential) },
		func() error { return src.Readahead(0, 100) },
		func() error { _, err := src.ReadAt(make([]byte, 12), 0); return err },
		func() error { return src.Extents(20000, func(int64, int64, bool) error { return nil }) },
		func() error { return to.copyData(src, 0, 0, 100) },
		func() error { return to.CopyRange(src, 0, 0, 20000) },
	)
}
