package mountbroker

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const stock = `volume management
    type mgmt/glusterd
    option working-directory /var/lib/glusterd
    option event-threads 1
#   option lock-timer 180
    option max-port  60999
end-volume
`

func TestVolfile(t *testing.T) {
	v := Parse(stock)
	if v.String() != stock {
		t.Errorf("unchanged it is %q", v.String())
	}
	if err := v.Add("vol", "geo"); !errors.Is(err, ErrGroup) {
		t.Errorf("before the setup: %v", err)
	}
	if err := v.Setup("/var/mountbroker-root", "geogroup"); err != nil {
		t.Fatal(err)
	}
	for _, volume := range []string{"vol", "vol2", "vol"} {
		if err := v.Add(volume, "geo"); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Add("vol", "geo2"); err != nil {
		t.Fatal(err)
	}
	s := v.Status()
	if s.Root != "/var/mountbroker-root" || s.Group != "geogroup" || !slices.Equal(s.Users["geo"], []string{"vol", "vol2"}) || !slices.Equal(s.Users["geo2"], []string{"vol"}) {
		t.Errorf("it says %+v", s)
	}
	want := strings.Replace(stock, "end-volume", "    option mountbroker-root /var/mountbroker-root\n    option geo-replication-log-group geogroup\n"+
		"    option mountbroker-geo-replication.geo vol,vol2\n    option mountbroker-geo-replication.geo2 vol\nend-volume", 1)
	if v.String() != want {
		t.Errorf("it is\n%s", v)
	}
	path := filepath.Join(t.TempDir(), "glusterd.vol")
	if err := v.Write(path); err != nil {
		t.Fatal(err)
	}
	again, err := Read(path)
	if err != nil || again.String() != want {
		t.Errorf("%v, %v", again, err)
	}
	v.Remove("vol", "geo")
	v.Remove("nosuch", "nobody")
	if got := v.Get("mountbroker-geo-replication.geo"); got != "vol2" {
		t.Errorf("after removing one: %q", got)
	}
	v.Remove("vol", "")
	v.Remove("", "geo")
	if strings.Contains(v.String(), "mountbroker-geo-replication") {
		t.Errorf("after removing all:\n%s", v)
	}
	if err := v.Setup("/other", "geogroup"); err != nil || strings.Count(v.String(), "mountbroker-root") != 1 || v.Get("mountbroker-root") != "/other" {
		t.Errorf("another setup: %v\n%s", err, v)
	}
}

func TestNames(t *testing.T) {
	v := Parse(stock)
	for _, bad := range [][2]string{{"relative", "g"}, {"/a b", "g"}, {"/a", "g h"}, {"/a", "g\noption x y"}, {"/a", ""}} {
		if err := v.Setup(bad[0], bad[1]); !errors.Is(err, ErrName) {
			t.Errorf("%q gave %v", bad, err)
		}
	}
	if err := v.Setup("/a", "g"); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][2]string{{"v,w", "u"}, {"v", "u\nx"}, {"", "u"}, {"v", ""}, {"v w", "u"}} {
		if err := v.Add(bad[0], bad[1]); !errors.Is(err, ErrName) {
			t.Errorf("%q gave %v", bad, err)
		}
	}
}
