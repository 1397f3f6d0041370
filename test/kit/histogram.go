package kit

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
)

// Same tells whether two histograms are the same at the same time.
func (h Histogram) Same(o Histogram) bool {
	switch {
	case h.T != o.T || (h.Int == nil) != (o.Int == nil):
		return false
	case h.Int != nil:
		return h.Int.Equals(o.Int)
	}
	return h.Float.Equals(o.Float)
}

// Stale tells whether the histogram is Prometheus' staleness marker.
func (h Histogram) Stale() bool {
	return math.Float64bits(h.Sum()) == staleNaN
}

// Sum returns the sum of what the histogram has observed.
func (h Histogram) Sum() float64 {
	if h.Int != nil {
		return h.Int.Sum
	}
	return h.Float.Sum
}

// Count returns how many observations the histogram has.
func (h Histogram) Count() float64 {
	if h.Int != nil {
		return float64(h.Int.Count)
	}
	return h.Float.Count
}

// validate returns why Prometheus refuses the histogram.
func (h Histogram) validate() error {
	if h.Stale() {
		return nil
	}
	if h.Int != nil {
		return h.Int.Validate()
	}
	return h.Float.Validate()
}

// maxExemplar is how many characters the labels of an exemplar may have together, as
// OpenMetrics says.
const maxExemplar = 128

// storeExemplars keeps the exemplars of a series that exists and returns how many. An equal
// one is taken again without a trace, an older one refused, as Prometheus does.
func (s *Series) storeExemplars(in []WriteExemplar, refuse func(error)) int {
	taken := 0
	for _, e := range in {
		x, err := checkExemplar(e)
		if n := len(s.Exemplars); err == nil && n > 0 && s.Exemplars[n-1].T > x.T {
			err = fmt.Errorf("the exemplar at %d is older than the newest, %d", x.T, s.Exemplars[n-1].T)
		}
		if err != nil {
			refuse(fmt.Errorf("%w, series: %s", err, s.Labels))
			continue
		}
		taken++
		if n := len(s.Exemplars); n > 0 && s.Exemplars[n-1].same(x) {
			continue
		}
		s.Exemplars = append(s.Exemplars, x)
	}
	return taken
}

func (e Exemplar) same(o Exemplar) bool {
	return e.T == o.T && math.Float64bits(e.V) == math.Float64bits(o.V) && labels.Equal(e.Labels, o.Labels)
}

// checkExemplar returns one exemplar, or why Mimir refuses it.
func checkExemplar(in WriteExemplar) (Exemplar, error) {
	x := Exemplar{V: in.V, T: in.T}
	if in.T == 0 {
		return x, errors.New("an exemplar has no time (err-mimir-exemplar-timestamp-invalid)")
	}
	if len(in.Labels) == 0 {
		return x, errors.New("an exemplar has no labels (err-mimir-exemplar-labels-missing)")
	}
	b := labels.NewScratchBuilder(len(in.Labels))
	seen, size := make(map[string]bool), 0
	for _, l := range in.Labels {
		if l.Name == "" || seen[l.Name] || !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value) {
			return x, fmt.Errorf("an exemplar has a bad label %q (err-mimir-exemplar-labels-invalid)", l)
		}
		seen[l.Name] = true
		size += utf8.RuneCountInString(l.Name) + utf8.RuneCountInString(l.Value)
		b.Add(l.Name, l.Value)
	}
	if size > maxExemplar {
		return x, fmt.Errorf("the labels of an exemplar have %d characters, the limit is %d (err-mimir-exemplar-labels-too-long)", size, maxExemplar)
	}
	b.Sort()
	x.Labels = b.Labels()
	return x, nil
}
