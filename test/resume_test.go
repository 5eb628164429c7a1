package test

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"georep/internal/lab"
)

// TestMustP6KillsCostLittle makes an initial sync that is killed (-9) every one or two seconds, on either side in turn; all runs together
// send less than a tenth more than one run would.
func TestMustP6KillsCostLittle(t *testing.T) {
	t.Parallel()
	const each = 24 << 20 // bytes after which the next kill comes
	s := newSite(t)
	total := int64(0)
	write := func(name string, i, size int) {
		s.write(name, noise(byte(i), size))
		total += int64(size)
	}
	for i := range 3000 {
		write(fmt.Sprintf("d%d/f%d", i%50, i), i, 2000+i%3000)
	}
	for i := range 8 {
		write(fmt.Sprintf("large%d", i), 200+i, 12<<20)
	}
	// The limit keeps the windows of ssh empty, up to 2 MiB for each connection, which are lost with an agent.
	s.flags = []string{"--bwlimit", "16M"}
	begun := s.sent()
	kills := 0
	for {
		next := s.sent() + each
		r := s.start("--once")
		await(t, "bytes to be sent", func() bool { return ended(r) || s.sent() > next })
		if !ended(r) && kills%2 == 1 {
			kills++
			for _, pid := range s.agents() {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
			}
			r.wait()
		} else if !ended(r) {
			kills++
			r.kill()
			continue
		}
		if r.code == 0 {
			break
		}
		r.ended(1)
	}
	s.equal()
	sent := s.sent() - begun
	t.Logf("%d kills, %d bytes for %d bytes of content", kills, sent, total)
	if kills < 3 {
		t.Errorf("only %d kills", kills)
	}
	// One run adds about 150 bytes for each entry.
	if once := total + 3000*150; sent > once+once/10 {
		t.Errorf("%d bytes were sent, %d by a run that is not disturbed", sent, once)
	}
}

// TestSignalsEndInGoodOrder stops a mirror by each polite signal at many moments: it exits with 0, and what is equal then is not sent
// again. A second one ends it at once.
func TestSignalsEndInGoodOrder(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range 2000 {
		s.write(fmt.Sprintf("d%d/f%d", i%20, i), noise(byte(i), 3000))
	}
	s.write("large", noise(1, 30<<20))
	const total = 2000*3000 + 30<<20
	s.proxy.SetRate(lab.Up, 24<<20)
	begun := s.sent()
	for i := range 8 {
		r := s.start()
		r.awaits("connected", nil)
		from := s.sent()
		await(t, "bytes to be sent", func() bool { return s.sent() > from+2<<20 || r.seen("caught-up", nil) })
		r.stop([]syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}[i%3])
	}
	s.copied()
	sent := s.sent() - begun
	t.Logf("%d bytes for %d bytes of content", sent, total)
	if sent > total+total/7 {
		t.Errorf("%d bytes were sent for %d bytes of content", sent, total)
	}
	r := s.start()
	r.caughtUp()
	r.stop(syscall.SIGINT)
	if n := r.last().Snapshot.ContentSent; n != 0 {
		t.Errorf("%d bytes of content were sent again", n)
	}
}

// TestSecondSignalEndsAtOnce has a line on which nothing can be finished.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("large", noise(1, 30<<20))
	s.proxy.SetRate(lab.Up, 100_000)
	r := s.start()
	r.awaits("connected", nil)
	must(t, r.cmd.Process.Signal(os.Interrupt))
	again := time.NewTicker(50 * time.Millisecond) // two signals at the same moment may be one
	defer again.Stop()
	for !ended(r) {
		<-again.C
		_ = r.cmd.Process.Signal(os.Interrupt) // it may have ended
	}
	if r.code != 130 && r.code != 0 {
		t.Errorf("exit code %d", r.code)
	}
	s.proxy.SetRate(lab.Up, 0)
	s.copied()
}

// TestMustP6PreseededDestination demands that a copy which is there already, made by other means, is used: it is compared and not
// sent.
func TestMustP6PreseededDestination(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	total := int64(0)
	for i := range 300 {
		s.write(fmt.Sprintf("d%d/f%d", i%20, i), noise(byte(i), 3000*(i%20)))
		total += int64(3000 * (i % 20))
	}
	s.write("large", noise(7, 12<<20))
	s.write("changed", noise(8, 4<<20))
	command(t, "cp", "-a", s.source+"/.", s.dest)
	tree{t, s.source}.at("changed", 1<<20, []byte("changed"))
	must(t, os.WriteFile(s.out("extra"), nil, 0o644))
	r := s.once()
	r.ended(3) // it asks before it takes over what somebody else made
	before := s.sent()
	s.copied("--allow-delete")
	if n := s.sent() - before; n > 1<<20 {
		t.Errorf("%d bytes were sent to a copy of %d bytes in which one word differs", n, total+16<<20)
	}
}
