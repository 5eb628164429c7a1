// Command georep keeps a copy of a directory on another host; it is the program on both ends.
package main

import (
	"context"
	"os"
	"os/signal"
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
	os.Exit(program.Run(context.Background(), os.Args[1:]))
}
