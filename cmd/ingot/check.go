package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/ingot-telemetry/ingot/internal/app"
	"github.com/ingot-telemetry/ingot/internal/config"
)

const checkAbout = `Check reads configuration files as "ingot run" does and prints every problem of each, with
the key, what is wrong, what would be right, and the line. Nothing is started and no file
that a configuration names is opened. Secrets are never printed.

Usage:

  ingot check FILE|FOLDER...

Of a folder, every file below it that ends in .yaml or .yml is checked; "-" is the standard
input.

Examples:

  ingot check ingot.yaml
  ingot check examples/
  kubectl get configmap ingot -o jsonpath='{.data.ingot\.yaml}' | ingot check -

Exit codes: 0 all files are right; 1 one is wrong or cannot be read; 2 the command line is
wrong.
`

func checkCommand(_ context.Context, args []string, t terminal) int {
	flags := flag.NewFlagSet("ingot check", flag.ContinueOnError)
	if code, done := parse(flags, checkAbout, args, t); done {
		return code
	}
	if flags.NArg() == 0 {
		return t.usage("ingot check", "which file? Name one or more files or folders")
	}
	code := exitOK
	for _, arg := range flags.Args() {
		names, err := configFiles(arg)
		if err != nil {
			fmt.Fprintf(t.stderr, "%s: %v\n", arg, err)
			code = exitFailed
		}
		for _, name := range names {
			if err := check(name, t.stdin); err != nil {
				printProblems(t, name, err)
				code = exitFailed
				continue
			}
			t.printf("%s: ok\n", name)
		}
	}
	return code
}

func check(name string, stdin io.Reader) error {
	if name != "-" {
		_, err := app.Load(name)
		return err
	}
	data, err := io.ReadAll(stdin)
	if err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	_, err = app.Parse(data)
	return err
}

// printProblems prints one line for each problem, behind the name of the file. Other errors
// name it themselves.
func printProblems(t terminal, name string, err error) {
	problems, ok := errors.AsType[config.Problems](err)
	if !ok {
		fmt.Fprintf(t.stderr, "%v\n", err)
	}
	for _, p := range problems {
		fmt.Fprintf(t.stderr, "%s: %v\n", name, p)
	}
}

// configFiles returns the file itself, or the configuration files below a folder in order.
func configFiles(arg string) ([]string, error) {
	if !isFolder(arg) {
		return []string{arg}, nil
	}
	var names []string
	err := filepath.WalkDir(arg, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(path)) {
			names = append(names, path)
		}
		return err
	})
	if err == nil && len(names) == 0 {
		err = errors.New("no file below it ends in .yaml or .yml")
	}
	return names, err
}

// isFolder reports false for what cannot be looked at: reading it says why.
func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
