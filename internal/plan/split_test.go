package plan

import (
	"slices"
	"testing"

	"georep/internal/change"
)

// acked is what the secondary has, place by place.
type acked map[change.Place]change.Entry

func (a acked) Get(at change.Place) (change.Entry, bool, error) {
	e, ok := a[at]
	return e, ok, nil
}

func (a acked) Names(id change.ID) (names []change.Place, _ error) {
	for at, e := range a {
		if e.ID == id {
			names = append(names, at)
		}
	}
	return names, nil
}

// TestNamesThatAreSeveralObjects has a file whose names are two objects on the secondary, as when a write reached some of them only. Whichever
// name is seen, in the end all are the same one, of which most names stay.
func TestNamesThatAreSeveralObjects(t *testing.T) {
	file := change.Object{ID: change.NewID(100, 1), Kind: change.File, Nlink: 3}
	x, y := change.NewID(500, 1), change.NewID(501, 1)
	name := func(n uint64) change.Place { return change.Place{Dir: change.NewID(n, 1), Name: "n"} }
	entry := func(sec change.ID) change.Entry { return change.Entry{Object: file, Sec: sec} }
	seen := func(n uint64) change.Observation { return change.Observation{At: name(n), Object: file} }
	for what, c := range map[string]struct {
		has    acked
		seen   []change.Observation
		linked []change.Place // from another name, of which the object is sec
		sec    change.ID
		again  []change.Place
	}{
		"a new name, while the first of the others goes": {
			acked{name(5): entry(x), name(6): entry(y), name(7): entry(y)},
			[]change.Observation{seen(8), {At: name(5), Absent: true}}, []change.Place{name(8)}, y, nil,
		},
		"one of the many":   {acked{name(5): entry(x), name(6): entry(y), name(7): entry(y)}, []change.Observation{seen(6)}, nil, y, []change.Place{name(5)}},
		"the other one":     {acked{name(5): entry(x), name(6): entry(y), name(7): entry(y)}, []change.Observation{seen(5)}, []change.Place{name(5)}, y, nil},
		"the first of two":  {acked{name(5): entry(x), name(6): entry(y)}, []change.Observation{seen(5)}, nil, x, []change.Place{name(6)}},
		"the second of two": {acked{name(5): entry(x), name(6): entry(y)}, []change.Observation{seen(6)}, []change.Place{name(6)}, x, nil},
	} {
		p, err := Make(c.has, c.seen)
		if err != nil {
			t.Fatal(err)
		}
		var linked []change.Place
		for _, d := range p.Build {
			if d.Op != change.Link || d.Sec != c.sec || c.has[d.From].Sec != c.sec {
				t.Errorf("%s: %+v", what, d)
			}
			linked = append(linked, d.At)
		}
		if !slices.Equal(linked, c.linked) || !slices.Equal(p.Again, c.again) || len(p.Keep) > 0 {
			t.Errorf("%s: linked %v, again %v, kept %v", what, linked, p.Again, p.Keep)
		}
	}
}
