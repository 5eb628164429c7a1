package dial

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestOutput(t *testing.T) {
	got, err := Output(t.Context(), Brief{Argv: []string{"cat"}, In: strings.NewReader("words")})
	if err != nil || string(got) != "words" {
		t.Errorf("cat gave %q, %v", got, err)
	}
	_, err = Output(t.Context(), Brief{Argv: []string{"sh", "-c", "echo why >&2; exit 7"}})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Status != 7 || exit.Error() != "sh ended with status 7: why" {
		t.Errorf("an exit of 7 gave %v", err)
	}
	if _, err = Output(t.Context(), Brief{Argv: []string{"/does/not/exist"}}); err == nil {
		t.Error("a missing program gave no error")
	}
	if _, err = Output(t.Context(), Brief{Argv: []string{"head", "-c", "20000000", "/dev/zero"}}); !errors.Is(err, ErrTooLong) {
		t.Errorf("a long output gave %v", err)
	}
}

func TestOutputEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Output(ctx, Brief{Argv: []string{"sleep", "600"}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a late program gave %v", err)
	}
}

func TestKeepGroup(t *testing.T) {
	for _, keep := range []bool{false, true} {
		c, err := Command(t.Context(), Options{Local: []string{"cat"}, KeepGroup: keep})
		if err != nil {
			t.Fatal(err)
		}
		group, err := syscall.Getpgid(c.process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if (group == syscall.Getpgrp()) != keep {
			t.Errorf("KeepGroup %v: the program is in group %d, we in %d", keep, group, syscall.Getpgrp())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("a read after Close gave %v", err)
		}
	}
}
