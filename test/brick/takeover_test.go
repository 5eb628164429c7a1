package brick

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"georep/internal/worker"
)

// replica says that a brick has others with the same content.
func replica(n int) func(*assignment) { return func(a *assignment) { a.Replicas = n } }

func (c *cluster) awaitState(r *running, want worker.BrickState) {
	c.t.Helper()
	c.wait(string(want), func() error {
		if got := r.state().State; got != want {
			return fmt.Errorf("it is %q", got)
		}
		return nil
	})
}

// TestTakeover: of two bricks one is active; when its worker is killed it comes back, when its host dies the other goes on.
func TestTakeover(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "replica 2 BRICK BRICK", "BRICK", "p1", "p2")
	top := c.mount("p")
	c.sh("p", "cd "+top+"; mkdir d; echo 1 >d/one; echo 2 >d/two; ln d/two d/three")
	first, second := c.start(0, 1, 1, replica(2)), c.start(1, 1, 1, replica(2))
	c.awaitState(first, worker.BrickActive)
	c.awaitState(second, worker.BrickPassive)
	c.equal()
	first.signal(syscall.SIGKILL)
	<-first.done
	first.cmd = nil
	c.sh("p", "cd "+top+"; mv d/one d/uno; rm d/three; echo 3 >new; mkdir e; mv d e/")
	first = c.start(0, 1, 1, replica(2))
	c.equal()
	if err := c.lab.Host("p1").Kill(); err != nil {
		t.Fatal(err)
	}
	<-first.done
	first.cmd = nil
	c.wait("the volume with one brick", func() error {
		return c.try("p2", "bash", "-c", "cd "+top+" && mv e/d/uno e/d/eins && rm new && echo 4 >e/four && ln e/four e/fo")
	})
	c.awaitState(second, worker.BrickActive)
	c.equal()
	if c.sh("s", "ls -a "+c.mount("s")) == "" {
		t.Error(errors.New("nothing"))
	}
}
