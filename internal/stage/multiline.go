package stage

import (
	"bytes"
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// MultilineConfig is the options of the stage multiline.
type MultilineConfig struct {
	// Firstline is a regular expression (RE2) that the first line of a block matches. Lines
	// before the first match pass as they are.
	Firstline string `yaml:"firstline,omitempty"`
	// Preset joins the stack traces of a language, instead of Firstline: java, go, python or
	// dotnet. Java, Python and .NET traces are joined to the line before them, which nearly
	// always is the message that they belong to.
	Preset string `yaml:"preset,omitempty"`
	// MaxWaitTime is how long a block waits for its next line. Default 3s.
	MaxWaitTime Duration `yaml:"max_wait_time,omitempty"`
	// MaxLines is the most lines of a block. Default 128. A block also ends before it would
	// have more than 256KiB.
	MaxLines int `yaml:"max_lines,omitempty"`
	// TrimNewlines removes empty lines at the end of a block. Default true.
	TrimNewlines bool `yaml:"trim_newlines"`
}

func (x *MultilineConfig) defaults() {
	x.MaxWaitTime, x.MaxLines, x.TrimNewlines = Duration(3*time.Second), 128, true
}

// DefaultMultilineConfig returns the defaults, which have neither firstline nor preset.
func DefaultMultilineConfig() MultilineConfig {
	var x MultilineConfig
	x.defaults()
	return x
}

// IsPreset tells whether there is a preset of that name.
func IsPreset(name string) bool { return newPreset(name) != nil }

// UnmarshalYAML decodes onto the defaults.
func (x *MultilineConfig) UnmarshalYAML(unmarshal func(any) error) error {
	type plain MultilineConfig
	x.defaults()
	return unmarshal((*plain)(x))
}

// place is where a line belongs.
type place uint8

const (
	first    place = iota // it starts a block
	more                  // it goes on with the open block, if there is one
	singular              // it ends the open block and is none itself
)

type multilineStep struct {
	re     matcher // without expression where there is a preset
	preset preset
	wait   time.Duration
	max    int
	trim   bool
	state  int
	after  int
}

func (x *MultilineConfig) compile(c *compiler, at string) {
	s := &multilineStep{wait: time.Duration(x.MaxWaitTime), max: x.MaxLines, trim: x.TrimNewlines, state: c.prog.blocks}
	c.prog.blocks++
	switch {
	case (x.Firstline == "") == (x.Preset == ""):
		c.fault(at, "must have one of firstline, a regular expression, and preset: java, go, python or dotnet")
		return
	case x.Preset != "":
		if s.preset = newPreset(x.Preset); s.preset == nil {
			c.fault(config.Key(at, "preset"), "must be java, go, python or dotnet, is %q", x.Preset)
		}
	default:
		re := c.regexp(config.Key(at, "firstline"), x.Firstline)
		if re == nil {
			return
		}
		s.re = newMatcher(re)
	}
	if x.MaxWaitTime <= 0 {
		c.fault(config.Key(at, "max_wait_time"), "must be positive, is %s", x.MaxWaitTime)
	}
	if x.MaxLines <= 0 {
		c.fault(config.Key(at, "max_lines"), "must be positive, is %d", x.MaxLines)
	}
	c.add(s)
	s.after = len(c.prog.steps)
}

// run lets at most one line go on: the open block where the line ends it, the line itself
// where no block takes it, or both together where the block is full.
func (s *multilineStep) run(r *Runner, p *Pipeline) outcome {
	b, swapped := p.blockOf(s.state), false
	due := r.now.Add(s.wait)
	where, mode := s.place(r.line, b)
	switch {
	case b.lines > 0 && where == more && r.fits(b):
		r.join(b, "\n", due)
	case b.lines > 0:
		s.swap(r, b, due)
		swapped = true
	case where == singular, where == more && !b.seen, !r.mayHold():
		return next
	default:
		r.hold(b, s.after, due)
	}
	b.mode, b.seen = mode, true
	if where == singular {
		// Only the block before is in its way: it is due at once and takes no more lines.
		b.due, b.closed = r.now, true
	}
	switch {
	case swapped:
		return next
	case b.lines >= s.max:
		s.release(r, b)
		return next
	}
	return held
}

// place tells where the line belongs, given the open block.
func (s *multilineStep) place(line []byte, b *block) (place, uint8) {
	if s.preset != nil {
		return s.preset(line, b.mode, b.lines > 0 && !b.closed)
	}
	if s.re.matches(line) {
		return first, 0
	}
	return more, 0
}

// swap makes the block the line that is being processed, and the line the block.
func (s *multilineStep) swap(r *Runner, b *block, due time.Time) {
	var line block
	line.values = r.spareValues[:0]
	r.hold(&line, s.after, due)
	s.release(r, b)
	r.spareValues = b.values
	*b = line
}

func (s *multilineStep) release(r *Runner, b *block) {
	r.release(b)
	if s.trim {
		r.line = bytes.TrimRight(r.line, "\r\n")
	}
}
