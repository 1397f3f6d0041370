package clustermetrics

import (
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
)

// rule is a relabelling rule before it is compiled.
type rule struct {
	action      relabel.Action
	source      []string
	regex       string
	target      string
	replacement string
}

func keep(regex string, source ...string) rule {
	return rule{action: relabel.Keep, source: source, regex: regex}
}

func drop(regex string, source ...string) rule {
	return rule{action: relabel.Drop, source: source, regex: regex}
}

func set(target, replacement, regex string, source ...string) rule {
	return rule{action: relabel.Replace, source: source, regex: regex, target: target, replacement: replacement}
}

// separator joins the values that a rule looks at. Neither a metric name nor the name of a
// container, device or interface has it, so that a pattern that ends in it means "empty".
const separator = "@"

// compile makes rules of Prometheus. The patterns have passed Validate.
func compile(rules []rule) []*relabel.Config {
	compiled := make([]*relabel.Config, 0, len(rules))
	for _, r := range rules {
		c := relabel.DefaultRelabelConfig
		c.Action = r.action
		c.Regex = relabel.MustNewRegexp(r.regex)
		c.TargetLabel = r.target
		if r.action == relabel.Replace {
			c.Replacement = r.replacement
		}
		for _, s := range r.source {
			c.SourceLabels = append(c.SourceLabels, model.LabelName(s))
		}
		if len(r.source) > 1 {
			c.Separator = separator
		}
		compiled = append(compiled, &c)
	}
	return compiled
}

// anyOf is a pattern that matches what one of the patterns matches. Patterns are joined as
// they are, as k8s-monitoring does.
func anyOf(patterns []string) string { return strings.Join(patterns, "|") }

// rules returns the rules that hold for every source: the list of what is kept, where there
// is one, then the list of what is dropped.
func (t Tuning) rules(list string) []rule {
	var kept []string
	if t.UseDefaultAllowList {
		kept = allowList(list)
	}
	kept = append(kept, t.IncludeMetrics...)
	var rules []rule
	if len(kept) > 0 {
		// Without these two nobody could tell a source that is down from one that is off.
		kept = append([]string{"up", "scrape_samples_scraped"}, kept...)
		rules = append(rules, keep(anyOf(unique(kept)), model.MetricNameLabel))
	}
	if len(t.ExcludeMetrics) > 0 {
		rules = append(rules, drop(anyOf(t.ExcludeMetrics), model.MetricNameLabel))
	}
	return rules
}

// The families of cAdvisor. On a node, those of containers also exist for each control
// group above a container and for the pause container of each pod.
const (
	ofContainers = "container_cpu_.*|container_fs_.*|container_memory_.*|container_pressure_.*"
	ofDisks      = "container_fs_.*"
	ofNetwork    = "container_network_.*"
)

// physical marks, for the length of two rules, series of devices that are kept.
const physical = "__tmp_physical"

// rules returns the rules of cAdvisor alone.
func (t CadvisorTuning) rules() []rule {
	const name = model.MetricNameLabel
	var rules []rule
	if t.DropEmptyContainerLabels {
		rules = append(rules, drop("("+ofContainers+")"+separator, name, "container"))
	}
	if t.DropEmptyImageLabels {
		// Network series belong to the pause container, which has an image but is no container.
		rules = append(rules, drop("("+ofContainers+"|"+ofNetwork+")"+separator, name, "image"))
	}
	for _, n := range t.NormalizeUnnecessaryLabels {
		for _, l := range n.Labels {
			// A value and not no label, for queries that ask for one that is not empty.
			rules = append(rules, set(l, "NA", "("+n.Metric+")"+separator+".*", name, l))
		}
	}
	if len(t.KeepPhysicalFilesystemDevices) > 0 {
		rules = append(rules, keepDevices(ofDisks, "device", "(/dev/)?("+anyOf(t.KeepPhysicalFilesystemDevices)+")")...)
	}
	if len(t.KeepPhysicalNetworkDevices) > 0 {
		rules = append(rules, keepDevices(ofNetwork, "interface", "("+anyOf(t.KeepPhysicalNetworkDevices)+")")...)
	}
	if len(t.IncludeNamespaces) > 0 {
		rules = append(rules, keep(anyOf(append(slices.Clone(t.IncludeNamespaces), "")), "namespace"))
	}
	if len(t.ExcludeNamespaces) > 0 {
		rules = append(rules, drop(anyOf(t.ExcludeNamespaces), "namespace"))
	}
	return rules
}

// keepDevices drops the series of a family whose device does not match. A regular
// expression of RE2 cannot say "does not match", hence the mark.
func keepDevices(family, label, devices string) []rule {
	const name = model.MetricNameLabel
	return []rule{
		set(physical, "1", family+separator+devices, name, label),
		drop(family+separator, name, physical),
		{action: relabel.LabelDrop, regex: physical},
	}
}

// unique returns the patterns without repetitions, in order.
func unique(patterns []string) []string {
	var out []string
	for _, p := range patterns {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}
