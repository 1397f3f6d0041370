package kube

import (
	"fmt"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
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

// CheckFieldSelector says what is wrong with a field selector as kubectl's --field-selector
// takes it. Which fields a kind knows, only the API server can say.
func CheckFieldSelector(text string) error {
	if _, err := fields.ParseSelector(text); err != nil {
		return fmt.Errorf("must be a field selector such as spec.nodeName=a,status.phase!=Failed: %w", err)
	}
	return nil
}
