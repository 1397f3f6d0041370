package stage

import (
	"maps"
	"regexp"
	"slices"
	"unicode/utf8"

	prommodel "github.com/prometheus/common/model"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// tenantLabel is the label that carries the tenant to the writer, as in promtail and Alloy.
const tenantLabel = "__tenant_id__"

// LabelsConfig is the options of the stage labels: the names of labels and of the extracted
// values that they are made of.
type LabelsConfig map[string]string

// UnmarshalYAML decodes the map, or Alloy's block with it as values.
func (x *LabelsConfig) UnmarshalYAML(unmarshal func(any) error) error {
	return decodeMap(unmarshal, (*map[string]string)(x))
}

// StaticLabelsConfig is the options of the stage static_labels: labels with their values.
type StaticLabelsConfig map[string]string

// UnmarshalYAML decodes the map, or Alloy's block with it as values.
func (x *StaticLabelsConfig) UnmarshalYAML(unmarshal func(any) error) error {
	return decodeMap(unmarshal, (*map[string]string)(x))
}

// LabelDropConfig is the options of the stage label_drop: the labels to remove.
type LabelDropConfig []string

// UnmarshalYAML decodes the list, or Alloy's block with it as values.
func (x *LabelDropConfig) UnmarshalYAML(unmarshal func(any) error) error {
	return decodeList(unmarshal, (*[]string)(x))
}

// LabelKeepConfig is the options of the stage label_keep: the labels to keep.
type LabelKeepConfig []string

// UnmarshalYAML decodes the list, or Alloy's block with it as values.
func (x *LabelKeepConfig) UnmarshalYAML(unmarshal func(any) error) error {
	return decodeList(unmarshal, (*[]string)(x))
}

// MetadataConfig is the options of the stage structured_metadata. promtail's form is a map
// alone, as for labels; Alloy's is this block.
type MetadataConfig struct {
	// Values maps the names in the metadata to the extracted values or labels that they are
	// made of. A label is moved, not copied.
	Values map[string]string `yaml:"values"`
	// Regex moves the extracted values and labels whose whole name or a part of it matches.
	Regex string `yaml:"regex,omitempty"`
}

// UnmarshalYAML decodes either form.
func (x *MetadataConfig) UnmarshalYAML(unmarshal func(any) error) error {
	type plain MetadataConfig
	*x = MetadataConfig{}
	if inValues(unmarshal) {
		return unmarshal((*plain)(x))
	}
	return unmarshal(&x.Values)
}

// TenantConfig is the options of the stage tenant. One of them must be set.
type TenantConfig struct {
	// Label is the label that has the tenant.
	Label string `yaml:"label,omitempty"`
	// Source is the extracted value that has the tenant.
	Source string `yaml:"source,omitempty"`
	// Value is the tenant.
	Value string `yaml:"value,omitempty"`
}

func validLabel(name string) bool { return prommodel.LegacyValidation.IsValidLabelName(name) }

// label checks the name of a label.
func (c *compiler) label(at, name string) {
	if !validLabel(name) {
		c.fault(at, "must be a label name: letters, digits and _, not starting with a digit, is %q", name)
	}
}

// labelSource is a label and the extracted value that it is made of.
type labelSource struct {
	label, source string
	slot          int
}

// sources checks a map of labels to values.
func (c *compiler) sources(at string, m map[string]string) []labelSource {
	list := make([]labelSource, 0, len(m))
	for _, label := range slices.Sorted(maps.Keys(m)) {
		c.label(config.Key(at, label), label)
		source := m[label]
		if source == "" {
			source = label
		}
		list = append(list, labelSource{label, source, c.slot(source)})
	}
	return list
}

const noLabels = "must name at least one label"

type labelsStep struct{ list []labelSource }

func (x *LabelsConfig) compile(c *compiler, at string) {
	if len(*x) == 0 {
		c.fault(at, noLabels)
	}
	c.add(&labelsStep{c.sources(at, *x)})
}

func (s *labelsStep) run(r *Runner, _ *Pipeline) outcome {
	for i := range s.list {
		if v, ok := r.text(s.list[i].slot); ok {
			r.labels.set(s.list[i].label, v)
		}
	}
	return next
}

type staticStep struct{ list []label }

func (x *StaticLabelsConfig) compile(c *compiler, at string) {
	s := &staticStep{}
	if len(*x) == 0 {
		c.fault(at, noLabels)
	}
	for _, name := range slices.Sorted(maps.Keys(*x)) {
		c.label(config.Key(at, name), name)
		value := (*x)[name]
		if !utf8.ValidString(value) {
			c.fault(config.Key(at, name), "must be valid UTF-8")
		}
		if value != "" { // promtail leaves those out instead of removing the label.
			s.list = append(s.list, label{name, []byte(value)})
		}
	}
	c.add(s)
}

func (s *staticStep) run(r *Runner, _ *Pipeline) outcome {
	for i := range s.list {
		r.labels.set(s.list[i].name, s.list[i].value)
	}
	return next
}

type labelDropStep struct{ names []string }

func (x *LabelDropConfig) compile(c *compiler, at string) {
	if len(*x) == 0 {
		c.fault(at, noLabels)
	}
	c.add(&labelDropStep{*x})
}

func (s *labelDropStep) run(r *Runner, _ *Pipeline) outcome {
	for _, name := range s.names {
		r.labels.remove(name)
	}
	return next
}

type labelKeepStep struct{ names []string }

func (x *LabelKeepConfig) compile(c *compiler, at string) {
	if len(*x) == 0 {
		c.fault(at, noLabels)
	}
	c.add(&labelKeepStep{*x})
}

func (s *labelKeepStep) run(r *Runner, _ *Pipeline) outcome {
	for _, l := range slices.Backward(r.labels.list) {
		if !slices.Contains(s.names, l.name) {
			r.labels.remove(l.name)
		}
	}
	return next
}

// metadataStep moves values and labels to the metadata. A label goes if the metadata has its
// value, so that nothing is lost where an extracted value of the same name is another.
type metadataStep struct {
	list  []labelSource
	re    *regexp.Regexp // nil for none
	slots []labelSource  // the extracted values whose names match re
}

func (x *MetadataConfig) compile(c *compiler, at string) {
	s := &metadataStep{}
	if len(x.Values) == 0 && x.Regex == "" {
		c.fault(at, noLabels)
	}
	s.list = c.sources(at, x.Values)
	if x.Regex != "" {
		if s.re = c.regexp(config.Key(at, "regex"), x.Regex); s.re == nil {
			return
		}
		c.last = append(c.last, func() {
			for _, name := range slices.Sorted(maps.Keys(c.prog.slots)) {
				if s.re.MatchString(name) && validLabel(name) {
					s.slots = append(s.slots, labelSource{name, name, c.prog.slots[name]})
				}
			}
		})
	}
	c.add(s)
}

func (s *metadataStep) run(r *Runner, _ *Pipeline) outcome {
	for i := range s.list {
		r.toMetadata(&s.list[i])
	}
	if s.re == nil {
		return next
	}
	for i := range s.slots {
		r.toMetadata(&s.slots[i])
	}
	for _, l := range slices.Backward(r.labels.list) {
		if s.re.MatchString(l.name) {
			r.meta.set(l.name, l.value)
			r.labels.remove(l.name)
		}
	}
	return next
}

func (r *Runner) toMetadata(s *labelSource) {
	old, isLabel := r.labels.get(s.source)
	v, ok := r.text(s.slot)
	if !ok {
		if !isLabel {
			return
		}
		v = old
	}
	r.meta.set(s.label, v)
	if isLabel && string(v) == string(old) {
		r.labels.remove(s.source)
	}
}

type tenantStep struct {
	slot  int
	label string
	value []byte
}

func (x *TenantConfig) compile(c *compiler, at string) {
	set := 0
	for _, v := range []string{x.Label, x.Source, x.Value} {
		if v != "" {
			set++
		}
	}
	if set != 1 {
		c.fault(at, "must have one of label, source and value, has %d", set)
	}
	s := &tenantStep{slot: -1, label: x.Label, value: []byte(x.Value)}
	if x.Source != "" {
		s.slot = c.slot(x.Source)
	}
	c.add(s)
}

func (s *tenantStep) run(r *Runner, _ *Pipeline) outcome {
	v := s.value
	switch {
	case s.slot >= 0:
		v, _ = r.text(s.slot)
	case s.label != "":
		v, _ = r.labels.get(s.label)
	}
	if len(v) > 0 {
		r.labels.set(tenantLabel, v)
	}
	return next
}
