package brick

import "time"

// xtimes is the search for what no journal tells: allocation and holes. The volume's marker leaves on each object, and on all directories
// above it, when something below was changed.
type xtimes struct {
	every time.Duration
}

func newXtimes(every time.Duration) *xtimes { return &xtimes{every: every} }
