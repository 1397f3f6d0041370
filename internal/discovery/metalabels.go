package discovery

import (
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/kube"
	"github.com/ingot-telemetry/ingot/internal/model"
)

const (
	metaPrefix = "__meta_kubernetes_"
	// maxNames bounds the names of labels that are remembered for each kind of object.
	maxNames = 10_000
)

// metaLabels collects the labels of one target after the other. Labels that are set later win,
// also when they are empty, which is the same as not being there.
type metaLabels struct {
	all     []labels.Label
	common  int // So many of all are those of the whole group.
	scratch labels.ScratchBuilder
	sorted  []labels.Label
	// names are the names of labels for those of objects, by what they begin with.
	names map[string]map[string]labelNames
}

// labelNames are what Prometheus makes of one label or annotation of an object.
type labelNames struct{ value, present string }

func newMetaLabels() *metaLabels {
	return &metaLabels{scratch: labels.NewScratchBuilder(64), names: map[string]map[string]labelNames{}}
}

// reset begins a group.
func (m *metaLabels) reset() { m.all, m.common = m.all[:0], 0 }

// group says that what is set so far is of all targets of the group.
func (m *metaLabels) group() { m.common = len(m.all) }

// set sets __meta_kubernetes_<name>.
func (m *metaLabels) set(name, value string) { m.plain(metaPrefix+name, value) }

// plain sets a label.
func (m *metaLabels) plain(name, value string) {
	m.all = append(m.all, labels.Label{Name: name, Value: value})
}

// object sets the name, labels and annotations of an object.
func (m *metaLabels) object(role string, o kube.Meta) {
	m.set(role+"_name", o.Name)
	m.sets(role, o)
}

// sets sets the labels and annotations of an object.
func (m *metaLabels) sets(role string, o kube.Meta) {
	m.each(role+"_label", o.Labels)
	m.each(role+"_annotation", o.Annotations)
}

// each sets for each label of set two: its value, and that it is there.
func (m *metaLabels) each(prefix string, set model.Labels) {
	known := m.names[prefix]
	if known == nil || len(known) > maxNames {
		known = map[string]labelNames{}
		m.names[prefix] = known
	}
	for k, v, _, rest, ok := set.Next(); ok; k, v, _, rest, ok = rest.Next() {
		names, found := known[k]
		if !found {
			plain := model.SanitizeName(k)
			names = labelNames{metaPrefix + prefix + "_" + plain, metaPrefix + prefix + "present_" + plain}
			known[strings.Clone(k)] = names
		}
		m.plain(names.value, v)
		m.plain(names.present, "true")
	}
}

// target returns the labels of the group and those set since, and begins the next target.
func (m *metaLabels) target() labels.Labels {
	m.sorted = append(m.sorted[:0], m.all...)
	slices.SortStableFunc(m.sorted, func(a, b labels.Label) int { return strings.Compare(a.Name, b.Name) })
	m.scratch.Reset()
	for i, l := range m.sorted {
		if l.Value != "" && (i+1 == len(m.sorted) || m.sorted[i+1].Name != l.Name) {
			m.scratch.Add(l.Name, l.Value)
		}
	}
	m.all = m.all[:m.common]
	return m.scratch.Labels()
}
