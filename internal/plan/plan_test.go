package plan

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"testing"

	"georep/internal/change"
)

// world is a model of a tree: directories hold names of objects. It serves as the primary, as the secondary and as the index.
type world struct {
	dirs map[change.ID]map[string]change.ID
	objs map[change.ID]change.Object
}

var rootID = change.NewID(1, 1)

func newWorld() *world {
	w := &world{dirs: map[change.ID]map[string]change.ID{}, objs: map[change.ID]change.Object{}}
	w.dirs[rootID] = map[string]change.ID{}
	w.objs[rootID] = change.Object{ID: rootID, Kind: change.Dir}
	return w
}

func (w *world) clone() *world {
	c := &world{dirs: map[change.ID]map[string]change.ID{}, objs: map[change.ID]change.Object{}}
	for id, d := range w.dirs {
		m := map[string]change.ID{}
		for n, o := range d {
			m[n] = o
		}
		c.dirs[id] = m
	}
	for id, o := range w.objs {
		c.objs[id] = o
	}
	return c
}

func (w *world) places() map[change.Place]change.ID {
	out := map[change.Place]change.ID{}
	for dir, names := range w.dirs {
		for n, id := range names {
			out[change.Place{Dir: dir, Name: n}] = id
		}
	}
	return out
}

func (w *world) sorted() []change.ID {
	ids := make([]change.ID, 0, len(w.dirs))
	for id := range w.dirs {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return string(ids[i][:]) < string(ids[j][:]) })
	return ids
}

// Get implements View; the secondary's identities are the primary's with the last byte changed.
func (w *world) Get(at change.Place) (change.Entry, bool, error) {
	if at.IsRoot() {
		return change.Entry{Object: w.objs[rootID], Sec: sec(rootID)}, true, nil
	}
	id, ok := w.dirs[at.Dir][at.Name]
	if !ok {
		return change.Entry{}, false, nil
	}
	return change.Entry{Object: w.objs[id], Sec: sec(id)}, true, nil
}

// Names implements View.
func (w *world) Names(id change.ID) ([]change.Place, error) {
	if id == rootID {
		return []change.Place{{}}, nil
	}
	var out []change.Place
	for at, other := range w.places() {
		if other == id {
			out = append(out, at)
		}
	}
	sort.Slice(out, func(i, j int) bool { return before(out[i], out[j]) })
	return out, nil
}

func sec(id change.ID) change.ID { id[15] ^= 0x55; return id }

// below says whether dir is top or lies in it.
func (w *world) below(dir, top change.ID) bool {
	if dir == top {
		return true
	}
	for _, id := range w.dirs[top] {
		if w.objs[id].Kind == change.Dir && w.below(dir, id) {
			return true
		}
	}
	return false
}

func (w *world) removeTree(id change.ID) {
	for _, c := range w.dirs[id] {
		if w.objs[c].Kind == change.Dir {
			w.removeTree(c)
		}
	}
	delete(w.dirs, id)
}

// mutator does random operations as a file system would.
type mutator struct {
	*world
	r    *rand.Rand
	next uint64
}

func (m *mutator) step() {
	ids := m.sorted()
	d, n := ids[m.r.IntN(len(ids))], fmt.Sprint("n", m.r.IntN(4))
	d2, n2 := ids[m.r.IntN(len(ids))], fmt.Sprint("n", m.r.IntN(4))
	a, okA := m.dirs[d][n]
	b, okB := m.dirs[d2][n2]
	isDir := okA && m.objs[a].Kind == change.Dir
	switch m.r.IntN(8) {
	case 0, 1:
		if !okA {
			m.create(d, n)
		}
	case 2:
		if okA && !isDir && !okB {
			m.dirs[d2][n2] = a
		}
	case 3, 4: // rename, over a file too
		if okA && a != b && !(isDir && m.below(d2, a)) && !(okB && m.objs[b].Kind == change.Dir) {
			delete(m.dirs[d], n)
			m.dirs[d2][n2] = a
		}
	case 5: // exchange
		if okA && okB && a != b && !m.below(d2, a) && !m.below(d, b) {
			m.dirs[d][n], m.dirs[d2][n2] = b, a
		}
	case 6:
		if okA {
			delete(m.dirs[d], n)
			if isDir {
				m.removeTree(a)
			}
		}
	case 7:
		if okA && !isDir {
			m.next++
			o := m.objs[a]
			o.Size, o.Mtime.Sec = int64(m.next), int64(m.next)
			m.objs[a] = o
		}
	}
}

func (m *mutator) create(d change.ID, n string) {
	m.next++
	id := change.NewID(m.next+100, m.next)
	k := change.File
	if m.r.IntN(2) == 0 {
		k = change.Dir
		m.dirs[id] = map[string]change.ID{}
	}
	m.objs[id] = change.Object{ID: id, Kind: k, Size: int64(m.next), Attr: change.Attr{Mtime: change.Time{Sec: int64(m.next)}}}
	m.dirs[d][n] = id
}

// secondary carries declarations out as an agent would, strictly.
type secondary struct {
	*world
	sent int // files whose content travelled
}

func (s *secondary) do(d change.Declaration) error {
	if d.At.IsRoot() {
		return nil
	}
	dir, ok := s.dirs[d.At.Dir]
	if !ok {
		return fmt.Errorf("no such directory")
	}
	cur, occupied := dir[d.At.Name]
	switch d.Op {
	case change.Make:
		if occupied && (sec(cur) != d.Over || s.objs[cur].Kind == change.Dir || d.Object.Kind == change.Dir) {
			return fmt.Errorf("occupied by %v", cur)
		}
		s.objs[d.Object.ID] = d.Object
		if d.Object.Kind == change.Dir {
			s.dirs[d.Object.ID] = map[string]change.ID{}
		} else {
			s.sent++
		}
		dir[d.At.Name] = d.Object.ID
	case change.Link, change.Move:
		return s.bring(d, dir, cur, occupied)
	case change.Set, change.Times, change.Write:
		if !occupied || cur != d.Object.ID {
			return fmt.Errorf("holds %v", cur)
		}
		if d.Op == change.Write {
			s.sent++
		}
		s.objs[cur] = d.Object
	case change.Drop:
		if occupied && sec(cur) != d.Sec {
			return fmt.Errorf("holds %v", cur)
		}
		delete(dir, d.At.Name)
		if d.Object.Kind == change.Dir {
			s.removeTree(cur)
		}
	default:
		return fmt.Errorf("unexpected operation")
	}
	return nil
}

func (s *secondary) bring(d change.Declaration, dir map[string]change.ID, cur change.ID, occupied bool) error {
	id, ok := s.dirs[d.From.Dir][d.From.Name]
	if !ok || !d.Sec.IsZero() && sec(id) != d.Sec {
		return fmt.Errorf("from %v, which holds %v", d.From, id)
	}
	if occupied && cur != id && (d.Op == change.Move || sec(cur) != d.Over || s.objs[cur].Kind == change.Dir) {
		return fmt.Errorf("occupied by %v", cur)
	}
	if d.Op == change.Move && s.below(d.At.Dir, id) {
		return fmt.Errorf("into itself")
	}
	dir[d.At.Name] = id
	if d.Op == change.Move && d.From != d.At {
		delete(s.dirs[d.From.Dir], d.From.Name)
	}
	return nil
}

// observe gives what a source would say of a whole tree in one batch, parents first, absences last.
func observe(primary, sec *world) []change.Observation {
	var seen []change.Observation
	fresh := uint64(0)
	var walk func(dir change.ID)
	walk = func(dir change.ID) {
		var names []string
		for n := range primary.dirs[dir] {
			names = append(names, n)
		}
		sort.Strings(names)
		for _, n := range names {
			o := primary.objs[primary.dirs[dir][n]]
			others, _ := primary.Names(o.ID)
			o.Nlink = uint32(len(others))
			fresh++
			seen = append(seen, change.Observation{At: change.Place{Dir: dir, Name: n}, Object: o, Fresh: fresh})
			if o.Kind == change.Dir {
				walk(o.ID)
			}
		}
	}
	walk(rootID)
	here := primary.places()
	for at := range sec.places() {
		if _, ok := here[at]; !ok {
			seen = append(seen, change.Observation{At: at, Absent: true, Fresh: fresh})
		}
	}
	return seen
}

func sameTrees(t *testing.T, primary, got *world) bool {
	a, b := primary.places(), got.places()
	for at, id := range a {
		if b[at] != id || got.objs[id].Size != primary.objs[id].Size {
			t.Errorf("at %v: want %v, have %v", at, id, b[at])
			return false
		}
	}
	for at, id := range b {
		if _, ok := a[at]; !ok {
			t.Errorf("at %v: want nothing, have %v", at, id)
			return false
		}
	}
	return true
}

// carryOut makes a plan and does it, stage by stage.
func carryOut(t *testing.T, s *secondary, seen []change.Observation) bool {
	p, err := Make(s.clone(), seen)
	if err != nil {
		t.Fatal(err)
	}
	for i, stage := range [][]change.Declaration{p.Keep, p.Vacate, p.Build, p.Drop, p.Settle} {
		for k, d := range stage {
			for _, a := range d.After {
				if i != 2 || a >= k {
					t.Errorf("stage %d: declaration %d comes after %d", i, k, a)
				}
			}
			if err := s.do(d); err != nil {
				t.Errorf("stage %d: %s %v at %v: %v", i, d.Op, d.Object.ID, d.At, err)
				return false
			}
		}
	}
	return true
}

// TestPlanConverges plans from one random tree to another and carries the plan out strictly. Whatever stays in the stash is
// dropped by a second plan; then the trees are equal, and no file travelled that was there with the same content.
func TestPlanConverges(t *testing.T) {
	for seed := uint64(1); seed <= 3000; seed++ {
		r := rand.New(rand.NewPCG(seed, 1))
		m := &mutator{world: newWorld(), r: r}
		for range 5 + r.IntN(40) {
			m.step()
		}
		s := &secondary{world: m.clone()}
		s.dirs[change.StashID] = map[string]change.ID{}
		for range 1 + r.IntN(30) {
			m.step()
		}
		want := mustTravel(m.world, s.world)
		for round := range 2 {
			if !carryOut(t, s, observe(m.world, s.world)) {
				t.Fatalf("seed %d, round %d", seed, round)
			}
		}
		if s.sent != want {
			t.Errorf("seed %d: %d files travelled, %d had to", seed, s.sent, want)
		}
		if !sameTrees(t, m.world, s.world) {
			t.Fatalf("seed %d", seed)
		}
	}
}

// mustTravel counts the files whose content the secondary lacks.
func mustTravel(primary, sec *world) (n int) {
	counted := map[change.ID]bool{}
	for _, id := range primary.places() {
		if primary.objs[id].Kind != change.File || counted[id] {
			continue
		}
		counted[id] = true
		if names, _ := sec.Names(id); len(names) == 0 || sec.objs[id].Size != primary.objs[id].Size {
			n++
		}
	}
	return n
}

// TestPlanHalfSeen gives the observations of one change of trees in two batches, cut at random: in the end, when all is seen
// once more, the trees are equal.
func TestPlanHalfSeen(t *testing.T) {
	for seed := uint64(1); seed <= 3000; seed++ {
		r := rand.New(rand.NewPCG(seed, 2))
		m := &mutator{world: newWorld(), r: r}
		for range 5 + r.IntN(40) {
			m.step()
		}
		s := &secondary{world: m.clone()}
		s.dirs[change.StashID] = map[string]change.ID{}
		for range 1 + r.IntN(30) {
			m.step()
		}
		var present, part []change.Observation
		for _, o := range observe(m.world, s.world) {
			if !o.Absent {
				present = append(present, o)
			}
		}
		for _, o := range present {
			if _, known := s.dirs[o.At.Dir]; known && r.IntN(2) == 0 {
				part = append(part, o)
			}
		}
		if !carryOut(t, s, part) || !carryOut(t, s, present) {
			t.Fatalf("seed %d", seed)
		}
		for range 2 {
			if !carryOut(t, s, observe(m.world, s.world)) {
				t.Fatalf("seed %d, whole", seed)
			}
		}
		if !sameTrees(t, m.world, s.world) {
			t.Fatalf("seed %d", seed)
		}
	}
}
