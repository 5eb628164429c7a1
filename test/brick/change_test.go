package brick

import (
	"strings"
	"testing"
	"time"
)

// steps are changes by a client of the primary volume, each a script that runs in its root.
var steps = []struct{ name, script string }{
	{"files of all kinds", `
		mkdir -p d/e/f 'name with  blanks' sticky; chmod 1777 sticky; chmod 2775 d/e
		echo one >d/one; printf '' >d/empty; head -c 300000 /dev/urandom >d/large; truncate -s 1M d/sparse; printf x | dd of=d/sparse bs=1 seek=500000 conv=notrunc status=none
		ln -s /no/where d/link; mkfifo d/fifo; mknod d/null c 1 3; mknod d/block b 259 1000; printf n >"$(printf 'new\nline\377')"
		chown 1234:4321 d/one d/e; chown -h 1234:4321 d/link; chmod 4755 d/one; touch -d '2001-02-03 04:05:06.123456789' d/empty; touch -h -d 2002-02-02 d/link
		setfattr -n user.note -v hello d/one; setfattr -n trusted.note -v secret d/one; setfattr -n user.dir -v x d/e
		ln d/one d/e/second; ln d/one third; ln d/link d/e/link2`},
	{"content and attributes", `
		echo more >>d/one; printf y | dd of=d/large bs=1 seek=150000 conv=notrunc status=none; truncate -s 10 d/sparse; chmod 600 d/large
		setfattr -x user.note d/one; chown 1:2 d/e; touch -d 2003-03-03 d/e/f; echo new >d/empty`},
	{"renames", `
		mv d/one d/first; mv d/e d/moved; mkdir -p x/y; mv x/y x/z; mv d/large .; mv 'name with  blanks' d/; echo tmp >t; mv t final; echo tmp2 >t; mv t final`},
	{"swaps of names", `
		echo a >a; echo b >b; mv a tmp; mv b a; mv tmp b; mkdir -p p/q r; echo in >p/q/in; mv p tmp; mv r p; mv tmp r; mv r/q .; mv r q/; mv q/in .`},
	{"names taken over", `
		echo 1 >v1; echo 2 >v2; mv v1 v2; mkdir dir1 dir2; mv -T dir1 dir2; rm third; mkdir third; rm -r sticky; echo file >sticky`},
	{"deletions", `
		mkdir -p gone/a/b; touch gone/1 gone/a/2 gone/a/b/3; sync; mv gone/a/2 kept; rm -r gone; rm d/moved/second; rm -f d/fifo d/null; rmdir p/q 2>/dev/null || true; ln final final2; rm final`},
	{"much at once", `
		mkdir -p many; for i in $(seq 300); do echo $i >many/$i; done; for i in $(seq 1 3 300); do mv many/$i many/m$i; done; for i in $(seq 2 3 300); do rm many/$i; done`},
}

func testChanges(t *testing.T, primary, secondary string, workers ...[3]int) {
	t.Parallel()
	c := newCluster(t, primary, secondary)
	c.sh("p", "cd "+c.mount("p")+"; mkdir -p before/deep; echo early >before/deep/early; ln before/deep/early before/late")
	for _, w := range workers {
		c.start(w[0], w[1], w[2])
	}
	c.equal()
	for _, s := range steps {
		began := time.Now()
		c.sh("p", "cd "+c.mount("p")+"\n"+strings.TrimSpace(s.script))
		changed := time.Now()
		c.equal()
		if t.Failed() {
			t.Fatalf("after %s", s.name)
		}
		t.Logf("%s: %s, of which %s until it was equal", s.name, time.Since(began).Round(time.Millisecond), time.Since(changed).Round(time.Millisecond))
	}
}

func TestPlainVolume(t *testing.T) { testChanges(t, "BRICK", "BRICK", [3]int{0, 1, 1}) }

func TestDistributedVolume(t *testing.T) {
	testChanges(t, "BRICK BRICK", "BRICK BRICK", [3]int{0, 1, 2}, [3]int{1, 2, 2})
}
