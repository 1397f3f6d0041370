package stage

import (
	"github.com/ingot-telemetry/ingot/internal/config"
)

// ReplaceConfig is the options of the stage replace.
type ReplaceConfig struct {
	// Expression is a regular expression (RE2) with at least one group. What the groups match
	// is replaced, everywhere in the text.
	Expression string `yaml:"expression"`
	// Source is the extracted value to change instead of the line.
	Source *string `yaml:"source,omitempty"`
	// Replace is what to put there: a Go template as for the stage template, in which .Value
	// is what the group matched. Empty removes it.
	Replace string `yaml:"replace,omitempty"`
}

type replaceStep struct {
	source int
	re     matcher
	groups []group // the named ones, which are also extracted
	text   *text
}

func (x *ReplaceConfig) compile(c *compiler, at string) {
	s := &replaceStep{source: c.source(at, x.Source)}
	re := c.regexp(config.Key(at, "expression"), x.Expression)
	s.text = c.template(config.Key(at, "replace"), x.Replace)
	if re == nil || s.text == nil {
		return
	}
	if re.NumSubexp() == 0 {
		c.fault(config.Key(at, "expression"), "must have at least one group in parentheses, which is what is replaced")
	}
	s.re = newMatcher(re)
	for i, name := range re.SubexpNames() {
		if name != "" {
			s.groups = append(s.groups, group{index: i, slot: c.slot(name)})
		}
	}
	c.add(s)
}

func (s *replaceStep) run(r *Runner, _ *Pipeline) outcome {
	in, ok := r.input(s.source)
	if !ok || !s.re.may(in) {
		return next
	}
	all := s.re.FindAllSubmatchIndex(in, -1)
	if all == nil {
		return next
	}
	if !s.text.fixed {
		s.text.fill(r)
	}
	r.edit = r.edit[:0]
	done := 0
	for nth, m := range all {
		if len(r.edit) > maxText {
			break // It is cut anyway.
		}
		var ok bool
		// As in promtail, a template that fails changes nothing.
		if done, ok = s.one(r, in, m, done, nth == 0); !ok {
			return next
		}
	}
	r.edit = append(r.edit, in[done:]...)
	r.output(s.source, r.keep(r.edit))
	return next
}

// one appends to r.edit what follows done in the input, up to the end of the last group of
// match m, with the groups replaced.
func (s *replaceStep) one(r *Runner, in []byte, m []int, done int, first bool) (int, bool) {
	for i := 2; i < len(m); i += 2 {
		from, to := m[i], m[i+1]
		if from < 0 {
			continue
		}
		with, ok := s.with(r, in[from:to])
		if !ok {
			return done, false
		}
		if first {
			s.extract(r, i/2, with)
		}
		if from >= done { // Not within a group that has been replaced already.
			r.edit = append(append(r.edit, in[done:from]...), with...)
			done = to
		}
	}
	return done, true
}

// with returns what a matched text is replaced with.
func (s *replaceStep) with(r *Runner, matched []byte) ([]byte, bool) {
	if s.text.fixed {
		r.tmp = append(r.tmp[:0], s.text.plain...)
		return r.tmp, true
	}
	r.data["Value"] = string(matched)
	return s.text.execute(r)
}

// extract sets the named group of the given number, as promtail does, to what it was replaced
// with.
func (s *replaceStep) extract(r *Runner, index int, with []byte) {
	for _, g := range s.groups {
		if g.index == index {
			r.set(g.slot, r.keep(with), isText)
		}
	}
}
