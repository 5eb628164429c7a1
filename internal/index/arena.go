package index

// arena hands out memory for keys and values that live until the next reset, and uses it again then: an update makes many small ones.
type arena struct {
	chunks [][]byte
	next   int // the chunk to take when free is used up
	free   []byte
}

const (
	arenaChunk = 256 << 10
	arenaKept  = 16 // chunks that a reset keeps
)

// keep lets add append to an empty slice with room for size bytes, and gives what add made of it. size should be enough; when it is
// not, the slice lives outside of the arena.
func (a *arena) keep(size int, add func([]byte) []byte) []byte {
	if len(a.free) < size {
		a.grow(size)
	}
	made := add(a.free[:0:size])
	if len(made) <= size {
		a.free = a.free[len(made):]
	}
	return made[:len(made):len(made)]
}

func (a *arena) grow(size int) {
	if size > arenaChunk {
		a.free = make([]byte, size)
		return
	}
	if a.next == len(a.chunks) {
		a.chunks = append(a.chunks, make([]byte, arenaChunk))
	}
	a.free = a.chunks[a.next]
	a.next++
}

// reset takes everything back.
func (a *arena) reset() {
	if len(a.chunks) > arenaKept {
		clear(a.chunks[arenaKept:])
		a.chunks = a.chunks[:arenaKept]
	}
	a.next, a.free = 0, nil
}
