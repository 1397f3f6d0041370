package stage

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// selector is a LogQL stream selector with line filters:
//
//	{app="nginx", env=~"prod|staging"} |= "error" != "timeout" |~ "5.." !~ "healthz"
type selector struct {
	labels []labelFilter
	lines  []lineFilter
}

type labelFilter struct {
	name  string
	value string
	re    *regexp.Regexp // nil for = and !=
	not   bool
}

type lineFilter struct {
	text []byte
	re   matcher // without expression for |= and !=
	not  bool
}

func (f *labelFilter) matches(v []byte) bool {
	if f.re != nil {
		return f.re.Match(v) != f.not
	}
	return (string(v) == f.value) != f.not
}

// stream tells whether the labels match. A label that is missing is an empty one.
func (s *selector) stream(l *labelSet) bool {
	for i := range s.labels {
		v, _ := l.get(s.labels[i].name)
		if !s.labels[i].matches(v) {
			return false
		}
	}
	return true
}

// line tells whether the line matches.
func (s *selector) line(line []byte) bool {
	for i := range s.lines {
		f := &s.lines[i]
		if f.re.Regexp != nil {
			if f.re.matches(line) == f.not {
				return false
			}
		} else if bytes.Contains(line, f.text) == f.not {
			return false
		}
	}
	return true
}

// selectorParser reads a selector.
type selectorParser struct {
	in, rest string
}

func parseSelector(in string) (*selector, error) {
	p := &selectorParser{in: in, rest: in}
	s := &selector{}
	if !p.token("{") {
		return nil, p.expected(`{ and labels, such as {app="nginx"}`)
	}
	for !p.token("}") {
		if len(s.labels) > 0 && !p.token(",") {
			return nil, p.expected(", or }")
		}
		f, err := p.label()
		if err != nil {
			return nil, err
		}
		s.labels = append(s.labels, f)
	}
	for p.space(); p.rest != ""; p.space() {
		f, err := p.line()
		if err != nil {
			return nil, err
		}
		s.lines = append(s.lines, f)
	}
	return s, nil
}

func (p *selectorParser) expected(what string) error {
	if p.rest == "" {
		return fmt.Errorf("expected %s at the end", what)
	}
	return fmt.Errorf("expected %s at character %d, before %q", what, len(p.in)-len(p.rest)+1, p.rest)
}

func (p *selectorParser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

func (p *selectorParser) token(t string) bool {
	p.space()
	rest, ok := strings.CutPrefix(p.rest, t)
	if ok {
		p.rest = rest
	}
	return ok
}

// label reads name="value" with one of the operators = != =~ !~.
func (p *selectorParser) label() (labelFilter, error) {
	p.space()
	end := strings.IndexFunc(p.rest, func(r rune) bool { return !isIdentifier(r) })
	if end < 0 {
		end = len(p.rest)
	}
	f := labelFilter{name: p.rest[:end]}
	if !validLabel(f.name) {
		return f, p.expected("the name of a label")
	}
	p.rest = p.rest[end:]
	isRegexp := false
	switch {
	case p.token("=~"):
		isRegexp = true
	case p.token("!~"):
		isRegexp, f.not = true, true
	case p.token("!="):
		f.not = true
	case p.token("="):
	default:
		return f, p.expected("one of = != =~ !~")
	}
	var err error
	if f.value, err = p.text(); err != nil || !isRegexp {
		return f, err
	}
	if f.re, err = regexp.Compile("^(?s:" + f.value + ")$"); err != nil {
		return f, fmt.Errorf("the expression %q: %w", f.value, err)
	}
	return f, nil
}

// line reads a filter with one of the operators |= != |~ !~.
func (p *selectorParser) line() (lineFilter, error) {
	var f lineFilter
	isRegexp := false
	switch {
	case p.token("|="):
	case p.token("!="):
		f.not = true
	case p.token("|~"):
		isRegexp = true
	case p.token("!~"):
		isRegexp, f.not = true, true
	default:
		return f, p.expected("one of |= != |~ !~")
	}
	text, err := p.text()
	if err != nil {
		return f, err
	}
	f.text = []byte(text)
	if isRegexp {
		re, err := regexp.Compile(text)
		if err != nil {
			return f, fmt.Errorf("the expression %q: %w", text, err)
		}
		f.re = newMatcher(re)
	}
	return f, nil
}

// text reads a string in double quotes or backquotes.
func (p *selectorParser) text() (string, error) {
	p.space()
	quoted, err := strconv.QuotedPrefix(p.rest)
	if err != nil || quoted[0] == '\'' {
		return "", p.expected(`a text in quotes`)
	}
	text, err := strconv.Unquote(quoted)
	if err != nil {
		return "", p.expected(`a text in quotes`)
	}
	p.rest = p.rest[len(quoted):]
	return text, nil
}
