// Command ingot collects metrics and logs of a machine or a Kubernetes cluster and delivers
// them to Prometheus-compatible backends and Loki.
//
// This package is the command line: flags, help, exit codes and signals. What a command does
// is in package app; there is nothing here that another program would want to call.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1   // a configuration is wrong, or the program cannot go on
	exitUsage       = 2   // the command line is wrong
	exitInterrupted = 130 // a second signal came while stopping
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], terminal{os.Stdin, os.Stdout, os.Stderr, os.Getenv}))
}

// terminal is what a command has of the world besides its arguments.
type terminal struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
}

func (t terminal) printf(format string, args ...any) { fmt.Fprintf(t.stdout, format, args...) }

// usage prints why the command line cannot be followed.
func (t terminal) usage(command, format string, args ...any) int {
	fmt.Fprintf(t.stderr, "%s: %s\nRun \"%s --help\" for how to use it.\n", command, fmt.Sprintf(format, args...), command)
	return exitUsage
}

// command is one word after ingot.
type command struct {
	name    string
	summary string
	run     func(ctx context.Context, args []string, t terminal) int
}

func commands() []command {
	return []command{
		{"run", "collect and deliver until it is told to stop", runCommand},
		{"check", "say what is wrong with configuration files", checkCommand},
		{"render", "show the scrape jobs that objects of the Prometheus Operator become", renderCommand},
		{"version", "print the version", versionCommand},
	}
}

// run does what args, the command line without the program's name, says and returns the exit
// code. It ends early when ctx does.
func run(ctx context.Context, args []string, t terminal) int {
	if len(args) == 0 {
		fmt.Fprint(t.stderr, help())
		return exitUsage
	}
	name, rest := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		if len(rest) == 0 {
			t.printf("%s", help())
			return exitOK
		}
		name, rest = rest[0], []string{"--help"}
	case "-version", "--version":
		name = "version"
	}
	var names []string
	for _, c := range commands() {
		if c.name == name {
			return c.run(ctx, rest, t)
		}
		names = append(names, c.name)
	}
	if meant := config.Suggest(name, append(names, "help")); meant != "" {
		return t.usage("ingot", "unknown command %q, did you mean %q?", name, meant)
	}
	return t.usage("ingot", "unknown command %q", name)
}

func help() string {
	var b strings.Builder
	b.WriteString(`Ingot collects metrics and logs and delivers them to Prometheus-compatible backends and Loki.

Usage:

  ingot COMMAND [flags]

Commands:

`)
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-10s%s\n", c.name, c.summary)
	}
	b.WriteString(`
Examples:

  ingot check ingot.yaml            find out what is wrong, if anything
  ingot run --config ingot.yaml     start
  ingot render monitors.yaml        show what ServiceMonitors and their like become
  ingot help run                    explain the flags of a command

Exit codes: 0 done; 1 a configuration is wrong or the program cannot go on;
2 the command line is wrong; 130 interrupted twice.
`)
	return b.String()
}

// parse reads the flags of a command. When done is true, the command is over: help was asked
// for, or something is wrong and has been said.
func parse(fs *flag.FlagSet, about string, args []string, t terminal) (code int, done bool) {
	fs.SetOutput(io.Discard)
	err := fs.Parse(args)
	if err == nil {
		return exitOK, false
	}
	if errors.Is(err, flag.ErrHelp) {
		t.printf("%s%s", about, flagHelp(fs))
		return exitOK, true
	}
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		var names []string
		fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
		text = "unknown flag --" + name
		if meant := config.Suggest(name, names); meant != "" {
			text += fmt.Sprintf(", did you mean --%s?", meant)
		}
	}
	return t.usage(fs.Name(), "%s", text), true
}

// flagHelp is the list of flags as they are best written, with two dashes.
func flagHelp(fs *flag.FlagSet) string {
	var b strings.Builder
	fs.VisitAll(func(f *flag.Flag) {
		if b.Len() == 0 {
			b.WriteString("\nFlags:\n\n")
		}
		value, usage := flag.UnquoteUsage(f)
		fmt.Fprintf(&b, "  --%s %s\n        %s", f.Name, value, usage)
		if f.DefValue != "" {
			fmt.Fprintf(&b, " (default %s)", f.DefValue)
		}
		b.WriteString("\n")
	})
	return b.String()
}
