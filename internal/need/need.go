// Package need says what a test needs from the machine, and what is missing when the test cannot run.
//
// On a developer's machine a test whose needs are not met is skipped with one line that names the missing part. With
// GEOREP_TEST_ALL=1 in the environment (as the project's test command sets it) the same test fails, so that a skip never
// passes for a success.
package need

import (
	"os"
	"os/exec"
	"testing"
)

// All is the name of the environment variable that, set to 1, turns every skip into a failure.
const All = "GEOREP_TEST_ALL"

// Missing ends the test: it fails when All is set, else it is skipped. What is the missing part in a few words, such as
// "root" or "the program rsync".
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(All) == "1" {
		t.Fatalf("this test needs %s, which is missing, and %s=1 forbids to skip it", what, All)
	}
	t.Skipf("this test needs %s (set %s=1 to fail instead)", what, All)
}

// Root ends the test unless it runs as root.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "root")
	}
}

// Program returns the path of an installed program, also looking where a user's PATH often does not (/usr/sbin, /sbin),
// and ends the test when there is none.
func Program(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	Missing(t, "the program "+name)
	return ""
}

// InMemory is a directory for data that is written often: on the file system in memory, where syncs cost nothing, if there is one.
// It is removed when the test ends.
func InMemory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "georep-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
