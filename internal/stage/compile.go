package stage

import (
	"regexp"
	"strings"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// The outcomes of a step; a positive one skips so many of the steps that follow.
type outcome int

const (
	next    outcome = 0
	dropped outcome = -1
	held    outcome = -2
)

// step is one instruction of a program. The line is the one that the runner holds. Steps are
// shared by all runners, so they keep their state in the runner or the pipeline.
type step interface {
	run(r *Runner, p *Pipeline) outcome
}

// Program is a compiled list of stages. It never changes and may be shared.
type Program struct {
	steps   []step
	slots   map[string]int // where a runner keeps the extracted value of a name
	reasons []string       // why lines are dropped
	metrics []metric

	// How many of each kind of state the steps need.
	blocks, times, limits, matches int
}

// Compile compiles a list of stages. The error is a [config.Problems] with all that is wrong,
// by paths such as [3].json.expressions.
func Compile(list []Config) (*Program, error) {
	c := &compiler{prog: &Program{slots: map[string]int{}}}
	c.list(list, "")
	if err := c.problems.Err(); err != nil {
		return nil, err
	}
	for _, finish := range c.last {
		finish()
	}
	return c.prog, nil
}

// Empty tells that the program does nothing, so that lines need not be given to it.
func (p *Program) Empty() bool { return len(p.steps) == 0 }

// compiler collects the steps of a program and the problems of its configuration.
type compiler struct {
	prog     *Program
	problems config.Problems
	// last runs after everything else, when all names are known.
	last []func()
}

func (c *compiler) list(list []Config, at string) {
	for i := range list {
		item := config.Index(at, i)
		names := 0
		list[i].each(func(name string, s compilable) {
			if names++; names > 1 {
				c.fault(item, "has more than one stage; put a dash before %s, so that their order is clear", name)
				return
			}
			s.compile(c, config.Key(item, name))
		})
		if names == 0 {
			c.fault(item, "names no stage; known are %s", strings.Join(stageNames(), ", "))
		}
	}
}

func (c *compiler) fault(at, format string, args ...any) { c.problems.Add(at, format, args...) }

func (c *compiler) add(s step) { c.prog.steps = append(c.prog.steps, s) }

// slot returns the place of an extracted value.
func (c *compiler) slot(name string) int {
	n, ok := c.prog.slots[name]
	if !ok {
		n = len(c.prog.slots)
		c.prog.slots[name] = n
	}
	return n
}

// source returns the place of the value that a stage reads; -1 is the line itself.
func (c *compiler) source(at string, name *string) int {
	if name == nil {
		return -1
	}
	if *name == "" {
		c.fault(config.Key(at, "source"), "must be the name of an extracted value; leave it out to use the line")
		return -1
	}
	return c.slot(*name)
}

// required is source for stages that have no other input.
func (c *compiler) required(at, name string) int {
	if name == "" {
		c.fault(config.Key(at, "source"), "must be the name of an extracted value")
		return 0
	}
	return c.slot(name)
}

func (c *compiler) reason(name, otherwise string) int {
	if name == "" {
		name = otherwise
	}
	for i, r := range c.prog.reasons {
		if r == name {
			return i
		}
	}
	c.prog.reasons = append(c.prog.reasons, name)
	return len(c.prog.reasons) - 1
}

// regexp compiles the expression under the key at; it is nil after a fault.
func (c *compiler) regexp(at, expr string) *regexp.Regexp {
	if expr == "" {
		c.fault(at, "must be a regular expression (RE2 syntax)")
		return nil
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		c.fault(at, "must be a regular expression (RE2 syntax): %v", err)
		return nil
	}
	return re
}
