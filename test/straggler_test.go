package test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"georep/internal/lab"
)

// agents are the processes of agents of this site.
func (s *site) agents() []int {
	var pids []int
	for _, p := range lab.Descendants(s.sshd.Pid()) {
		if len(p.Args) > 1 && p.Args[0] == s.program && p.Args[1] == "agent" {
			pids = append(pids, p.Pid)
		}
	}
	return pids
}

// TestStraggler holds back on the line what a mirror says, lets that mirror crash, and lets it arrive when another one has done
// its work: what the agents of the first are told then is wrong by now.
func TestStraggler(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const files = 2000
	chmod := func(mode uint32) {
		for i := range files {
			tree{t, s.source}.mode(fmt.Sprintf("%d/%d", i%10, i), mode)
		}
	}
	for i := range files {
		s.write(fmt.Sprintf("%d/%d", i%10, i), noise(byte(i), i%100))
	}
	first := s.start()
	first.caughtUp()
	s.follows()
	agents := s.agents()
	if len(agents) == 0 {
		t.Fatal("there is no agent")
	}
	late := s.proxy
	late.Cut(lab.Up, lab.Silence)
	before := first.wireOut()
	must(t, first.cmd.Process.Signal(syscall.SIGSTOP)) // so that it sees many changes at once: of many small batches only a few would be on the way
	chmod(0o751)
	must(t, first.cmd.Process.Signal(syscall.SIGCONT))
	await(t, "the changes to be on the way", func() bool { return first.wireOut()-before > 2_000 })
	first.kill()
	chmod(0o600)
	proxy, err := lab.NewProxy(s.sshd.Addr())
	must(t, err)
	t.Cleanup(func() { must(t, proxy.Close()) })
	s.proxy = proxy
	second := s.once()
	late.Restore()
	await(t, "the first agents to end", func() bool {
		for _, pid := range agents {
			if syscall.Kill(pid, 0) == nil && !zombie(pid) {
				return false
			}
		}
		return true
	})
	second.ended(0)
	s.equal()
}

// wireOut is how much it has sent by what it says itself.
func (r *run) wireOut() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) == 0 {
		return 0
	}
	return r.events[len(r.events)-1].Snapshot.WireOut
}

// zombie says whether a process has ended and was not waited for.
func zombie(pid int) bool {
	fields := strings.Fields(read(fmt.Sprintf("/proc/%d/stat", pid)))
	return len(fields) < 3 || fields[2] == "Z"
}
