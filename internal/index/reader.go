package index

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"georep/internal/change"
)

// reader is a read transaction with its buckets and cursors looked up once. One goroutine uses it at a time.
type reader struct {
	tx    *bbolt.Tx
	tree  *cursor
	names *cursor
	seq   uint64 // the state of the store that it sees
	key   []byte // scratch
}

// readers keeps read transactions for reuse, since beginning one costs as much as a lookup. None is kept while an update runs: a kept
// one would hold back pages that the update wants to use again, and block it for ever when the file must be mapped anew.
type readers struct {
	db        *bbolt.DB
	residency *residency

	mu      sync.Mutex
	idle    []*reader
	seq     uint64 // counts updates
	writing bool
	ended   error // ErrClosed, or what makes the store unusable
}

const idleReaders = 8

func (p *readers) acquire() (*reader, error) {
	p.mu.Lock()
	if err := p.ended; err != nil {
		p.mu.Unlock()
		return nil, err
	}
	if n := len(p.idle); n > 0 {
		r := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return r, nil
	}
	seq := p.seq
	p.mu.Unlock()
	tx, err := p.db.Begin(false)
	if errors.Is(err, bbolterrors.ErrDatabaseNotOpen) {
		return nil, ErrClosed
	}
	if err != nil {
		return nil, fmt.Errorf("begin reading: %w", err)
	}
	r, err := newReader(tx, seq)
	if err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return r, nil
}

func newReader(tx *bbolt.Tx, seq uint64) (r *reader, err error) {
	defer recovered(&err)
	tree, names := tx.Bucket(bucketTree), tx.Bucket(bucketNames)
	if tree == nil || names == nil {
		return nil, fmt.Errorf("%w (a part is missing)", ErrCorrupt)
	}
	return &reader{tx: tx, seq: seq, tree: newCursor(tree), names: newCursor(names)}, nil
}

// release takes a reader back. A read transaction's rollback cannot fail while it is open.
func (p *readers) release(r *reader) {
	p.mu.Lock()
	if !p.writing && p.ended == nil && r.seq == p.seq && len(p.idle) < idleReaders {
		p.idle = append(p.idle, r)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	_ = r.tx.Rollback()
}

// pause ends all kept transactions before an update.
func (p *readers) pause() error {
	p.mu.Lock()
	if err := p.ended; err != nil {
		p.mu.Unlock()
		return err
	}
	p.writing = true
	p.mu.Unlock()
	p.drop()
	return nil
}

// resume allows to keep transactions again; the new ones see the update.
func (p *readers) resume() {
	p.mu.Lock()
	p.writing = false
	p.seq++
	p.mu.Unlock()
	p.residency.check()
}

// end refuses all calls from now on, with that error, unless an earlier one was given.
func (p *readers) end(err error) {
	p.mu.Lock()
	if p.ended == nil {
		p.ended = err
	}
	p.mu.Unlock()
	p.drop()
}

func (p *readers) drop() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, r := range idle {
		_ = r.tx.Rollback()
	}
}

// withReader runs f in a read transaction; a panic of the store over damage, or over a page that cannot be read, becomes ErrCorrupt.
func (x *Index) withReader(f func(*reader) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	r, err := x.readers.acquire()
	if err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w (%v)", ErrCorrupt, p)
			_ = r.tx.Rollback()
			return
		}
		x.readers.release(r)
		x.written.spend(1)
	}()
	return r.run(f)
}

// run calls f, and gives what its cursors met when f did not fail.
func (r *reader) run(f func(*reader) error) error {
	r.tree.err, r.names.err = nil, nil
	if err := f(r); err != nil {
		return err
	}
	return errors.Join(r.tree.err, r.names.err)
}

// record gives the encoded record at a place, valid until the reader is released; nil when there is none.
func (r *reader) record(at change.Place) []byte {
	r.key = appendPlace(r.key[:0], at)
	k, v := r.tree.seek(r.key)
	if !bytes.Equal(k, r.key) {
		return nil
	}
	return v
}

// places calls fn with each name of an object until it answers false.
func (r *reader) places(id change.ID, fn func(change.Place) bool) error {
	for k, _ := r.names.seek(id[:]); bytes.HasPrefix(k, id[:]); k, _ = r.names.next() {
		at, err := decodePlace(k[idSize:])
		if err != nil {
			return err
		}
		if !fn(at) {
			return nil
		}
	}
	return nil
}
