package replicate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"georep/internal/change"
)

// emptyStore is a Store that has nothing yet.
type emptyStore struct{ Store }

func (emptyStore) Get(change.Place) (change.Entry, bool, error) { return change.Entry{}, false, nil }
func (emptyStore) Names(change.ID) ([]change.Place, error)      { return nil, nil }

// The names that an overlay tells are those under which it has the object, whatever was put and forgotten before.
func TestOverlayKnowsTheNamesOfObjects(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	o := newOverlay(emptyStore{})
	at := func() change.Place { return change.Place{Name: fmt.Sprint(random.IntN(6))} }
	var done [4][]Effect
	for step := range 5000 {
		gen := random.IntN(len(done))
		switch random.IntN(8) {
		case 0:
			o.forget(uint64(gen), done[gen])
			done[gen] = nil
		case 1:
			done[gen] = append(done[gen], Effect{At: at()})
			o.put(uint64(gen), done[gen][len(done[gen])-1])
		default:
			id := change.NewID(uint64(1+random.IntN(3)), 1)
			done[gen] = append(done[gen], Effect{At: at(), Entry: &change.Entry{Object: change.Object{ID: id}}})
			o.put(uint64(gen), done[gen][len(done[gen])-1])
		}
		for ino := range uint64(4) {
			id := change.NewID(ino, 1)
			var want []string
			for p, l := range o.places {
				if l.entry != nil && l.entry.ID == id {
					want = append(want, p.Name)
				}
			}
			slices.Sort(want)
			places, err := o.Names(id)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range places {
				got = append(got, p.Name)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("step %d: object %d has the names %v, want %v", step, ino, got, want)
			}
		}
	}
}
