package bypath

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"georep/internal/change"
	"georep/internal/need"
	"georep/internal/wire"
)

// secOf is the identity of what is where the request is about.
func (w *world) secOf(r *wire.Request) change.ID {
	return w.sec(r.At.Path())
}

// TestCrashAtEveryStep lets everything fail from the nth system call on, as if the process had died there, and then does the same
// request again in a new process.
func TestCrashAtEveryStep(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			for step, done := 1, false; !done; step++ {
				w := newWorld(t)
				r := s.given(w)
				before := w.tree()
				calls := 0
				w.fail(func(string, string) error {
					if calls++; calls >= step {
						return syscall.EIO
					}
					return nil
				})
				s.carryOut(w, r)
				done = calls < step
				w.fail(nil)
				now := w.tree()
				if !s.stepwise && now != before && matches(now, s.want) != nil {
					t.Fatalf("after step %d the tree is neither old nor new:\n%s", step, now)
				}
				w.restart()
				if left := w.leftovers(); left != nil {
					t.Fatalf("after step %d and a new start there is left: %v", step, left)
				}
				if res := s.carryOut(w, r); res.Status != change.Applied {
					t.Fatalf("again after step %d: %+v", step, res)
				}
				s.check(t, w, fmt.Sprintf("again after step %d", step))
			}
		})
	}
}

// told are the errnos that make some code decide something.
func told() []syscall.Errno {
	return []syscall.Errno{
		syscall.EPERM, syscall.ENOENT, syscall.ENXIO, syscall.EAGAIN, syscall.EACCES, syscall.EBUSY, syscall.EEXIST, syscall.EXDEV,
		syscall.ENOTDIR, syscall.EISDIR, syscall.EINVAL, syscall.EFBIG, syscall.ENOSPC, syscall.EMLINK, syscall.ENOSYS,
		syscall.ENOTEMPTY, syscall.ELOOP, syscall.EOPNOTSUPP, syscall.ESTALE, syscall.EDQUOT,
	}
}

// others are the rest of those that file systems return.
func others() []syscall.Errno {
	return []syscall.Errno{
		syscall.EIO, syscall.EBADF, syscall.ENOMEM, syscall.ENODEV, syscall.ENFILE, syscall.EMFILE, syscall.ETXTBSY, syscall.EROFS,
		syscall.ERANGE, syscall.ENAMETOOLONG, syscall.ENODATA, syscall.EOVERFLOW, syscall.EUCLEAN, syscall.ENOTCONN, syscall.ETIMEDOUT,
		syscall.E2BIG, syscall.EFAULT, syscall.ESPIPE, syscall.EPIPE, syscall.EPROTO, syscall.EKEYEXPIRED, syscall.EHOSTDOWN,
	}
}

// lies says whether an errno tells something about the destination that is not so, rather than that a call went wrong.
func lies(e syscall.Errno) bool {
	switch e {
	case syscall.ENOENT, syscall.EEXIST, syscall.ENOTDIR, syscall.EISDIR, syscall.ENOTEMPTY, syscall.ELOOP, syscall.ESTALE, syscall.ENODATA, syscall.ENXIO:
		return true
	}
	return false
}

// TestEveryErrnoAtEveryCall lets one system call fail once with an errno: the answer must not be "applied" unless it is so,
// and the same request must succeed when the fault is gone. Every call of every scenario gets each errno that decides something
// and, in turn, one of the others.
func TestEveryErrnoAtEveryCall(t *testing.T) {
	turn := 0
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			memory := need.InMemory(t)
			calls := s.count(t)
			for step := 1; step <= calls; step++ {
				turn++
				for _, errno := range append(told(), others()[turn%len(others())]) {
					s.oneFault(t, memory, step, errno)
				}
			}
		})
	}
}

// count is how many system calls a scenario makes.
func (s *scenario) count(t *testing.T) int {
	w := newWorld(t)
	r := s.given(w)
	calls := 0
	w.fail(func(string, string) error { calls++; return nil })
	s.carryOut(w, r)
	w.fail(nil)
	return calls
}

func (s *scenario) oneFault(t *testing.T, memory string, step int, errno syscall.Errno) {
	t.Helper()
	base, err := os.MkdirTemp(memory, "")
	if err != nil {
		t.Fatal(err)
	}
	w := openWorld(t, base)
	r := s.given(w)
	calls, where := 0, ""
	w.fail(func(call, path string) error {
		if calls++; calls == step {
			where = call + " " + path
			return errno
		}
		return nil
	})
	res := s.carryOut(w, r)
	w.fail(nil)
	when := fmt.Sprintf("%v at step %d (%s): %+v", errno, step, where, res)
	switch {
	case res.Status == change.Applied && !lies(errno):
		s.check(t, w, when)
	case res.Status == change.Failed && (res.Errno == 0 || res.Call == ""):
		t.Fatalf("%s: says neither errno nor call", when)
	}
	w.checkOutside()
	if res = s.carryOut(w, r); res.Status != change.Applied {
		t.Fatalf("%s: without the fault: %+v", when, res)
	}
	w.restart()
	s.check(t, w, when+": without the fault")
	w.stop()
	w.must(os.RemoveAll(base))
}
