package replicate

import (
	"context"

	"golang.org/x/sync/errgroup"

	"georep/internal/change"
	"georep/internal/wire"
)

// carryFiles and carryBytes bound what one call of a Carrier is given: files that are open at once, and bytes before their writes
// begin. One file may be larger.
const (
	carryFiles = 200
	carryBytes = 1 << 30
)

// carryWrites is how many writes follow a Carry at once.
const carryWrites = 8

// carriable says whether the secondary has nothing of a file's content. Where it has something, the difference is smaller than
// what a Carrier would bring.
func carriable(t *task) bool {
	return t.d.Op == change.Make && !t.compare && t.d.Object.Size > 0
}

// load is a file on its way by a Carrier.
type load struct {
	t       *task
	r       *wire.Request
	c       Content
	carried int64 // bytes that the Carrier says it has brought
}

// carry brings files over by the Carrier and then writes them, which checks them and sends what is missing.
func (e *Engine) carry(ctx context.Context, tasks []*task, p Peer) error {
	var loads []*load
	defer func() {
		for _, l := range loads {
			_ = l.c.Close() // it was only read
		}
	}()
	var files []Carried
	for _, t := range tasks {
		r, c, err := e.opened(ctx, t)
		if err != nil {
			return err
		}
		if c != nil {
			r.Partial = true
			loads = append(loads, &load{t: t, r: r, c: c})
			files = append(files, Carried{ID: t.d.Object.ID, Content: c})
		}
	}
	if len(loads) == 0 {
		return nil
	}
	carried := e.o.Carrier.Carry(e.streams, files, func(n int64) { e.carriedBytes(loads, n) })
	var group errgroup.Group
	group.SetLimit(carryWrites)
	for _, l := range loads {
		group.Go(func() error { return e.writeCarried(ctx, l, carried, p) })
	}
	return group.Wait()
}

// carriedBytes counts bytes that a Carrier has brought: for the first file that is not complete.
func (e *Engine) carriedBytes(loads []*load, n int64) {
	for _, l := range loads {
		part := min(n, l.t.d.Object.Size-l.carried)
		if part > 0 {
			l.carried += part
			n -= part
			e.sent(l.t, part, part)
		}
	}
}

func (e *Engine) writeCarried(ctx context.Context, l *load, carried bool, p Peer) error {
	var again int64
	l.r.Partial = carried || l.carried > 0
	res, err := p.Write(e.streams, l.r, l.c, wire.WriteOptions{Progress: func(done, sent int64) {
		again += sent
		e.sent(l.t, max(0, min(done, l.t.d.Object.Size-l.t.flowed)), sent)
	}})
	if err != nil {
		return e.unreadOr(ctx, l.t, err)
	}
	if carried && res.Status == change.Applied {
		e.o.Carrier.Checked(l.c.Size(), again)
	}
	return e.end(l.t, res)
}
