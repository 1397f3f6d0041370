package stage

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	prommodel "github.com/prometheus/common/model"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// Config is one element of a list of stages: a mapping with the name of the stage as its only
// key, as in promtail's pipeline_stages. Names in which Alloy differs from promtail are
// understood as well.
type Config struct {
	// CRI takes the lines of a container runtime apart.
	CRI *CRIConfig `yaml:"cri,omitempty"`
	// Docker takes the lines of Docker's json-file driver apart.
	Docker *DockerConfig `yaml:"docker,omitempty"`
	// Regex extracts the named groups of a regular expression.
	Regex *RegexConfig `yaml:"regex,omitempty"`
	// JSON extracts values from JSON by JMESPath expressions.
	JSON *JSONConfig `yaml:"json,omitempty"`
	// Logfmt extracts values from key=value pairs.
	Logfmt *LogfmtConfig `yaml:"logfmt,omitempty"`
	// Labels makes labels of extracted values: label name to name of the value, which may be
	// left empty where both are the same.
	Labels *LabelsConfig `yaml:"labels,omitempty"`
	// StaticLabels adds labels with fixed values.
	StaticLabels *StaticLabelsConfig `yaml:"static_labels,omitempty"`
	// LabelDrop removes labels.
	LabelDrop *LabelDropConfig `yaml:"label_drop,omitempty"`
	// LabelDropPromtail is promtail's name of label_drop.
	LabelDropPromtail *LabelDropConfig `yaml:"labeldrop,omitempty"`
	// LabelKeep removes all labels but these.
	LabelKeep *LabelKeepConfig `yaml:"label_keep,omitempty"`
	// LabelKeepPromtail is promtail's name of label_keep.
	LabelKeepPromtail *LabelKeepConfig `yaml:"labelallow,omitempty"`
	// StructuredMetadata moves extracted values and labels to the structured metadata.
	StructuredMetadata *MetadataConfig `yaml:"structured_metadata,omitempty"`
	// Timestamp sets the time of the line from an extracted value.
	Timestamp *TimestampConfig `yaml:"timestamp,omitempty"`
	// Output replaces the line by an extracted value.
	Output *OutputConfig `yaml:"output,omitempty"`
	// Template changes or makes an extracted value by a Go template.
	Template *TemplateConfig `yaml:"template,omitempty"`
	// Replace replaces what the groups of a regular expression match.
	Replace *ReplaceConfig `yaml:"replace,omitempty"`
	// Match runs further stages on some lines, or drops them, by a LogQL selector.
	Match *MatchConfig `yaml:"match,omitempty"`
	// Drop drops lines that meet all of its conditions.
	Drop *DropConfig `yaml:"drop,omitempty"`
	// Limit limits how many lines pass in a second.
	Limit *LimitConfig `yaml:"limit,omitempty"`
	// Sampling lets a share of the lines pass.
	Sampling *SamplingConfig `yaml:"sampling,omitempty"`
	// Decolorize removes the escape sequences of terminals.
	Decolorize *DecolorizeConfig `yaml:"decolorize,omitempty"`
	// Pack puts labels into the line, as JSON that Loki's unpack understands.
	Pack *PackConfig `yaml:"pack,omitempty"`
	// Multiline joins lines to blocks.
	Multiline *MultilineConfig `yaml:"multiline,omitempty"`
	// Tenant sets the tenant that the line is sent as.
	Tenant *TenantConfig `yaml:"tenant,omitempty"`
	// Redact replaces secrets.
	Redact *RedactConfig `yaml:"redact,omitempty"`
	// Metrics makes metrics of extracted values.
	Metrics *MetricsConfig `yaml:"metrics,omitempty"`
}

// compilable is the configuration of one stage. compile appends its steps, and what is wrong
// with it, under the path at.
type compilable interface {
	compile(c *compiler, at string)
}

// defaulter sets the defaults of a configuration that has some.
type defaulter interface{ defaults() }

// each calls visit with the name and the configuration of every stage that is set. There
// should be one.
func (c *Config) each(visit func(name string, s compilable)) {
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); !f.IsNil() {
			s, _ := reflect.TypeAssert[compilable](f) // Every field is one, a test holds.
			visit(stageName(v.Type().Field(i)), s)
		}
	}
}

func stageName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

func stageNames() []string {
	t := reflect.TypeFor[Config]()
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = stageName(t.Field(i))
	}
	return names
}

// UnmarshalYAML decodes one element, with the defaults of the stage that it names. A stage
// without options may stand without a value.
func (c *Config) UnmarshalYAML(unmarshal func(any) error) error {
	*c = Config{}
	var bare string
	if unmarshal(&bare) == nil && bare != "" {
		return config.Problem{Text: fmt.Sprintf("must be a mapping with the name of a stage as its key, such as %s: {}, is text", bare)}
	}
	var keys map[string]any
	if err := unmarshal(&keys); err != nil {
		return err
	}
	var ps config.Problems
	for name := range keys {
		if text := unknownStage(name); text != "" {
			ps.Add(config.Key("", name), "%s", text)
		}
	}
	if len(ps) > 0 {
		return ps
	}
	type plain Config
	if err := unmarshal((*plain)(c)); err != nil {
		return err
	}
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if _, given := keys[stageName(v.Type().Field(i))]; given && v.Field(i).IsNil() {
			v.Field(i).Set(reflect.New(v.Field(i).Type().Elem()))
			if d, ok := reflect.TypeAssert[defaulter](v.Field(i)); ok {
				d.defaults()
			}
		}
	}
	return nil
}

// unknownStage says what is wrong with the name of a stage; "" for one that exists.
func unknownStage(name string) string {
	known := stageNames()
	if slices.Contains(known, name) {
		return ""
	}
	switch name {
	case "eventlogmessage", "windowsevent":
		return "the stage is for Windows event logs, which Ingot does not read; remove it"
	case "geoip", "luhn", "pattern", "split_json", "truncate", "structured_metadata_drop":
		return "the stage is not supported; remove it"
	case "non_indexed_labels":
		return "the stage has been renamed to structured_metadata"
	}
	if s := config.Suggest(name, known); s != "" {
		return fmt.Sprintf("unknown stage, did you mean %q?", s)
	}
	return "unknown stage; known are " + strings.Join(known, ", ")
}

// Names is a list of names; one alone may stand without brackets.
type Names []string

// UnmarshalYAML decodes either form.
func (n *Names) UnmarshalYAML(unmarshal func(any) error) error {
	return decodeList(unmarshal, (*[]string)(n))
}

// decodeList decodes a list, a single element without brackets, or Alloy's form: a block with
// the list under the key values.
func decodeList(unmarshal func(any) error, into *[]string) error {
	var one string
	if unmarshal(&one) == nil {
		*into = nil
		if one != "" {
			*into = []string{one}
		}
		return nil
	}
	if inValues(unmarshal) {
		return unmarshal(&struct {
			Values *[]string `yaml:"values"`
		}{into})
	}
	return unmarshal(into)
}

// decodeMap decodes a map, or Alloy's form: a block with the map under the key values.
func decodeMap(unmarshal func(any) error, into *map[string]string) error {
	if inValues(unmarshal) {
		return unmarshal(&struct {
			Values *map[string]string `yaml:"values"`
		}{into})
	}
	return unmarshal(into)
}

// inValues tells whether a list or a map stands under the key values.
func inValues(unmarshal func(any) error) bool {
	var keys map[string]any
	if unmarshal(&keys) != nil {
		return false
	}
	switch keys["values"].(type) {
	case []any, map[string]any:
		return true
	}
	return false
}

// Duration is a length of time as either Go or Prometheus writes it: 500ms, 1.5h, 2d.
type Duration time.Duration

// String returns the duration as Go writes it.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	if v, err := time.ParseDuration(string(text)); err == nil {
		*d = Duration(v)
		return nil
	}
	v, err := prommodel.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("must be a duration such as 500ms, 3s or 24h, is %q", text)
	}
	*d = Duration(v)
	return nil
}
