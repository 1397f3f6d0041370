package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/ingot-telemetry/ingot/internal/app"
	"github.com/ingot-telemetry/ingot/internal/config"
)

const runAbout = `Run collects what the configuration file says and delivers it until SIGINT or SIGTERM. Then
it stops reading, delivers or keeps on disk everything taken, and exits within 10 seconds.

A backend that is down, or an address that does not exist, is that destination's state, to
be seen at /status/queues. A wrong configuration is an error: every problem is printed and
nothing is started.

Usage:

  ingot run --config FILE [flags]

Examples:

  ingot run --config ingot.yaml
  ingot run --config /etc/ingot/ingot.yaml --data /var/lib/ingot --listen :12345
  ingot run --config ingot.yaml --role logs --node-name "$(hostname)"
  curl -s localhost:12345/status/targets

Exit codes: 0 stopped as told; 1 the configuration is wrong or the program cannot go on;
2 the command line is wrong; 130 a second signal came while stopping.
`

func runCommand(ctx context.Context, args []string, t terminal) int {
	flags := flag.NewFlagSet("ingot run", flag.ContinueOnError)
	path := flags.String("config", "", "configuration `FILE`; always needed")
	data := flags.String("data", "./data", "`DIR` for queues and log positions; it is made when missing")
	listen := flags.String("listen", "127.0.0.1:12345", "`ADDRESS` of the status pages; port 0 takes a free one")
	role := flags.String("role", app.RoleAll, "`ROLE` of this process: all, metrics (scrape), logs (log files) or singleton (nothing yet)")
	profiling := flags.Bool("pprof", false, "serve /debug/pprof/; whoever can connect can then look into the memory of the process")
	node := flags.String("node-name", "", "`NAME` of the Kubernetes node this runs on; $NODE_NAME by default, then the host name")
	level := flags.String("log.level", "info", "least `LEVEL` to log: "+strings.Join(levels(), ", "))
	format := flags.String("log.format", "logfmt", "`FORMAT` of log lines: "+strings.Join(formats(), ", "))
	if code, done := parse(flags, runAbout, args, t); done {
		return code
	}
	if text := wrongFlags(flags, *path, *data, *listen); text != "" {
		return t.usage("ingot run", "%s", text)
	}
	for _, choice := range []struct {
		flag, value string
		of          []string
	}{{"role", *role, roles()}, {"log.level", *level, levels()}, {"log.format", *format, formats()}} {
		if !slices.Contains(choice.of, choice.value) {
			return t.usage("ingot run", "%s", wrongChoice(choice.flag, choice.value, choice.of))
		}
	}
	cfg, err := app.Load(*path)
	if err != nil {
		printProblems(t, *path, err)
		return exitFailed
	}
	if !*profiling {
		runtime.MemProfileRate = 0 // Nobody can ask for it, and it costs a megabyte and a half.
	}
	log := newLogger(t, *level, *format)
	ctx, stop := untilSignal(ctx, log)
	defer stop()
	err = app.Run(ctx, app.Options{
		Config:     cfg,
		ConfigPath: *path,
		DataDir:    *data,
		Listen:     *listen,
		Role:       *role,
		NodeName:   cmp.Or(*node, t.getenv("NODE_NAME"), hostName()),
		Version:    version(),
		Profiling:  *profiling,
		Log:        log,
	})
	if err != nil {
		log.Error("stopped by an error", "err", err)
		return exitFailed
	}
	return exitOK
}

func roles() []string {
	return []string{app.RoleAll, app.RoleMetrics, app.RoleSingleton, app.RoleLogs}
}

func levels() []string { return []string{"debug", "info", "warn", "error"} }

func formats() []string { return []string{"logfmt", "json"} }

// wrongFlags returns what is wrong with the flags that have no list of choices.
func wrongFlags(flags *flag.FlagSet, path, data, listen string) string {
	if flags.NArg() > 0 {
		return fmt.Sprintf("takes no arguments, got %q; name the file with --config", flags.Arg(0))
	}
	if path == "" {
		return "--config is missing; name the configuration file"
	}
	if data == "" {
		return "--data is empty; name a directory"
	}
	if _, port, err := net.SplitHostPort(listen); err != nil || port == "" {
		return fmt.Sprintf("--listen must be host:port, such as 127.0.0.1:12345 or :0, is %q", listen)
	}
	return ""
}

func wrongChoice(name, value string, choices []string) string {
	text := fmt.Sprintf("--%s must be one of %s, is %q", name, strings.Join(choices, ", "), value)
	if meant := config.Suggest(value, choices); meant != "" {
		text += fmt.Sprintf("; did you mean %s?", meant)
	}
	return text
}

// newLogger returns a logger to the standard error. The level and the format are known words.
func newLogger(t terminal, level, format string) *slog.Logger {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		panic(err) // levels() has only words that slog knows.
	}
	options := &slog.HandlerOptions{Level: least}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(t.stderr, options))
	}
	return slog.New(slog.NewTextHandler(t.stderr, options))
}

// untilSignal returns a context that ends with the first SIGINT or SIGTERM. The second one
// ends the process at once: whoever sends it does not want to wait.
func untilSignal(ctx context.Context, log *slog.Logger) (stopping context.Context, release func()) {
	stopping, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case s, ok := <-signals:
			if !ok {
				return
			}
			log.Info("stopping", "reason", s.String())
			cancel()
		case <-stopping.Done():
		}
		if _, again := <-signals; again {
			os.Exit(exitInterrupted)
		}
	}()
	return stopping, func() {
		signal.Stop(signals)
		close(signals)
		cancel()
	}
}

// hostName is the last resort for the name of the node. Without one there is no node to name.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}
