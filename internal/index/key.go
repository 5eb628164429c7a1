package index

import (
	"fmt"

	"georep/internal/change"
)

const idSize = len(change.ID{})

// appendPlace encodes a place as a key of the tree: the directory's ID, then the name.
func appendPlace(b []byte, at change.Place) []byte {
	b = append(b, at.Dir[:]...)
	return append(b, at.Name...)
}

// decodePlace reads a key of the tree.
func decodePlace(key []byte) (change.Place, error) {
	if len(key) < idSize {
		return change.Place{}, fmt.Errorf("%w (a key of %d bytes)", ErrCorrupt, len(key))
	}
	return change.Place{Dir: change.ID(key[:idSize]), Name: string(key[idSize:])}, nil
}

// checkPlace says whether a place can be kept: what it rejects is a bug of the caller.
func checkPlace(at change.Place) error {
	if at.IsRoot() {
		return nil
	}
	if at.Dir.IsZero() || !change.ValidName(at.Name) {
		return fmt.Errorf("no such place can be")
	}
	return nil
}

func placeText(at change.Place) string {
	if at.IsRoot() {
		return "the root"
	}
	return fmt.Sprintf("%q in directory %s", at.Name, at.Dir)
}
