package promoperator

import (
	"errors"
	"fmt"
	"slices"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/discovery"
	"github.com/ingot-telemetry/ingot/internal/kube"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

// Config is the block operator_objects: which objects of the Prometheus Operator are obeyed,
// and what holds for all of them.
type Config struct {
	// ServiceMonitors scrape the endpoints of services.
	ServiceMonitors ServiceMonitors `yaml:"service_monitors"`
	// PodMonitors scrape pods.
	PodMonitors Kind `yaml:"pod_monitors"`
	// Probes scrape what a prober, such as the blackbox exporter, says about targets.
	Probes Kind `yaml:"probes"`
	// ScrapeConfigs scrape what they themselves say how to find.
	ScrapeConfigs ScrapeConfigs `yaml:"scrape_configs"`
	// ScrapeClasses are the classes that objects name in scrapeClass, as scrapeClasses of the
	// operator's object Prometheus. Default: none.
	ScrapeClasses []ScrapeClass `yaml:"scrape_classes,omitempty"`
	// PodTargetLabels are labels of pods that targets of service and pod monitors get beside
	// the podTargetLabels of the object. Default: none.
	PodTargetLabels []string `yaml:"pod_target_labels,omitempty"`
	// EnforcedNamespaceLabel is a label that every target and every series of an object gets,
	// with the namespace of the object as its value, whatever the rules of the object do.
	// Default: none.
	EnforcedNamespaceLabel string `yaml:"enforced_namespace_label,omitempty"`
	// IgnoreNamespaceSelectors keeps monitors and probes to their own namespace, whatever
	// their namespaceSelector says. Default false.
	IgnoreNamespaceSelectors bool `yaml:"ignore_namespace_selectors"`
	// OverrideHonorLabels lets labels of the target win in every job, whatever honorLabels of
	// the object says. Default false.
	OverrideHonorLabels bool `yaml:"override_honor_labels"`
	// OverrideHonorTimestamps ignores timestamps of expositions in every job, whatever
	// honorTimestamps of the object says. Default false.
	OverrideHonorTimestamps bool `yaml:"override_honor_timestamps"`
}

// Kind is what all kinds of objects have in common.
type Kind struct {
	// Enabled obeys objects of this kind. Default false.
	Enabled bool `yaml:"enabled"`
	// Namespaces are where objects are looked for. Default: everywhere.
	Namespaces []string `yaml:"namespaces,omitempty"`
	// ExcludeNamespaces are where objects are not looked for. Default: none.
	ExcludeNamespaces []string `yaml:"exclude_namespaces,omitempty"`
	// LabelSelector chooses objects by their labels, as in app=web,tier in (a,b),!canary.
	// Default: all objects.
	LabelSelector string `yaml:"label_selector,omitempty"`
	// ScrapeInterval is for objects that have none. Default: scrape.interval.
	ScrapeInterval config.Duration `yaml:"scrape_interval,omitempty"`
	// ScrapeTimeout is for objects that have none. Default: scrape.timeout, at most the interval.
	ScrapeTimeout config.Duration `yaml:"scrape_timeout,omitempty"`
	// RelabelConfigs are applied to targets before the rules that the object leads to.
	RelabelConfigs []*relabel.Config `yaml:"relabel_configs,omitempty"`
	// MetricRelabelConfigs are applied to series after the rules of the object.
	MetricRelabelConfigs []*relabel.Config `yaml:"metric_relabel_configs,omitempty"`
}

// ServiceMonitors is the block service_monitors.
type ServiceMonitors struct {
	Kind `yaml:",inline"`
	// Role is endpointslice or endpoints, for objects without serviceDiscoveryRole. Labels of
	// targets are the same; relabelling rules that read __meta_kubernetes_endpoint_ labels
	// need endpoints. Default endpointslice. (Prometheus Operator: endpoints.)
	Role string `yaml:"role"`
}

// ScrapeConfigs is the block scrape_configs of operator_objects.
type ScrapeConfigs struct {
	Kind `yaml:",inline"`
	// FileDiscovery lets objects find targets in files of Ingot's own pod, which fileSDConfigs
	// does. Whoever may write a ScrapeConfig can then read lists of targets of the others.
	// Default false: such objects are rejected.
	FileDiscovery bool `yaml:"file_discovery"`
}

// ScrapeClass is one element of scrape_classes: settings that objects share by naming it.
type ScrapeClass struct {
	// Name is what objects say in scrapeClass.
	Name string `yaml:"name"`
	// Default gives the class to all objects that name none. One class may have it.
	Default bool `yaml:"default,omitempty"`
	// FallbackScrapeProtocol is for objects that have none.
	FallbackScrapeProtocol string `yaml:"fallback_scrape_protocol,omitempty"`
	// TLSConfig is for objects without tlsConfig. Others take of it the certificates and the
	// key that they have none of.
	TLSConfig promconfig.TLSConfig `yaml:"tls_config,omitempty"`
	// Authorization is for objects without authentication of any kind.
	Authorization *promconfig.Authorization `yaml:"authorization,omitempty"`
	// RelabelConfigs are applied to targets between the generated rules and those of the object.
	RelabelConfigs []*relabel.Config `yaml:"relabel_configs,omitempty"`
	// MetricRelabelConfigs are applied to series before the rules of the object.
	MetricRelabelConfigs []*relabel.Config `yaml:"metric_relabel_configs,omitempty"`
	// AttachMetadata is for objects without attachMetadata.
	AttachMetadata discovery.AttachMetadata `yaml:"attach_metadata,omitempty"`
}

// DefaultConfig returns the defaults of the block operator_objects. It obeys no object.
func DefaultConfig() Config {
	return Config{ServiceMonitors: ServiceMonitors{Role: discovery.RoleEndpointSlice}}
}

// SetDirectory makes relative paths of scrape classes start at dir.
func (c *Config) SetDirectory(dir string) {
	for i := range c.ScrapeClasses {
		c.ScrapeClasses[i].TLSConfig.SetDirectory(dir)
		c.ScrapeClasses[i].Authorization.SetDirectory(dir)
	}
}

// Validate returns the problems of the block.
func (c Config) Validate() error {
	var ps config.Problems
	if l := c.EnforcedNamespaceLabel; l != "" && !model.UTF8Validation.IsValidLabelName(l) {
		ps.Add("enforced_namespace_label", "is no label name: %q", l)
	}
	ps.Merge("service_monitors", c.ServiceMonitors.Validate())
	if r := c.ServiceMonitors.Role; r != discovery.RoleEndpointSlice && r != discovery.RoleEndpoints {
		ps.Add("service_monitors.role", "must be endpointslice or endpoints, is %q", r)
	}
	ps.Merge("pod_monitors", c.PodMonitors.Validate())
	ps.Merge("probes", c.Probes.Validate())
	ps.Merge("scrape_configs", c.ScrapeConfigs.Validate())
	for i, s := range c.ScrapeClasses {
		path := config.Index("scrape_classes", i)
		ps.Merge(path, s.Validate())
		for j, earlier := range c.ScrapeClasses[:i] {
			if earlier.Name == s.Name {
				ps.Add(path+".name", "must be unique, but %q is the name of element %d too", s.Name, j)
			}
			if earlier.Default && s.Default {
				ps.Add(path+".default", "one class may be the default, and element %d is", j)
			}
		}
	}
	return ps.Err()
}

// Validate returns the problems of what is common to all kinds.
func (k Kind) Validate() error {
	var ps config.Problems
	if _, err := kube.ParseSelector(k.LabelSelector); err != nil {
		ps.Merge("label_selector", err)
	}
	switch {
	case k.ScrapeInterval < 0:
		ps.Add("scrape_interval", "must be positive, is %s", k.ScrapeInterval)
	case k.ScrapeTimeout < 0:
		ps.Add("scrape_timeout", "must be positive, is %s", k.ScrapeTimeout)
	case k.ScrapeInterval > 0 && k.ScrapeTimeout > k.ScrapeInterval:
		ps.Add("scrape_timeout", "must be at most the interval of %s, is %s", k.ScrapeInterval, k.ScrapeTimeout)
	}
	checkRules(&ps, "relabel_configs", k.RelabelConfigs)
	checkRules(&ps, "metric_relabel_configs", k.MetricRelabelConfigs)
	return ps.Err()
}

// Validate returns the problems of a scrape class.
func (s ScrapeClass) Validate() error {
	var ps config.Problems
	if s.Name == "" {
		ps.Add("name", "must be set")
	}
	checkRules(&ps, "relabel_configs", s.RelabelConfigs)
	checkRules(&ps, "metric_relabel_configs", s.MetricRelabelConfigs)
	ps.Merge("tls_config", s.TLSConfig.Validate())
	client := promconfig.DefaultHTTPClientConfig
	if s.Authorization != nil {
		copied := *s.Authorization
		client.Authorization = &copied
		ps.Merge("authorization", client.Validate())
	}
	// A job knows the protocols.
	job := scrape.DefaultJobConfig()
	job.JobName = s.Name
	job.FallbackScrapeProtocol = s.FallbackScrapeProtocol
	if s.Name != "" && len(ps) == 0 {
		ps.Merge("", job.Validate(scrape.DefaultConfig()))
	}
	return ps.Err()
}

func checkRules(ps *config.Problems, path string, rules []*relabel.Config) {
	for i, r := range rules {
		if r == nil {
			ps.Add(config.Index(path, i), "must not be empty")
			continue
		}
		rule := *r
		ps.Merge(config.Index(path, i), rule.Validate(model.UTF8Validation))
	}
}

// Selects says why an object of the kind in this namespace and with these labels is not
// obeyed, nil when it is.
func (k Kind) Selects(namespace string, labels map[string]string) error {
	switch {
	case !k.Enabled:
		return errors.New("objects of this kind are not enabled")
	case len(k.Namespaces) > 0 && !slices.Contains(k.Namespaces, namespace):
		return fmt.Errorf("namespace %s is not one of namespaces", namespace)
	case slices.Contains(k.ExcludeNamespaces, namespace):
		return fmt.Errorf("namespace %s is one of exclude_namespaces", namespace)
	}
	s, err := kube.ParseSelector(k.LabelSelector)
	if err != nil {
		return fmt.Errorf("label_selector: %w", err)
	}
	if !s.Matches(labels) {
		return fmt.Errorf("its labels do not match label_selector %q", k.LabelSelector)
	}
	return nil
}
