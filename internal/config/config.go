// Package config is the mechanics of configuration: it reads a strict YAML file onto the
// defaults of a Go value, finds every problem at once with its path, line and cure, and
// writes the effective configuration back with secrets hidden.
//
// A file becomes a tree of YAML nodes, the tree is decoded beside the Go type ([Load]), and
// the value's own Validate has the last word. Components own their Config types and use
// [Problems], [Duration] and [Size]; the package knows none of them, opens no file but is
// given its bytes, and keeps no state.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Load decodes one YAML document onto the defaults that into, a pointer to a struct,
// already holds, then calls into's Validate() error if it has one. A key without a value
// keeps its default; a list replaces its default. The error, if any, is a [Problems] sorted
// by line: syntax, unknown and repeated keys, wrong types, bad values and what Validate
// found, all of them at once. Of Validate's findings those are left out that only follow
// from another problem at the same place. After an error into is partly filled.
//
// Custom types take part with UnmarshalYAML(func(any) error), as those of Prometheus do, or
// encoding.TextUnmarshaler. Inside the former strictness, paths and lines are kept. For an
// inlined struct neither its UnmarshalYAML nor its Validate is called.
func Load(data []byte, into any) error {
	root, ps := parse(data)
	if ps != nil {
		return ps
	}
	d := &decoder{
		lines:     map[string]int{},
		following: map[*yaml.Node]bool{},
		layouts:   map[reflect.Type]layout{},
	}
	ps = d.value(root, reflect.ValueOf(into).Elem(), "")
	if d.values > maxValues {
		return Problems{{Text: fmt.Sprintf("the file has more than %d values once its aliases are followed", maxValues)}}
	}
	if v, ok := into.(interface{ Validate() error }); ok {
		var found Problems
		found.Merge("", v.Validate())
		ps = append(ps, withoutFollowUps(found, ps)...)
	}
	for i := range ps {
		if ps[i].Line == 0 {
			ps[i].Line = d.lineOf(ps[i].Path)
		}
		ps[i].Text = redactText(ps[i].Text)
	}
	return ps.sort().Err()
}

// parse returns the node of the only document in data.
func parse(data []byte) (*yaml.Node, Problems) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF) || err == nil && isNull(&doc):
		return nil, Problems{{Text: "the file is empty; it must hold a mapping of keys such as cluster and destinations"}}
	case err != nil:
		return nil, Problems{syntaxProblem(data, err)}
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		return nil, Problems{{Line: second.Line, Text: `a second document starts here; put everything in one and remove the "---"`}}
	case !errors.Is(err, io.EOF):
		return nil, Problems{syntaxProblem(data, err)}
	}
	return doc.Content[0], nil
}

func isNull(doc *yaml.Node) bool {
	return len(doc.Content) == 0 || doc.Content[0].Kind == yaml.ScalarNode && doc.Content[0].ShortTag() == "!!null"
}

var syntaxLine = regexp.MustCompile(`^line (\d+): `)

// syntaxProblem turns what the YAML parser says into a problem, with a cure for the two
// mistakes that are by far the most frequent: tabs, and text that contains a colon.
func syntaxProblem(data []byte, err error) Problem {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	p := Problem{Line: 1} // The parser leaves out line 1.
	if m := syntaxLine.FindStringSubmatch(text); m != nil {
		p.Line, _ = strconv.Atoi(m[1]) // The pattern has digits only; one too long is no line.
		text = text[len(m[0]):]
	}
	p.Text = "is not YAML: " + text
	switch {
	case strings.Contains(text, "cannot start any token") || strings.Contains(text, "tab character"):
		for i, line := range strings.Split(string(data), "\n") {
			if strings.HasPrefix(strings.TrimLeft(line, " "), "\t") {
				return Problem{Line: i + 1, Text: "is not YAML: the line is indented with a tab; use spaces"}
			}
		}
		p.Text += `; text that starts with one of @ % and the backquote needs quotes`
	case strings.Contains(text, "mapping values are not allowed"):
		p.Text += `; check the indentation, and put text that contains ": " in quotes`
	case strings.HasPrefix(text, "unknown anchor"):
		_, name, _ := strings.Cut(text, "'")
		name, _, _ = strings.Cut(name, "'")
		before, _, _ := strings.Cut(string(data), "*"+name)
		p.Line += strings.Count(before, "\n")
		p.Text = fmt.Sprintf(`alias *%s has no anchor &%s above it; text that starts with * needs quotes`, name, name)
	case strings.Contains(text, "expected alphabetic or numeric character"):
		p.Text += "; text that starts with * or & needs quotes"
	case strings.Contains(text, "did not find expected"), strings.Contains(text, "could not find expected"):
		p.Text += "; check the indentation and the brackets around here"
	}
	return p
}

// withoutFollowUps returns the problems of found that are not at, above or below the place
// of one of earlier, or of the key that an unknown key of earlier probably means: with
// "urll" reported, "url is missing" would only confuse.
func withoutFollowUps(found, earlier Problems) Problems {
	var kept Problems
	for _, p := range found {
		follows := false
		for _, e := range earlier {
			follows = follows || related(p.Path, e.Path) || e.meant != "" && related(p.Path, e.meant)
		}
		if !follows {
			kept = append(kept, p)
		}
	}
	return kept
}

// related reports whether one path is the other or leads to it.
func related(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	return strings.HasPrefix(b, a) && (a == "" || len(a) == len(b) || b[len(a)] == '.' || b[len(a)] == '[')
}
