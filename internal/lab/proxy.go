package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Direction is one way through a Proxy.
type Direction int

// The directions: Up is from the one who connects to the target, Down is back.
const (
	Up Direction = iota
	Down
)

// Fault is a way in which a line breaks.
type Fault int

// The faults.
const (
	Reset   Fault = iota + 1 // both ends get a RST at once, what is under way is lost; new connections work
	Silence                  // nothing moves any more, and nobody is told, until Restore; new connections are taken and stay silent
	HalfEnd                  // the receiver of the direction sees an end of stream; the other direction goes on
)

// Proxy is a TCP line to a target that can be made bad while it is in use. Its methods may be called at once by several
// goroutines.
type Proxy struct {
	listener net.Listener
	dial     func(context.Context) (net.Conn, error)
	cancel   context.CancelFunc
	ctx      context.Context // ends with Close: it bounds dials of connections, which have no caller
	tasks    sync.WaitGroup

	bytes    [2]atomic.Int64
	accepted atomic.Int64

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when one of the following changes
	delay   [2]time.Duration
	rate    [2]int64 // bytes a second, 0 is unlimited
	due     [2]time.Time
	silent  [2]bool
	trap    [2]trap
	lines   map[*line]struct{}
}

// trap is a fault that happens when so many more bytes have passed.
type trap struct {
	fault Fault // 0: none
	left  int64
}

// line is one connection through the proxy.
type line struct {
	ends  [2]*net.TCPConn // by the direction that reads from it: client, target
	ended [2]atomic.Bool
}

// NewProxy starts a proxy on a free port of 127.0.0.1 for the target, a "host:port".
func NewProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start a proxy: %w", err)
	}
	return NewProxyOn(l, func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", target) }), nil
}

// NewProxyOn starts a proxy that takes connections from a TCP listener, which it closes, and makes those to the target with dial.
func NewProxyOn(l net.Listener, dial func(context.Context) (net.Conn, error)) *Proxy {
	p := &Proxy{listener: l, dial: dial, changed: make(chan struct{}), lines: map[*line]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.tasks.Go(p.accept)
	return p
}

// Addr is the address to connect to.
func (p *Proxy) Addr() *net.TCPAddr { return p.listener.Addr().(*net.TCPAddr) }

// Bytes is how many bytes have left the proxy in a direction.
func (p *Proxy) Bytes(d Direction) int64 { return p.bytes[d].Load() }

// Accepted is the number of connections that were ever taken.
func (p *Proxy) Accepted() int64 { return p.accepted.Load() }

// Open is the number of connections that are open now.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

// change sets something under the lock and wakes all who wait for a change.
func (p *Proxy) change(set func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	set()
	close(p.changed)
	p.changed = make(chan struct{})
}

// SetRoundTrip makes each direction take half of the time longer. What is under way keeps its delay.
func (p *Proxy) SetRoundTrip(d time.Duration) {
	p.SetDelay(Up, d/2)
	p.SetDelay(Down, d-d/2)
}

// SetDelay makes one direction take longer.
func (p *Proxy) SetDelay(d Direction, delay time.Duration) { p.change(func() { p.delay[d] = delay }) }

// SetRate limits the bytes a second of one direction, of all connections together; 0 is unlimited.
func (p *Proxy) SetRate(d Direction, bytes int64) { p.change(func() { p.rate[d] = bytes }) }

// Cut breaks one direction of all connections. A Reset breaks both directions whichever is named.
func (p *Proxy) Cut(d Direction, f Fault) {
	if f == Silence {
		p.change(func() { p.silent[d] = true })
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.lines {
		l.fail(d, f)
	}
}

// CutAll breaks both directions of all connections.
func (p *Proxy) CutAll(f Fault) {
	p.Cut(Up, f)
	p.Cut(Down, f)
}

// CutAfter breaks a direction when n more bytes have passed in it: exactly n arrive, whatever the size of the reads. A Reset
// then ends all connections, the other faults are as by Cut.
func (p *Proxy) CutAfter(d Direction, n int64, f Fault) {
	p.change(func() { p.trap[d] = trap{f, n} })
}

// Restore ends a silence in both directions, and forgets what CutAfter set. What was held back is delivered.
func (p *Proxy) Restore() { p.change(func() { p.silent, p.trap = [2]bool{}, [2]trap{} }) }

// Close ends the proxy and its connections, and waits until they are gone.
func (p *Proxy) Close() error {
	p.cancel()
	err := p.listener.Close()
	p.Cut(Up, Reset)
	p.tasks.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.accepted.Add(1)
		p.tasks.Go(func() { p.serve(client.(*net.TCPConn)) })
	}
}

// serve carries one connection.
func (p *Proxy) serve(client *net.TCPConn) {
	defer client.Close()
	if !p.await(Up) { // a silent line lets nobody through
		return
	}
	conn, err := p.dial(p.ctx)
	if err != nil {
		_ = client.SetLinger(0) // the client sees a RST, as from a port that nobody listens on
		return
	}
	target := conn.(*net.TCPConn)
	defer target.Close()
	l := &line{ends: [2]*net.TCPConn{client, target}}
	p.mu.Lock()
	p.lines[l] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.lines, l)
		p.mu.Unlock()
	}()
	if p.ctx.Err() != nil { // Close may have come before the line was entered
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.carry(l, Up) })
	both.Go(func() { p.carry(l, Down) })
	both.Wait()
}

// fail breaks a line.
func (l *line) fail(d Direction, f Fault) {
	switch f {
	case Reset:
		for _, end := range l.ends {
			_ = end.SetLinger(0) // an error means that it is closed
			_ = end.Close()
		}
	case HalfEnd:
		l.ended[d].Store(true)
		_ = l.ends[1-d].CloseWrite()
	}
}

// await waits while a direction is silent; false means that the proxy ended.
func (p *Proxy) await(d Direction) bool {
	for {
		p.mu.Lock()
		silent, changed := p.silent[d], p.changed
		p.mu.Unlock()
		if !silent {
			return p.ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-p.ctx.Done():
			return false
		}
	}
}

// parcel is what was read at once, and when it is due at the other end.
type parcel struct {
	data []byte
	due  time.Time
}

// carry moves bytes in one direction of a line until its end. Up to 64 MiB are under way while the line is long.
func (p *Proxy) carry(l *line, d Direction) {
	parcels := make(chan parcel, 1024)
	gone := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(parcels)
		p.read(l, d, parcels, gone)
	})
	ok := p.deliver(l, d, parcels)
	close(gone)
	if ok {
		_ = l.ends[1-d].CloseWrite() // pass the end on; an error means that the connection is gone already
	} else {
		l.fail(d, Reset)
	}
	reader.Wait()
}

// read takes bytes from the sender of a direction, no faster than the rate.
func (p *Proxy) read(l *line, d Direction, to chan<- parcel, gone <-chan struct{}) {
	buf := make([]byte, 64<<10)
	for {
		n, err := l.ends[d].Read(buf)
		if n > 0 {
			if !p.pace(d, n) {
				return
			}
			p.mu.Lock()
			due := time.Now().Add(p.delay[d])
			p.mu.Unlock()
			select {
			case to <- parcel{append([]byte(nil), buf[:n]...), due}:
			case <-gone:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pace waits for as long as n bytes take at the rate.
func (p *Proxy) pace(d Direction, n int) bool {
	p.mu.Lock()
	if p.rate[d] == 0 {
		p.mu.Unlock()
		return true
	}
	now := time.Now()
	if p.due[d].Before(now) {
		p.due[d] = now
	}
	p.due[d] = p.due[d].Add(time.Duration(float64(n) / float64(p.rate[d]) * float64(time.Second)))
	until := p.due[d]
	p.mu.Unlock()
	return p.sleep(until)
}

// sleep waits for a time; false means that the proxy ended.
func (p *Proxy) sleep(until time.Time) bool {
	wait := time.Until(until)
	if wait <= 0 {
		return p.ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// deliver writes what was read when it is due; false when the line is broken.
func (p *Proxy) deliver(l *line, d Direction, parcels <-chan parcel) bool {
	for parcel := range parcels {
		if !p.sleep(parcel.due) {
			return false
		}
		for len(parcel.data) > 0 {
			if !p.await(d) {
				return false
			}
			n, fault := p.admit(d, len(parcel.data))
			if l.ended[d].Load() {
				n = 0
				parcel.data = nil // the receiver has seen the end: what still comes is lost
			}
			if n > 0 {
				written, err := l.ends[1-d].Write(parcel.data[:n])
				p.bytes[d].Add(int64(written))
				if err != nil {
					return errors.Is(err, net.ErrClosed) && l.ended[d].Load()
				}
				parcel.data = parcel.data[n:]
			}
			if fault != 0 {
				p.Cut(d, fault)
			}
		}
	}
	return true
}

// admit says how many of n bytes may pass before a fault set by CutAfter happens, and the fault if it does so now.
func (p *Proxy) admit(d Direction, n int) (int, Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := &p.trap[d]
	if t.fault == 0 {
		return n, 0
	}
	if int64(n) < t.left {
		t.left -= int64(n)
		return n, 0
	}
	admitted, fault := int(t.left), t.fault
	*t = trap{}
	return admitted, fault
}
