// Command testbed runs the testbed without a test. It adds nothing of its own to
// package testbed.
//
//	testbed up     builds and starts it, and stops it on interrupt
//	testbed down   removes what a crashed run left
//	testbed reap   waits for the end of its standard input, then does as down
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/ingot-telemetry/ingot/testbed"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "testbed:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one of up, down, reap, have %q", args)
	}
	switch args[0] {
	case "up":
		return up()
	case "down":
		return testbed.Clean(context.Background(), os.Stderr)
	case "reap":
		// The reaper outlives the terminal that the test ran in.
		signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		// However standard input ends, the process at its other end is gone.
		_, _ = io.Copy(io.Discard, os.Stdin)
		return testbed.Clean(context.Background(), io.Discard)
	default:
		return fmt.Errorf("want one of up, down, reap, have %q", args)
	}
}

func up() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	bins, err := testbed.Build(ctx, "", os.Stderr)
	if err != nil {
		return err
	}
	c, err := testbed.Start(ctx, testbed.Options{Binaries: bins, Log: os.Stderr})
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "export KUBECONFIG=%s\nkubectl: %s\ncortex:  %s\nloki:    %s\n",
		c.Kubeconfig, bins.Kubectl, c.CortexURL, c.LokiURL)
	<-ctx.Done()
	return c.Stop()
}
