package podlogs

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// Config is what one [Collector] reads.
type Config struct {
	Pods  PodConfig
	Files []FileConfig
}

// PodConfig is the pod_logs block: the container log files that the kubelet keeps. Their
// streams have the index labels of k8s-monitoring: namespace, container, job (which is
// namespace/container), service_name, service_namespace and app_kubernetes_io_name. Labels of
// the pod called level or deployment_environment are kept too. pod and service_instance_id are
// structured metadata: a query filters by them behind the braces. The annotations
// k8s.grafana.com/logs.job and resource.opentelemetry.io/service.name, service.namespace and
// service.instance.id of a pod overwrite what is derived.
type PodConfig struct {
	// Enabled turns the collection of container logs on. Default false.
	Enabled bool `yaml:"enabled"`
	// Path is the kubelet's directory of pod logs, as this process sees it. Default
	// /var/log/pods.
	Path string `yaml:"path"`
	// Namespaces restricts collection to these namespaces; each entry is a name or an
	// anchored regular expression. Default empty: all.
	Namespaces []string `yaml:"namespaces"`
	// ExcludeNamespaces leaves these namespaces out; each entry is a name or an anchored
	// regular expression. It wins over Namespaces. Default empty: none.
	ExcludeNamespaces []string `yaml:"exclude_namespaces"`
	// MetadataTimeout is how long the lines of a newly found container wait for the labels
	// and annotations of its pod. Afterwards they are sent with what the path tells. Files
	// are opened at once in any case. Default 5s; without Kubernetes nothing is waited for.
	MetadataTimeout config.Duration `yaml:"metadata_timeout"`
	// ScanInterval is how often directories are looked through for new and rotated files.
	// New pods are also noticed at once where the system can notify. Default 1s.
	ScanInterval config.Duration `yaml:"scan_interval"`
}

// DefaultPodConfig returns the defaults of the pod_logs block.
func DefaultPodConfig() PodConfig {
	return PodConfig{
		Path:            "/var/log/pods",
		MetadataTimeout: config.Duration(5 * time.Second),
		ScanInterval:    config.Duration(time.Second),
	}
}

// Validate returns every problem of the block as [config.Problems].
func (c PodConfig) Validate() error {
	var ps config.Problems
	if c.Path == "" {
		ps.Add("path", "must be the kubelet's directory of pod logs, such as /var/log/pods")
	}
	checkPatterns(&ps, "namespaces", c.Namespaces)
	checkPatterns(&ps, "exclude_namespaces", c.ExcludeNamespaces)
	if c.MetadataTimeout < 0 {
		ps.Add("metadata_timeout", "must not be negative, is %s", c.MetadataTimeout)
	}
	if least := config.Duration(100 * time.Millisecond); c.ScanInterval < least {
		ps.Add("scan_interval", "must be at least %s, is %s", least, c.ScanInterval)
	}
	return ps.Err()
}

func checkPatterns(ps *config.Problems, path string, list []string) {
	for i, s := range list {
		if s == "" {
			ps.Add(config.Index(path, i), "must be a namespace or a regular expression, is empty")
		} else if _, err := regexp.Compile(s); err != nil {
			ps.Add(config.Index(path, i), "must be a namespace or a regular expression: %v", err)
		}
	}
}

// namespaceMatcher compiles a list of names and expressions to one anchored expression, as
// the relabelling of Prometheus would match it. It is nil for an empty list.
func namespaceMatcher(list []string) (*regexp.Regexp, error) {
	if len(list) == 0 {
		return nil, nil
	}
	re, err := regexp.Compile("^(?:(?:" + strings.Join(list, ")|(?:") + "))$")
	if err != nil {
		return nil, fmt.Errorf("compile namespaces %q: %w", list, err)
	}
	return re, nil
}

// Format is how the lines of a file carry their time.
type Format string

// The formats of log files.
const (
	// FormatCRI is what container runtimes write: time, stream, tag, text.
	FormatCRI Format = "cri"
	// FormatDocker is one JSON object a line, as Docker's json-file driver writes it.
	FormatDocker Format = "docker"
	// FormatRaw is text; the time of a line is when it was read.
	FormatRaw Format = "raw"
)

// FileConfig is one element of file_logs: ordinary log files of the node.
type FileConfig struct {
	// Paths are absolute glob patterns as filepath.Match knows them. Symbolic links are not
	// followed below the last directory without a wildcard.
	Paths []string `yaml:"paths"`
	// Format is cri, docker or raw. Default raw.
	Format Format `yaml:"format"`
	// Labels are the index labels of the streams. The path is added as label filename
	// unless it is set here.
	Labels map[string]string `yaml:"labels"`
	// Stages process the lines. Only the empty list is supported yet.
	Stages []any `yaml:"stages"`
}

// DefaultFileConfig returns the defaults of one element of file_logs.
func DefaultFileConfig() FileConfig { return FileConfig{Format: FormatRaw} }

// UnmarshalYAML decodes onto the defaults.
func (c *FileConfig) UnmarshalYAML(unmarshal func(any) error) error {
	type plain FileConfig
	*c = DefaultFileConfig()
	return unmarshal((*plain)(c))
}

// Validate returns every problem of the element as [config.Problems].
func (c FileConfig) Validate() error {
	var ps config.Problems
	if len(c.Paths) == 0 {
		ps.Add("paths", "must name at least one file or pattern, such as /var/log/*.log")
	}
	for i, p := range c.Paths {
		switch _, err := filepath.Match(p, ""); {
		case !filepath.IsAbs(p):
			ps.Add(config.Index("paths", i), "must be an absolute path or pattern, is %q", p)
		case err != nil:
			ps.Add(config.Index("paths", i), "must be a pattern of *, ? and [a-z], is %q", p)
		case strings.Contains(p, "**"):
			ps.Add(config.Index("paths", i), "must not contain **, which is not supported; write one pattern for each depth")
		}
	}
	switch c.Format {
	case FormatCRI, FormatDocker, FormatRaw:
	default:
		ps.Add("format", "must be cri, docker or raw, is %q", string(c.Format))
	}
	for name, value := range c.Labels {
		if !model.LegacyValidation.IsValidLabelName(name) || strings.HasPrefix(name, "__") {
			ps.Add(config.Key("labels", name), "must be a label name: letters, digits and _, not starting with a digit or __")
		}
		if value == "" {
			ps.Add(config.Key("labels", name), "must not be empty; leave the label out instead")
		}
	}
	if len(c.Stages) > 0 {
		ps.Add("stages", "processing stages are not supported yet; leave the list empty")
	}
	return ps.Err()
}
