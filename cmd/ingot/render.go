package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/ingot-telemetry/ingot/internal/app"
)

const renderAbout = `Render shows the scrape jobs that objects of the Prometheus Operator become: ServiceMonitor,
PodMonitor, Probe and ScrapeConfig. It reads manifests, any number of YAML documents or JSON,
lists too, and writes them as scrape_configs of Prometheus. It needs no cluster.

What is rejected, and each field that is not honoured, goes to the standard error with its
path and the reason. Secrets and ConfigMaps are taken from the manifests where these have
them and assumed to exist otherwise; their values are never printed.

Usage:

  ingot render [--config FILE] [FILE...]

Without files the manifests are read from the standard input, as with the file "-". The
configuration gives operator_objects (selection, scrape classes, defaults) and scrape.

Examples:

  ingot render monitors.yaml
  kubectl get servicemonitors,podmonitors,probes -A -o yaml | ingot render
  helm template my-chart | ingot render --config ingot.yaml
  ingot render monitors.yaml >after.yaml; diff before.yaml after.yaml

How to read a job: relabel_configs run from top to bottom over each target that discovery
finds, so the first rule "keep" or "drop" that does not fit is why a target is missing.

Exit codes: 0 every object becomes jobs; 1 one is rejected, or something cannot be read;
2 the command line is wrong.
`

// maxManifests bounds what is read, should a file be something else.
const maxManifests = 256 << 20

func renderCommand(_ context.Context, args []string, t terminal) int {
	flags := flag.NewFlagSet("ingot render", flag.ContinueOnError)
	path := flags.String("config", "", "configuration `FILE` to take operator_objects and scrape from; without it the defaults hold")
	if code, done := parse(flags, renderAbout, args, t); done {
		return code
	}
	cfg := app.DefaultConfig()
	if *path != "" {
		var err error
		if cfg, err = app.Load(*path); err != nil {
			printProblems(t, *path, err)
			return exitFailed
		}
	}
	manifests, err := readManifests(flags.Args(), t.stdin)
	if err != nil {
		fmt.Fprintf(t.stderr, "%v\n", err)
		return exitFailed
	}
	out, err := app.Render(cfg, manifests)
	if err != nil {
		fmt.Fprintf(t.stderr, "read manifests: %v\n", err)
		return exitFailed
	}
	t.printf("%s", out.YAML)
	for _, note := range out.Notes {
		fmt.Fprintln(t.stderr, note)
	}
	if out.Rejected > 0 {
		return exitFailed
	}
	return exitOK
}

// readManifests returns the documents of all files, one after the other.
func readManifests(names []string, stdin io.Reader) ([]byte, error) {
	if len(names) == 0 {
		names = []string{"-"}
	}
	var all bytes.Buffer
	for _, name := range names {
		source := stdin
		if name != "-" {
			f, err := os.Open(name)
			if err != nil {
				return nil, fmt.Errorf("read manifests: %w", err)
			}
			defer f.Close()
			source = f
		}
		all.WriteString("\n---\n")
		n, err := all.ReadFrom(io.LimitReader(source, maxManifests+1))
		if err != nil {
			return nil, fmt.Errorf("read manifests %s: %w", name, err)
		}
		if n > maxManifests {
			return nil, fmt.Errorf("read manifests %s: more than %d bytes", name, maxManifests)
		}
	}
	return all.Bytes(), nil
}
