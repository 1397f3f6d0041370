//go:build linux

// Command bench measures Ingot under loads like those of a cluster, beside its peers, and
// prints what a sample and a line cost. It is behind `make bench`, `make bench-metrics` and
// `make bench-logs`.
//
// It builds the programs, starts a generator and a receiver in its own process on one CPU,
// and runs each collector in turn on another, with the same load. Where a goal is set, it
// says whether it was reached. Everything is on loopback and ends by itself; what a run has
// written is removed.
//
// Absolute figures depend on the machine and its neighbours: ratios of one run count. The
// packages below hold the load (exporter, podfiles), the receiver (sink) and the measuring
// (meter); the peers are modules of their own below peers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ingot-telemetry/ingot/test/bench/meter"
)

const about = `Measures Ingot and its peers under the same load.

Usage:

  bench metrics [flags]    scraping and remote write
  bench logs [flags]       container logs and Loki's push

Loads of metrics: M1 to M7, unique, unique-1M and tiny as package exporter has them; M8, which is
M1/outage. What is behind a name changes how it is run:

  /gzip     scrapes are compressed
  /rw2      Ingot and Prometheus' agent send remote write 2.0
  /zstd     Ingot sends zstd in place of snappy, and vmagent its own protocol
  /outage   the receiver is away for the time of -outage, then back

Exit codes: 0 measured, whatever the figures; 1 Ingot lost or damaged data, or with
-enforce missed a goal, or nothing could be measured; 2 the command line is wrong.
`

// options are the flags of both commands.
type options struct {
	loads   []string
	window  time.Duration
	warmup  time.Duration // 0 means as the load needs.
	rounds  int
	only    []string // Collectors.
	enforce bool
	verify  bool
	outage  time.Duration
	perf    string // Folder for perf's records; empty means none.
	keep    bool   // Leave the folder of the run.
	backlog int64  // Bytes.
	ingot   string // The program; built when empty.
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(exitCode(err, os.Stderr))
}

// exitCode prints an error, unless it only was a question, and returns the exit code for it.
func exitCode(err error, log io.Writer) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintln(log, "bench:", err)
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}

var errUsage = errors.New("wrong command line, see bench -help")

// run does what the arguments say. Tables go to out, progress to log.
func run(ctx context.Context, args []string, out, log io.Writer) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		fmt.Fprint(log, about)
		if len(args) > 0 && strings.Contains(args[0], "help") {
			return flag.ErrHelp
		}
		return errUsage
	}
	opts, err := parseFlags(args[0], args[1:], log)
	if err != nil {
		return err
	}
	b := &bench{opts: opts, out: out, log: log}
	b.loadCPU, b.programCPU = meter.CPUs()
	b.instructions = meter.CountsInstructions(ctx)
	defer func() { _ = b.pin(false) }() // For a caller that goes on; the process may end.
	if err = b.build(ctx, args[0] == "metrics"); err != nil {
		return err
	}
	runs := filepath.Join(b.cacheDir, "run")
	if err = os.MkdirAll(runs, 0o755); err != nil {
		return fmt.Errorf("make folder for runs: %w", err)
	}
	if b.dir, err = os.MkdirTemp(runs, args[0]+"-"); err != nil {
		return fmt.Errorf("make folder for runs: %w", err)
	}
	if !opts.keep {
		defer os.RemoveAll(b.dir)
	}
	if args[0] == "metrics" {
		return b.metrics(ctx)
	}
	return b.logs(ctx)
}

func parseFlags(command string, args []string, log io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench "+command, flag.ContinueOnError)
	flags.SetOutput(log)
	loads := "M1,M1/gzip,M3"
	switch command {
	case "metrics":
		flags.DurationVar(&o.outage, "outage", 10*time.Minute, "how `LONG` the receiver is away in M8 and loads NAME/outage")
	case "logs":
		loads = "L1,L2,L3,L4,L5,rest"
	default:
		return o, fmt.Errorf("%w: there is no %q", errUsage, command)
	}
	load := flags.String("load", loads, "`NAMES` of loads; of metrics also with /gzip, /rw2, /zstd and /outage behind them")
	flags.DurationVar(&o.window, "window", 20*time.Second, "`TIME` that is measured; rounded up to whole scrape intervals")
	flags.DurationVar(&o.warmup, "warmup", 0, "`TIME` before it; by default as the load needs")
	flags.IntVar(&o.rounds, "rounds", 1, "how `OFTEN` each collector is measured with each load; 5 to publish")
	only := flags.String("collectors", ingotName+","+vmagentName, "`NAMES` of collectors of metrics; "+promagentName+" is Prometheus' agent")
	flags.BoolVar(&o.enforce, "enforce", false, "fail when a goal is missed")
	flags.BoolVar(&o.verify, "verify", true, "run Ingot once more with the first load of each wire format and check order and stale markers")
	flags.StringVar(&o.perf, "perf", "", "`FOLDER` for records of perf, one for each run")
	flags.BoolVar(&o.keep, "keep", false, "leave configurations and logs of the collectors below .cache/bench/run")
	backlog := flags.Int("backlog", 512, "`MIB` of old log lines in load L2")
	flags.StringVar(&o.ingot, "ingot", "", "`PROGRAM` to measure instead of the one built from this tree")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w: %w", errUsage, err)
	}
	if flags.NArg() > 0 || o.rounds < 1 || o.window <= 0 || *backlog < 1 {
		return o, fmt.Errorf("%w: rounds, window and backlog must be above 0, and no arguments follow the flags", errUsage)
	}
	if command == "metrics" && o.outage < time.Second {
		return o, fmt.Errorf("%w: an outage lasts at least a second", errUsage)
	}
	o.loads, o.only, o.backlog = list(*load), list(*only), int64(*backlog)<<20
	return o, nil
}

// list takes a comma-separated text apart.
func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// bench is one call of the command.
type bench struct {
	opts                options
	out, log            io.Writer
	cacheDir, dir       string
	ingot               string
	peers               map[string]string // Programs by name.
	loadCPU, programCPU int               // -1 where there is only one CPU.
	instructions        bool              // They can be counted here.
}

func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(b.log, "bench: %s\n", fmt.Sprintf(format, args...))
}

// pin keeps this process off the CPU of the collector while one runs.
func (b *bench) pin(on bool) error {
	switch {
	case b.loadCPU < 0:
		return nil
	case on:
		return meter.PinSelf(b.loadCPU)
	default:
		return meter.PinSelf(b.loadCPU, b.programCPU)
	}
}

// wait waits that long, unless the process or the context ends before.
func wait(ctx context.Context, p *meter.Process, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-p.Ended():
		return fmt.Errorf("the collector has ended: %w", p.Err())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// until waits until done says so, at most that long. It returns whether it did.
func until(ctx context.Context, p *meter.Process, limit time.Duration, done func() bool) (bool, error) {
	for begin := time.Now(); time.Since(begin) < limit; {
		if done() {
			return true, nil
		}
		if err := wait(ctx, p, 20*time.Millisecond); err != nil {
			return false, err
		}
	}
	return done(), nil
}
