package stage

import (
	"github.com/ingot-telemetry/ingot/internal/config"
)

// MatchConfig is the options of the stage match.
type MatchConfig struct {
	// PipelineName is accepted and has no meaning.
	PipelineName *string `yaml:"pipeline_name,omitempty"`
	// Selector is a LogQL selector with line filters, {app="nginx"} |= "error". It looks at the
	// labels as they are at this stage.
	Selector string `yaml:"selector"`
	// Action is what happens to lines that match: keep runs Stages on them, drop drops them.
	// Others go on. Default keep.
	Action string `yaml:"action,omitempty"`
	// Stages are the stages for lines that match.
	Stages []Config `yaml:"stages,omitempty"`
	// DropCounterReason is the reason under which lines are counted that are dropped. Default
	// match_stage.
	DropCounterReason string `yaml:"drop_counter_reason,omitempty"`
}

func (x *MatchConfig) defaults() { x.Action = "keep" }

// UnmarshalYAML decodes onto the defaults.
func (x *MatchConfig) UnmarshalYAML(unmarshal func(any) error) error {
	type plain MatchConfig
	x.defaults()
	return unmarshal((*plain)(x))
}

type matchStep struct {
	sel    *selector
	state  int
	reason int // -1 to keep
	skip   outcome
}

// matched is whether the labels that lines come with match.
type matched struct{ known, ok bool }

func (x *MatchConfig) compile(c *compiler, at string) {
	s := &matchStep{state: c.prog.matches, reason: -1}
	c.prog.matches++
	var err error
	if s.sel, err = parseSelector(x.Selector); err != nil {
		c.fault(config.Key(at, "selector"), "must be a LogQL selector: %v", err)
	}
	switch stages := config.Key(at, "stages"); {
	case c.oneOf(config.Key(at, "action"), x.Action, "keep", "drop"):
		if len(x.Stages) == 0 {
			c.fault(stages, "must have at least one stage unless action is drop")
		}
	case len(x.Stages) > 0:
		c.fault(stages, "must be empty where action is drop")
	default:
		s.reason = c.reason(x.DropCounterReason, "match_stage")
	}
	c.add(s)
	before := len(c.prog.steps)
	c.list(x.Stages, config.Key(at, "stages"))
	s.skip = outcome(len(c.prog.steps) - before)
}

func (s *matchStep) run(r *Runner, _ *Pipeline) outcome {
	if !s.stream(r) || !s.sel.line(r.line) {
		return s.skip
	}
	if s.reason >= 0 {
		return r.drop(s.reason)
	}
	// As in promtail, the stages find the labels as they are now among the extracted values.
	if r.labels.changed {
		for _, l := range r.labels.list {
			if slot, ok := r.prog.slots[l.name]; ok {
				r.set(slot, l.value, isText)
			}
		}
	} else {
		for _, x := range r.initial {
			r.set(x.slot, x.value, isText)
		}
	}
	return next
}

// stream tells whether the labels match. As long as no stage has changed them, the answer is
// the same from line to line.
func (s *matchStep) stream(r *Runner) bool {
	if r.labels.changed {
		return s.sel.stream(&r.labels)
	}
	m := &r.matches[s.state]
	if !m.known {
		*m = matched{true, s.sel.stream(&r.labels)}
	}
	return m.ok
}
