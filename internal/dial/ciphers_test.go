package dial

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// asking puts an ssh into the PATH that tells these ciphers as its own, and those as configured.
func asking(t *testing.T, own, configured string) {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\ncase \" $* \" in\n*' -G '*) ;;\n*) exit 1 ;;\nesac\n" +
		"case \" $* \" in\n*' -F none '*) echo 'user me'; echo 'ciphers " + own + "' ;;\n*' -p 2222 -l me '*'-- host '*) echo 'ciphers " + configured + "' ;;\nesac\n"
	if err := os.WriteFile(filepath.Join(dir, "ssh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

func TestCiphersAreChosenWhereNobodyElseHas(t *testing.T) {
	const own = "chacha20-poly1305@openssh.com,aes128-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com"
	const fast = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr"
	o := Options{Host: "host", User: "me", Port: 2222}
	for _, c := range []struct {
		what            string
		own, configured string
		o               Options
		want            string
	}{
		{"nothing is configured", own, own, o, fast},
		{"a cipher is configured", own, "aes128-ctr", o, ""},
		{"there is no AES-GCM", "aes128-ctr", "aes128-ctr", o, ""},
		{"ssh does not tell", "", "", o, ""},
		{"another ssh", own, own, Options{Host: "host", User: "me", Port: 2222, SSH: []string{"/opt/plink", "-v"}}, ""},
		{"ssh with options", own, own, Options{Host: "host", User: "me", Port: 2222, SSH: []string{"ssh", "-v"}}, fast},
		{"no ssh", own, own, Options{Local: []string{"true"}}, ""},
	} {
		asking(t, c.own, c.configured)
		if got := c.o.FastCiphers(t.Context()); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if got := o.FastCiphers(t.Context()); got != "" {
		t.Errorf("without an ssh: %q", got)
	}
	argv := Options{Host: "host", Ciphers: fast}.Shell()
	if !strings.Contains(strings.Join(argv, " "), "-oCiphers="+fast) {
		t.Errorf("ssh is called by %q", argv)
	}
}
