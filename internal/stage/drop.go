package stage

import (
	"regexp"
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// DropConfig is the options of the stage drop. A line is dropped if it meets all conditions
// that are set.
type DropConfig struct {
	// DropCounterReason is the reason under which lines are counted. Default drop_stage.
	DropCounterReason string `yaml:"drop_counter_reason,omitempty"`
	// Source is one or several extracted values. Alone, all of them must be there; with Value
	// or Expression, those that are there, joined by Separator, must match.
	Source Names `yaml:"source,omitempty"`
	// Separator stands between several values. Default ";".
	Separator string `yaml:"separator,omitempty"`
	// Value is the text that Source must be.
	Value *string `yaml:"value,omitempty"`
	// Expression is a regular expression (RE2) that must match a part of Source, or of the line
	// where Source is not set.
	Expression *string `yaml:"expression,omitempty"`
	// OlderThan drops lines whose time is longer ago.
	OlderThan *Duration `yaml:"older_than,omitempty"`
	// LongerThan drops lines that have more bytes.
	LongerThan *config.Size `yaml:"longer_than,omitempty"`
}

func (x *DropConfig) defaults() { x.Separator = ";" }

// UnmarshalYAML decodes onto the defaults.
func (x *DropConfig) UnmarshalYAML(unmarshal func(any) error) error {
	type plain DropConfig
	x.defaults()
	return unmarshal((*plain)(x))
}

type dropStep struct {
	reason    int
	slots     []int
	separator string
	value     *string
	re        matcher // without expression for none
	older     time.Duration
	hasOlder  bool
	longer    int // -1 for none
}

func (x *DropConfig) compile(c *compiler, at string) {
	s := &dropStep{
		reason: c.reason(x.DropCounterReason, "drop_stage"), separator: x.Separator, value: x.Value, longer: -1,
	}
	for _, name := range x.Source {
		s.slots = append(s.slots, c.required(at, name))
	}
	if len(x.Source) == 0 && x.Expression == nil && x.OlderThan == nil && x.LongerThan == nil {
		c.fault(at, "must have at least one of source, expression, older_than and longer_than")
	}
	if x.Value != nil && len(x.Source) == 0 {
		c.fault(config.Key(at, "source"), "must be set where value is")
	}
	if x.Value != nil && x.Expression != nil {
		c.fault(config.Key(at, "value"), "must not be set together with expression")
	}
	if x.Expression != nil {
		re := c.expression(config.Key(at, "expression"), *x.Expression)
		if re == nil {
			return
		}
		s.re = newMatcher(re)
	}
	if x.OlderThan != nil {
		s.older, s.hasOlder = time.Duration(*x.OlderThan), true
	}
	if x.LongerThan != nil {
		s.longer = int(*x.LongerThan)
	}
	c.add(s)
}

// expression is regexp for expressions that may be empty.
func (c *compiler) expression(at, expr string) *regexp.Regexp {
	if expr == "" {
		expr = "(?:)"
	}
	return c.regexp(at, expr)
}

func (s *dropStep) run(r *Runner, _ *Pipeline) outcome {
	if s.longer >= 0 && len(r.line) <= s.longer {
		return next
	}
	if s.hasOlder && r.t >= r.now.Add(-s.older).UnixNano() {
		return next
	}
	if !s.matches(r) {
		return next
	}
	return r.drop(s.reason)
}

func (s *dropStep) matches(r *Runner) bool {
	if len(s.slots) == 0 {
		return s.re.Regexp == nil || s.re.matches(r.line)
	}
	if s.re.Regexp == nil && s.value == nil {
		for _, slot := range s.slots {
			if _, ok := r.text(slot); !ok {
				return false
			}
		}
		return true
	}
	text, ok := s.joined(r)
	switch {
	case !ok:
		return false
	case s.value != nil:
		return string(text) == *s.value
	}
	return s.re.matches(text)
}

// joined returns the values that are there, with the separator between them. As in promtail,
// one that is JSON's null fits no condition.
func (s *dropStep) joined(r *Runner) (text []byte, ok bool) {
	n := 0
	for _, slot := range s.slots {
		v, ok := r.text(slot)
		if !ok {
			if r.kindOf(slot) == isNull {
				return nil, false
			}
			continue
		}
		switch n++; n {
		case 1:
			text = v
		case 2:
			r.tmp = append(r.tmp[:0], text...)
			fallthrough
		default:
			r.tmp = append(append(r.tmp, s.separator...), v...)
			text = r.tmp
		}
	}
	return text, true
}
