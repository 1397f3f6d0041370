package stage

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// OutputConfig is the options of the stage output.
type OutputConfig struct {
	// Source is the extracted value that becomes the line.
	Source string `yaml:"source"`
}

type outputStep struct{ slot int }

func (x *OutputConfig) compile(c *compiler, at string) {
	c.add(&outputStep{c.required(at, x.Source)})
}

func (s *outputStep) run(r *Runner, _ *Pipeline) outcome {
	if v, ok := r.text(s.slot); ok {
		r.line = v
	}
	return next
}

// DecolorizeConfig is the options of the stage decolorize, which has none.
type DecolorizeConfig struct{}

type decolorizeStep struct{}

func (x *DecolorizeConfig) compile(c *compiler, _ string) { c.add(decolorizeStep{}) }

func (decolorizeStep) run(r *Runner, _ *Pipeline) outcome {
	// U+009B is the introducer of a sequence in one character, 0xc2 0x9b in UTF-8.
	if bytes.IndexByte(r.line, 0x1b) < 0 && !bytes.Contains(r.line, r.names.csi) {
		return next
	}
	r.tmp = r.tmp[:0]
	for in := r.line; len(in) > 0; {
		plain := 0
		for plain < len(in) && in[plain] != 0x1b && in[plain] != 0xc2 {
			plain++
		}
		r.tmp, in = append(r.tmp, in[:plain]...), in[plain:]
		n := escapeSequence(in)
		if n == 0 && len(in) > 0 {
			r.tmp, n = append(r.tmp, in[0]), 1
		}
		in = in[n:]
	}
	if len(r.tmp) < len(r.line) {
		r.line = r.keep(r.tmp)
	}
	return next
}

// escapeSequence returns the length of the terminal's escape sequence (ECMA-48) at the start of
// b; 0 if there is none.
func escapeSequence(b []byte) int {
	switch {
	case len(b) > 2 && b[0] == 0xc2 && b[1] == 0x9b, len(b) > 2 && b[0] == 0x1b && b[1] == '[':
		return controlSequence(b)
	case len(b) < 2 || b[0] != 0x1b:
		return 0
	}
	switch c := b[1]; {
	case c == ']':
		for i := 2; i < len(b); i++ {
			if b[i] == 0x07 {
				return i + 1
			}
			if b[i] == 0x1b && i+1 < len(b) && b[i+1] == '\\' {
				return i + 2
			}
		}
		return 0
	case c == '(' || c == ')' || c == '#':
		if len(b) > 2 && b[2] > ' ' && b[2] < utf8.RuneSelf {
			return 3
		}
		return 0
	case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', c == '=', c == '>', c == '<', c == '~':
		return 2
	}
	return 0
}

// controlSequence returns the length of a sequence that begins with a two byte introducer.
func controlSequence(b []byte) int {
	i := 2
	for i < len(b) && b[i] >= 0x30 && b[i] <= 0x3f {
		i++
	}
	for i < len(b) && b[i] >= 0x20 && b[i] <= 0x2f {
		i++
	}
	if i < len(b) && b[i] >= 0x40 && b[i] <= 0x7e {
		return i + 1
	}
	return 0
}

// PackConfig is the options of the stage pack.
type PackConfig struct {
	// Labels are the extracted values and labels to put into the line. Labels are removed.
	Labels []string `yaml:"labels"`
	// IngestTimestamp gives the line the present time, so that lines of many streams packed
	// into one are in order. Default true, as in promtail.
	IngestTimestamp bool `yaml:"ingest_timestamp"`
}

func (x *PackConfig) defaults() { x.IngestTimestamp = true }

// UnmarshalYAML decodes onto the defaults.
func (x *PackConfig) UnmarshalYAML(unmarshal func(any) error) error {
	type plain PackConfig
	x.defaults()
	return unmarshal((*plain)(x))
}

type packStep struct {
	list   []labelSource
	ingest bool
}

func (x *PackConfig) compile(c *compiler, at string) {
	s := &packStep{ingest: x.IngestTimestamp}
	names := map[string]bool{}
	for _, name := range x.Labels {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if name == "_entry" {
			c.fault(config.Key(at, "labels"), "must not contain _entry, which is the key of the line")
		}
		s.list = append(s.list, labelSource{name, name, c.slot(name)})
	}
	c.add(s)
}

func (s *packStep) run(r *Runner, _ *Pipeline) outcome {
	out := append(r.tmp[:0], '{')
	for i := range s.list {
		name := s.list[i].label
		label, isLabel := r.labels.get(name)
		v, ok := r.text(s.list[i].slot)
		if !ok && isLabel && r.kindOf(s.list[i].slot) == 0 { // Such as one that a stage has added.
			v, ok = label, true
		}
		if !ok {
			continue
		}
		out = append(appendJSON(out, []byte(name)), ':')
		out = append(appendJSON(out, v), ',')
		if isLabel {
			r.labels.remove(name)
		}
	}
	out = append(out, `"_entry":`...)
	r.tmp = append(appendJSON(out, r.line), '}')
	if len(r.tmp) > maxText {
		// Cut JSON would be none. Only a text full of control characters grows so much.
		r.counts.Cut++
		r.tmp = r.tmp[:0]
		r.tmp = append(append(append(r.tmp, `{"_entry":`...), appendJSON(nil, cutAt(r.line, maxText/8))...), '}')
	}
	r.line = r.keep(r.tmp)
	if s.ingest {
		r.t = r.now.UnixNano()
	}
	return next
}

// appendJSON appends b as a JSON string.
func appendJSON(dst, b []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i, c := range b {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, b[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, `\u00`...)
			if c < 0x10 {
				dst = append(dst, '0')
			}
			dst = strconv.AppendUint(dst, uint64(c), 16)
		}
	}
	return append(append(dst, b[start:]...), '"')
}
