// Command gsyncd is georep in the place of Gluster's gsyncd and of its helper programs: glusterd, the gluster command and sshd start it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"georep/internal/agent"
	"georep/internal/gsyncd"
	"georep/internal/worker"
)

const version = "0.1.0"

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	executable, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gsyncd:", err)
		os.Exit(1)
	}
	program := gsyncd.Program{
		Version: version, Args: os.Args, In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Getenv: os.Getenv, Executable: executable, Signals: signals,
		Brick: worker.RunBrick, Volume: agent.RunVolume,
	}
	os.Exit(program.Run(context.Background()))
}
