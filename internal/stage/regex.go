package stage

import (
	"regexp"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// RegexConfig is the options of the stage regex.
type RegexConfig struct {
	// Expression is a regular expression (RE2) with named groups, (?P<name>...). Each becomes
	// an extracted value.
	Expression string `yaml:"expression"`
	// Source is the extracted value to read instead of the line.
	Source *string `yaml:"source,omitempty"`
	// LabelsFromGroups also makes a label of each group, as Alloy's option of that name does.
	// Default false.
	LabelsFromGroups bool `yaml:"labels_from_groups,omitempty"`
}

type regexStep struct {
	source int
	re     matcher
	groups []group
}

// group is a named group of an expression.
type group struct {
	index, slot int
	label       string // "" for none
}

func (x *RegexConfig) compile(c *compiler, at string) {
	s := &regexStep{source: c.source(at, x.Source)}
	re := c.regexp(config.Key(at, "expression"), x.Expression)
	if re == nil {
		return
	}
	s.re = newMatcher(re)
	for i, name := range re.SubexpNames() {
		if name == "" {
			continue
		}
		g := group{index: i, slot: c.slot(name)}
		if x.LabelsFromGroups && validLabel(name) {
			g.label = name
		}
		s.groups = append(s.groups, g)
	}
	if len(s.groups) == 0 {
		c.fault(config.Key(at, "expression"), "must have at least one named group, (?P<name>...)")
	}
	c.add(s)
}

func (s *regexStep) run(r *Runner, _ *Pipeline) outcome {
	in, ok := r.input(s.source)
	if !ok || !s.re.may(in) {
		return next
	}
	m := s.re.FindSubmatchIndex(in)
	if m == nil {
		return next
	}
	for _, g := range s.groups {
		var text []byte
		if from, to := m[2*g.index], m[2*g.index+1]; from >= 0 {
			text = in[from:to:to]
		}
		r.set(g.slot, text, isText)
		if g.label != "" {
			r.labels.set(g.label, text)
		}
	}
	return next
}

// matcher is a regular expression together with a text that all its matches contain, which
// is looked for first: most expressions match few lines.
type matcher struct {
	*regexp.Regexp
	must []byte
}

func newMatcher(re *regexp.Regexp) matcher {
	return matcher{re, []byte(requiredText(re.String()))}
}
