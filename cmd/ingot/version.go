package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
)

const versionAbout = `Version prints the version of the program, the commit that it was built from, and what it
was built with.

Usage:

  ingot version
`

func versionCommand(_ context.Context, args []string, t terminal) int {
	flags := flag.NewFlagSet("ingot version", flag.ContinueOnError)
	if code, done := parse(flags, versionAbout, args, t); done {
		return code
	}
	if flags.NArg() > 0 {
		return t.usage("ingot version", "takes no arguments, got %q", flags.Arg(0))
	}
	info, _ := debug.ReadBuildInfo()
	t.printf("%s\n", versionLine(info))
	return exitOK
}

// version is what the build says: a tag, or a pseudo-version of the commit.
func version() string {
	info, _ := debug.ReadBuildInfo()
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) string {
	if info == nil || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}

func versionLine(info *debug.BuildInfo) string {
	commit := "unknown"
	if info != nil {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				commit = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				commit += " with changes"
			}
		}
	}
	return fmt.Sprintf("ingot %s (commit %s, %s, %s/%s)", versionOf(info), commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
