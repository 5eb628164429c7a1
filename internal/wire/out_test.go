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
	send := func() {
		if err := o.send(t.Context(), frameRequest, 1, payload); err != nil {
			t.Fatal(err)
		}
	}
	turn := func() {
		send()
		first, _, _ := o.take()
		send() // while the first is written
		o.giveBack(first)
		second, _, _ := o.take()
		o.giveBack(second)
		if idle, _, _ := o.take(); len(idle) > 0 {
			t.Fatal("something is left")
		}
	}
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("sending allocates memory %v times a turn", n)
	}
}
