package stage

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
	"unicode/utf8"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// TemplateConfig is the options of the stage template.
type TemplateConfig struct {
	// Source is the extracted value to change or to make. A template that yields nothing
	// removes it.
	Source string `yaml:"source"`
	// Template is a Go template (text/template). .Value is the extracted value, .Entry the
	// line, and every other extracted value is there under its name. Functions are those of
	// promtail (ToLower, ToUpper, Replace, Trim, TrimLeft, TrimRight, TrimPrefix, TrimSuffix,
	// TrimSpace, Hash, Sha2Hash, regexReplaceAll, regexReplaceAllLiteral) and the most used of
	// sprig.
	Template string `yaml:"template"`
}

// text is a parsed template and what it asks for.
type text struct {
	tmpl  *template.Template
	plain string // the result, where it is always the same
	fixed bool
	names []string // extracted values
	slots []int    // of names
	all   bool     // it may ask for any
	entry bool
}

// template parses a template; it is nil after a fault.
func (c *compiler) template(at, source string) *text {
	tmpl, err := template.New("").Funcs(functions()).Parse(source)
	if err != nil {
		c.fault(at, "must be a Go template: %s", strings.TrimPrefix(err.Error(), "template: :"))
		return nil
	}
	t := &text{tmpl: tmpl}
	for _, part := range tmpl.Templates() {
		if part.Tree != nil {
			t.walk(part.Root)
		}
	}
	if root := tmpl.Root; root == nil || len(root.Nodes) == 0 {
		t.fixed = true
	} else if only, ok := root.Nodes[0].(*parse.TextNode); ok && len(root.Nodes) == 1 {
		t.fixed, t.plain = true, string(only.Text)
	}
	c.last = append(c.last, func() { t.resolve(c) })
	for _, name := range t.names {
		c.slot(name)
	}
	return t
}

// resolve finds the places of the names when all are known.
func (t *text) resolve(c *compiler) {
	if t.all {
		t.names = t.names[:0]
		for name := range c.prog.slots {
			t.names = append(t.names, name)
		}
	}
	slices.Sort(t.names)
	t.names = slices.Compact(t.names)
	for _, name := range t.names {
		t.slots = append(t.slots, c.prog.slots[name])
	}
}

// walk notes what the template asks for: fields of the dot, and everything where it uses the
// dot or $ as a whole.
func (t *text) walk(n parse.Node) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n != nil {
			for _, sub := range n.Nodes {
				t.walk(sub)
			}
		}
	case *parse.ActionNode:
		t.walk(n.Pipe)
	case *parse.IfNode:
		t.branch(&n.BranchNode)
	case *parse.RangeNode:
		t.branch(&n.BranchNode)
	case *parse.WithNode:
		t.branch(&n.BranchNode)
	case *parse.TemplateNode:
		t.walk(n.Pipe)
	case *parse.PipeNode:
		if n != nil {
			for _, cmd := range n.Cmds {
				for _, arg := range cmd.Args {
					t.walk(arg)
				}
			}
		}
	case *parse.FieldNode:
		t.field(n.Ident[0])
	case *parse.VariableNode:
		switch {
		case n.Ident[0] != "$":
		case len(n.Ident) > 1:
			t.field(n.Ident[1])
		default:
			t.all, t.entry = true, true
		}
	case *parse.ChainNode:
		t.walk(n.Node)
	case *parse.DotNode:
		t.all, t.entry = true, true
	}
}

func (t *text) branch(n *parse.BranchNode) {
	t.walk(n.Pipe)
	t.walk(n.List)
	t.walk(n.ElseList)
}

func (t *text) field(name string) {
	switch name {
	case "Value":
	case "Entry":
		t.entry = true
	default:
		t.names = append(t.names, name)
	}
}

// fill makes the data of a template; Value is left to the caller.
func (t *text) fill(r *Runner) {
	clear(r.data)
	if t.all {
		for _, l := range r.labels.base {
			if _, ok := r.prog.slots[l.name]; !ok {
				r.data[l.name] = string(l.value)
			}
		}
	}
	for i, name := range t.names {
		if v, ok := r.text(t.slots[i]); ok {
			r.data[name] = string(v)
		}
	}
}

// execute returns the result in r.tmp; ok is false if the template fails.
func (t *text) execute(r *Runner) (out []byte, ok bool) {
	w := limited{r.tmp[:0]}
	err := t.tmpl.Execute(&w, r.data)
	if r.tmp = w.b; !utf8.Valid(r.tmp) { // Functions can cut within a character.
		r.tmp = bytes.ToValidUTF8(r.tmp, []byte("\uFFFD"))
	}
	return r.tmp, err == nil
}

// limited is a writer that takes no more than maxText.
type limited struct{ b []byte }

func (w *limited) Write(p []byte) (int, error) {
	if len(w.b)+len(p) > maxText {
		return 0, io.ErrShortWrite
	}
	w.b = append(w.b, p...)
	return len(p), nil
}

type templateStep struct {
	slot int
	text *text
}

func (x *TemplateConfig) compile(c *compiler, at string) {
	s := &templateStep{slot: c.required(at, x.Source)}
	if s.text = c.template(config.Key(at, "template"), x.Template); s.text != nil {
		c.add(s)
	}
}

func (s *templateStep) run(r *Runner, _ *Pipeline) outcome {
	if s.text.fixed {
		s.set(r, []byte(s.text.plain))
		return next
	}
	s.text.fill(r)
	if v, ok := r.text(s.slot); ok {
		r.data["Value"] = string(v)
	}
	if s.text.entry {
		r.data["Entry"] = string(r.line)
	}
	if out, ok := s.text.execute(r); ok {
		s.set(r, out)
	}
	return next
}

func (s *templateStep) set(r *Runner, out []byte) {
	if len(out) == 0 {
		r.unset(s.slot)
		return
	}
	r.set(s.slot, r.keep(out), isText)
}
