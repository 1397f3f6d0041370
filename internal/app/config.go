package app

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	promconfig "github.com/prometheus/common/config"

	"github.com/ingot-telemetry/ingot/internal/clustermetrics"
	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/httpclient"
	"github.com/ingot-telemetry/ingot/internal/kube"
	"github.com/ingot-telemetry/ingot/internal/memory"
	"github.com/ingot-telemetry/ingot/internal/podlogs"
	"github.com/ingot-telemetry/ingot/internal/promoperator"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

// Config is the configuration file.
type Config struct {
	// Cluster names the cluster. It is stamped on all data as the labels cluster and
	// k8s_cluster_name, where a sample or a line has none of its own. Default empty: no
	// such labels.
	Cluster string `yaml:"cluster,omitempty"`
	// Destinations are the backends. Every destination of type prometheus gets all
	// metrics, every one of type loki all logs; none can hold up another.
	Destinations []Destination `yaml:"destinations"`
	// TLS is the trust bundle of every client that names no CA of its own.
	TLS httpclient.TLS `yaml:"tls,omitempty"`
	// Kubernetes says how to reach the API server. Inside a pod nothing is needed.
	Kubernetes kube.Config `yaml:"kubernetes,omitempty"`

	// Scrape holds what all scrape jobs have in common, and their limits.
	Scrape scrape.Config `yaml:"scrape"`
	// ScrapeConfigs are jobs as Prometheus' scrape_configs; blocks can be pasted.
	ScrapeConfigs []scrape.JobConfig `yaml:"scrape_configs"`
	// ClusterMetrics are the built-in jobs that scrape the parts of a Kubernetes cluster.
	ClusterMetrics clustermetrics.Config `yaml:"cluster_metrics"`
	// OperatorObjects are the objects of the Prometheus Operator that become jobs. Ingot does
	// not watch them yet, so that no kind can be enabled; ingot render obeys the block.
	OperatorObjects promoperator.Config `yaml:"operator_objects"`
	// PodLogs collects the container logs of the node.
	PodLogs podlogs.PodConfig `yaml:"pod_logs"`
	// FileLogs collects other log files of the node.
	FileLogs []podlogs.FileConfig `yaml:"file_logs"`
	// Data limits what waits on disk while a metrics destination is away.
	Data delivery.Config `yaml:"data"`
	// Memory limits what the process uses.
	Memory memory.Config `yaml:"memory,omitempty"`
}

// DefaultConfig returns the configuration of an empty file. It collects nothing.
func DefaultConfig() Config {
	return Config{
		Kubernetes:      kube.DefaultConfig(),
		Scrape:          scrape.DefaultConfig(),
		ClusterMetrics:  clustermetrics.DefaultConfig(),
		OperatorObjects: promoperator.DefaultConfig(),
		PodLogs:         podlogs.DefaultPodConfig(),
		Data:            delivery.DefaultConfig(),
	}
}

// maxFileSize bounds the configuration file, should the path be that of something else.
const maxFileSize = 16 * config.MiB

// Load reads the file at path onto the defaults. All that is wrong with its content comes
// back together as [config.Problems]; a file that cannot be read is another error. As in
// Prometheus, relative paths inside start at the folder of the file.
func Load(path string) (Config, error) {
	data, err := readFile(path)
	if err != nil {
		return Config{}, err
	}
	c, err := Parse(data)
	if err != nil {
		return Config{}, err
	}
	c.setDirectory(filepath.Dir(path))
	return c, nil
}

// setDirectory makes relative paths start at dir.
func (c *Config) setDirectory(dir string) {
	c.TLS.CAFile = promconfig.JoinDir(dir, c.TLS.CAFile)
	c.Kubernetes.KubeconfigFile = promconfig.JoinDir(dir, c.Kubernetes.KubeconfigFile)
	c.PodLogs.Path = promconfig.JoinDir(dir, c.PodLogs.Path)
	for i := range c.Destinations {
		c.Destinations[i].HTTP.SetDirectory(dir)
	}
	for i := range c.ScrapeConfigs {
		c.ScrapeConfigs[i].SetDirectory(dir)
	}
	c.OperatorObjects.SetDirectory(dir)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read configuration: there is no file %s", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(maxFileSize)+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(data) > int(maxFileSize) {
		return nil, fmt.Errorf("read configuration: %s is larger than %s", path, maxFileSize)
	}
	return data, nil
}

// Parse is Load for the content of a file.
func Parse(data []byte) (Config, error) {
	c := DefaultConfig()
	if err := config.Load(data, &c); err != nil {
		return Config{}, err
	}
	return c, nil
}

// YAML returns the effective configuration, defaults filled in and every secret hidden.
func (c Config) YAML() ([]byte, error) { return config.Marshal(c) }

// String returns the same as YAML, so that no format verb prints a secret.
func (c Config) String() string {
	out, err := c.YAML()
	if err != nil {
		return "<" + err.Error() + ">"
	}
	return string(out)
}

// LogValue implements slog.LogValuer for the handlers that would not use String.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Validate returns every problem as [config.Problems], with paths as in the file.
func (c Config) Validate() error {
	var ps config.Problems
	c.validateDestinations(&ps)
	ps.Merge("scrape", c.Scrape.Validate())
	ps.Merge("scrape_configs", scrape.ValidateJobs(c.Scrape, c.ScrapeConfigs))
	ps.Merge("cluster_metrics", c.ClusterMetrics.Validate(c.Scrape))
	c.validateOperatorObjects(&ps)
	c.validateJobNames(&ps)
	c.validateClients(&ps)
	ps.Merge("pod_logs", c.PodLogs.Validate())
	c.validateFileLogs(&ps)
	ps.Merge("", podlogs.Config{Pods: c.PodLogs, Files: c.FileLogs}.ValidateStages())
	ps.Merge("data", c.Data.Validate())
	ps.Merge("memory", c.Memory.Validate())
	c.validateFlow(&ps)
	return ps.Err()
}

func (c Config) validateDestinations(ps *config.Problems) {
	seen := map[string]int{}
	for i := range c.Destinations {
		d := &c.Destinations[i]
		at := config.Index("destinations", i)
		ps.Merge(at, d.Validate())
		if first, ok := seen[d.Name]; ok && d.Name != "" {
			ps.Add(at+".name", "must be unique, but destinations[%d] is named %q too", first, d.Name)
			continue
		}
		seen[d.Name] = i
	}
}

func (c Config) validateOperatorObjects(ps *config.Problems) {
	o := c.OperatorObjects
	ps.Merge("operator_objects", o.Validate())
	for _, k := range []struct {
		key     string
		enabled bool
	}{
		{"service_monitors", o.ServiceMonitors.Enabled},
		{"pod_monitors", o.PodMonitors.Enabled},
		{"probes", o.Probes.Enabled},
		{"scrape_configs", o.ScrapeConfigs.Enabled},
	} {
		if k.enabled {
			ps.Add("operator_objects."+k.key+".enabled", "must be false so far, since objects are not watched yet; ingot render shows what they would become")
		}
	}
}

// validateJobNames refuses a job of the user that has the name of an enabled built-in job.
func (c Config) validateJobNames(ps *config.Problems) {
	m := c.ClusterMetrics
	for i, j := range c.ScrapeConfigs {
		clash := m.Kubelet.Enabled && j.JobName == m.Kubelet.JobLabel ||
			m.KubeletResource.Enabled && j.JobName == m.KubeletResource.JobLabel ||
			m.KubeletProbes.Enabled && j.JobName == m.KubeletProbes.JobLabel ||
			m.Cadvisor.Enabled && j.JobName == m.Cadvisor.JobLabel
		if clash {
			ps.Add(config.Index("scrape_configs", i)+".job_name", "must be unique, but %q is the job_label of a source of cluster_metrics too", j.JobName)
		}
	}
}

// validateClients checks the clients of jobs for what Prometheus allows and this program
// cannot do. What the jobs' own Validate says already counts once.
func (c Config) validateClients(ps *config.Problems) {
	for i := range c.ScrapeConfigs {
		j := &c.ScrapeConfigs[i]
		at := config.Index("scrape_configs", i)
		ps.Merge(at, httpclient.Validate(&j.HTTPClientConfig))
		for k := range j.HTTPSDConfigs {
			ps.Merge(config.Index(at+".http_sd_configs", k), httpclient.Validate(&j.HTTPSDConfigs[k].HTTPClientConfig))
		}
	}
}

func (c Config) validateFileLogs(ps *config.Problems) {
	seen := map[string]string{}
	for i, f := range c.FileLogs {
		at := config.Index("file_logs", i)
		ps.Merge(at, f.Validate())
		for j, path := range f.Paths {
			here := config.Index(at+".paths", j)
			if first := seen[path]; first != "" {
				ps.Add(here, "is the same pattern as %s, its lines would be sent twice; keep one", first)
				continue
			}
			seen[path] = here
		}
	}
}

// validateFlow checks that what is collected has somewhere to go.
func (c Config) validateFlow(ps *config.Problems) {
	metrics, logs := c.metricSources(), c.logSources()
	if len(metrics)+len(logs) == 0 {
		ps.Add("", "nothing is collected; add scrape_configs or file_logs, or enable cluster_metrics or pod_logs")
		return
	}
	// Without a type it is not known what a destination takes; that is a problem already.
	typed := !slices.ContainsFunc(c.Destinations, func(d Destination) bool { return !d.knownType() })
	if !typed {
		return
	}
	if len(metrics) > 0 && !c.hasDestination(Prometheus) {
		ps.Add("destinations", "must hold one of type prometheus, to which the metrics of %s go", metrics[0])
	}
	if len(logs) > 0 && !c.hasDestination(Loki) {
		ps.Add("destinations", "must hold one of type loki, to which the lines of %s go", logs[0])
	}
}

// metricSources returns the keys that make metrics.
func (c Config) metricSources() []string {
	var keys []string
	if len(c.ScrapeConfigs) > 0 {
		keys = append(keys, "scrape_configs")
	}
	if c.ClusterMetrics.Enabled() {
		keys = append(keys, "cluster_metrics")
	}
	return keys
}

// logSources returns the keys that make log lines.
func (c Config) logSources() []string {
	var keys []string
	if c.PodLogs.Enabled {
		keys = append(keys, "pod_logs")
	}
	if len(c.FileLogs) > 0 {
		keys = append(keys, "file_logs")
	}
	return keys
}

func (c Config) hasDestination(typ string) bool {
	return slices.ContainsFunc(c.Destinations, func(d Destination) bool { return d.Type == typ })
}
