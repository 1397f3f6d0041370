package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// layout is which keys a struct takes: those of its fields and of the structs inlined in it.
type layout struct {
	fields map[string][]int  // key to field index, as reflect.Value.FieldByIndex takes it
	rest   []int             // index of the inlined map that takes all other keys, or nil
	nested map[string]string // key that only a struct below takes, to the key of that struct
}

// layout reads the struct tags as the YAML library does.
func (d *decoder) layout(t reflect.Type) layout {
	if l, ok := d.layouts[t]; ok {
		return l
	}
	l := layout{fields: map[string][]int{}, nested: map[string]string{}}
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("yaml")
		if tag == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		key, options, _ := strings.Cut(tag, ",")
		if slices.Contains(strings.Split(options, ","), "inline") {
			d.inline(&l, f, i)
			continue
		}
		if f.Anonymous {
			continue // As the URL inside promconfig.URL, which is one value.
		}
		if key == "" {
			key = strings.ToLower(f.Name)
		}
		l.fields[key] = []int{i}
		if f.Type.Kind() == reflect.Struct {
			for below := range d.layout(f.Type).fields {
				if l.nested[below] == "" {
					l.nested[below] = key
				}
			}
		}
	}
	d.layouts[t] = l
	return l
}

func (d *decoder) inline(l *layout, f reflect.StructField, i int) {
	t := f.Type
	if t.Kind() == reflect.Map {
		l.rest = []int{i}
		return
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	inner := d.layout(t)
	for key, index := range inner.fields {
		l.fields[key] = append([]int{i}, index...)
	}
	maps.Copy(l.nested, inner.nested)
	if inner.rest != nil {
		l.rest = append([]int{i}, inner.rest...)
	}
}

// field returns the field at index, making inlined pointers on the way.
func field(v reflect.Value, index []int) reflect.Value {
	for _, i := range index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v
}

// unknown is the problem of a key that the struct does not have.
func (l layout) unknown(key *yaml.Node, path string) Problem {
	// After "password:hunter2", where a space is missing, the key holds the secret.
	name := key.Value
	if end := strings.IndexFunc(name, func(r rune) bool { return !isWord(r) }); end >= 0 {
		name = name[:end]
		text := "has a key that is no plain word"
		if key.Value[end] == ':' {
			text = fmt.Sprintf("a space is missing after %q", name+":")
		}
		return Problem{Path: Key(path, name), Line: key.Line, Text: text, meant: Key(path, name)}
	}
	p := Problem{Path: Key(path, name), Line: key.Line}
	known := slices.Sorted(maps.Keys(l.fields))
	base, isSecret := strings.CutSuffix(name, "_secret")
	_, hasFile := l.fields[base+"_file"]
	switch suggestion := suggest(name, known); {
	case isSecret && hasFile:
		p.Text = fmt.Sprintf("reading credentials from Kubernetes Secrets is not supported yet; mount the Secret and use %s_file", base)
		p.meant = Key(path, base)
	case suggestion != "":
		p.Text = fmt.Sprintf("unknown key, did you mean %q?", suggestion)
		p.meant = Key(path, suggestion)
	case l.nested[snakeCase(name)] != "":
		p.Text = fmt.Sprintf("unknown key here, it belongs below %q", l.nested[snakeCase(name)])
	default:
		p.Text = "unknown key" + choice(name, known)
	}
	return p
}

// suggest is Suggest without keys that only end like name: who writes dns_sd_configs does not
// mean file_sd_configs.
func suggest(name string, known []string) string {
	suggestion := Suggest(name, known)
	head, tail, _ := strings.Cut(name, "_")
	if first, rest, cut := strings.Cut(suggestion, "_"); cut && rest == tail && Suggest(head, []string{first}) == "" {
		return ""
	}
	return suggestion
}

// choice lists the keys that end in the same words, such as other kinds of discovery, or all
// when they are few.
func choice(name string, known []string) string {
	if _, suffix, ok := strings.Cut(name, "_"); ok {
		similar := slices.DeleteFunc(slices.Clone(known), func(k string) bool { return !strings.HasSuffix(k, "_"+suffix) })
		if len(similar) > 0 {
			return "; similar here: " + strings.Join(similar, ", ")
		}
	}
	if len(known) <= 12 {
		return "; known here: " + strings.Join(known, ", ")
	}
	return ""
}

func isWord(r rune) bool {
	return r == '_' || r == '-' || r == '.' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

func wrongKind(n *yaml.Node, t reflect.Type, path string) Problems {
	text := fmt.Sprintf("must be %s, is %s", wanted(t), describe(n))
	if t.Kind() == reflect.Slice && n.Kind == yaml.ScalarNode {
		text += "; put the value in [ ]"
	}
	return Problems{{Path: path, Line: n.Line, Text: text}}
}

// describe names the kind of a node. It never quotes the value, which may be a secret.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return describe(n.Alias)
	case n.ShortTag() == "!!int", n.ShortTag() == "!!float":
		return "a number"
	case n.ShortTag() == "!!bool":
		return "true or false"
	default:
		return "text"
	}
}

// wanted says what a value of type t looks like in YAML.
func wanted(t reflect.Type) string {
	if what, ok := knownValue(t); ok {
		return what
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "a mapping of keys"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number, not negative"
	case reflect.Float32, reflect.Float64:
		return "a number"
	default:
		return "text"
	}
}

// knownValue describes the single values whose own error does not say what would be right.
// They are told by name, so that this package needs no import for a text.
func knownValue(t reflect.Type) (string, bool) {
	switch t.String() {
	case "model.Duration":
		return "a duration such as 30s, 5m or 1h30m", true
	case "config.Size":
		return "a size such as 512MiB, 4GiB or 1048576", true
	case "config.TLSVersion":
		return "one of TLS10, TLS11, TLS12, TLS13", true
	case "relabel.Action":
		return "one of replace, keep, drop, keepequal, dropequal, hashmod, labelmap, labeldrop, labelkeep, lowercase, uppercase", true
	case "model.ValidationScheme":
		return "one of utf8, legacy", true
	}
	return "", false
}
