package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	// Path is the key as a user would write it, destinations[1].queue.max_bytes. It is
	// empty for a problem of the file as a whole.
	Path string
	// Text says what is wrong and what would be right. It never holds a secret.
	Text string
	// Line counts from 1; 0 means unknown.
	Line int
	// meant is the path of the key that an unknown key probably stands for. Follow-up
	// problems of that key are left out.
	meant string
}

// Error returns the problem on one line: path, text and, where known, the line.
func (p Problem) Error() string {
	s := p.Text
	if p.Path != "" {
		s = p.Path + ": " + s
	}
	if p.Line > 0 {
		s += fmt.Sprintf(" (line %d)", p.Line)
	}
	return s
}

// Problems is every problem of one configuration. As an error it prints one line each.
// The zero value is ready to collect:
//
//	func (c Config) Validate() error {
//		var ps config.Problems
//		if c.MaxAge <= 0 {
//			ps.Add("max_age", "must be positive, is %s", c.MaxAge)
//		}
//		ps.Merge("queue", c.Queue.Validate())
//		return ps.Err()
//	}
type Problems []Problem

// Add appends a problem; path is relative to the struct that is being validated and may be
// empty for the struct itself.
func (ps *Problems) Add(path, format string, args ...any) {
	*ps = append(*ps, Problem{Path: path, Text: fmt.Sprintf(format, args...)})
}

// Merge appends what a nested Validate returned, with prefix before each path. It takes
// apart Problems, a Problem and what errors.Join made; any other error becomes one problem
// of the prefix itself. A nil error adds nothing.
func (ps *Problems) Merge(prefix string, err error) {
	switch err := err.(type) { //nolint:errorlint // A wrapping error has text of its own, which must not be lost.
	case nil:
	case Problems:
		for _, p := range err {
			ps.Merge(prefix, p)
		}
	case Problem:
		err.Path = Join(prefix, err.Path)
		if err.meant != "" {
			err.meant = Join(prefix, err.meant)
		}
		*ps = append(*ps, err)
	case interface{ Unwrap() []error }:
		for _, e := range err.Unwrap() {
			ps.Merge(prefix, e)
		}
	default:
		*ps = append(*ps, Problem{Path: prefix, Text: err.Error()})
	}
}

// Err returns the collected problems as an error, nil when there is none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// Error returns one line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As and errors.Is look at the single problems.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// sort orders by line, then path, and removes repetitions.
func (ps Problems) sort() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Path, b.Path))
	})
	seen := map[Problem]bool{}
	return slices.DeleteFunc(ps, func(p Problem) bool {
		again := seen[p]
		seen[p] = true
		return again
	})
}

// Join puts two paths together: Join("destinations[1]", "url") is destinations[1].url,
// Join("paths", "[0]") is paths[0]. Either may be empty.
func Join(prefix, path string) string {
	if prefix == "" || path == "" || path[0] == '[' {
		return prefix + path
	}
	return prefix + "." + path
}

// Index returns the path of element i of the list at path.
func Index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// Key returns the path of a key of the mapping at path. Keys that are no plain words are
// quoted: http_headers["X-A/B"].
func Key(path, key string) string {
	plain := key != "" && strings.IndexFunc(key, func(r rune) bool {
		return r != '_' && r != '-' && r != '/' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) < 0
	if plain {
		return Join(path, key)
	}
	return fmt.Sprintf("%s[%q]", path, key)
}
