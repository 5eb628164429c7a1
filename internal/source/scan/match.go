package scan

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"georep/internal/change"
)

// matchAll compares a directory whose whole listing is in k.entries.
func (k *worker) matchAll(ctx context.Context) error {
	slices.SortFunc(k.entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	k.known = k.known[:0]
	i := 0
	err := k.w.o.Index.List(k.at.ID, "", func(name string, e change.Entry) error {
		for i < len(k.entries) && k.entries[i].name < name {
			i++
		}
		if i < len(k.entries) && k.entries[i].name == name {
			k.entries[i].known = int32(len(k.known))
			k.known = append(k.known, newKnown(&e))
			return nil
		}
		k.chunk.Absent = append(k.chunk.Absent, change.Place{Dir: k.at.ID, Name: name})
		return k.full(ctx)
	})
	if err != nil {
		return err
	}
	return k.inspectAll(ctx)
}

// matchPiece compares a part of a wide directory, and forgets it.
func (k *worker) matchPiece(ctx context.Context) error {
	slices.SortFunc(k.entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	k.known = k.known[:0]
	for i := range k.entries {
		e, ok, err := k.w.o.Index.Get(change.Place{Dir: k.at.ID, Name: k.entries[i].name})
		if err != nil {
			return err
		}
		if ok {
			k.entries[i].known = int32(len(k.known))
			k.known = append(k.known, newKnown(&e))
		}
	}
	err := k.inspectAll(ctx)
	clear(k.entries)
	k.entries = k.entries[:0]
	return err
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

// vanishedWide finds the names of a wide directory that the index has and the directory has not: one stat for each, because
// the listing is not kept.
func (k *worker) vanishedWide(ctx context.Context) error {
	return k.w.o.Index.List(k.at.ID, "", func(name string, _ change.Entry) error {
		if _, err := k.dir.StatLite(name); errors.Is(err, fs.ErrNotExist) {
			k.chunk.Absent = append(k.chunk.Absent, change.Place{Dir: k.at.ID, Name: name})
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return k.full(ctx)
	})
}
