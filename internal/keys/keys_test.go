package keys

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"georep/internal/need"
)

const (
	key   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKeyOne root@p1"
	other = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABKeyTwo root@p2 with words"
	here  = "/usr/lib/x/glusterfs/gsyncd"
)

func TestLines(t *testing.T) {
	for _, text := range []string{
		key, other, `command="/a/gsyncd" ` + key, `restrict,command="/a/gsyncd pair p v" ` + key, `command="tar ${SSH_ORIGINAL_COMMAND#* }" ` + other,
		`from="10.0.0.0/8,*.example",no-pty,command="echo \"a, b\"" ` + key,
	} {
		l, err := ParseLine(text)
		if err != nil || l.String() != text {
			t.Errorf("%q came back as %q, %v", text, l.String(), err)
		}
	}
	l, err := ParseLine(`from="10.0.0.0/8,*.example",no-pty,command="echo \"a, b\"" ` + key)
	if command, ok := l.Command(); err != nil || len(l.Options) != 3 || !ok || command != `echo "a, b"` {
		t.Errorf("options %q, command %q", l.Options, command)
	}
	for _, text := range []string{"", "# comment", "ssh-ed25519", "hello world", `command="x`} {
		if _, err := ParseLine(text); !errors.Is(err, ErrLine) {
			t.Errorf("%q gave %v", text, err)
		}
	}
}

func TestMerge(t *testing.T) {
	merge := func(text, more string) string {
		t.Helper()
		got, err := Merge(text, more, here)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	mine := "restrict,command=\"" + here + " pair p v\" " + key + "\n"
	if got := merge("", `restrict,command="/elsewhere/gsyncd pair p v" `+key); got != mine {
		t.Errorf("a first key gave %q", got)
	}
	if got := merge(mine, mine+mine); got != mine {
		t.Errorf("the same again gave %q", got)
	}
	both := strings.Replace(mine, "pair p v", "pair p v pair p2 v2", 1)
	if got := merge("# kept\n"+mine+other+"\n", strings.Replace(mine, "pair p v", "pair p2 v2", 1)); got != "# kept\n"+both+other+"\n" {
		t.Errorf("another pair gave %q", got)
	}
	reference := "command=\"/a/gsyncd\" " + key + "\n"
	if got := merge(reference, mine); got != reference {
		t.Errorf("a key that is let in for all became %q", got)
	}
	if got := merge(mine, reference); got != "restrict,command=\""+here+"\" "+key+"\n" {
		t.Errorf("a key for all pairs gave %q", got)
	}
	tar := "command=\"tar ${SSH_ORIGINAL_COMMAND#* }\" " + other + "\n"
	if got := merge(mine, tar); got != mine+tar || merge(got, tar) != got {
		t.Errorf("the reference's key for tar gave %q", got)
	}
	if got := merge("without newline", mine); got != "without newline\n"+mine {
		t.Errorf("%q", got)
	}
	if _, err := Merge("", "no key", here); !errors.Is(err, ErrLine) {
		t.Errorf("a line without a key gave %v", err)
	}
}

func TestRestrict(t *testing.T) {
	text := "command=\"/a/gsyncd\" " + key + "\n" + "command=\"tar ${SSH_ORIGINAL_COMMAND#* }\" " + other + "\n"
	got, err := RestrictAll(text, Pair{"p", "v"})
	want := "restrict,command=\"/a/gsyncd pair p v\" " + key + "\n" + "command=\"tar ${SSH_ORIGINAL_COMMAND#* }\" " + other + "\n"
	if err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	for _, name := range []string{"", "a b", `a"b`, "-x", "a;b", "a\nb", "a/b"} {
		if _, err := RestrictAll(text, Pair{"p", name}); !errors.Is(err, ErrVolume) {
			t.Errorf("the volume %q gave %v", name, err)
		}
	}
}

func TestFileOf(t *testing.T) {
	for config, want := range map[string]string{
		"":                                      "/home/u/.ssh/authorized_keys",
		"AuthorizedKeysFile /keys/%u\n":         "/keys/u",
		"authorizedkeysfile %h/k\n":             "/home/u/k",
		"AuthorizedKeysFile .ssh/k /etc/all\n":  "/home/u/.ssh/k",
		"AuthorizedKeysFile /etc/all .ssh/k2\n": "/home/u/.ssh/k2",
		"AuthorizedKeysFile /etc/all\n":         "/etc/all",
		"AuthorizedKeysFile a\nMatch User x\n AuthorizedKeysFile b\n": "/home/u/a",
		"# AuthorizedKeysFile x\nAuthorizedKeysFile none\n":           "/home/u/.ssh/authorized_keys",
	} {
		if got := FileOf(config, "u", "/home/u"); got != want {
			t.Errorf("%q gave %s, want %s", config, got, want)
		}
	}
}

func TestMake(t *testing.T) {
	need.Program(t, "ssh-keygen")
	dir := t.TempDir()
	session, tar, err := Node(t.Context(), dir, here, true)
	if err != nil || !strings.HasPrefix(session, `restrict,command="`+here+`" ssh-ed25519 `) || !strings.HasPrefix(tar, `restrict,command="`+here+`" ssh-ed25519 `) || session == tar {
		t.Errorf("%q, %q, %v", session, tar, err)
	}
	again, _, err := Node(t.Context(), dir, here, false)
	if err != nil || !strings.HasSuffix(session, again) || strings.Contains(again, "command=") {
		t.Errorf("without prefix %q, %v", again, err)
	}
	if err := os.Remove(filepath.Join(dir, Secret+".pub")); err != nil {
		t.Fatal(err)
	}
	if fresh, _, err := Node(t.Context(), dir, here, false); err != nil || fresh == again {
		t.Errorf("a key without its public part gave %q, %v", fresh, err)
	}
	info, err := os.Stat(filepath.Join(dir, Secret))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add(key)
	f.Add(`restrict,command="/a/gsyncd pair p v" ` + key)
	f.Add(`command="a\"b",x ssh-rsa AAAA`)
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ParseLine(text)
		if err != nil {
			return
		}
		again, err := ParseLine(l.String())
		if err != nil || again.Blob != l.Blob || again.Type != l.Type || len(again.Options) != len(l.Options) {
			t.Errorf("%q became %q", text, l.String())
		}
	})
}
