package lab

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// echo serves a TCP port that sends back what it gets, until the test ends.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func proxyTo(t *testing.T, target string) *Proxy {
	t.Helper()
	p, err := NewProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func connect(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// ping sends text, waits for its echo and returns how long that took.
func ping(t *testing.T, c net.Conn, text string) time.Duration {
	t.Helper()
	start := time.Now()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("echo of %q: %q, %v", text, got, err)
	}
	return time.Since(start)
}

// silentFor demands that nothing arrives for a while.
func silentFor(t *testing.T, c net.Conn, d time.Duration) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("want silence, got %d bytes and %v", n, err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
}

func TestProxyDelay(t *testing.T) {
	p := proxyTo(t, echo(t))
	c := connect(t, p)
	ping(t, c, "warm")
	p.SetRoundTrip(80 * time.Millisecond)
	if took := ping(t, c, "x"); took < 80*time.Millisecond {
		t.Errorf("a round trip of 80 ms took %v", took)
	}
	// Delay is not a window: many parcels are under way together.
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	start := time.Now()
	go c.Write(data) // ends with the connection
	got := make([]byte, len(data))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("16 MiB: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("16 MiB over a line with a delay took %v", took)
	}
	p.SetRoundTrip(0)
	ping(t, c, "still in order")
}

func TestProxyRate(t *testing.T) {
	p := proxyTo(t, echo(t))
	p.SetRate(Up, 1<<20)
	c := connect(t, p)
	data := make([]byte, 512<<10)
	start := time.Now()
	go c.Write(data) // ends with the connection
	if _, err := io.ReadFull(c, make([]byte, len(data))); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 400*time.Millisecond {
		t.Errorf("512 KiB at 1 MiB/s took %v", took)
	}
}

func TestProxyReset(t *testing.T) {
	p := proxyTo(t, echo(t))
	c := connect(t, p)
	ping(t, c, "x")
	p.CutAll(Reset)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("want a RST, got %v", err)
	}
	ping(t, connect(t, p), "a new connection works")
	if p.Accepted() != 2 {
		t.Errorf("accepted %d", p.Accepted())
	}
	await(t, "the first connection to be forgotten", func() bool { return p.Open() == 1 })
}

func TestProxySilenceAndRestore(t *testing.T) {
	p := proxyTo(t, echo(t))
	c := connect(t, p)
	ping(t, c, "x")
	p.Cut(Down, Silence)
	if _, err := c.Write([]byte("held")); err != nil {
		t.Fatal(err)
	}
	silentFor(t, c, 50*time.Millisecond)
	if p.Bytes(Up) != 5 || p.Bytes(Down) != 1 {
		t.Errorf("%d bytes went up, %d down", p.Bytes(Up), p.Bytes(Down))
	}
	p.Cut(Up, Silence)
	late := connect(t, p)
	if _, err := late.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	silentFor(t, late, 50*time.Millisecond)
	p.Restore()
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got[:4]); err != nil || string(got[:4]) != "held" {
		t.Errorf("after Restore: %q %v", got, err)
	}
	if _, err := io.ReadFull(late, got); err != nil || string(got) != "hello" {
		t.Errorf("after Restore, the late one: %q %v", got, err)
	}
}

func TestProxyHalfEnd(t *testing.T) {
	p := proxyTo(t, echo(t))
	c := connect(t, p)
	ping(t, c, "x")
	p.Cut(Down, HalfEnd)
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("want the end of the stream, got %d %v", n, err)
	}
	if _, err := c.Write([]byte("still sent")); err != nil {
		t.Error(err)
	}
	await(t, "the other direction to go on", func() bool { return p.Bytes(Up) == int64(len("xstill sent")) })
}

func TestProxyCutAfter(t *testing.T) {
	for _, f := range []Fault{Reset, Silence, HalfEnd} {
		p := proxyTo(t, echo(t))
		c := connect(t, p)
		ping(t, c, "x")
		p.CutAfter(Down, 100_000, f)
		sent := make(chan error, 1)
		go func() { // ends with the connection
			_, err := c.Write(make([]byte, 1<<20))
			sent <- err
		}()
		got := make([]byte, 100_000)
		n, readErr := io.ReadFull(c, got)
		if readErr != nil && f != Reset { // which may overtake what was sent before
			t.Errorf("fault %d: only %d bytes passed: %v", f, n, readErr)
		}
		await(t, "the fault", func() bool { return p.Bytes(Down) == 100_001 })
		switch f {
		case Reset:
			_, err := io.Copy(io.Discard, c)
			if err := errors.Join(readErr, err, <-sent); !errors.Is(err, syscall.ECONNRESET) { // the kernel tells one of them
				t.Errorf("want a RST, got %v", err)
			}
		case Silence:
			silentFor(t, c, 30*time.Millisecond)
		case HalfEnd:
			if n, err := c.Read(got); n != 0 || err != io.EOF {
				t.Errorf("want the end, got %d %v", n, err)
			}
		}
		if p.Bytes(Down) != 100_001 {
			t.Errorf("fault %d: %d bytes passed", f, p.Bytes(Down))
		}
	}
}

func TestProxyPassesTheEndOn(t *testing.T) {
	p := proxyTo(t, echo(t))
	c := connect(t, p)
	if _, err := c.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "last words" {
		t.Errorf("%q %v", got, err)
	}
	await(t, "the connection to be forgotten", func() bool { return p.Open() == 0 })
}

func TestProxyToADeadPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	c, err := net.Dial("tcp", proxyTo(t, address).Addr().String())
	if err == nil {
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("want a RST, got %v", err)
	}
}

func TestProxyCloseEndsSilentConnections(t *testing.T) {
	p := proxyTo(t, echo(t))
	c := connect(t, p)
	ping(t, c, "x")
	p.SetRoundTrip(time.Hour)
	if _, err := c.Write([]byte("never")); err != nil {
		t.Fatal(err)
	}
	p.CutAll(Silence)
	connect(t, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection survived")
	}
}
