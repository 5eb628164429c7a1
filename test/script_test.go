// Package test tries georep as a person uses it: commands as typed, output as read, real processes on both ends.
package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"georep/internal/need"
	"georep/internal/treetest"
)

// TestScripts runs georep as a person types it. Each script in script/ is one story; its first lines tell which.
func TestScripts(t *testing.T) {
	bin := filepath.Dir(georep(t))
	testscript.Run(t, testscript.Params{
		Dir: "script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
			return nil
		},
		Condition: missing,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"equal":      equal,
			"eventually": eventually,
		},
	})
}

// missing is the condition [missing:root] or [missing:PROGRAM], by which a script skips itself, and fails where nothing may
// be skipped.
func missing(condition string) (bool, error) {
	what, ok := strings.CutPrefix(condition, "missing:")
	if !ok {
		return false, fmt.Errorf("there is no condition %q", condition)
	}
	_, err := exec.LookPath(what)
	absent := err != nil
	if what == "root" {
		absent = os.Geteuid() != 0
	}
	if absent && os.Getenv(need.All) == "1" {
		return false, fmt.Errorf("this script needs %s, which is missing, and %s=1 forbids to skip it", what, need.All)
	}
	return absent, nil
}

// equal is "[!] equal A B": whether two trees are the same in everything that is mirrored.
func equal(ts *testscript.TestScript, negated bool, args []string) {
	differences, err := treetest.Compare(ts.MkAbs(args[0]), ts.MkAbs(args[1]), treetest.Options{})
	ts.Check(err)
	if negated != (len(differences) > 0) {
		ts.Fatalf("%s\n%s", strings.Join(args, " and "), treetest.Format(differences))
	}
}

// eventually is "eventually A B": it waits until the trees are the same.
func eventually(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ts.Check(treetest.Await(ctx, ts.MkAbs(args[0]), ts.MkAbs(args[1]), treetest.Options{}))
}
