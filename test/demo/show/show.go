// Package main is the demo proper: it starts a store, gives the real ingot something to
// collect on this machine, and shows by PromQL and LogQL what arrived.
//
// Collected are three small exporters and one that is not there, a tree of pod logs that is
// written all the time, the machine's own readable log files, and ingot's own metrics. The
// demo stays up until it is interrupted, or with -once ends after it has checked that all
// jobs are there and that every generated log line arrived exactly once.
//
// It needs no root, no cluster and no network but loopback. Ingot and the store live in one
// temporary directory that is removed at the end, whatever the end is; only SIGKILL of the
// demo itself leaves the directory (never a process) behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ingot-telemetry/ingot/test/demo/steps"
	"github.com/ingot-telemetry/ingot/test/kit"
	"github.com/ingot-telemetry/ingot/test/store"
)

func main() {
	os.Exit(run(steps.New(os.Stdout), os.Args[1:]))
}

// options are the flags.
type options struct {
	dir    string
	once   bool
	within time.Duration
}

// run returns the exit code: 0 when all went well, 1 when something is missing or failed, 2
// for a wrong flag.
func run(out *steps.Printer, args []string) (code int) {
	signaled, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.StringVar(&o.dir, "dir", "", "directory with the program `ingot`; it is removed at the end")
	flags.BoolVar(&o.once, "once", false, "end after the table; exit 1 when something is missing")
	flags.DurationVar(&o.within, "within", time.Minute, "how long everything may take to arrive")
	flags.SetOutput(io.Discard)
	if err := flags.Parse(args); err != nil || o.dir == "" || flags.NArg() > 0 {
		if err == nil {
			err = errors.New("-dir is missing; start the demo with: go run ./test/demo")
		}
		out.Print(fmt.Sprintf("demo: %v", err))
		return 2
	}
	d := &demo{options: o, out: out}
	defer func() {
		if err := d.close(); err != nil {
			out.Print(fmt.Sprintf("demo: clean up: %v", err))
			code = 1
		}
	}()
	ctx, cancel := context.WithCancelCause(signaled)
	defer cancel(nil)
	go watchParent(ctx, cancel)
	err := d.run(ctx, cancel)
	cause := context.Cause(ctx)
	switch {
	case signaled.Err() != nil || errors.Is(cause, errParent):
		// Interrupted: that is how the demo ends, but with -once it should have ended itself.
		if o.once {
			out.Print("demo: interrupted")
			return 1
		}
		return 0
	case cause != nil:
		err = cause
	}
	if err != nil {
		out.Print(fmt.Sprintf("demo: %v", err))
		return 1
	}
	return 0
}

// errParent ends the demo when nobody is left to interrupt it.
var errParent = errors.New("the process that started the demo is gone")

// watchParent ends the demo when the process that started it is gone: `go run` passes Ctrl-C
// on, but not SIGTERM.
func watchParent(ctx context.Context, cancel context.CancelCauseFunc) {
	parent := os.Getppid()
	every(ctx, 500*time.Millisecond, func() {
		if os.Getppid() != parent {
			cancel(errParent)
		}
	})
}

// tenant is the tenant under which everything is stored.
const tenant = "demo"

// demo is the running parts, in the order in which they are started.
type demo struct {
	options

	out       *steps.Printer
	store     *store.Store
	server    *kit.Server
	exporters *exporters
	pods      *pods
	files     []string // the machine's own log files
	ingot     *kit.Process
}

// run starts everything, shows the table and stays until ctx ends.
func (d *demo) run(ctx context.Context, fail context.CancelCauseFunc) error {
	for _, start := range []func(context.Context, context.CancelCauseFunc) error{
		d.startStore, d.startExporters, d.startPods, d.findFiles, d.startIngot,
	} {
		if err := start(ctx, fail); err != nil {
			return err
		}
	}
	seen, missing, err := d.collect(ctx)
	if err != nil {
		return err
	}
	d.out.Print(seen.table())
	if len(missing) > 0 {
		for _, m := range missing {
			d.out.Print("  missing: " + m)
		}
		return fmt.Errorf("%d things did not arrive within %s; the last lines of ingot's log:\n%s", len(missing), d.within, tail(d.ingot.Log(), 20))
	}
	d.out.Print(seen.proof())
	if d.once {
		return nil
	}
	d.out.Print(d.addresses())
	return d.stay(ctx)
}

func (d *demo) startStore(context.Context, context.CancelCauseFunc) error {
	d.out.Begin("starting the store")
	dir := filepath.Join(d.dir, "store")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	d.store = store.New(store.Config{Dir: dir}, slog.New(slog.DiscardHandler))
	d.server = kit.NewServer(d.store.Handler())
	if err := d.server.Up(); err != nil {
		return err
	}
	d.out.Done("%s", d.server.URL())
	return nil
}

func (d *demo) startExporters(context.Context, context.CancelCauseFunc) (err error) {
	d.out.Begin("starting exporters")
	d.exporters, err = startExporters()
	if err != nil {
		return err
	}
	d.out.Done("%d of them, in jobs shop, database and batch", len(d.exporters.servers))
	return nil
}

func (d *demo) startPods(ctx context.Context, fail context.CancelCauseFunc) error {
	d.out.Begin("writing pod logs")
	d.pods = startPods(ctx, filepath.Join(d.dir, "pods"), fail)
	d.out.Done("%d containers in %s", len(d.pods.containers), d.pods.writer.Dir)
	return nil
}

// findFiles looks for log files of the machine that we may read. Large ones are left out:
// a demo has no hours to spend on the past.
func (d *demo) findFiles(context.Context, context.CancelCauseFunc) error {
	const largest = 8 << 20
	d.out.Begin("looking for log files")
	all, err := filepath.Glob("/var/log/*.log")
	if err != nil {
		return err
	}
	for _, path := range all {
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() || info.Size() == 0 || info.Size() > largest {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			continue // not ours to read
		}
		_ = f.Close()
		d.files = append(d.files, path)
	}
	d.out.Done("%d in /var/log with something to read", len(d.files))
	return nil
}

func (d *demo) startIngot(ctx context.Context, fail context.CancelCauseFunc) error {
	d.out.Begin("starting ingot")
	p, err := kit.StartProcess(kit.ProcessConfig{
		Binary: filepath.Join(d.dir, "ingot"),
		Dir:    d.dir,
		Config: d.config(),
		Args:   []string{"--node-name", "demo-node"},
		Env:    []string{"KUBERNETES_SERVICE_HOST="}, // should the demo run inside a cluster's pod
	})
	if err != nil {
		return err
	}
	d.ingot = p
	if err := p.WaitReady(ctx); err != nil {
		return err
	}
	// Its address is known only now: file discovery finds it.
	if err := writeTargets(d.selfTargets(), p.Addr()); err != nil {
		return err
	}
	go func() {
		select {
		case <-ctx.Done():
		case <-p.Done():
			fail(fmt.Errorf("ingot has ended by itself; the last lines of its log:\n%s", tail(p.Log(), 20)))
		}
	}()
	d.out.Done("pid %d, %s", p.Pid(), p.URL())
	return nil
}

// close stops everything in the order in which data flows and removes the directory.
func (d *demo) close() error {
	var errs []error
	if d.ingot != nil {
		if !d.ingot.Ended() {
			d.out.Begin("stopping ingot")
			code, took := d.ingot.Stop()
			d.out.Done("exit code %d after %.1f s", code, took.Seconds())
			if code != 0 {
				errs = append(errs, fmt.Errorf("ingot ended with code %d:\n%s", code, tail(d.ingot.Log(), 20)))
			}
		}
	}
	if d.pods != nil {
		d.pods.stop()
	}
	if d.exporters != nil {
		d.exporters.stop()
	}
	if d.server != nil {
		d.server.Down()
	}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	errs = append(errs, os.RemoveAll(d.dir))
	return errors.Join(errs...)
}
