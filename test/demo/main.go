// Package main is the demo: go run ./test/demo, or make demo.
//
// This program builds ingot and the demo proper (test/demo/show) and then becomes the latter.
// It imports the standard library only, so that it runs, and shows how the build gets on,
// seconds after it was started on a fresh machine. Everything the demo does is described
// there.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ingot-telemetry/ingot/test/demo/steps"
)

func main() {
	out := steps.New(os.Stdout)
	if err := run(out, os.Args[1:]); err != nil {
		out.Print(fmt.Sprintf("demo: %v", err))
		os.Exit(1)
	}
}

// run builds into a temporary directory and replaces the process by the demo, which then owns
// the directory. It returns only when that was not possible, and has removed the directory.
func run(out *steps.Printer, args []string) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	dir, err := os.MkdirTemp("", "ingot-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out.Print("Ingot's demo. Everything stays on this machine and in " + dir + ", and goes away at the end.\n")
	if err := build(ctx, out, dir); err != nil {
		return err
	}
	show := filepath.Join(dir, "show")
	argv := slices.Concat([]string{show, "-dir", dir}, args)
	// A signal in the moment in which neither program handles it would leave the directory.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	return fmt.Errorf("start %s: %w", show, syscall.Exec(show, argv, os.Environ()))
}

// build builds both programs in one go, since they share most packages.
func build(ctx context.Context, out *steps.Printer, dir string) error {
	const module = "github.com/ingot-telemetry/ingot/"
	out.Begin("building ingot and the store")
	cmd := exec.CommandContext(ctx, "go", "build", "-v", "-o", dir+"/", module+"cmd/ingot", module+"test/demo/show")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	// As in the Makefile: without cgo, so that demo, tests and program share what is compiled.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	lines, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err = cmd.Start(); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	// What is not the name of a compiled package is an error text.
	packages, other := 0, []string(nil)
	read := make(chan string)
	go func() {
		defer close(read)
		for in := bufio.NewScanner(lines); in.Scan(); {
			read <- in.Text()
		}
	}()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for open := true; open; {
		var line string
		select {
		case line, open = <-read:
			if strings.ContainsAny(line, " :#\t") {
				other = append(other, line)
			} else if line != "" {
				packages++
			}
		case <-tick.C:
			out.Update("%d packages compiled", packages)
		}
	}
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case err != nil:
		return fmt.Errorf("build: %w\n%s", err, strings.Join(other[:min(len(other), 40)], "\n"))
	}
	if packages == 0 {
		out.Done("up to date")
	} else {
		out.Done("%d packages compiled", packages)
	}
	return nil
}
