package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Process is a running process.
type Process struct {
	Pid  int
	Args []string // its command line
}

// childrenOf lists the children of a process, of all its threads.
func childrenOf(pid int) ([]int, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	var children []int
	for _, task := range tasks {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		if err != nil {
			continue // the thread ended
		}
		for _, word := range strings.Fields(string(line)) {
			child, err := strconv.Atoi(word)
			if err != nil {
				return nil, fmt.Errorf("read the children of %d: %w", pid, err)
			}
			children = append(children, child)
		}
	}
	return children, nil
}

// Descendants lists the processes that a process has started and theirs, parents first. Of a host's init these are all
// processes of the host.
func Descendants(pid int) []Process {
	var found []Process
	children, err := childrenOf(pid)
	if err != nil {
		return nil // it has ended, and has none
	}
	for _, child := range children {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
		if err != nil {
			continue
		}
		found = append(found, Process{child, strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")})
		found = append(found, Descendants(child)...)
	}
	return found
}

// KillDescendants kills (-9) those descendants of a process whose command line, joined with blanks, contains the text, and
// returns how many it killed.
func KillDescendants(pid int, text string) int {
	killed := 0
	for _, p := range Descendants(pid) {
		if strings.Contains(strings.Join(p.Args, " "), text) && syscall.Kill(p.Pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	return killed
}
