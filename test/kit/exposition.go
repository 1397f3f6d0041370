package kit

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// Exposition is a decoded page of metrics in the text format 0.0.4.
type Exposition []ExposedSample

// ExposedSample is one sample of a page, its name among the labels.
type ExposedSample struct {
	Labels labels.Labels
	Value  float64
}

// ParseExposition decodes a page of metrics. It is made for the tests' own look at a page,
// not as a judge of the format.
func ParseExposition(page []byte) (Exposition, error) {
	var exp Exposition
	for raw := range bytes.Lines(page) {
		line := strings.TrimSpace(string(raw))
		if line == "" || line[0] == '#' {
			continue
		}
		s, err := parseExposed(line)
		if err != nil {
			return nil, fmt.Errorf("parse metrics line %q: %w", line, err)
		}
		exp = append(exp, s)
	}
	return exp, nil
}

func parseExposed(line string) (ExposedSample, error) {
	matchers, rest, err := ParseSelectorPrefix(line)
	if err != nil {
		return ExposedSample{}, err
	}
	b := labels.NewScratchBuilder(len(matchers))
	for _, m := range matchers {
		if m.Type != labels.MatchEqual {
			return ExposedSample{}, fmt.Errorf("unexpected %s", m.Type)
		}
		b.Add(m.Name, m.Value)
	}
	b.Sort()
	number, _, _ := strings.Cut(rest, " ")
	value, err := strconv.ParseFloat(number, 64)
	return ExposedSample{Labels: b.Labels(), Value: value}, err
}

// Find returns the samples that a selector matches.
func (e Exposition) Find(selector string) []ExposedSample {
	matchers := mustSelector(selector)
	var found []ExposedSample
	for _, s := range e {
		if matches(s.Labels, matchers) {
			found = append(found, s)
		}
	}
	return found
}

// Sum returns the sum of the samples that a selector matches, 0 when there is none.
func (e Exposition) Sum(selector string) float64 {
	sum := 0.0
	for _, s := range e.Find(selector) {
		sum += s.Value
	}
	return sum
}
