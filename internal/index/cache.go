package index

import (
	"container/list"
	"strings"
	"sync"

	"georep/internal/change"
)

// directoryCache remembers the directories that were asked for last. A directory that moves changes the paths of all below it,
// wherever they are: then every remembered path is put together again, from the remembered links where there are such.
type directoryCache struct {
	limit int // directories

	mu    sync.Mutex
	nodes map[change.ID]*list.Element
	used  list.List // of *directory, the last used in front
	moves uint64    // counts updates that moved directories
}

type directory struct {
	link
	path  string
	moves uint64 // when path was right
}

// longestRemembered bounds the memory: longer paths are looked up each time.
const longestRemembered = 1024

func newDirectoryCache(limit int) *directoryCache {
	return &directoryCache{limit: limit, nodes: map[change.ID]*list.Element{}}
}

// state is what put must be given to remember something that is read from now on.
func (c *directoryCache) state() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.moves
}

// path gives a path that is known to be right.
func (c *directoryCache) path(dir change.ID) (path string, sec change.ID, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element := c.nodes[dir]
	if element == nil {
		return "", change.ID{}, false
	}
	d := element.Value.(*directory)
	if d.moves != c.moves {
		return "", change.ID{}, false
	}
	c.used.MoveToFront(element)
	return d.path, d.sec, true
}

// link gives a directory's place: it stays right when others move.
func (c *directoryCache) link(dir change.ID) (l link, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element := c.nodes[dir]
	if element == nil {
		return link{}, false
	}
	return element.Value.(*directory).link, true
}

// put remembers what was read while moves was the state; when directories moved since, it may be wrong and is not remembered.
func (c *directoryCache) put(l link, path string, moves uint64) {
	if len(path) > longestRemembered {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if moves != c.moves {
		return
	}
	path = strings.Clone(path) // it may be the beginning of one that is longer
	if element := c.nodes[l.id]; element != nil {
		d := element.Value.(*directory)
		d.link, d.path, d.moves = l, path, moves
		c.used.MoveToFront(element)
		return
	}
	c.nodes[l.id] = c.used.PushFront(&directory{link: l, path: path, moves: moves})
	if c.used.Len() > c.limit {
		last := c.used.Back()
		delete(c.nodes, last.Value.(*directory).id)
		c.used.Remove(last)
	}
}

// forget is told which directories were moved, deleted or replaced.
func (c *directoryCache) forget(dirs []change.ID) {
	if len(dirs) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moves++
	for _, dir := range dirs {
		if element := c.nodes[dir]; element != nil {
			delete(c.nodes, dir)
			c.used.Remove(element)
		}
	}
}

// forgetAll is told that nothing that was remembered holds.
func (c *directoryCache) forgetAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moves++
	clear(c.nodes)
	c.used.Init()
}
