// Command georep keeps a copy of a directory on another host; it is the program on both ends.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"strconv"
	"syscall"

	"georep/internal/agent"
	"georep/internal/cli"
	"georep/internal/worker"
)

const version = "0.1.0"

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	executable, err := os.Executable()
	if err != nil {
		executable = os.Args[0]
	}
	program := cli.Program{
		Version: version, In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Signals: signals,
		Getenv: os.Getenv, Executable: executable, Mirror: worker.Run, Agent: agent.Serve,
	}
	stop := profile(os.Getenv("GEOREP_CPUPROFILE"))
	code := program.Run(context.Background(), os.Args[1:])
	stop()
	os.Exit(code)
}

// profile writes what the processors do into a file, for who measures; see CONTRIBUTING.md. The process's number is added to the
// name, because a mirror and its agents may have the same environment.
func profile(path string) (stop func()) {
	if path == "" {
		return func() {}
	}
	f, err := os.Create(path + "." + strconv.Itoa(os.Getpid()))
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "georep: GEOREP_CPUPROFILE:", err)
		return func() {}
	}
	return func() {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "georep: GEOREP_CPUPROFILE:", err)
		}
	}
}
