package stage

import (
	"bytes"
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// partialWait is how long the first parts of a line wait for the next. A program that prints a
// line without end over hours would otherwise keep the position where it began.
const partialWait = time.Minute

// CRIConfig is the options of the stage cri.
type CRIConfig struct {
	// MaxPartialLines is accepted and has no meaning: each stream of a file holds the parts of
	// one line. Default 100.
	MaxPartialLines int `yaml:"max_partial_lines,omitempty"`
	// MaxPartialLineSize is the longest line that is put together of parts, if
	// MaxPartialLineSizeTruncate is set. Default 0.
	MaxPartialLineSize config.Size `yaml:"max_partial_line_size,omitempty"`
	// MaxPartialLineSizeTruncate cuts lines of several parts at MaxPartialLineSize. Default
	// false: at 256KiB.
	MaxPartialLineSizeTruncate bool `yaml:"max_partial_line_size_truncate,omitempty"`
}

func (x *CRIConfig) defaults() { x.MaxPartialLines = 100 }

// UnmarshalYAML decodes onto the defaults.
func (x *CRIConfig) UnmarshalYAML(unmarshal func(any) error) error {
	type plain CRIConfig
	x.defaults()
	return unmarshal((*plain)(x))
}

// DockerConfig is the options of the stage docker, which has none.
type DockerConfig struct{}

// record is the values that cri and docker extract, by their places, -1 where nobody asks.
type record struct{ time, stream, flags, content int }

// record finds the places when all names are known.
func (c *compiler) record(into *record, time, stream, flags, content string) {
	c.last = append(c.last, func() {
		of := func(name string) int {
			if slot, ok := c.prog.slots[name]; ok {
				return slot
			}
			return -1
		}
		*into = record{of(time), of(stream), of(flags), of(content)}
	})
}

// known sets what the caller has taken apart.
func (s *record) known(r *Runner) {
	name := r.names.stdout
	if r.stream == "stderr" {
		name = r.names.stderr
	}
	r.labels.set("stream", name)
	if s.time >= 0 {
		r.tmp = time.Unix(0, r.t).UTC().AppendFormat(r.tmp[:0], time.RFC3339Nano)
		r.set(s.time, r.keep(r.tmp), isText)
	}
	if s.stream >= 0 {
		r.set(s.stream, name, isText)
	}
	if s.flags >= 0 {
		r.set(s.flags, r.names.full, isText)
	}
	if s.content >= 0 {
		r.set(s.content, r.line, isText)
	}
}

// criStep takes apart "time stream flag text" and joins the parts of long lines. What is no
// such line passes unchanged.
type criStep struct {
	record
	block int // of stdout, the next is that of stderr
	after int
	max   int
}

func (x *CRIConfig) compile(c *compiler, at string) {
	s := &criStep{block: c.prog.blocks, max: maxBlock}
	c.prog.blocks += 2
	if x.MaxPartialLines <= 0 {
		c.fault(config.Key(at, "max_partial_lines"), "must be positive, is %d", x.MaxPartialLines)
	}
	if x.MaxPartialLineSizeTruncate {
		if s.max = min(maxBlock, int(x.MaxPartialLineSize)); s.max == 0 {
			c.fault(config.Key(at, "max_partial_line_size"), "must be positive where lines are cut at it")
		}
	}
	c.record(&s.record, "time", "stream", "flags", "content")
	c.add(s)
	s.after = len(c.prog.steps)
}

func (s *criStep) run(r *Runner, p *Pipeline) outcome {
	if r.stream != "" {
		s.known(r)
		return next
	}
	stamp, stream, flags, text, ok := criLine(r.line)
	if !ok {
		return next
	}
	if t, ok := parseRFC3339(stamp); ok {
		r.t = t
	}
	r.line = text
	r.labels.set("stream", stream)
	for _, x := range [...]extracted{{s.time, stamp}, {s.stream, stream}, {s.flags, flags}, {s.content, text}} {
		if x.slot >= 0 {
			r.set(x.slot, x.value, isText)
		}
	}
	i := s.block
	if stream[3] == 'e' { // stderr
		i++
	}
	partial := flags[0] == 'P' && (len(flags) == 1 || flags[1] == ':')
	if !partial && (p.blocks == nil || p.blocks[i].lines == 0) {
		return next
	}
	return s.join(r, p.blockOf(i), partial)
}

// join adds a part to the open line of its stream. The time is that of the last part.
func (s *criStep) join(r *Runner, b *block, partial bool) outcome {
	due := r.now.Add(partialWait)
	switch {
	case b.lines > 0:
		r.line = cutAt(r.line, max(0, s.max-b.text))
		r.join(b, "", due)
		b.t = r.t
	case r.mayHold():
		r.line = cutAt(r.line, s.max)
		r.hold(b, s.after, due)
	default:
		return next
	}
	if partial {
		return held
	}
	r.saveValues(b) // The values are those of the last part, too.
	r.release(b)
	return next
}

// criLine takes apart a line of a container runtime.
func criLine(line []byte) (stamp, stream, flags, text []byte, ok bool) {
	i := bytes.IndexByte(line, ' ')
	if i <= 0 {
		return nil, nil, nil, nil, false
	}
	stamp, line = line[:i:i], line[i+1:]
	if i = bytes.IndexByte(line, ' '); i < 0 || string(line[:i]) != "stdout" && string(line[:i]) != "stderr" {
		return nil, nil, nil, nil, false
	}
	stream, line = line[:i:i], line[i+1:]
	if i = bytes.IndexByte(line, ' '); i <= 0 {
		return nil, nil, nil, nil, false
	}
	return stamp, stream, line[:i:i], line[i+1:], true
}

// dockerStep takes apart a line of Docker's json-file driver. What is no such line passes
// unchanged. Parts of long lines are not joined, as in promtail.
type dockerStep struct {
	record
	tree jsonTree
}

func (x *DockerConfig) compile(c *compiler, _ string) {
	s := &dockerStep{}
	for i, key := range []string{"time", "stream", "log"} {
		s.tree.add([]string{key}, i)
	}
	c.record(&s.record, "timestamp", "stream", "", "output")
	c.add(s)
}

func (s *dockerStep) run(r *Runner, _ *Pipeline) outcome {
	if r.stream != "" {
		s.known(r)
		return next
	}
	found, ok := r.json.scan(r.line, &s.tree, 3)
	if !ok {
		return next
	}
	stamp, stream, log := r.jsonText(found[0]), r.jsonText(found[1]), r.jsonText(found[2])
	for _, x := range [...]extracted{{s.time, stamp}, {s.stream, stream}, {s.content, log}} {
		if x.slot >= 0 && x.value != nil {
			r.set(x.slot, x.value, isText)
		}
	}
	if len(stream) > 0 {
		r.labels.set("stream", stream)
	}
	if t, ok := parseRFC3339(stamp); ok {
		r.t = t
	}
	if log != nil {
		r.line = bytes.TrimSuffix(log, []byte{'\n'})
	}
	return next
}

// jsonText returns the text of a JSON string; nil for anything else.
func (r *Runner) jsonText(raw []byte) []byte {
	if len(raw) < 2 || raw[0] != '"' {
		return nil
	}
	raw = raw[1 : len(raw)-1]
	if bytes.IndexByte(raw, '\\') >= 0 {
		r.tmp = appendUnescaped(r.tmp[:0], raw)
		raw = r.keep(r.tmp)
	}
	return raw
}
