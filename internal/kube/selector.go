package kube

import (
	"fmt"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// Selector chooses objects by their labels.
type Selector struct{ s labels.Selector }

// ParseSelector reads a label selector as kubectl's --selector takes it, such as
// app=web,tier in (a,b),!canary. An empty text selects everything.
func ParseSelector(text string) (Selector, error) {
	s, err := labels.Parse(text)
	if err != nil {
		return Selector{}, fmt.Errorf("must be a label selector such as app=web,tier in (a,b),!canary: %w", err)
	}
	return Selector{s}, nil
}

// Everything tells that there is nothing to choose by.
func (s Selector) Everything() bool { return s.s == nil || s.s.Empty() }

// Matches tells whether an object with these labels is chosen.
func (s Selector) Matches(set map[string]string) bool {
	return s.s == nil || s.s.Matches(labels.Set(set))
}

// MatchesSet is [Selector.Matches] for labels as a [Store] has them.
func (s Selector) MatchesSet(set model.Labels) bool {
	return s.Everything() || s.s.Matches(labelSet(set))
}

// labelSet is labels in wire form as client-go looks at them.
type labelSet model.Labels

// Has implements labels.Labels.
func (s labelSet) Has(name string) bool {
	_, ok := s.Lookup(name)
	return ok
}

// Get implements labels.Labels.
func (s labelSet) Get(name string) string { return model.Labels(s).Get(name) }

// Lookup implements labels.Labels.
func (s labelSet) Lookup(name string) (string, bool) {
	for n, v, _, rest, ok := model.Labels(s).Next(); ok; n, v, _, rest, ok = rest.Next() {
		if n == name {
			return v, true
		}
	}
	return "", false
}

// FieldSelector chooses objects by their fields.
type FieldSelector struct{ s fields.Selector }

// ParseFieldSelector reads a field selector as kubectl's --field-selector takes it. An empty
// text selects everything.
func ParseFieldSelector(text string) (FieldSelector, error) {
	s, err := fields.ParseSelector(text)
	if err != nil {
		return FieldSelector{}, fmt.Errorf("must be a field selector such as spec.nodeName=a,status.phase!=Failed: %w", err)
	}
	return FieldSelector{s}, nil
}

// Fields returns the names of the fields that are looked at.
func (s FieldSelector) Fields() []string {
	if s.s == nil {
		return nil
	}
	var names []string
	for _, r := range s.s.Requirements() {
		names = append(names, r.Field)
	}
	return names
}

// Matches tells whether an object is chosen whose fields have the values that get returns.
func (s FieldSelector) Matches(get func(field string) string) bool {
	return s.s == nil || s.s.Empty() || s.s.Matches(fieldSet(get))
}

// fieldSet is fields as client-go looks at them.
type fieldSet func(field string) string

// Has implements fields.Fields.
func (fieldSet) Has(string) bool { return true }

// Get implements fields.Fields.
func (f fieldSet) Get(field string) string { return f(field) }
