package stage

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	prommodel "github.com/prometheus/common/model"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// defaultPrefix goes before the names of metrics that lines make, as promtail_custom_ does in
// promtail.
const defaultPrefix = "ingot_custom_"

// MetricsConfig is the options of the stage metrics: metrics by name.
type MetricsConfig map[string]MetricConfig

// MetricConfig is one metric, which has one series for each set of labels.
type MetricConfig struct {
	// Type is counter, gauge or histogram.
	Type string `yaml:"type"`
	// Description is the help text of the metric.
	Description string `yaml:"description,omitempty"`
	// Source is the extracted value to observe. Default the name of the metric.
	Source string `yaml:"source,omitempty"`
	// Prefix goes before the name. Default ingot_custom_.
	Prefix string `yaml:"prefix,omitempty"`
	// MaxIdleDuration is how long a series stays without lines. Default 5m.
	MaxIdleDuration Duration `yaml:"max_idle_duration,omitempty"`
	// Config says what is counted.
	Config ActionConfig `yaml:"config,omitempty"`
}

// ActionConfig says what a metric does with a line.
type ActionConfig struct {
	// Action is inc or add for a counter, set, inc, dec, add or sub for a gauge. A histogram
	// has none.
	Action string `yaml:"action,omitempty"`
	// Value restricts a metric to lines on which the source has this value.
	Value *string `yaml:"value,omitempty"`
	// MatchAll counts every line, with or without the source. For counters.
	MatchAll bool `yaml:"match_all,omitempty"`
	// CountEntryBytes adds the length of the line. It needs MatchAll and the action add.
	CountEntryBytes bool `yaml:"count_entry_bytes,omitempty"`
	// Buckets are the upper bounds of a histogram's buckets. Default those of Prometheus'
	// client, .005 to 10.
	Buckets []float64 `yaml:"buckets,omitempty"`
}

func (x *MetricConfig) defaults() {
	x.Prefix, x.MaxIdleDuration = defaultPrefix, Duration(5*time.Minute)
}

// UnmarshalYAML decodes onto the defaults.
func (x *MetricConfig) UnmarshalYAML(unmarshal func(any) error) error {
	type plain MetricConfig
	x.defaults()
	return unmarshal((*plain)(x))
}

// metric is a metric of a program.
type metric struct {
	name, help, kind string
	idle             time.Duration
	buckets          []float64
}

type metricsStep struct{ list []observer }

// observer is what one metric does with a line.
type observer struct {
	slot, metric int
	kind, action string
	value        *string
	all, bytes   bool
}

func (x *MetricsConfig) compile(c *compiler, at string) {
	s := &metricsStep{}
	if len(*x) == 0 {
		c.fault(at, "must name at least one metric")
	}
	for _, name := range slices.Sorted(maps.Keys(*x)) {
		m := (*x)[name]
		here := config.Key(at, name)
		def := metric{
			name: m.Prefix + name, help: m.Description, kind: strings.ToLower(m.Type), idle: time.Duration(m.MaxIdleDuration),
		}
		m.check(c, here, def.name)
		o := observer{
			slot: c.slot(cmp.Or(m.Source, name)), metric: len(c.prog.metrics), kind: def.kind,
			action: strings.ToLower(m.Config.Action), value: m.Config.Value, all: m.Config.MatchAll, bytes: m.Config.CountEntryBytes,
		}
		o.check(c, config.Key(here, "config"))
		switch def.kind {
		case "counter", "gauge":
			if len(m.Config.Buckets) > 0 {
				c.fault(config.Key(config.Key(here, "config"), "buckets"), "must be empty, only a histogram has buckets")
			}
		case "histogram":
			if def.buckets = m.Config.Buckets; len(def.buckets) == 0 {
				def.buckets = prometheus.DefBuckets
			}
			for i, b := range def.buckets {
				if i > 0 && b <= def.buckets[i-1] || math.IsNaN(b) {
					c.fault(config.Key(config.Key(here, "config"), "buckets"), "must grow from one to the next")
				}
			}
		default:
			c.fault(config.Key(here, "type"), "must be counter, gauge or histogram, is %q", m.Type)
		}
		c.prog.metrics = append(c.prog.metrics, def)
		s.list = append(s.list, o)
	}
	c.add(s)
}

func (x *MetricConfig) check(c *compiler, at, name string) {
	if !prommodel.LegacyValidation.IsValidMetricName(name) {
		c.fault(at, "must be the name of a metric: letters, digits, _ and :, is %q", name)
	}
	for _, prefix := range []string{"ingot_", "go_", "process_", "promhttp_"} {
		if strings.HasPrefix(name, prefix) && !strings.HasPrefix(name, defaultPrefix) {
			c.fault(config.Key(at, "prefix"), "must not make a name that starts with %s, which are Ingot's own metrics, is %q", prefix, x.Prefix)
		}
	}
	if x.MaxIdleDuration < Duration(time.Second) {
		c.fault(config.Key(at, "max_idle_duration"), "must be at least 1s, is %s", x.MaxIdleDuration)
	}
}

func (o *observer) check(c *compiler, at string) {
	actions := map[string][]string{"counter": {"inc", "add"}, "gauge": {"set", "inc", "dec", "add", "sub"}, "histogram": {""}}
	if list := actions[o.kind]; list != nil && !slices.Contains(list, o.action) {
		c.fault(config.Key(at, "action"), "must be %s for a %s, is %q", cmp.Or(strings.Join(list, ", "), "left out"), o.kind, o.action)
	}
	if o.all && o.kind != "counter" {
		c.fault(config.Key(at, "match_all"), "must be left out, it is for counters")
	}
	if o.all && o.value != nil {
		c.fault(config.Key(at, "match_all"), "must not be set together with value")
	}
	if o.bytes && (!o.all || o.action != "add") {
		c.fault(config.Key(at, "count_entry_bytes"), "needs match_all: true and action: add")
	}
}

func (s *metricsStep) run(r *Runner, _ *Pipeline) outcome {
	for i := range s.list {
		o := &s.list[i]
		f := r.families[o.metric]
		if f == nil {
			continue
		}
		amount, observes := o.amount(r)
		if !observes {
			continue
		}
		if math.IsNaN(amount) || !f.observe(o, r.labels.render(), amount, r.now) {
			r.counts.Unobserved++
		}
	}
	return next
}

// amount returns what the line adds, NaN where that is no number. observes is false for a line
// that is none of the metric's business.
func (o *observer) amount(r *Runner) (amount float64, observes bool) {
	switch {
	case o.bytes:
		return float64(len(r.line)), true
	case o.all && o.action == "inc":
		return 1, true
	}
	what := r.kindOf(o.slot)
	if what == 0 {
		return 0, false
	}
	text, isText := r.text(o.slot)
	if o.value != nil && (!isText || string(text) != *o.value) {
		return 0, false
	}
	if o.action == "inc" || o.action == "dec" {
		return 1, true
	}
	amount = number(text, what)
	if o.kind == "counter" && amount < 0 {
		amount = math.NaN()
	}
	return amount, true
}

// number reads a number, or a duration as seconds. It is NaN for anything else.
func number(text []byte, k kind) float64 {
	switch k {
	case isNull:
		return math.NaN()
	case isBool:
		if string(text) == "true" {
			return 1
		}
		return 0
	default:
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err == nil {
		return f
	}
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return math.NaN()
	}
	return d.Seconds()
}
