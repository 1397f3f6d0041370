package stage

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// maxSets bounds the rendered label sets that a runner keeps.
const maxSets = 1024

// label is one label of the line that is being processed.
type label struct {
	name  string
	value []byte
}

// labelSet is the labels, or the metadata, of the line that is being processed. It starts as
// what the caller gave, taken apart once and used until something else is given; a change
// makes a copy, so that the next line starts afresh.
type labelSet struct {
	given model.Labels
	text  []byte  // the values of given
	base  []label // given, in order of name
	list  []label // the present labels, in order of name
	own   []label // the memory of list where it differs from base

	changed bool
	wire    []byte
	last    model.Labels            // what was rendered last
	sets    map[string]model.Labels // rendered sets by their wire form
}

// begin starts with the given labels, and tells whether they are others than before.
func (s *labelSet) begin(l model.Labels) (other bool) {
	s.changed = false
	if l != s.given {
		s.given, other = l, true
		s.base = s.base[:0]
		s.text = slices.Grow(s.text[:0], len(l)) // No value moves while it grows.
		for name, value, _, rest, ok := l.Next(); ok; name, value, _, rest, ok = rest.Next() {
			start := len(s.text)
			s.text = append(s.text, value...)
			s.base = append(s.base, label{name, s.text[start:len(s.text):len(s.text)]})
		}
	}
	s.list = s.base
	return other
}

// replace makes l the present labels.
func (s *labelSet) replace(l model.Labels) {
	if l == s.given {
		s.list, s.changed = s.base, false
		return
	}
	s.own, s.changed = s.own[:0], true
	for name, value, _, rest, ok := l.Next(); ok; name, value, _, rest, ok = rest.Next() {
		s.own = append(s.own, label{name, []byte(value)})
	}
	s.list = s.own
}

// find returns where name is, or where it would have to be put.
func (s *labelSet) find(name string) (i int, ok bool) {
	for i := range s.list {
		if s.list[i].name >= name {
			return i, s.list[i].name == name
		}
	}
	return len(s.list), false
}

func (s *labelSet) get(name string) ([]byte, bool) {
	if i, ok := s.find(name); ok {
		return s.list[i].value, true
	}
	return nil, false
}

// set sets a label. As for all labels, an empty value is the same as no label outside. One
// that is not valid UTF-8 is ignored, as promtail does. The value is not copied.
func (s *labelSet) set(name string, value []byte) {
	i, ok := s.find(name)
	switch {
	case ok && bytes.Equal(s.list[i].value, value), !utf8.Valid(value):
	default:
		s.write()
		if !ok {
			s.own = slices.Insert(s.own, i, label{})
		}
		s.own[i] = label{name, value}
		s.list = s.own
	}
}

func (s *labelSet) remove(name string) {
	if i, ok := s.find(name); ok {
		s.write()
		s.own = slices.Delete(s.own, i, i+1)
		s.list = s.own
	}
}

// write makes the present labels writable.
func (s *labelSet) write() {
	if !s.changed {
		s.own = append(s.own[:0], s.base...)
		s.changed = true
	}
}

// render returns the present labels in wire form. A set that was rendered lately costs a
// look-up and no memory.
func (s *labelSet) render() model.Labels {
	if !s.changed {
		return s.given
	}
	s.wire = s.wire[:0]
	for i := range s.list {
		if len(s.list[i].value) > 0 {
			s.wire = model.AppendLabel(s.wire, s.list[i].name, s.list[i].value)
		}
	}
	if string(s.wire) == string(s.last) {
		return s.last
	}
	if l, ok := s.sets[string(s.wire)]; ok {
		s.last = l
		return l
	}
	if s.sets == nil {
		s.sets = make(map[string]model.Labels)
	}
	if len(s.sets) >= maxSets {
		clear(s.sets)
	}
	l := model.Labels(s.wire)
	s.sets[string(l)], s.last = l, l
	return l
}
