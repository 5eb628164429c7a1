package test

import (
	"fmt"
	"strings"
	"testing"

	"georep/internal/need"
)

// TestMethodsOverSSH has rsync and tar bring content over a real sshd. Nothing may be said, for then georep did their work.
func TestMethodsOverSSH(t *testing.T) {
	t.Parallel()
	need.Program(t, "rsync")
	need.Program(t, "tar")
	for _, flags := range [][]string{{"rsync"}, {"rsync", "--compress"}, {"tarssh"}, {"tarssh", "--bwlimit", "20M"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.write("large", noise(1, 9<<20))
			for i := range 20 {
				s.write(fmt.Sprintf("d/middle %d's", i), noise(byte(i), 200_000+i))
			}
			s.write("d/small", noise(3, 10))
			r := s.runs(append([]string{"--once", "--sync-method"}, flags...)...)
			r.ended(0)
			if said := r.stderr(); said != "" {
				t.Errorf("it said %q", said)
			}
			if r.count("notice") != 0 {
				t.Errorf("%d notices: %+v", r.count("notice"), r.events)
			}
			s.equal()
		})
	}
}
