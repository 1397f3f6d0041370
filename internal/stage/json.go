package stage

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jmespath/go-jmespath"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// JSONConfig is the options of the stage json.
type JSONConfig struct {
	// Expressions maps the names of the values to extract to JMESPath expressions; an empty
	// one is the name itself.
	Expressions map[string]string `yaml:"expressions"`
	// Source is the extracted value to read instead of the line.
	Source *string `yaml:"source,omitempty"`
	// DropMalformed drops lines that are not JSON objects, with the reason malformed_json.
	// Default false: they go on unchanged.
	DropMalformed bool `yaml:"drop_malformed,omitempty"`
}

// jsonStep extracts values from a JSON object. Expressions that only name keys, a.b, are
// answered while the text is scanned; the others need the whole document in memory.
type jsonStep struct {
	source    int
	tree      jsonTree
	slots     []int // by number of path
	others    []jmesPath
	malformed int // reason, or -1
}

type jmesPath struct {
	slot int
	expr *jmespath.JMESPath
}

func (x *JSONConfig) compile(c *compiler, at string) {
	s := &jsonStep{source: c.source(at, x.Source), malformed: -1}
	if x.DropMalformed {
		s.malformed = c.reason("malformed_json", "")
	}
	if len(x.Expressions) == 0 {
		c.fault(config.Key(at, "expressions"), "must map at least one name to a JMESPath expression")
	}
	for _, name := range slices.Sorted(maps.Keys(x.Expressions)) {
		expr := x.Expressions[name]
		if expr == "" {
			expr = name
		}
		compiled, err := jmespath.Compile(expr)
		if err != nil {
			c.fault(config.Key(config.Key(at, "expressions"), name), "must be a JMESPath expression: %v; keys that are no plain words need double quotes", err)
			continue
		}
		if path, ok := keyPath(expr); ok {
			s.tree.add(path, len(s.slots))
			s.slots = append(s.slots, c.slot(name))
		} else {
			s.others = append(s.others, jmesPath{c.slot(name), compiled})
		}
	}
	c.add(s)
}

// keyPath takes apart an expression that only names keys: a.b."c-d".
func keyPath(expr string) (path []string, ok bool) {
	for {
		expr = strings.TrimLeft(expr, " ")
		var key string
		if strings.HasPrefix(expr, `"`) {
			end := strings.IndexByte(expr[1:], '"')
			if end < 0 || strings.IndexByte(expr[:end+1], '\\') >= 0 {
				return nil, false
			}
			key, expr = expr[1:end+1], expr[end+2:]
		} else {
			end := strings.IndexFunc(expr, func(r rune) bool { return !isIdentifier(r) })
			if end < 0 {
				end = len(expr)
			}
			if end == 0 {
				return nil, false
			}
			key, expr = expr[:end], expr[end:]
		}
		path = append(path, key)
		if expr = strings.TrimLeft(expr, " "); expr == "" {
			return path, true
		}
		if expr[0] != '.' {
			return nil, false
		}
		expr = expr[1:]
	}
}

func isIdentifier(r rune) bool {
	return r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

func (s *jsonStep) run(r *Runner, _ *Pipeline) outcome {
	in, ok := r.input(s.source)
	if !ok {
		return next
	}
	found, ok := r.json.scan(in, &s.tree, len(s.slots))
	if !ok {
		if s.malformed >= 0 {
			return r.drop(s.malformed)
		}
		return next
	}
	for i, slot := range s.slots {
		r.setJSON(slot, found[i])
	}
	if len(s.others) > 0 {
		s.search(r, in)
	}
	return next
}

// search evaluates the expressions that are more than keys.
func (s *jsonStep) search(r *Runner, in []byte) {
	var doc map[string]any
	if json.Unmarshal(in, &doc) != nil {
		return // It has passed the scan, so this is a number beyond what a float holds.
	}
	for _, x := range s.others {
		if v, ok := evaluate(x.expr, doc); ok {
			r.setAny(x.slot, v)
		}
	}
}

// evaluate guards against an expression that makes the library panic on some document: lines
// are somebody else's, and the collector must outlive them.
func evaluate(x *jmespath.JMESPath, doc map[string]any) (v any, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	v, err := x.Search(doc)
	return v, err == nil
}

// setAny sets an extracted value to the result of an expression.
func (r *Runner) setAny(slot int, v any) {
	switch v := v.(type) {
	case nil:
		r.set(slot, nil, isNull)
	case string:
		r.set(slot, r.keep([]byte(v)), isText)
	case bool:
		r.set(slot, r.keep(strconv.AppendBool(nil, v)), isBool)
	case float64:
		r.set(slot, r.number(v), isNumber)
	default:
		var text bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		if enc.Encode(v) == nil {
			r.set(slot, r.keep(bytes.TrimSuffix(text.Bytes(), []byte{'\n'})), isText)
		}
	}
}
