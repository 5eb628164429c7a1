package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"georep/internal/change"
)

// scripted is an agent's end that has said something, and is then at its end.
type scripted struct {
	io.Reader
	wrote  strings.Builder
	closed bool
}

func (s *scripted) Write(p []byte) (int, error) { return s.wrote.Write(p) }
func (s *scripted) Close() error                { s.closed = true; return nil }

func TestProblemsWithTheGreeting(t *testing.T) {
	cases := []struct {
		name, said string
		problem    HelloProblem
		text       string // must be in the error
	}{
		{"nothing", "", HelloNothing, "--remote-georep"},
		{"blank lines", "\n\r\n \n", HelloNothing, "--remote-georep"},
		{"banner only", "Welcome to host\nLast login: today\n", HelloNoise, "Welcome to host"},
		{"not found", "sh: georep: not found\n", HelloNoise, "installed"},
		{"too much", strings.Repeat("noise\n", 20000), HelloNoise, "noise"},
		{"one endless line", strings.Repeat("x", 100<<10), HelloNoise, "xxx"},
		{"terminal", "\r\ngeorep 1 0.1 oldest=1\r\n", HelloTerminal, "RequestTTY"},
		{"future", "\ngeorep 9 7.0 oldest=8\n", HelloTooNew, "update georep here"},
		{"escapes", "\x1b[31mred\x07\n", HelloNoise, "red"},
		{"nearly", "georep 1\ngeorep x y\ngeorep 1 v oldest=2\n", HelloNoise, "georep"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := &scripted{Reader: strings.NewReader(tc.said)}
			_, err := NewClient(t.Context(), s, ClientOptions{Version: "0.1"})
			var hello *HelloError
			if !errors.As(err, &hello) || hello.Problem != tc.problem || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\x1b\x07\n") {
				t.Errorf("the error has control characters: %q", err.Error())
			}
			if !s.closed {
				t.Error("the stream was not closed")
			}
		})
	}
}

func TestMustP13Versions(t *testing.T) {
	at := func(oldest, newest int) Greeting {
		return Greeting{Protocol: newest, Oldest: oldest, Version: fmt.Sprint(newest, ".0")}
	}
	for _, tc := range []struct {
		mine, theirs Greeting
		want         int
		update       string
	}{
		{at(1, 1), at(1, 1), 1, ""},
		{at(2, 3), at(1, 2), 2, ""},
		{at(1, 2), at(2, 3), 2, ""},
		{at(3, 4), at(1, 2), 0, "update georep on the remote host"},
		{at(1, 2), at(3, 4), 0, "update georep here"},
	} {
		got, err := agree(tc.mine, tc.theirs, "here", "on the remote host")
		if got != tc.want || (err != nil) != (tc.update != "") || err != nil && !strings.Contains(err.Error(), tc.update) {
			t.Errorf("%d to %d with %d to %d: %d, %v", tc.mine.Oldest, tc.mine.Protocol, tc.theirs.Oldest, tc.theirs.Protocol, got, err)
		}
	}
}

// noisy is an agent's end on which a login script has printed something before the greeting.
type noisy struct {
	pair
	noise io.Reader
}

func (n noisy) Read(p []byte) (int, error) {
	if got, err := n.noise.Read(p); err == nil {
		return got, nil
	}
	return n.pair.Read(p)
}

func TestBannerIsPassedOver(t *testing.T) {
	for _, banner := range []string{
		"", "Welcome\n", "no newline at its end", "georep is installed here\n", strings.Repeat("long line ", 5000) + "\n",
		"\xff\xfe\x00binary\n", "georep \n",
	} {
		a, b := pipes(t)
		var started Greeting
		c := connectedOver(t, noisy{a, strings.NewReader(banner)}, b, newMemory(),
			ClientOptions{Version: "2 beta", Compress: true, Options: map[string]string{"preserve": "a=b c,d\n\xff"}},
			ServerOptions{Version: "0.1.0+x y", Features: []string{"confined", "a b,c"}, Started: func(g Greeting) error { started = g; return nil }})
		if g := c.Peer(); g.Version != "0.1.0+x y" || !g.Has("confined") || !g.Has("a b,c") || g.Has("other") {
			t.Errorf("the agent said %+v", g)
		}
		if got := do(t, c, fileRequest(change.Make, "f", 0)); got.Status != change.Applied {
			t.Errorf("after %q: got %+v", banner, got)
		}
		if started.Version != "2 beta" || len(started.Options) != 1 || started.Options["preserve"] != "a=b c,d\n\xff" {
			t.Errorf("the worker said %+v", started)
		}
	}
}

// TestGreetingOfLaterVersions has words, options and versions that are not known yet.
func TestGreetingOfLaterVersions(t *testing.T) {
	g, err := parseGreeting("georep 2 0.9 oldest=1 features=zstd,telepathy colour=blue opt.session.x=1 flag")
	if err != nil || g.Protocol != 2 || g.Oldest != 1 || !g.Has("telepathy") {
		t.Errorf("got %+v, %v", g, err)
	}
	if n, err := agree(Greeting{Protocol: Protocol, Oldest: Oldest}, g, "", ""); err != nil || n != Protocol {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestServerRefusesBadGreetings(t *testing.T) {
	for _, said := range []string{"hello\n", "georep\n", "georep -1 x\n", strings.Repeat("g", helloLimit) + "\n", "georep 1 x oldest=9\n", "georep 1 %zz\n"} {
		s := &scripted{Reader: strings.NewReader(said)}
		if err := Serve(t.Context(), s, ServerOptions{}, newMemory()); !errors.Is(err, ErrProtocol) {
			t.Errorf("%.20q: got %v", said, err)
		}
		if !s.closed {
			t.Errorf("%.20q: the stream was not closed", said)
		}
	}
	s := &scripted{Reader: strings.NewReader("georep 9 later oldest=8\n")}
	var hello *HelloError
	if err := Serve(t.Context(), s, ServerOptions{}, newMemory()); !errors.As(err, &hello) || hello.Problem != HelloTooNew {
		t.Errorf("got %v", err)
	}
	if err := Serve(t.Context(), &scripted{Reader: strings.NewReader("")}, ServerOptions{}, newMemory()); err != nil {
		t.Errorf("a worker that leaves without a word: %v", err)
	}
}

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	a, b := pipes(t)
	served := make(chan error, 1)
	go func() {
		served <- Serve(context.Background(), b, ServerOptions{Started: func(Greeting) error { return errors.New("the root is in use") }}, newMemory())
	}()
	c, err := NewClient(t.Context(), a, ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil || !strings.Contains(err.Error(), "the root is in use") {
		t.Errorf("got %v", err)
	}
	if err := <-served; err == nil {
		t.Error("the server saw no error")
	}
}

func TestSilenceInsteadOfAGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := inMemory()
		start := time.Now()
		_, err := NewClient(t.Context(), a, ClientOptions{HelloWait: 30 * time.Second})
		var hello *HelloError
		if !errors.As(err, &hello) || time.Since(start) != 30*time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		c, d := inMemory()
		time.AfterFunc(time.Second, cancel)
		if _, err := NewClient(ctx, c, ClientOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		go io.Copy(io.Discard, d)
		e, f := inMemory()
		go io.Copy(io.Discard, e)
		if err := Serve(t.Context(), f, ServerOptions{}, newMemory()); !errors.Is(err, ErrSilent) {
			t.Errorf("got %v", err)
		}
		for _, c := range []io.Closer{b, d, e} {
			c.Close()
		}
	})
}
