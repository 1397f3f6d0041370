package promoperator

import (
	"fmt"
	"slices"
	"strconv"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v3"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

// RenderYAML writes jobs as the scrape_configs of Prometheus that do the same. Nothing that may
// come from a Secret is in it, user names and certificates included: people put tokens into
// the one and keys beside the other. What a job leaves to the block scrape is left out.
func RenderYAML(jobs []scrape.JobConfig) ([]byte, error) {
	list := yaml.Node{Kind: yaml.SequenceNode}
	for i := range jobs {
		n, err := jobNode(jobs[i])
		if err != nil {
			return nil, fmt.Errorf("write job %s: %w", jobs[i].JobName, err)
		}
		list.Content = append(list.Content, n)
	}
	return config.Marshal(struct {
		ScrapeConfigs *yaml.Node `yaml:"scrape_configs"`
	}{&list})
}

// jobNode is one job. Its rules are written by ruleNode, since the types of Prometheus leave
// out a separator or a replacement that is empty, which means something else when read again.
func jobNode(job scrape.JobConfig) (*yaml.Node, error) {
	lists := map[string][]*relabel.Config{"relabel_configs": job.RelabelConfigs, "metric_relabel_configs": job.MetricRelabelConfigs}
	job.RelabelConfigs, job.MetricRelabelConfigs = nil, nil
	job.HTTPClientConfig = withoutSecrets(job.HTTPClientConfig)
	job.HTTPSDConfigs = slices.Clone(job.HTTPSDConfigs)
	for i := range job.HTTPSDConfigs {
		job.HTTPSDConfigs[i].HTTPClientConfig = withoutSecrets(job.HTTPSDConfigs[i].HTTPClientConfig)
	}
	var n yaml.Node
	if err := n.Encode(job); err != nil {
		return nil, err
	}
	for _, key := range []string{"relabel_configs", "metric_relabel_configs"} {
		if len(lists[key]) == 0 {
			continue
		}
		rules := yaml.Node{Kind: yaml.SequenceNode}
		for _, r := range lists[key] {
			rules.Content = append(rules.Content, ruleNode(r))
		}
		n.Content = append(n.Content, text(key), &rules)
	}
	return &n, nil
}

// withoutSecrets returns a copy without what the types of Prometheus would show of Secrets.
func withoutSecrets(h promconfig.HTTPClientConfig) promconfig.HTTPClientConfig {
	hide := func(values ...*string) {
		for _, v := range values {
			if *v != "" {
				*v = "<secret>"
			}
		}
	}
	if h.BasicAuth != nil {
		b := *h.BasicAuth
		hide(&b.Username)
		h.BasicAuth = &b
	}
	if h.OAuth2 != nil {
		o := *h.OAuth2
		hide(&o.ClientID, &o.TLSConfig.CA, &o.TLSConfig.Cert)
		h.OAuth2 = &o
	}
	hide(&h.TLSConfig.CA, &h.TLSConfig.Cert)
	return h
}

// ruleNode writes what differs from the defaults of a rule.
func ruleNode(r *relabel.Config) *yaml.Node {
	n := yaml.Node{Kind: yaml.MappingNode}
	add := func(key string, value *yaml.Node) { n.Content = append(n.Content, text(key), value) }
	def := relabel.DefaultRelabelConfig
	if r.Action != def.Action {
		add("action", text(string(r.Action)))
	}
	if len(r.SourceLabels) > 0 {
		sources := yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, s := range r.SourceLabels {
			sources.Content = append(sources.Content, text(string(s)))
		}
		add("source_labels", &sources)
	}
	if r.Separator != def.Separator {
		add("separator", text(r.Separator))
	}
	if r.Regex.String() != def.Regex.String() {
		add("regex", text(r.Regex.String()))
	}
	if r.Modulus != 0 {
		add("modulus", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.FormatUint(r.Modulus, 10)})
	}
	if r.TargetLabel != "" {
		add("target_label", text(r.TargetLabel))
	}
	if r.Replacement != def.Replacement {
		add("replacement", text(r.Replacement))
	}
	return &n
}

// text is a scalar, quoted where it would be something else without, also to the YAML 1.1 of
// Prometheus, which SetString does not do.
func text(s string) *yaml.Node {
	var n yaml.Node
	if n.Encode(s) != nil {
		n.SetString(s)
	}
	return &n
}
