package wire

import (
	"io"
	"testing"
)

// An output that is idle now and then keeps its two buffers: what is sent costs no memory.
func TestBuffersOutliveIdleMoments(t *testing.T) {
	o, err := newOut(t.Context(), io.Discard, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, 4<<10)
	turn := func() {
		for range 3 {
			if err := o.send(t.Context(), frameRequest, 1, payload); err != nil {
				t.Fatal(err)
			}
		}
		for { // as run does
			batch, plain, _ := o.take()
			if len(batch) == 0 {
				return
			}
			if err := o.write(batch, plain); err != nil {
				t.Fatal(err)
			}
			o.giveBack(batch)
		}
	}
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("sending allocates memory %v times a turn", n)
	}
}
