package gluster

import (
	"strings"
	"testing"
	"time"

	"georep/internal/need"
)

// TestBehaviour90PackageUpgrade installs a package that brings programs of Gluster's names, as an upgrade does.
func TestBehaviour90PackageUpgrade(t *testing.T) {
	s := clusters(t)
	need.Program(t, "dpkg-deb")
	const host = "pnode3"
	georep := s.bin + "/georep"
	out := s.on(t, host, georep, "gluster", "status")
	if strings.Count(out, "georep's (an upgrade of the package keeps it)") != 9 || !strings.Contains(out, "gsyncd calls itself: gsyncd.py 4.0.0 (georep ") {
		t.Errorf("status printed\n%s", out)
	}
	pkg := s.Host(host).Dir() + "/pkg"
	s.sh(t, host, "mkdir -p "+pkg+"/DEBIAN "+pkg+s.lib+" && printf 'Package: upgraded\\nVersion: 1\\nArchitecture: all\\nMaintainer: nobody <n@example.org>\\nDescription: test\\n' >"+pkg+"/DEBIAN/control")
	for _, name := range []string{"gsyncd", "gverify.sh"} {
		s.sh(t, host, "printf '#!/bin/sh\\necho gsyncd of the package\\n' >"+pkg+s.lib+"/"+name+" && chmod 755 "+pkg+s.lib+"/"+name)
	}
	s.sh(t, host, "dpkg-deb --build "+pkg+" "+pkg+".deb && dpkg -i --force-all "+pkg+".deb")
	if again := s.on(t, host, georep, "gluster", "status"); again != out {
		t.Errorf("after the upgrade status printed\n%s", again)
	}
	if version := s.on(t, host, s.lib+"/gsyncd", "--version"); !strings.Contains(version, "georep") {
		t.Errorf("after the upgrade it is %q", version)
	}
	s.on(t, host, georep, "gluster", "install") // again, as with a newer georep
	s.on(t, host, georep, "gluster", "uninstall")
	if version := s.on(t, host, s.lib+"/gsyncd", "--version"); version != "gsyncd of the package\n" {
		t.Errorf("after uninstalling it is %q", version)
	}
	s.failsOn(t, host, "0 of 9 programs are georep's: run 'georep gluster install'", georep, "gluster", "status")
	if left := s.sh(t, host, "dpkg-divert --list 2>/dev/null | grep glusterfs || :; ls "+s.lib+" | grep distrib || :; ls /var/lib/glusterd/hooks/1/gsync-create/post"); left != "S56glusterd-geo-rep-create-post.sh\n" {
		t.Errorf("it left %q", left)
	}
	if text := s.sh(t, host, "head -c 11 /var/lib/glusterd/hooks/1/gsync-create/post/S56*"); text != "#!/bin/bash" {
		t.Errorf("the hook is %q", text)
	}
	s.on(t, host, georep, "gluster", "install")
	s.on(t, host, georep, "gluster", "status")
}

// TestBrokenProgramIsNotInstalled tries what would keep glusterd from starting.
func TestBrokenProgramIsNotInstalled(t *testing.T) {
	s := clusters(t)
	const host = "pnode3"
	broken := s.Host(host).Dir() + "/broken"
	for _, script := range []string{"exit 1", "echo nothing", "echo gsyncd of georep; [ $1 = --version ]", "echo gsyncd of georep; exit 5"} {
		s.sh(t, host, "printf '#!/bin/sh\\n"+script+"\\n' >"+broken+" && chmod 755 "+broken)
		s.failsOn(t, host, "this gsyncd does not answer as glusterd needs it", s.bin+"/georep", "gluster", "install", "--binary", broken)
		if version := s.on(t, host, s.lib+"/gsyncd", "--version"); !strings.Contains(version, "georep") {
			t.Fatalf("it is installed: %q", version)
		}
	}
}

// TestBehaviour29GlusterdStarts starts a glusterd with georep in the place of gsyncd, and counts what it asks.
func TestBehaviour29GlusterdStarts(t *testing.T) {
	s := clusters(t)
	const host = "pnode3"
	log := s.Host(host).Dir() + "/calls"
	s.sh(t, host, "cp "+s.lib+"/gsyncd "+s.lib+"/gsyncd.real && printf '#!/bin/sh\\necho \"$@\" >>"+log+"\\nexec "+s.lib+"/gsyncd.real \"$@\"\\n' >"+s.lib+"/gsyncd.shim && chmod 755 "+s.lib+"/gsyncd.shim && mv "+s.lib+"/gsyncd.shim "+s.lib+"/gsyncd")
	defer s.sh(t, host, "mv "+s.lib+"/gsyncd.real "+s.lib+"/gsyncd")
	if err := s.Host(host).RestartGlusterd(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "glusterd answers", 30*time.Second, func() bool {
		_, err := s.Host(host).Gluster(s.ctx, "peer", "status")
		return err == nil
	})
	if n := strings.TrimSpace(s.sh(t, host, "grep -c -e '--config-set-rx' "+log)); n != "24" {
		t.Errorf("glusterd has set %s options, not 24", n)
	}
	s.peersBack(t)
}
