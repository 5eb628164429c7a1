package brick

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"georep/internal/change"
	"georep/internal/gluster"
)

// crawl is a comparison of directories of the brick with the index, under way.
type crawl struct {
	stack   []visit
	queued  map[change.ID]bool
	dir     *os.File // that is being read
	at      change.ID
	deep    bool
	entries int64
	equal   int64
}

// visit is a directory that is to be compared; deep with all that is below, else only with what the index does not know.
type visit struct {
	dir  change.ID
	deep bool
}

// crawlChunk is how many entries of a directory are read at once.
const crawlChunk = 1024

// startCrawl asks for a directory to be compared: the root with all that is below it.
func (s *Source) startCrawl(dir change.ID) {
	if s.crawl == nil {
		s.crawl = &crawl{queued: map[change.ID]bool{}}
	}
	s.crawl.push(visit{dir, dir == gluster.Root})
	s.news = true
}

func (c *crawl) push(v visit) {
	if c.queued[v.dir] && !v.deep {
		return
	}
	c.queued[v.dir] = true
	c.stack = append(c.stack, v)
}

// crawlOn goes on with the crawl: one part of one directory.
func (s *Source) crawlOn() error {
	c := s.crawl
	if c.dir == nil {
		if len(c.stack) == 0 {
			s.crawl = nil
			return s.stillThere()
		}
		next := c.stack[len(c.stack)-1]
		c.stack = c.stack[:len(c.stack)-1]
		delete(c.queued, next.dir)
		return s.enter(next)
	}
	entries, err := c.dir.ReadDir(crawlChunk)
	for _, e := range entries {
		if err := s.crawled(e.Name()); err != nil {
			return err
		}
	}
	if err != nil {
		closing := c.dir.Close()
		c.dir = nil
		if errors.Is(err, fs.ErrNotExist) {
			return errors.Join(closing, s.stillThere()) // removed meanwhile
		}
		if !errors.Is(err, io.EOF) {
			return errors.Join(fmt.Errorf("%w: %w", ErrBrick, err), closing)
		}
		return closing
	}
	return nil
}

// enter begins with a directory: with what the index has in it, as far as that is not there.
func (s *Source) enter(v visit) error {
	o, err := s.tree.readOnce(v.dir)
	if err != nil {
		return err
	}
	if o.standing != here || o.Kind != change.Dir {
		return s.lost(v.dir)
	}
	path := s.tree.handle(v.dir)
	s.pending.add(v.dir, hint{compare: true})
	err = s.o.Index.List(v.dir, "", func(name string, e change.Entry) error {
		at := change.Place{Dir: v.dir, Name: name}
		id, err := gfidOf(s.tree.at(at), false)
		if err != nil || id != e.ID {
			s.remove(at, removal{e.ID, e.Kind})
		}
		return nil
	})
	if err != nil {
		return err
	}
	dir, err := os.Open(path + "/.")
	if errors.Is(err, syscall.ELOOP) {
		if path, err = s.tree.path(v.dir); err == nil {
			dir, err = os.Open(path)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return s.lost(v.dir)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBrick, err)
	}
	s.crawl.dir, s.crawl.at, s.crawl.deep = dir, v.dir, v.deep
	return nil
}

// crawled takes one entry of the directory that is being read.
func (s *Source) crawled(name string) error {
	c := s.crawl
	at := change.Place{Dir: c.at, Name: name}
	if s.tree.own(at) {
		return nil
	}
	id, err := gfidOf(s.tree.at(at), false)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENODATA) {
		return nil // it is gone, or not the volume's
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBrick, err)
	}
	s.pending.add(id, hint{compare: true, content: true})
	info, err := os.Lstat(s.tree.at(at))
	if err != nil || !info.IsDir() {
		return nil
	}
	deep := c.deep
	if !deep {
		known, err := s.o.Index.Names(id)
		if err != nil {
			return err
		}
		deep = len(known) == 0 && !s.shown[id]
	}
	if deep {
		c.push(visit{id, true})
	}
	return nil
}
