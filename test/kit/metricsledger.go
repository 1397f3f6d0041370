package kit

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// SampleID is one record of the metrics ledger in a form that can be compared and printed.
type SampleID struct {
	Tenant string
	Series string
	T      int64
	Bits   uint64 // of the value, so that NaNs compare
}

// Tenants returns the tenants that have stored at least one sample, sorted.
func (r *MetricsReceiver) Tenants() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for name, t := range r.tenants {
		if len(t.series) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Series returns the series of a tenant that a selector such as up{job="x"} matches, sorted
// by labels; it panics on a selector that does not parse. Tenant "" means every tenant. The
// caller owns the result.
func (r *MetricsReceiver) Series(tenant, selector string) []Series {
	matchers := mustSelector(selector)
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Series
	for name, t := range r.tenants {
		if tenant != "" && tenant != name {
			continue
		}
		for _, s := range t.series {
			if matches(s.Labels, matchers) {
				out := *s
				out.Samples, out.Repeated = slices.Clone(s.Samples), slices.Clone(s.Repeated)
				out.Histograms, out.Exemplars = slices.Clone(s.Histograms), slices.Clone(s.Exemplars)
				found = append(found, out)
			}
		}
	}
	slices.SortFunc(found, func(a, b Series) int {
		return cmp.Or(strings.Compare(a.Tenant, b.Tenant), labels.Compare(a.Labels, b.Labels))
	})
	return found
}

// Families returns the metadata of a tenant that came as version 1.0 sends it, by family.
func (r *MetricsReceiver) Families(tenant string) map[string]Metadata {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.tenants[tenant]; t != nil {
		return maps.Clone(t.families)
	}
	return nil
}

// Last returns the newest sample of the only series that the selector matches, and an error
// when it matches none or several.
func (r *MetricsReceiver) Last(tenant, selector string) (Sample, error) {
	found := r.Series(tenant, selector)
	if len(found) != 1 {
		return Sample{}, fmt.Errorf("%s matches %d series, want one", selector, len(found))
	}
	if len(found[0].Samples) == 0 {
		return Sample{}, fmt.Errorf("%s has histograms only", selector)
	}
	return found[0].Samples[len(found[0].Samples)-1], nil
}

// Samples returns the matching part of the ledger, repeats included as further elements.
func (r *MetricsReceiver) Samples(tenant, selector string) []SampleID {
	var ids []SampleID
	for _, s := range r.Series(tenant, selector) {
		key := s.Labels.String()
		for _, sample := range slices.Concat(s.Samples, s.Repeated) {
			ids = append(ids, sampleID(s.Tenant, key, sample))
		}
	}
	return ids
}

// IDs returns the values of the matching series as whole numbers, staleness markers left
// out: the ids of a metric that counts up. Repeats are further elements.
func (r *MetricsReceiver) IDs(tenant, selector string) []int64 {
	var ids []int64
	for _, s := range r.Series(tenant, selector) {
		for _, sample := range slices.Concat(s.Samples, s.Repeated) {
			if !sample.Stale() {
				ids = append(ids, int64(sample.V))
			}
		}
	}
	return ids
}

// Refused returns the samples that were refused for their time, in the order of arrival.
func (r *MetricsReceiver) Refused() []RefusedSample {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.refused)
}

// Disorder returns the refused samples that the ledger does not hold: real disorder, not the
// repeats of a sender that could not know.
func (r *MetricsReceiver) Disorder() []RefusedSample {
	return slices.DeleteFunc(r.Refused(), func(s RefusedSample) bool { return s.Known })
}

func sampleID(tenant, series string, s Sample) SampleID {
	return SampleID{Tenant: tenant, Series: series, T: s.T, Bits: math.Float64bits(s.V)}
}
