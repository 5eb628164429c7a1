package scan

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"georep/internal/change"
	"georep/internal/source/spill"
)

// matchAll compares a directory whose whole listing is in k.entries.
func (k *worker) matchAll(ctx context.Context) error {
	slices.SortFunc(k.entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	k.known = k.known[:0]
	i := 0
	err := k.w.o.Index.List(k.at.ID, "", func(name string, e change.Entry) error {
		return k.match(ctx, &i, name, &e, true)
	})
	if err != nil {
		return err
	}
	return k.inspectAll(ctx)
}

// matchWide compares a wide directory in pieces, in the order of the names: as the index has them, so that neither looking them up nor
// noting them later goes all over it again and again. Without a complete listing nothing is called absent.
func (k *worker) matchWide(ctx context.Context, listed *spill.Sorter, complete bool) error {
	last := ""
	err := listed.Each(func(record []byte) error {
		e := parseListed(record)
		if n := len(k.entries); n > 0 && k.entries[n-1].name == e.name || n == 0 && e.name == last {
			return nil // told twice, which happens while the directory is being changed
		}
		k.entries = append(k.entries, e)
		if len(k.entries) < pieceSize {
			return nil
		}
		after := last
		last = e.name
		return k.matchPiece(ctx, after, last, complete)
	})
	if err != nil {
		return err
	}
	return k.matchPiece(ctx, last, "", complete)
}

// errPast ends a listing of the index behind the last name of a piece.
var errPast = errors.New("past the piece")

// matchPiece compares a part of a wide directory, and forgets it: what is behind the name after, up to the name last; "" is the end.
func (k *worker) matchPiece(ctx context.Context, after, last string, complete bool) error {
	k.known = k.known[:0]
	i := 0
	err := k.w.o.Index.List(k.at.ID, after, func(name string, e change.Entry) error {
		if last != "" && name > last {
			return errPast
		}
		return k.match(ctx, &i, name, &e, complete)
	})
	if err != nil && !errors.Is(err, errPast) {
		return err
	}
	err = k.inspectAll(ctx)
	clear(k.entries)
	k.entries = k.entries[:0]
	return err
}

// match finds an entry of the index among k.entries, of which the first i come before it. What is not there is a candidate.
func (k *worker) match(ctx context.Context, i *int, name string, e *change.Entry, complete bool) error {
	for *i < len(k.entries) && k.entries[*i].name < name {
		*i++
	}
	if *i < len(k.entries) && k.entries[*i].name == name {
		k.entries[*i].known = int32(len(k.known))
		k.known = append(k.known, newKnown(e))
		return nil
	}
	if !complete {
		return ctx.Err()
	}
	k.chunk.Absent = append(k.chunk.Absent, change.Place{Dir: k.at.ID, Name: name})
	return k.full(ctx)
}

// inspectAll inspects k.entries in the order of their inodes, which is how they lie on the disk.
func (k *worker) inspectAll(ctx context.Context) error {
	k.order = k.order[:0]
	for i := range k.entries {
		k.order = append(k.order, int32(i))
	}
	slices.SortFunc(k.order, func(a, b int32) int { return cmp.Compare(k.entries[a].ino, k.entries[b].ino) })
	for n, i := range k.order {
		if n%chunkSize == 0 {
			if err := k.limited(ctx, min(chunkSize, len(k.order)-n)); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		k.inspect(&k.entries[i])
		if err := k.full(ctx); err != nil {
			return err
		}
	}
	return nil
}
