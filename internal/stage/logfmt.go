package stage

import (
	"bytes"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// LogfmtConfig is the options of the stage logfmt.
type LogfmtConfig struct {
	// Mapping maps the names of the values to extract to the keys in the line; an empty key
	// is the name itself.
	Mapping map[string]string `yaml:"mapping"`
	// Source is the extracted value to read instead of the line.
	Source *string `yaml:"source,omitempty"`
}

type logfmtStep struct {
	source int
	keys   []logfmtKey
}

type logfmtKey struct {
	key  string
	slot int
}

func (x *LogfmtConfig) compile(c *compiler, at string) {
	s := &logfmtStep{source: c.source(at, x.Source)}
	if len(x.Mapping) == 0 {
		c.fault(config.Key(at, "mapping"), "must map at least one name to a key")
	}
	for _, name := range slices.Sorted(maps.Keys(x.Mapping)) {
		key := x.Mapping[name]
		if key == "" {
			key = name
		}
		s.keys = append(s.keys, logfmtKey{key, c.slot(name)})
	}
	c.add(s)
}

func (s *logfmtStep) run(r *Runner, _ *Pipeline) outcome {
	in, ok := r.input(s.source)
	if !ok {
		return next
	}
	for {
		var key, value []byte
		var escaped bool
		if key, value, escaped, in, ok = logfmtPair(in); !ok {
			return next
		}
		for i := range s.keys {
			if string(key) != s.keys[i].key {
				continue
			}
			if escaped {
				r.tmp = appendUnescaped(r.tmp[:0], value)
				value, escaped = r.keep(r.tmp), false
			}
			r.set(s.keys[i].slot, value, isText)
		}
	}
}

// logfmtPair splits off the first pair of in. What is no logfmt ends it, as in promtail: the
// pairs before count. escaped tells that the value was quoted and has valid escapes.
func logfmtPair(in []byte) (key, value []byte, escaped bool, rest []byte, ok bool) {
	for len(in) > 0 && in[0] <= ' ' {
		in = in[1:]
	}
	i, all := 0, byte(0)
	for i < len(in) && in[i] > ' ' && in[i] != '=' && in[i] != '"' {
		all |= in[i]
		i++
	}
	key, in = in[:i], in[i:]
	if i == 0 || all >= utf8.RuneSelf && bytes.ContainsRune(key, utf8.RuneError) || len(in) > 0 && in[0] == '"' {
		return nil, nil, false, nil, false
	}
	if len(in) == 0 || in[0] != '=' {
		return key, nil, false, in, true
	}
	in = in[1:]
	if len(in) > 0 && in[0] == '"' {
		return quotedPair(key, in[1:])
	}
	for i = 0; i < len(in) && in[i] > ' '; i++ {
		if in[i] == '=' || in[i] == '"' {
			return nil, nil, false, nil, false
		}
	}
	return key, in[:i], false, in[i:], true
}

func quotedPair(key, in []byte) (_, value []byte, escaped bool, rest []byte, ok bool) {
	control, bad := false, false
	for i := 0; i < len(in); i++ {
		switch c := in[i]; {
		case c == '"':
			if escaped && (control || bad) {
				return nil, nil, false, nil, false
			}
			return key, in[:i], escaped, in[i+1:], true
		case c == '\n':
			return nil, nil, false, nil, false
		case c < ' ':
			control = true
		case c == '\\':
			escaped = true
			// As promtail's parser, a quote may be escaped that JSON would not let.
			bad = bad || escape(in[i:]) == 0 && (i+1 == len(in) || in[i+1] != '\'')
			i++
		}
	}
	return nil, nil, false, nil, false
}
