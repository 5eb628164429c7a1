package treetest

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// operation is one kind of random deed; do picks its own victims and says in text what it did to whom.
type operation struct {
	name   string
	weight int
	do     func() (text string, err error)
}

// operations is the table of what a storm does, as a deck of cards.
func (s *Storm) operations() []operation {
	table := []operation{
		{"create", 20, s.create},
		{"write", 8, s.rewrite},
		{"append", 6, s.append},
		{"overwrite", 8, s.overwrite},
		{"write by mapping", 2, s.writeMapped},
		{"hold open", 3, s.hold},
		{"write to held", 4, s.writeHeld},
		{"truncate", 5, s.truncate},
		{"punch hole", 3, s.punch},
		{"fill", 3, s.fill},
		{"chmod", 5, s.chmod},
		{"chown", 4, s.chown},
		{"utimes", 5, s.utimes},
		{"symlink", 4, s.symlink},
		{"link", 8, s.link},
		{"link unnamed file", 2, s.linkUnnamed},
		{"rename", 14, s.rename},
		{"rename over", 8, s.renameOver},
		{"exchange", 6, s.exchange},
		{"mkdir", 12, s.mkdir},
		{"rmdir", 3, s.rmdir},
		{"unlink", 6, s.unlink},
		{"remove tree", 1, s.removeTree},
		{"directory by file", 1, s.directoryByFile},
		{"file by directory", 2, s.fileByDirectory},
	}
	if !s.o.NoQuiet {
		table = append(table, operation{"overwrite keeping mtime", 2, s.overwriteQuietly})
	}
	if !s.o.NoSpecial {
		table = append(table, operation{"mknod", 3, s.mknod})
	}
	if !s.o.NoXattrs {
		table = append(table, operation{"setxattr", 5, s.setxattr}, operation{"removexattr", 2, s.removexattr}, operation{"acl", 4, s.acl})
	}
	var deck []operation
	for _, op := range table {
		for range op.weight {
			deck = append(deck, op)
		}
	}
	return deck
}

// on runs do with an existing entry that suits.
func (s *Storm) on(suits func(os.DirEntry) bool, do func(path string) (string, error)) (string, error) {
	path, ok := s.existing(suits)
	if !ok {
		return "", errNothing
	}
	detail, err := do(s.below(path))
	return fmt.Sprintf("%q %s", path, detail), err
}

func (s *Storm) symlink() (string, error) {
	path := s.place()
	targets := []string{"a", "b/c", "nowhere", "/nonexistent/" + s.names[0], "not\xffutf8", "./a/../b"}
	target := targets[s.rng.IntN(len(targets))]
	return fmt.Sprintf("%q -> %q", path, target), unix.Symlink(target, s.below(path))
}

func (s *Storm) link() (string, error) {
	to := s.place()
	return s.on(notDirectory, func(path string) (string, error) {
		return fmt.Sprintf("as %q", to), unix.Linkat(unix.AT_FDCWD, path, unix.AT_FDCWD, s.below(to), 0)
	})
}

func (s *Storm) rename() (string, error) {
	to := s.place()
	return s.on(anything, func(path string) (string, error) {
		return fmt.Sprintf("to %q", to), unix.Rename(path, s.below(to))
	})
}

// renameOver replaces one existing entry by another; a directory only gives way when it is empty.
func (s *Storm) renameOver() (string, error) {
	to, ok := s.existing(anything)
	if !ok {
		return "", errNothing
	}
	return s.on(anything, func(path string) (string, error) {
		return fmt.Sprintf("over %q", to), unix.Rename(path, s.below(to))
	})
}

func (s *Storm) exchange() (string, error) {
	to, ok := s.existing(anything)
	if !ok {
		return "", errNothing
	}
	return s.on(anything, func(path string) (string, error) {
		return fmt.Sprintf("with %q", to), unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, s.below(to), unix.RENAME_EXCHANGE)
	})
}

func (s *Storm) mkdir() (string, error) {
	path, mode := s.place(), s.mode(true)
	err := unix.Mkdir(s.below(path), 0o700)
	if err == nil {
		err = unix.Chmod(s.below(path), mode)
	}
	return fmt.Sprintf("%q %04o", path, mode), err
}

func (s *Storm) rmdir() (string, error) {
	return s.on(isDirectory, func(path string) (string, error) { return "", unix.Rmdir(path) })
}

func (s *Storm) unlink() (string, error) {
	return s.on(notDirectory, func(path string) (string, error) { return "", unix.Unlink(path) })
}

func (s *Storm) removeTree() (string, error) {
	return s.on(isDirectory, func(path string) (string, error) { return "", os.RemoveAll(path) })
}

func (s *Storm) directoryByFile() (string, error) {
	return s.on(isDirectory, func(path string) (string, error) {
		if err := os.RemoveAll(path); err != nil {
			return "", err
		}
		detail, err := s.createAt(path)
		return "by file " + detail, err
	})
}

func (s *Storm) fileByDirectory() (string, error) {
	return s.on(notDirectory, func(path string) (string, error) {
		if err := unix.Unlink(path); err != nil {
			return "", err
		}
		if err := unix.Mkdir(path, 0o755); err != nil {
			return "", err
		}
		_, err := s.createAt(filepath.Join(path, s.names[0]))
		return "by directory with a file", err
	})
}

func (s *Storm) mknod() (string, error) {
	path := s.place()
	kinds := []struct {
		name string
		mode uint32
		dev  uint64
	}{
		{"fifo", unix.S_IFIFO, 0},
		{"socket", unix.S_IFSOCK, 0},
		{"character device 1:3", unix.S_IFCHR, unix.Mkdev(1, 3)},
		{"block device 7:300", unix.S_IFBLK, unix.Mkdev(7, 300)},
	}
	if !s.root0 {
		kinds = kinds[:2]
	}
	kind := kinds[s.rng.IntN(len(kinds))]
	return fmt.Sprintf("%q %s", path, kind.name), unix.Mknod(s.below(path), kind.mode|0o640, int(kind.dev))
}
