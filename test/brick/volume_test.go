package brick

import "testing"

func TestShardedVolume(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "BRICK BRICK", "BRICK")
	c.on("p", "gluster", "--mode=script", "volume", "set", "vp", "features.shard", "on")
	c.on("p", "gluster", "--mode=script", "volume", "set", "vp", "features.shard-block-size", "4MB")
	c.sh("p", "cd "+c.mount("p")+"; mkdir d; head -c 10000000 /dev/urandom >d/early")
	c.start(0, 1, 2)
	c.start(1, 2, 2)
	c.remount()
	c.equal()
	c.sh("p", "cd "+c.mount("p")+"; head -c 9000000 /dev/urandom >d/large; mv d/early moved; printf x | dd of=moved bs=1 seek=9000000 conv=notrunc status=none; truncate -s 20M grown")
	c.remount()
	c.equal()
	c.sh("p", "cd "+c.mount("p")+"; printf y | dd of=d/large bs=1 seek=5000000 conv=notrunc status=none; rm moved; truncate -s 3M grown")
	c.remount()
	c.equal()
}

func TestDispersedVolume(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "disperse 3 redundancy 1 BRICK BRICK BRICK", "BRICK")
	c.sh("p", "cd "+c.mount("p")+"; mkdir d; head -c 100000 /dev/urandom >d/early; ln d/early again; ln -s x link")
	c.start(0, 1, 1, func(a *assignment) { a.Indirect = true })
	c.equal()
	c.sh("p", "cd "+c.mount("p")+"; head -c 3000000 /dev/urandom >d/large; mv d moved; chmod 600 again; echo more >>moved/early; touch -d 2001-01-01 empty")
	c.equal()
	c.sh("p", "cd "+c.mount("p")+"; rm again; echo x >>moved/large; mv moved/early .; rm link")
	c.equal()
}

// TestGapsAndWhatNoJournalTells: journals switched off and on, a worker that was away meanwhile, and space that is allocated and punched.
func TestGapsAndWhatNoJournalTells(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "BRICK", "BRICK")
	top := c.mount("p")
	soon := func(a *assignment) { a.XtimeSeconds = 2 }
	w := c.start(0, 1, 1, soon)
	c.sh("p", "cd "+top+"; mkdir -p a/b c; for i in 1 2 3 4 5; do echo $i >a/b/$i; done; head -c 300000 /dev/urandom >punched; echo short >grown")
	c.equal()
	c.sh("p", "cd "+top+"; fallocate -l 200000 grown; fallocate -p -o 100000 -l 50000 punched")
	c.equal()
	set := func(value string) {
		c.on("p", "gluster", "--mode=script", "volume", "set", "vp", "changelog.changelog", value)
	}
	set("off")
	c.sh("p", "cd "+top+"; mv a/b c/d; rm c/d/3; echo new >c/new; mv c/d/1 a/one; rmdir a 2>/dev/null || true; echo 22 >c/d/2")
	set("on")
	c.equal()
	w.stop()
	set("off")
	c.sh("p", "cd "+top+"; mv c e; rm e/d/5; ln e/d/4 e/four; echo 222 >e/d/2")
	set("on")
	c.start(0, 1, 1, soon)
	c.equal()
}

// remount makes the client forget what it alone knows: times of parts of files, which no other client and no brick sees.
func (c *cluster) remount() {
	c.t.Helper()
	c.sh("p", "umount "+c.mount("p")+"; mount -t glusterfs localhost:/vp "+c.mount("p"))
}
