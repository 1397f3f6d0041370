package scrape

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	prommodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// labelMaker turns the labels of a line into the finished label set of its series. It works
// once a series and belongs to one scratch.
type labelMaker struct {
	exposed labels.ScratchBuilder
	builder *labels.Builder
	clashes []labels.Label
	sorted  []model.Label
	wire    []byte
}

func newLabelMaker() labelMaker {
	return labelMaker{exposed: labels.NewScratchBuilder(32), builder: labels.NewBuilder(labels.EmptyLabels())}
}

// series returns the finished labels of an exposed line: target labels added, clashes
// resolved, relabelled, checked against the limits. Empty labels say that relabelling
// dropped the series. An error fails the scrape.
func (m *labelMaker) series(exposed []model.Label, t *target, p *pool) (model.Labels, error) {
	cfg := p.cfg
	if ls, ok := m.plain(exposed, t, cfg); ok {
		return ls, nil
	}
	// Four times the limit, since relabelling may remove some: enough for any honest use,
	// and little enough to relabel.
	if limit := int(cfg.LabelLimit); limit > 0 && len(exposed) > 4*limit {
		return "", fail(reasonLabelLimit, "label_limit exceeded: a series of %.50q has %d labels, limit is %d", exposed[0].Value, len(exposed), limit)
	}
	m.exposed.Reset()
	for _, l := range exposed {
		m.exposed.Add(l.Name, l.Value)
	}
	m.exposed.Sort()
	set := m.exposed.Labels()
	if name, repeated := set.HasDuplicateLabelNames(); repeated {
		return "", fail(reasonLabels, "a series of %.50q has label %q twice", exposed[0].Value, name)
	}
	m.builder.Reset(set)
	m.addTarget(set, t.public, cfg.HonorLabels)
	if !relabel.ProcessBuilder(m.builder, cfg.MetricRelabelConfigs...) {
		return "", nil
	}
	set = m.builder.Labels()
	if set.IsEmpty() {
		return "", nil
	}
	name := set.Get(prommodel.MetricNameLabel)
	if name == "" {
		return "", &failure{reasonLabels, errors.New("a series has no metric name after metric_relabel_configs")}
	}
	if !set.IsValid(cfg.MetricNameValidationScheme) {
		return "", fail(reasonLabels, "a metric or label name is not valid: %.200s", strings.ToValidUTF8(set.String(), "?"))
	}
	if err := checkLimits(set, name, cfg); err != nil {
		return "", err
	}
	return m.finish(set, p.shared.external), nil
}

// plain is series for the common case: nothing is relabelled, no label clashes with one of
// the target, and none is invalid. It is several times faster. For all else ok is false.
func (m *labelMaker) plain(exposed []model.Label, t *target, cfg *JobConfig) (finished model.Labels, ok bool) {
	if limit := int(cfg.LabelLimit); !t.plain || len(cfg.MetricRelabelConfigs) > 0 || limit > 0 && len(exposed)+len(t.public) > limit {
		return "", false
	}
	m.sorted = append(m.sorted[:0], exposed...)
	slices.SortFunc(m.sorted, func(a, b model.Label) int { return strings.Compare(a.Name, b.Name) })
	wire := m.wire[:0]
	name, _, raw, rest, more := t.common.Next()
	for i, l := range m.sorted {
		if i > 0 && m.sorted[i-1].Name == l.Name || !isPlain(l.Name, l.Value, cfg) {
			return "", false
		}
		for more && name < l.Name {
			wire = append(wire, raw...)
			name, _, raw, rest, more = rest.Next()
		}
		if more && name == l.Name {
			if t.publicKey.Get(name) != "" {
				return "", false
			}
			if l.Value != "" { // It wins over an external label.
				name, _, raw, rest, more = rest.Next()
			}
		}
		if l.Value != "" {
			wire = model.AppendLabel(wire, l.Name, l.Value)
		}
	}
	if more {
		wire = append(append(wire, raw...), rest...)
	}
	m.wire = wire
	return model.Labels(wire), true
}

// isPlain reports whether a label is valid and within the limits.
func isPlain(name, value string, cfg *JobConfig) bool {
	longestName, longestValue := int(cfg.LabelNameLengthLimit), int(cfg.LabelValueLengthLimit)
	scheme := cfg.MetricNameValidationScheme
	return scheme.IsValidLabelName(name) && (name != prommodel.MetricNameLabel || scheme.IsValidMetricName(value)) &&
		(longestName == 0 || len(name) <= longestName) && (longestValue == 0 || len(value) <= longestValue) &&
		utf8.ValidString(value)
}

// report returns the finished labels of a report series such as up, empty when relabelling
// drops it. No limit applies to them, as in Prometheus.
func (m *labelMaker) report(name string, t *target, p *pool) model.Labels {
	m.builder.Reset(labels.EmptyLabels())
	m.builder.Set(prommodel.MetricNameLabel, name)
	for _, l := range t.public {
		m.builder.Set(l.Name, l.Value)
	}
	if !relabel.ProcessBuilder(m.builder, p.cfg.MetricRelabelConfigs...) {
		return ""
	}
	return m.finish(m.builder.Labels(), p.shared.external)
}

// addTarget adds the labels of the target. Where the exposition has one of that name, it
// wins under honor_labels, even when empty, and is renamed exported_<name> otherwise.
func (m *labelMaker) addTarget(exposed labels.Labels, public []labels.Label, honor bool) {
	m.clashes = m.clashes[:0]
	for _, l := range public {
		if honor {
			if !exposed.Has(l.Name) {
				m.builder.Set(l.Name, l.Value)
			}
			continue
		}
		if v := exposed.Get(l.Name); v != "" {
			m.clashes = append(m.clashes, labels.Label{Name: l.Name, Value: v})
		}
		m.builder.Set(l.Name, l.Value)
	}
	// Short names first, so that the outcome does not depend on the order when exported_x
	// is a target label as well.
	slices.SortStableFunc(m.clashes, func(a, b labels.Label) int { return len(a.Name) - len(b.Name) })
	for _, l := range m.clashes {
		name := prommodel.ExportedLabelPrefix + l.Name
		for m.builder.Get(name) != "" {
			name = prommodel.ExportedLabelPrefix + name
		}
		m.builder.Set(name, l.Value)
	}
}

// finish returns the wire form of a label set, with the external labels that it lacks.
func (m *labelMaker) finish(set labels.Labels, external model.Labels) model.Labels {
	m.wire = m.wire[:0]
	set.Range(func(l labels.Label) { m.wire = model.AppendLabel(m.wire, l.Name, l.Value) })
	if external == "" {
		return model.Labels(m.wire)
	}
	return model.Labels(model.Labels(m.wire).AppendWith(nil, external))
}

func checkLimits(set labels.Labels, name string, cfg *JobConfig) error {
	if n, limit := set.Len(), int(cfg.LabelLimit); limit > 0 && n > limit {
		return fail(reasonLabelLimit, "label_limit exceeded: a series of %.50q has %d labels, limit is %d", name, n, limit)
	}
	longestName, longestValue := int(cfg.LabelNameLengthLimit), int(cfg.LabelValueLengthLimit)
	return set.Validate(func(l labels.Label) error {
		if n := len(l.Name); longestName > 0 && n > longestName {
			return fail(reasonLabelLimit, "label_name_length_limit exceeded: label %.50q of %.50q has %d bytes, limit is %d", l.Name, name, n, longestName)
		}
		if n := len(l.Value); longestValue > 0 && n > longestValue {
			return fail(reasonLabelLimit, "label_value_length_limit exceeded: the value of %.50q of %.50q has %d bytes, limit is %d", l.Name, name, n, longestValue)
		}
		return nil
	})
}

// failure is a failed scrape: the class that metrics count and the words for people.
type failure struct {
	reason string
	err    error
}

// Error returns the words.
func (f *failure) Error() string { return f.err.Error() }

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.err }

func fail(reason, format string, args ...any) error {
	return &failure{reason, fmt.Errorf(format, args...)}
}
