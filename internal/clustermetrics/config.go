package clustermetrics

import (
	"path"
	"regexp"

	"github.com/prometheus/common/model"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

// Config is the block cluster_metrics: the built-in jobs that scrape the parts of a cluster
// itself. Every source is off until it is enabled.
type Config struct {
	// ServiceAccountDir holds the files token and ca.crt that the kubelets are scraped with.
	// Default /var/run/secrets/kubernetes.io/serviceaccount, where a pod has them. Set it to
	// run outside of a pod. The token is sent to the nodes of the cluster and nowhere else.
	ServiceAccountDir string `yaml:"service_account_dir"`
	// Kubelet scrapes the kubelet's own metrics, /metrics of every node.
	Kubelet SourceConfig `yaml:"kubelet"`
	// KubeletResource scrapes the CPU and memory of nodes, pods and containers as the kubelet
	// reports them to autoscalers, /metrics/resource of every node.
	KubeletResource SourceConfig `yaml:"kubelet_resource"`
	// KubeletProbes scrapes the results of liveness, readiness and startup probes,
	// /metrics/probes of every node.
	KubeletProbes SourceConfig `yaml:"kubelet_probes"`
	// Cadvisor scrapes the containers' CPU, memory, disk and network, /metrics/cadvisor of
	// every node.
	Cadvisor CadvisorConfig `yaml:"cadvisor"`
}

// SourceConfig is one source of cluster metrics.
type SourceConfig struct {
	// Enabled turns the source on. Default false.
	Enabled bool `yaml:"enabled"`
	// ScrapeInterval is the time between two scrapes. Default: scrape.interval.
	ScrapeInterval config.Duration `yaml:"scrape_interval,omitempty"`
	// ScrapeTimeout is how long one scrape may take. Default: scrape.timeout, at most the interval.
	ScrapeTimeout config.Duration `yaml:"scrape_timeout,omitempty"`
	// JobLabel is the value of the label job. Default integrations/kubernetes/ and then kubelet,
	// resources, probes or cadvisor. Dashboards look for the default.
	JobLabel string `yaml:"job_label"`
	// MetricsTuning chooses among the series of the source.
	MetricsTuning Tuning `yaml:"metrics_tuning"`
}

// CadvisorConfig is the source cadvisor, whose series can be chosen more finely.
type CadvisorConfig struct {
	// Enabled turns the source on. Default false.
	Enabled bool `yaml:"enabled"`
	// ScrapeInterval is the time between two scrapes. Default: scrape.interval.
	ScrapeInterval config.Duration `yaml:"scrape_interval,omitempty"`
	// ScrapeTimeout is how long one scrape may take. Default: scrape.timeout, at most the interval.
	ScrapeTimeout config.Duration `yaml:"scrape_timeout,omitempty"`
	// JobLabel is the value of the label job. Default integrations/kubernetes/cadvisor.
	JobLabel string `yaml:"job_label"`
	// MetricsTuning chooses among the series of the source.
	MetricsTuning CadvisorTuning `yaml:"metrics_tuning"`
}

// Tuning chooses series by the name of the metric. Names are regular expressions (RE2) that
// match the whole name.
type Tuning struct {
	// UseDefaultAllowList keeps the metrics that the dashboards of k8s-monitoring need and
	// drops the others. Default true. With false and no include_metrics, all are kept.
	UseDefaultAllowList bool `yaml:"use_default_allow_list"`
	// IncludeMetrics are kept beside the default list, or instead of it where that is off.
	IncludeMetrics []string `yaml:"include_metrics,omitempty"`
	// ExcludeMetrics are dropped even where a list keeps them.
	ExcludeMetrics []string `yaml:"exclude_metrics,omitempty"`
}

// CadvisorTuning chooses among the series of cAdvisor. Its other keys apply after the three
// lists, in the order in which they stand here.
type CadvisorTuning struct {
	Tuning `yaml:",inline"`
	// DropEmptyContainerLabels drops CPU, disk, memory and pressure series without a
	// container: sums of control groups, and pause containers. Default true.
	DropEmptyContainerLabels bool `yaml:"drop_empty_container_labels"`
	// DropEmptyImageLabels drops the same families and network series without an image.
	// Default true.
	DropEmptyImageLabels bool `yaml:"drop_empty_image_labels"`
	// NormalizeUnnecessaryLabels sets labels that only add series to the value NA. Default:
	// boot_id and system_uuid of machine_memory_bytes.
	NormalizeUnnecessaryLabels []NormalizeConfig `yaml:"normalize_unnecessary_labels"`
	// KeepPhysicalFilesystemDevices are the devices, with or without /dev/, whose
	// container_fs_ series are kept; of others they are dropped. Regular expressions that
	// match the whole name. Default: mmcblk.p.+, nvme.+, rbd.+, sd.+, vd.+, xvd.+, dasd.+.
	// An empty list keeps all.
	KeepPhysicalFilesystemDevices []string `yaml:"keep_physical_filesystem_devices"`
	// KeepPhysicalNetworkDevices are the interfaces whose container_network_ series are kept.
	// Default: en[ospx][0-9].*, wlan[0-9].*, eth[0-9].*. An empty list keeps all.
	KeepPhysicalNetworkDevices []string `yaml:"keep_physical_network_devices"`
	// IncludeNamespaces keeps only series of these namespaces and those without a namespace.
	// Regular expressions. Default: empty, which keeps all.
	IncludeNamespaces []string `yaml:"include_namespaces,omitempty"`
	// ExcludeNamespaces drops series of these namespaces. Regular expressions. Default: empty.
	ExcludeNamespaces []string `yaml:"exclude_namespaces,omitempty"`
}

// NormalizeConfig names labels of a metric whose values are of no use.
type NormalizeConfig struct {
	// Metric is a regular expression that matches the whole name.
	Metric string `yaml:"metric"`
	// Labels are the names of the labels.
	Labels []string `yaml:"labels"`
}

// DefaultConfig returns the defaults of k8s-monitoring with every source off.
func DefaultConfig() Config {
	source := func(job string) SourceConfig {
		return SourceConfig{
			JobLabel:      "integrations/kubernetes/" + job,
			MetricsTuning: Tuning{UseDefaultAllowList: true},
		}
	}
	return Config{
		ServiceAccountDir: "/var/run/secrets/kubernetes.io/serviceaccount",
		Kubelet:           source("kubelet"),
		KubeletResource:   source("resources"),
		KubeletProbes:     source("probes"),
		Cadvisor: CadvisorConfig{
			JobLabel: "integrations/kubernetes/cadvisor",
			MetricsTuning: CadvisorTuning{
				Tuning:                   Tuning{UseDefaultAllowList: true},
				DropEmptyContainerLabels: true,
				DropEmptyImageLabels:     true,
				NormalizeUnnecessaryLabels: []NormalizeConfig{
					{Metric: "machine_memory_bytes", Labels: []string{"boot_id", "system_uuid"}},
				},
				KeepPhysicalFilesystemDevices: []string{
					"mmcblk.p.+", "nvme.+", "rbd.+", "sd.+", "vd.+", "xvd.+", "dasd.+",
				},
				KeepPhysicalNetworkDevices: []string{"en[ospx][0-9].*", "wlan[0-9].*", "eth[0-9].*"},
			},
		},
	}
}

// Enabled tells whether any source is on, and so whether the nodes of the cluster have to
// be known.
func (c Config) Enabled() bool {
	for _, s := range c.sources() {
		if s.Enabled {
			return true
		}
	}
	return false
}

// Validate returns the problems of the block under the given block scrape. Sources that are
// off are checked too, so that turning one on later brings no surprise.
func (c Config) Validate(global scrape.Config) error {
	var ps config.Problems
	if c.Enabled() && !path.IsAbs(c.ServiceAccountDir) {
		ps.Add("service_account_dir", "must be an absolute path, is %q", c.ServiceAccountDir)
	}
	jobs := map[string]string{}
	for _, s := range c.sources() {
		var own config.Problems
		s.validate(&own, global)
		if first, ok := jobs[s.JobLabel]; ok && s.Enabled && s.JobLabel != "" {
			own.Add("job_label", "must be unique, but %q is that of %s too", s.JobLabel, first)
		} else if s.Enabled {
			jobs[s.JobLabel] = s.key
		}
		ps.Merge(s.key, own.Err())
	}
	t := c.Cadvisor.MetricsTuning
	for i, n := range t.NormalizeUnnecessaryLabels {
		at := config.Index("cadvisor.metrics_tuning.normalize_unnecessary_labels", i)
		validatePattern(&ps, at+".metric", n.Metric)
		for j, l := range n.Labels {
			if !model.LegacyValidation.IsValidLabelName(l) {
				ps.Add(config.Index(at+".labels", j), "must be a label name such as boot_id, is %q", l)
			}
		}
	}
	at := "cadvisor.metrics_tuning."
	validatePatterns(&ps, at+"keep_physical_filesystem_devices", t.KeepPhysicalFilesystemDevices)
	validatePatterns(&ps, at+"keep_physical_network_devices", t.KeepPhysicalNetworkDevices)
	validatePatterns(&ps, at+"include_namespaces", t.IncludeNamespaces)
	validatePatterns(&ps, at+"exclude_namespaces", t.ExcludeNamespaces)
	return ps.Err()
}

// source is one source with its key and what is fixed about it.
type source struct {
	SourceConfig
	key  string
	path string
	list string // the default allow list
	own  func() []rule
}

// sources returns the sources in the order of the block.
func (c Config) sources() []source {
	none := func() []rule { return nil }
	cadvisor := SourceConfig{
		Enabled:        c.Cadvisor.Enabled,
		ScrapeInterval: c.Cadvisor.ScrapeInterval,
		ScrapeTimeout:  c.Cadvisor.ScrapeTimeout,
		JobLabel:       c.Cadvisor.JobLabel,
		MetricsTuning:  c.Cadvisor.MetricsTuning.Tuning,
	}
	return []source{
		{c.Kubelet, "kubelet", "/metrics", "kubelet", none},
		{c.KubeletResource, "kubelet_resource", "/metrics/resource", "kubelet_resource", none},
		{c.KubeletProbes, "kubelet_probes", "/metrics/probes", "kubelet_probes", none},
		{cadvisor, "cadvisor", "/metrics/cadvisor", "cadvisor", c.Cadvisor.MetricsTuning.rules},
	}
}

func (s source) validate(ps *config.Problems, global scrape.Config) {
	if s.JobLabel == "" {
		ps.Add("job_label", "must be set; the default is integrations/kubernetes/ and the name of the source")
	}
	job := scrape.JobConfig{ScrapeInterval: s.ScrapeInterval, ScrapeTimeout: s.ScrapeTimeout}
	full := job.WithDefaults(global)
	switch {
	case s.ScrapeInterval < 0:
		ps.Add("scrape_interval", "must be positive, is %s", s.ScrapeInterval)
	case s.ScrapeTimeout < 0:
		ps.Add("scrape_timeout", "must be positive, is %s", s.ScrapeTimeout)
	case full.ScrapeTimeout > full.ScrapeInterval:
		ps.Add("scrape_timeout", "must be at most the interval of %s, is %s", full.ScrapeInterval, full.ScrapeTimeout)
	}
	validatePatterns(ps, "metrics_tuning.include_metrics", s.MetricsTuning.IncludeMetrics)
	validatePatterns(ps, "metrics_tuning.exclude_metrics", s.MetricsTuning.ExcludeMetrics)
}

func validatePatterns(ps *config.Problems, at string, patterns []string) {
	for i, p := range patterns {
		validatePattern(ps, config.Index(at, i), p)
	}
}

// validatePattern checks a pattern on its own, since in a rule it is one alternative among
// others and must not reach out of it.
func validatePattern(ps *config.Problems, at, pattern string) {
	if pattern == "" {
		ps.Add(at, "must not be empty")
		return
	}
	if _, err := regexp.Compile(pattern); err != nil {
		ps.Add(at, "must be a regular expression: %s", err)
	}
}
