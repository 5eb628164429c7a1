package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"georep/internal/change"
)

// relay carries what a sends to b and back. What is cut is swallowed, ends included, without a word to either side.
func relay(a, b net.Conn, cutThere, cutBack *atomic.Bool) {
	carry := func(from, to net.Conn, cut *atomic.Bool) {
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			switch {
			case cut.Load() && err != nil:
				return
			case cut.Load():
			case err != nil:
				to.Close()
				return
			default:
				if _, err := to.Write(buf[:n]); err != nil {
					from.Close()
					return
				}
			}
		}
	}
	go carry(a, b, cutThere)
	go carry(b, a, cutBack)
}

func TestIdleConnectionStaysAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := inMemory()
		c := connectedOver(t, a, b, newMemory(), ClientOptions{}, ServerOptions{})
		time.Sleep(time.Hour)
		if err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestMustP20DeadLinkIsFound has a link that swallows all bytes one way or both, as when a router in between lost its state.
func TestMustP20DeadLinkIsFound(t *testing.T) {
	for name, way := range map[string]struct{ there, back bool }{"both ways": {true, true}, "there": {true, false}, "back": {false, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { deadLink(t, way.there, way.back) })
		})
	}
}

func deadLink(t *testing.T, there, back bool) {
	a, a2 := inMemory()
	b2, b := inMemory()
	var cutThere, cutBack atomic.Bool
	relay(a2, b2, &cutThere, &cutBack)
	served := make(chan error, 1)
	go func() { served <- Serve(context.Background(), b, ServerOptions{}, newMemory()) }()
	c, err := NewClient(t.Context(), a, ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cutThere.Store(there)
	cutBack.Store(back)
	start := time.Now()
	if err := c.Do(t.Context(), fileRequest(change.Make, "f", 0), func(change.Result) { t.Error("answered") }); err != nil {
		t.Error(err)
	}
	if err := c.Ping(t.Context()); err == nil {
		t.Error("a ping was answered")
	}
	first, second := c.Wait(), error(nil)
	if !there || !back {
		// Who still hears does so until the other closes, and then sees the end.
		a2.Close()
		b2.Close()
	}
	second = <-served
	if back && !errors.Is(first, ErrSilent) || there && !errors.Is(second, ErrSilent) {
		t.Errorf("the client ended with %v, the server with %v", first, second)
	}
	if first == nil {
		t.Error("the client ended without a reason")
	}
	if d := time.Since(start); d < time.Minute || d > 80*time.Second {
		t.Errorf("found after %s", d)
	}
	a2.Close()
	b2.Close()
}

// digits is content that shrinks by half.
type digits struct{ endless }

func (digits) ReadAt(p []byte, off int64) (int, error) {
	r := rand.New(rand.NewPCG(uint64(off), 1))
	for i := range p {
		p[i] = "0123456789abcdef"[r.IntN(16)]
	}
	return len(p), nil
}

// TestRateOfAllConnections holds for any minute, also the first, and for bytes as they are on the wire.
func TestRateOfAllConnections(t *testing.T) {
	for perSecond, compress := range map[int64]bool{2000: false, 10_000: true, 100_000: true, 800_000: false} {
		t.Run(fmt.Sprint(perSecond), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limiter := NewLimiter(perSecond)
				ctx, cancel := context.WithCancel(t.Context())
				var clients []*Client
				done := make(chan struct{}, 3)
				for range 3 {
					a, b := inMemory()
					c := connectedOver(t, a, b, draining{newMemory()}, ClientOptions{Limiter: limiter, Compress: compress}, ServerOptions{})
					clients = append(clients, c)
					go func() {
						c.Write(ctx, fileRequest(change.Make, "f", 1<<40), digits{endless{1 << 40}}, WriteOptions{})
						done <- struct{}{}
					}()
				}
				total := func() (n int64) {
					for _, c := range clients {
						n += c.BytesOut()
					}
					return n
				}
				for range 3 {
					before := total()
					time.Sleep(time.Minute)
					got, want := float64(total()-before), float64(60*perSecond)
					if got < want*0.95 || got > want*1.05 {
						t.Errorf("%.0f bytes in a minute, want %.0f", got, want)
					}
				}
				cancel()
				for range 3 {
					<-done
				}
			})
		})
	}
}

func TestHeartbeatIsSentOnlyWhenIdle(t *testing.T) {
	o, err := newOut(t.Context(), io.Discard, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	o.heartbeat()
	o.heartbeat()
	if len(o.pending) != headerSize {
		t.Errorf("%d bytes for two heartbeats that nobody took", len(o.pending))
	}
}

func TestEndOfTheAgentIsSaid(t *testing.T) {
	a, b := pipes(t)
	began := make(chan struct{})
	m := newMemory()
	m.commit = func(ctx context.Context, _ bool) error { close(began); <-ctx.Done(); return ctx.Err() }
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, b, ServerOptions{}, m) }()
	c, err := NewClient(t.Context(), a, ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	committed := make(chan error, 1)
	go func() { committed <- c.Commit(t.Context(), "", false) }()
	<-began
	cancel()
	if err := <-committed; err == nil {
		t.Error("a commit without an answer")
	}
	if err := c.Wait(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the client ended with %v", err)
	}
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Errorf("the server ended with %v", err)
	}
}

func TestAgentIsAsPatientAsItIsTold(t *testing.T) {
	for silence, want := range map[time.Duration]time.Duration{0: time.Minute, 15 * time.Second: 20 * time.Second, 20 * time.Minute: 20 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			a, b := inMemory()
			served := make(chan error, 1)
			go func() { served <- Serve(context.Background(), b, ServerOptions{Silence: silence}, newMemory()) }()
			greeting := Greeting{Protocol: Protocol, Oldest: Oldest, Version: "test"}
			line, err := greeting.line()
			if err != nil {
				t.Fatal(err)
			}
			drained := make(chan struct{})
			go func() { defer close(drained); _, _ = io.Copy(io.Discard, a) }()
			if _, err := io.WriteString(a, line); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if err := <-served; !errors.Is(err, ErrSilent) {
				t.Errorf("with a patience of %v it ended with %v", silence, err)
			}
			if d := time.Since(start); d < want || d > want+15*time.Second {
				t.Errorf("with a patience of %v it ended after %v", silence, d)
			}
			a.Close()
			<-drained
		})
	}
}
