package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strings"

	promconfig "github.com/prometheus/common/config"
	"go.yaml.in/yaml/v3"
)

// maxValues bounds how many values a file may have once its aliases are followed, so that a
// few lines of nested aliases cannot take all memory.
const maxValues = 200_000

// decoder walks a tree of nodes beside a Go value. Its methods return the problems of the
// part that they were given and leave the rest of that part decoded.
type decoder struct {
	lines     map[string]int // by path, of every key and list element seen
	following map[*yaml.Node]bool
	layouts   map[reflect.Type]layout
	values    int
}

// spent counts one more value and reports whether there were too many. What remains is then
// left undecoded and Load refuses the file.
func (d *decoder) spent() bool {
	d.values++
	return d.values > maxValues
}

// failed carries problems out through an UnmarshalYAML of somebody else.
type failed struct{ problems Problems }

func (f *failed) Error() string { return f.problems.Error() }

type selfDecoder interface{ UnmarshalYAML(func(any) error) error }

func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) Problems {
	if d.spent() {
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return d.alias(n, path, func(target *yaml.Node) Problems { return d.value(target, v, path) })
	}
	if v.Type() == reflect.TypeFor[yaml.Node]() {
		v.Set(reflect.ValueOf(*n))
		return nil
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return nil
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return d.value(n, v.Elem(), path)
	}
	switch u := v.Addr().Interface().(type) {
	case *promconfig.URL:
		return d.url(n, u, path)
	case selfDecoder:
		return d.self(n, u, v.Type(), path)
	case yaml.Unmarshaler:
		return problemsAt(path, u.UnmarshalYAML(n))
	case encoding.TextUnmarshaler:
		if n.Kind != yaml.ScalarNode {
			return wrongKind(n, v.Type(), path)
		}
		return problemsAt(path, u.UnmarshalText([]byte(n.Value)))
	}
	switch v.Kind() {
	case reflect.Struct:
		return d.structure(n, v, path)
	case reflect.Map:
		return d.mapping(n, v, path)
	case reflect.Slice:
		return d.list(n, v, path)
	case reflect.Interface:
		return d.anything(n, v, path)
	default:
		return d.scalar(n, v, path)
	}
}

// alias calls decode with the node that n stands for, unless that contains n.
func (d *decoder) alias(n *yaml.Node, path string, decode func(*yaml.Node) Problems) Problems {
	if d.following[n.Alias] {
		return Problems{{Path: path, Line: n.Line, Text: fmt.Sprintf("alias *%s stands for a value that contains the alias itself", n.Value)}}
	}
	d.following[n.Alias] = true
	defer delete(d.following, n.Alias)
	return decode(n.Alias)
}

// self lets a type decode itself and gives its errors a path. The type may try several
// forms: the problems count that belong to the error it returns in the end.
func (d *decoder) self(n *yaml.Node, u selfDecoder, t reflect.Type, path string) Problems {
	if what, ok := knownValue(t); ok && n.Kind != yaml.ScalarNode {
		return Problems{{Path: path, Line: n.Line, Text: fmt.Sprintf("must be %s, is %s", what, describe(n))}}
	}
	err := u.UnmarshalYAML(func(into any) error {
		if ps := d.value(n, reflect.ValueOf(into).Elem(), path); ps != nil {
			return &failed{ps}
		}
		return nil
	})
	if f, ok := errors.AsType[*failed](err); ok {
		return f.problems
	}
	if what, ok := knownValue(t); ok && err != nil {
		text := fmt.Sprintf("must be %s, is %q", what, n.Value)
		if t == reflect.TypeFor[Duration]() && n.ShortTag() == "!!int" && !strings.HasPrefix(n.Value, "-") {
			text += fmt.Sprintf("; did you mean %ss?", n.Value)
		}
		return Problems{{Path: path, Line: n.Line, Text: text}}
	}
	return problemsAt(path, err)
}

// problemsAt turns the error of a decoding method into problems; Load finds their lines.
func problemsAt(path string, err error) Problems {
	var ps Problems
	ps.Merge(path, err)
	return ps
}

// url decodes a URL here and not in its own method, whose error quotes it with the password.
func (d *decoder) url(n *yaml.Node, u *promconfig.URL, path string) Problems {
	err := u.UnmarshalYAML(func(into any) error {
		if ps := d.value(n, reflect.ValueOf(into).Elem(), path); ps != nil {
			return &failed{ps}
		}
		return nil
	})
	if f, ok := errors.AsType[*failed](err); ok {
		return f.problems
	}
	if err != nil {
		return Problems{{Path: path, Line: n.Line, Text: "must be a URL such as http://host:8080/path; special characters in it need percent-encoding"}}
	}
	return nil
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) Problems {
	if n.Kind != yaml.SequenceNode {
		return wrongKind(n, v.Type(), path)
	}
	var ps Problems
	list := reflect.MakeSlice(v.Type(), 0, len(n.Content))
	for i, item := range n.Content {
		at := Index(path, i)
		d.lines[at] = item.Line
		elem := reflect.New(v.Type().Elem()).Elem()
		if item.Kind == yaml.ScalarNode && item.ShortTag() == "!!null" {
			ps = append(ps, Problem{Path: at, Line: item.Line, Text: "is empty; give it a value or remove the dash"})
			continue
		}
		ps = append(ps, d.value(item, elem, at)...)
		list = reflect.Append(list, elem)
	}
	v.Set(list)
	return ps
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) Problems {
	if n.Kind != yaml.MappingNode {
		return wrongKind(n, v.Type(), path)
	}
	pairs, ps := d.pairs(n, path)
	if v.IsNil() {
		v.Set(reflect.MakeMapWithSize(v.Type(), len(pairs)))
	}
	for _, p := range pairs {
		ps = append(ps, d.entry(p, v, path)...)
	}
	return ps
}

// entry decodes one key with its value into the map v.
func (d *decoder) entry(p pair, v reflect.Value, path string) Problems {
	at := Key(path, p.key.Value)
	d.lines[at] = p.key.Line
	key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
	ps := d.value(p.key, key, at)
	ps = append(ps, d.value(p.value, elem, at)...)
	if len(ps) == 0 {
		v.SetMapIndex(key, elem)
	}
	return ps
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) Problems {
	if n.Kind != yaml.MappingNode {
		return wrongKind(n, v.Type(), path)
	}
	l := d.layout(v.Type())
	pairs, ps := d.pairs(n, path)
	for _, p := range pairs {
		key := p.key.Value
		index, known := l.fields[key]
		switch {
		case known:
			at := Key(path, key)
			d.lines[at] = p.key.Line
			ps = append(ps, d.value(p.value, field(v, index), at)...)
		case l.rest != nil:
			rest := field(v, l.rest)
			if rest.IsNil() {
				rest.Set(reflect.MakeMap(rest.Type()))
			}
			ps = append(ps, d.entry(p, rest, path)...)
		default:
			ps = append(ps, l.unknown(p.key, path))
		}
	}
	return ps
}

// anything decodes into an interface, which takes every kind of value.
func (d *decoder) anything(n *yaml.Node, v reflect.Value, path string) Problems {
	if err := n.Decode(v.Addr().Interface()); err != nil {
		// The parser's text may quote the value.
		return Problems{{Path: path, Line: n.Line, Text: "has a key twice, an alias of itself, or a value that does not fit its tag"}}
	}
	return nil
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) Problems {
	if n.Kind != yaml.ScalarNode {
		return wrongKind(n, v.Type(), path)
	}
	if v.Kind() == reflect.String {
		if n.ShortTag() == "!!binary" {
			return Problems{{Path: path, Line: n.Line, Text: "must be text, is tagged !!binary"}}
		}
		v.SetString(n.Value)
		return nil
	}
	if err := n.Decode(v.Addr().Interface()); err != nil {
		return Problems{{Path: path, Line: n.Line, Text: fmt.Sprintf("must be %s, is %q", wanted(v.Type()), n.Value)}}
	}
	return nil
}

// pair is one key of a mapping with its value.
type pair struct{ key, value *yaml.Node }

// pairs returns the keys of a mapping, those that merge keys (<<) bring in last.
func (d *decoder) pairs(n *yaml.Node, path string) ([]pair, Problems) {
	var pairs []pair
	var merged []*yaml.Node
	var ps Problems
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		switch first := lines[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			ps = append(ps, Problem{Path: path, Line: key.Line, Text: "has a key that is " + describe(key) + "; keys must be plain words"})
		case key.ShortTag() == "!!merge":
			merged = append(merged, value)
		case first != 0:
			ps = append(ps, Problem{Path: Key(path, key.Value), Line: key.Line, Text: fmt.Sprintf("is set twice, first on line %d; keep one", first)})
		default:
			lines[key.Value] = key.Line
			pairs = append(pairs, pair{key, value})
		}
	}
	for _, m := range merged {
		more, problems := d.merged(m, path)
		ps = append(ps, problems...)
		for _, p := range more {
			if lines[p.key.Value] == 0 {
				lines[p.key.Value] = p.key.Line
				pairs = append(pairs, p)
			}
		}
	}
	return pairs, ps
}

// merged returns what the value of a merge key stands for: a mapping or a list of them.
func (d *decoder) merged(n *yaml.Node, path string) (pairs []pair, ps Problems) {
	if d.spent() {
		return nil, nil
	}
	switch n.Kind {
	case yaml.AliasNode:
		ps = d.alias(n, path, func(target *yaml.Node) (ps Problems) {
			pairs, ps = d.merged(target, path)
			return ps
		})
	case yaml.MappingNode:
		return d.pairs(n, path)
	case yaml.SequenceNode:
		for _, item := range n.Content {
			more, problems := d.merged(item, path)
			pairs, ps = append(pairs, more...), append(ps, problems...)
		}
	default:
		ps = Problems{{Path: path, Line: n.Line, Text: "<< must be followed by an alias such as *name of a mapping"}}
	}
	return pairs, ps
}

// lineOf returns the line of the key at path or of the nearest key above it.
func (d *decoder) lineOf(path string) int {
	for {
		if line := d.lines[path]; line != 0 {
			return line
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return 0
		}
		path = path[:i]
	}
}
