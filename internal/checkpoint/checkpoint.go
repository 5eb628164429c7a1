// Package checkpoint keeps what must survive of the progress of a session: the mark from which replication resumes, which never goes
// back, and the ledger of the changes that failed.
//
// Both live in buckets of their own in a store that the caller opens (that of the index), so that they are as durable as the
// acknowledgements, and locked with them.
package checkpoint

import (
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// Store is the file that marks and ledger live in. Write is one durable transaction, Read a consistent view.
type Store interface {
	Write(func(*bbolt.Tx) error) error
	Read(func(*bbolt.Tx) error) error
}

// Errors that callers tell apart with errors.Is.
var (
	// ErrBack: a mark is older than the one that is kept.
	ErrBack = errors.New("the mark must not go back")
	// ErrCorrupt: what is kept cannot be read.
	ErrCorrupt = errors.New("the marks or the failure ledger are damaged: remove the state file, it is rebuilt by comparing both sides")
)

// The buckets.
var (
	bucketMarks    = []byte("checkpoint-marks")    // name -> mark
	bucketFailures = []byte("checkpoint-failures") // directory ID, name -> failure
	bucketDue      = []byte("checkpoint-due")      // time of the next attempt, directory ID, name -> nothing
)

// prepare makes the buckets that are missing.
func prepare(store Store, names ...[]byte) error {
	return store.Write(func(tx *bbolt.Tx) error {
		for _, name := range names {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return fmt.Errorf("create %s: %w", name, err)
			}
		}
		return nil
	})
}
