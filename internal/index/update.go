package index

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"georep/internal/change"
)

// Tx collects what one durable transaction changes. Nothing is seen by readers, and nothing reaches the file, before the function that
// was given to Update has returned nil. A Tx belongs to one goroutine, and ends with that function.
type Tx struct {
	x *Index
	*batch
	dirs    map[change.ID]int // the last Put of each directory, as an index of edits
	values  map[string][]byte // nil value: remove
	doomed  []change.ID       // DeleteTree
	undoom  []change.ID       // doomed trees that are gone with this transaction
	ended   []uint64          // EndIntents
	looked  []change.ID       // Reconciled
	doubted []change.ID       // Doubt
	failed  error
}

// batch is the memory of a Tx that the next one uses again.
type batch struct {
	arena  arena
	edits  []edit // of the tree, in the order of the calls
	facts  []fact // about each edit
	tree   merger
	names  merger
	byName []edit // edits of the names
}

// fact is what an edit adds to the totals, and what it replaces.
type fact struct {
	share int64
	old   oldRecord
}

// oldRecord is what was at a key before.
type oldRecord struct {
	recordHead
	found bool
	share int64
}

// batchKept is the number of edits above which the memory of a batch is not kept.
const batchKept = 1 << 15

func (b *batch) reset() {
	b.arena.reset()
	b.edits, b.facts, b.byName = b.edits[:0], b.facts[:0], b.byName[:0]
}

// Update runs fn and then makes all that it asked of the Tx durable in one transaction: all or nothing. Trees that it gave to
// DeleteTree are doomed by that transaction, and gone when Update returns. An error of fn ends the Update without effect and
// is returned as it is. fn may read the index, which then shows the state before; it must not call what changes the index.
func (x *Index) Update(fn func(*Tx) error) error {
	x.writer.Lock()
	defer x.writer.Unlock()
	t := x.newTx()
	if err := fn(t); err != nil {
		return err
	}
	if t.failed != nil {
		return fmt.Errorf("update index: %w", t.failed)
	}
	if err := t.commit(); err != nil {
		return fmt.Errorf("update index: %w", err)
	}
	for left := len(t.doomed) > 0; left; {
		var err error
		if left, err = x.deleteDoomed(); err != nil {
			return fmt.Errorf("delete trees from index: %w", err)
		}
	}
	return nil
}

// newTx begins a Tx in the memory of the last one. The caller holds x.writer, or has the index alone.
func (x *Index) newTx() *Tx {
	if x.batch == nil || cap(x.batch.edits) > batchKept {
		x.batch = &batch{}
	}
	x.batch.reset()
	return &Tx{x: x, batch: x.batch}
}

// Put sets the entry at a place and, with it, the names of the object. A directory has one place: putting it elsewhere takes it from
// where it was. Two calls for one place: the later wins. Put fails on a place or an entry that cannot be, and so does the Update.
func (t *Tx) Put(at change.Place, e change.Entry) error {
	err := checkPlace(at)
	if err == nil {
		err = checkEntry(&e)
	}
	if err != nil {
		t.failed = fmt.Errorf("put %s: %w", placeText(at), err)
		return t.failed
	}
	key := t.arena.keep(idSize+len(at.Name), func(b []byte) []byte { return appendPlace(b, at) })
	if e.Kind == change.Dir {
		t.noteDirectory(e.ID, key)
	}
	record := t.arena.keep(recordAtMost+len(e.Target), func(b []byte) []byte { return appendRecord(b, &e) })
	t.edits = append(t.edits, edit{key: key, value: record})
	t.facts = append(t.facts, fact{share: shareOf(&e)})
	return nil
}

// noteDirectory is told of the Put of a directory that follows, and makes a removal of an earlier one elsewhere.
func (t *Tx) noteDirectory(id change.ID, key []byte) {
	if t.dirs == nil {
		t.dirs = map[change.ID]int{}
	}
	if before, ok := t.dirs[id]; ok && !bytes.Equal(t.edits[before].key, key) {
		t.edits[before] = edit{key: t.edits[before].key, remove: true}
		t.facts[before] = fact{}
	}
	t.dirs[id] = len(t.edits)
}

// Delete takes the entry at a place away. What is below a directory stays: see DeleteTree.
func (t *Tx) Delete(at change.Place) error {
	if err := checkPlace(at); err != nil {
		t.failed = fmt.Errorf("delete %s: %w", placeText(at), err)
		return t.failed
	}
	t.remove(t.arena.keep(idSize+len(at.Name), func(b []byte) []byte { return appendPlace(b, at) }))
	return nil
}

func (t *Tx) remove(key []byte) {
	t.edits = append(t.edits, edit{key: key, remove: true})
	t.facts = append(t.facts, fact{})
}

// DeleteTree takes away all places below a directory, at any depth, but not its own. What this Update moves out of the tree is spared.
func (t *Tx) DeleteTree(dir change.ID) { t.doomed = append(t.doomed, dir) }

// SetValue keeps a value under a key of the caller's choice, which is not empty; nil removes it.
func (t *Tx) SetValue(key string, value []byte) {
	if t.values == nil {
		t.values = map[string][]byte{}
	}
	t.values[key] = bytes.Clone(value)
}

// commit writes what was collected.
func (t *Tx) commit() error {
	if err := t.x.withReader(t.plan); err != nil {
		return err
	}
	entries, share := t.difference()
	err := t.x.write(func(tx *bbolt.Tx) error {
		if err := t.apply(tx); err != nil {
			return err
		}
		return t.x.addTotals(tx, entries, share)
	})
	if err != nil {
		return err
	}
	t.x.cache.forget(t.movedDirectories())
	t.x.totals.Lock()
	t.x.totals.entries += entries
	t.x.totals.bytes += share
	t.x.totals.Unlock()
	return nil
}

// plan works out the blocks to write. It is done before the transaction of the store begins, which is quicker, and a failure costs
// nothing: to roll back, the store would read the whole file.
func (t *Tx) plan(r *reader) error {
	if err := t.leaveOldPlaces(r.names); err != nil {
		return err
	}
	var damaged error
	t.tree.begin(r.tree.blocks, t.edits, &t.arena)
	t.tree.old = func(i int, value []byte) {
		var e change.Entry
		if err := decodeRecord(value, &e); err != nil {
			damaged = err
			return
		}
		t.facts[i].old = oldRecord{recordHead: headOf(&e), found: true, share: shareOf(&e)}
	}
	if err := errors.Join(t.tree.run(), damaged); err != nil {
		return fmt.Errorf("merge records: %w", err)
	}
	t.collectNames()
	t.names.begin(r.names.blocks, t.byName, &t.arena)
	if err := t.names.run(); err != nil {
		return fmt.Errorf("merge names: %w", err)
	}
	return nil
}

// fill is how full the store's pages are left when they are split: blocks leave room of their own.
const fill = 0.95

// apply writes what was planned, values, ended intents and doomed trees.
func (t *Tx) apply(tx *bbolt.Tx) error {
	tree, names := tx.Bucket(bucketTree), tx.Bucket(bucketNames)
	tree.FillPercent, names.FillPercent = fill, fill
	if err := t.tree.apply(tree); err != nil {
		return err
	}
	if err := t.names.apply(names); err != nil {
		return err
	}
	if err := t.applyDoomed(tx); err != nil {
		return err
	}
	if err := t.applyValues(tx); err != nil {
		return err
	}
	return t.endIntents(tx)
}

// leaveOldPlaces adds a removal for each place at which a directory of the batch was until now, unless the batch says itself what
// shall be there.
func (t *Tx) leaveOldPlaces(names *cursor) error {
	if len(t.dirs) == 0 {
		return nil
	}
	var left [][]byte
	for id, i := range t.dirs {
		for k, _ := names.seek(id[:]); bytes.HasPrefix(k, id[:]); k, _ = names.next() {
			if place := k[idSize:]; !bytes.Equal(place, t.edits[i].key) {
				left = append(left, bytes.Clone(place))
			}
		}
	}
	if names.err != nil || len(left) == 0 {
		return names.err
	}
	slices.SortFunc(left, bytes.Compare)
	for i := range t.edits {
		if at, named := slices.BinarySearchFunc(left, t.edits[i].key, bytes.Compare); named {
			left = slices.Delete(left, at, at+1)
		}
	}
	for _, place := range left {
		t.remove(place)
	}
	return nil
}

// collectNames works out what the edits change among the names.
func (t *Tx) collectNames() {
	for _, i := range t.tree.order {
		ed, was := &t.edits[i], &t.facts[i].old
		var id change.ID
		if !ed.remove {
			id = recordID(ed.value)
		}
		if was.found && was.id == id {
			continue
		}
		if was.found {
			t.byName = append(t.byName, edit{key: t.nameKey(was.id, ed.key), remove: true})
		}
		if !ed.remove {
			t.byName = append(t.byName, edit{key: t.nameKey(id, ed.key)})
		}
	}
}

func (t *Tx) nameKey(id change.ID, place []byte) []byte {
	return t.arena.keep(idSize+len(place), func(b []byte) []byte { return append(append(b, id[:]...), place...) })
}

// difference is what the edits add to the totals.
func (t *Tx) difference() (entries, share int64) {
	for _, i := range t.tree.order {
		ed, f := &t.edits[i], &t.facts[i]
		share += f.share - f.old.share
		if isRootKey(ed.key) {
			continue
		}
		if !ed.remove {
			entries++
		}
		if f.old.found {
			entries--
		}
	}
	return entries, share
}

func isRootKey(key []byte) bool {
	var root change.ID
	return bytes.Equal(key, root[:])
}

// movedDirectories lists the directories whose path or identity on the secondary may be another now.
func (t *Tx) movedDirectories() []change.ID {
	var moved []change.ID
	for _, i := range t.tree.order {
		ed, was := &t.edits[i], &t.facts[i].old
		if !was.found || was.kind != change.Dir {
			continue
		}
		if !ed.remove {
			if now, err := decodeHead(ed.value); err == nil && now == was.recordHead {
				continue
			}
		}
		moved = append(moved, was.id)
	}
	return moved
}
