package podlogs

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/kube"
	"github.com/ingot-telemetry/ingot/internal/stage"
)

// Config is what one [Collector] reads.
type Config struct {
	Pods  PodConfig
	Files []FileConfig
}

// PodConfig is the pod_logs block: the container log files that the kubelet keeps. Their
// streams have the labels of the chart k8s-monitoring in the version that profile names. With
// v3 these are namespace, container, job (which is namespace/container), service_name,
// service_namespace and app_kubernetes_io_name; pod and service_instance_id are structured
// metadata, by which a query filters behind the braces. What a pod has as annotation
// resource.opentelemetry.io/service.name, or with another name behind the slash, becomes a
// label and overwrites what is derived. In v2 and v3 labels_to_keep then leaves out what it
// does not list. A map or list that is set replaces the default one, {} and [] included.
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
	// DiscoveryMethod is all or annotation. With all every pod is collected whose annotation
	// annotation_selector is not false, no or skip; with annotation it must be there and not
	// be empty, too. While the API server is away, all collects a pod that it has not told of
	// after metadata_timeout, and annotation waits. A pod that is left out later is not read on
	// until it comes back. Default all.
	DiscoveryMethod string `yaml:"discovery_method"`
	// AnnotationSelector is the annotation that discovery_method looks at. Default
	// logs.grafana.com/pods.enabled.
	AnnotationSelector string `yaml:"annotation_selector"`
	// LabelSelector restricts collection to pods with these labels, written as for kubectl:
	// app=web,tier in (a,b),!canary. Lines of a pod then wait until the API server has told
	// its labels. Default empty: all.
	LabelSelector string `yaml:"label_selector,omitempty"`
	// Limits bounds how fast the lines of containers are read.
	Limits LimitsConfig `yaml:"limits"`
	// FirstStart says what is read of old logs when Ingot is new on a node.
	FirstStart StartConfig `yaml:"first_start"`
	// Profile is the version of k8s-monitoring whose labels the streams have: v2, v3 or v4. It
	// also sets the defaults of structured_metadata and labels_to_keep. Default v3.
	Profile Profile `yaml:"profile"`
	// Labels are labels of the pod that become labels of the stream: the names that they get,
	// and the labels. Default app_kubernetes_io_name: app.kubernetes.io/name.
	Labels map[string]string `yaml:"labels"`
	// Annotations are annotations of the pod that become labels of the stream, as for labels.
	// Default job: k8s.grafana.com/logs.job.
	Annotations map[string]string `yaml:"annotations"`
	// StructuredMetadata are labels that are moved to structured metadata: the names that they
	// get there, and the labels. Write {} for a Loki that refuses structured metadata. Default
	// pod, k8s.pod.name and service.instance.id under their own names, with profile v2 {}.
	StructuredMetadata map[string]string `yaml:"structured_metadata"`
	// StaticLabels are labels with fixed values, for all streams. With the profiles v2 and v3
	// they must be in labels_to_keep too. Default none.
	StaticLabels map[string]string `yaml:"static_labels,omitempty"`
	// LabelsToKeep are the only labels that a stream has in the end; dots, dashes and slashes
	// in their names stand for underscores. [] keeps all, with v2 and v3 every label and
	// annotation of the pod among them. Default that of k8s-monitoring; with profile v4 [].
	LabelsToKeep []string `yaml:"labels_to_keep"`
	// AlignServiceName derives service_name as OpenTelemetry's conventions say, from the labels
	// app.kubernetes.io/instance and app.kubernetes.io/name, the name of the Deployment,
	// StatefulSet, DaemonSet or Job, and of the pod. Default false: from the label
	// app.kubernetes.io/name and the container's name. The annotation comes first in both.
	AlignServiceName bool `yaml:"align_service_name_with_otel"`
	// Multiline joins the lines of each stream that belong together, such as stack traces, before
	// the stages. The annotation ingot.dev/logs.multiline of a pod, or with a dot and the name
	// of a container behind it, overrides it: java, go, python, dotnet, none or a regular
	// expression for the first line of a block. Default: lines stay as they are.
	Multiline *stage.MultilineConfig `yaml:"multiline,omitempty"`
	// Stages are what the lines pass on their way, as in promtail's pipeline_stages. They come
	// after the labels, of which every one can be looked at, and before labels_to_keep.
	Stages []stage.Config `yaml:"stages"`
	// MetadataTimeout is how long the lines of a newly found container wait for the labels
	// and annotations of its pod. Afterwards they are sent with what the path tells. Files
	// are opened at once in any case. Default 5s; without Kubernetes nothing is waited for.
	MetadataTimeout config.Duration `yaml:"metadata_timeout"`
	// ScanInterval is how often directories are looked through for new and rotated files, and
	// not less often than each two seconds where the system cannot tell of all changes, as when
	// fs.inotify.max_user_watches is used up. It tells of them at once. Default 10s.
	ScanInterval config.Duration `yaml:"scan_interval"`
}

// Profile is a version of k8s-monitoring.
type Profile string

// The profiles.
const (
	ProfileV2 Profile = "v2"
	ProfileV3 Profile = "v3"
	ProfileV4 Profile = "v4"
)

// DefaultPodConfig returns the defaults of the pod_logs block.
func DefaultPodConfig() PodConfig {
	c := plainPodConfig()
	c.fill()
	return c
}

// plainPodConfig returns the defaults that do not depend on the profile.
func plainPodConfig() PodConfig {
	return PodConfig{
		Path:               "/var/log/pods",
		DiscoveryMethod:    discoverAll,
		AnnotationSelector: "logs.grafana.com/pods.enabled",
		Limits:             LimitsConfig{MaxDelay: config.Duration(time.Hour)},
		FirstStart:         startConfig(fromPodStart),
		Profile:            ProfileV3,
		MetadataTimeout:    config.Duration(5 * time.Second),
		ScanInterval:       config.Duration(10 * time.Second),
	}
}

// fill sets what is not set to the defaults of the profile.
func (c *PodConfig) fill() {
	if c.Labels == nil {
		c.Labels = map[string]string{"app_kubernetes_io_name": "app.kubernetes.io/name"}
	}
	if c.Annotations == nil {
		c.Annotations = map[string]string{"job": "k8s.grafana.com/logs.job"}
	}
	if c.StructuredMetadata == nil {
		c.StructuredMetadata = map[string]string{}
		if c.Profile != ProfileV2 {
			c.StructuredMetadata = map[string]string{
				"k8s.pod.name": "k8s.pod.name", "pod": "pod", "service.instance.id": "service.instance.id",
			}
		}
	}
	if c.LabelsToKeep == nil {
		c.LabelsToKeep = []string{}
		if c.Profile != ProfileV4 {
			c.LabelsToKeep = []string{
				"app.kubernetes.io/name", "container", "instance", "job", "level", "namespace",
				"service.name", "service.namespace", "deployment.environment", "deployment.environment.name",
				"k8s.namespace.name", "k8s.deployment.name", "k8s.statefulset.name", "k8s.daemonset.name",
				"k8s.cronjob.name", "k8s.job.name", "k8s.node.name",
			}
		}
		if c.Profile == ProfileV2 {
			c.LabelsToKeep = append(c.LabelsToKeep, "pod", "k8s.pod.name")
		}
	}
}

// UnmarshalYAML decodes onto the defaults, of which some depend on the profile.
func (c *PodConfig) UnmarshalYAML(unmarshal func(any) error) error {
	type plain PodConfig
	*c = plainPodConfig()
	err := unmarshal((*plain)(c))
	c.fill()
	return err
}

// Validate returns every problem of the block as [config.Problems].
func (c PodConfig) Validate() error {
	var ps config.Problems
	if c.Path == "" {
		ps.Add("path", "must be the kubelet's directory of pod logs, such as /var/log/pods")
	}
	checkPatterns(&ps, "namespaces", c.Namespaces)
	checkPatterns(&ps, "exclude_namespaces", c.ExcludeNamespaces)
	if c.DiscoveryMethod != discoverAll && c.DiscoveryMethod != discoverAnnotation {
		ps.Add("discovery_method", "must be all or annotation, is %q", c.DiscoveryMethod)
	}
	if c.AnnotationSelector == "" {
		ps.Add("annotation_selector", "must be an annotation such as logs.grafana.com/pods.enabled")
	}
	if _, err := kube.ParseSelector(c.LabelSelector); err != nil {
		ps.Add("label_selector", "%v", err)
	}
	c.Limits.validate(&ps, "limits")
	c.FirstStart.validate(&ps, "first_start", true)
	switch c.Profile {
	case ProfileV2, ProfileV3, ProfileV4:
	default:
		ps.Add("profile", "must be v2, v3 or v4, the version of k8s-monitoring whose labels to set, is %q", string(c.Profile))
	}
	checkLabels(&ps, "labels", c.Labels)
	checkLabels(&ps, "annotations", c.Annotations)
	checkLabels(&ps, "static_labels", c.StaticLabels)
	for _, name := range slices.Sorted(maps.Keys(c.StructuredMetadata)) {
		if name == "" || c.StructuredMetadata[name] == "" {
			ps.Add(config.Key("structured_metadata", name), "must name a label; leave the line out instead")
		}
	}
	for i, name := range c.LabelsToKeep {
		if name == "" {
			ps.Add(config.Index("labels_to_keep", i), "must be the name of a label, is empty")
		}
	}
	if c.Multiline != nil {
		if _, err := stage.Compile([]stage.Config{{Multiline: c.Multiline}}); err != nil {
			ps.Merge("", withoutElement(err))
		}
	}
	if _, err := stage.Compile(c.Stages); err != nil {
		ps.Merge("stages", err)
	}
	if c.MetadataTimeout < 0 {
		ps.Add("metadata_timeout", "must not be negative, is %s", c.MetadataTimeout)
	}
	if least := config.Duration(100 * time.Millisecond); c.ScanInterval < least {
		ps.Add("scan_interval", "must be at least %s, is %s", least, c.ScanInterval)
	}
	return ps.Err()
}

// withoutElement takes the place in the list from the paths of problems with a single stage.
func withoutElement(err error) error {
	var ps config.Problems
	if !errors.As(err, &ps) {
		return err
	}
	for i := range ps {
		ps[i].Path = strings.TrimPrefix(ps[i].Path, "[0].")
	}
	return ps
}

// checkLabels checks a map of label names to what they are made of.
func checkLabels(ps *config.Problems, path string, labels map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if name != tenantLabel && (!model.LegacyValidation.IsValidLabelName(name) || strings.HasPrefix(name, "__")) {
			ps.Add(config.Key(path, name), "must be a label name: letters, digits and _, not starting with a digit or __")
		}
		if labels[name] == "" {
			ps.Add(config.Key(path, name), "must not be empty; leave the label out instead")
		}
	}
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
	// Paths are absolute patterns of *, ? and [a-z], none of which matches a slash. ** before
	// the name of the file stands for any directories, as in /var/log/**/*.log. Symbolic links
	// are not followed below the last directory without a wildcard.
	Paths []string `yaml:"paths"`
	// ExcludePaths are patterns of files that are left out, or of directories with all that is
	// in them, as for paths. Default none.
	ExcludePaths []string `yaml:"exclude_paths,omitempty"`
	// Format is cri, docker or raw. Default raw.
	Format Format `yaml:"format"`
	// Labels are the index labels of the streams. The path is added as label filename
	// unless it is set here.
	Labels map[string]string `yaml:"labels"`
	// LabelsFromPath is a regular expression whose named groups become labels where it matches
	// a part of the path: `/(?P<service_name>[^/]+)\.log$` names a stream after its file. They
	// come before labels of the same name. Default empty: none.
	LabelsFromPath string `yaml:"labels_from_path,omitempty"`
	// FirstStart says what is read of old logs when Ingot is new on a node.
	FirstStart StartConfig `yaml:"first_start"`
	// Stages are what the lines pass on their way, as in promtail's pipeline_stages.
	Stages []stage.Config `yaml:"stages"`
}

// DefaultFileConfig returns the defaults of one element of file_logs.
func DefaultFileConfig() FileConfig {
	return FileConfig{Format: FormatRaw, FirstStart: startConfig(fromBeginning)}
}

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
		checkPath(&ps, config.Index("paths", i), p)
	}
	for i, p := range c.ExcludePaths {
		checkPath(&ps, config.Index("exclude_paths", i), p)
	}
	switch c.Format {
	case FormatCRI, FormatDocker, FormatRaw:
	default:
		ps.Add("format", "must be cri, docker or raw, is %q", string(c.Format))
	}
	checkLabels(&ps, "labels", c.Labels)
	checkPathLabels(&ps, "labels_from_path", c.LabelsFromPath)
	c.FirstStart.validate(&ps, "first_start", false)
	if _, err := stage.Compile(c.Stages); err != nil {
		ps.Merge("stages", err)
	}
	return ps.Err()
}
