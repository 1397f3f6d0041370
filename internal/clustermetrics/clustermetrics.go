// Package clustermetrics turns the block cluster_metrics into scrape jobs whose series are
// those of the Helm chart k8s-monitoring: same jobs, same labels, same choice of metrics, so
// that dashboards, alerts and queries written for it go on working.
//
// It is a pure translation: [Config] and the list of nodes in, [scrape.Job] values out. It
// does not discover, scrape or read a token, and knows nothing of destinations.
package clustermetrics

import (
	"embed"
	"path"
	"strings"

	promconfig "github.com/prometheus/common/config"

	"github.com/ingot-telemetry/ingot/internal/discovery"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

//go:embed allowlists/*.txt
var allowLists embed.FS

// Jobs returns one job for each enabled source, in the order of the block. Their targets
// are those of nodes (in the program *discovery.NodeSource) and of nothing else, since the
// jobs send the token of our service account; for the same reason they follow no redirect.
// The caller builds Client of each job from its HTTPClientConfig.
func Jobs(cfg Config, nodes discovery.Source) []scrape.Job {
	var jobs []scrape.Job
	for _, s := range cfg.sources() {
		if !s.Enabled {
			continue
		}
		jobs = append(jobs, scrape.Job{
			Config:         s.job(cfg.ServiceAccountDir),
			Sources:        []discovery.Source{nodes},
			RelabelReports: true,
		})
	}
	return jobs
}

func (s source) job(accountDir string) scrape.JobConfig {
	job := scrape.DefaultJobConfig()
	job.JobName = s.JobLabel
	job.ScrapeInterval = s.ScrapeInterval
	job.ScrapeTimeout = s.ScrapeTimeout
	job.Scheme = "https"
	job.MetricsPath = s.path
	job.HTTPClientConfig.FollowRedirects = false
	job.HTTPClientConfig.Authorization = &promconfig.Authorization{
		Type:            "Bearer",
		CredentialsFile: path.Join(accountDir, "token"),
	}
	// Kubelets serve certificates of their own making unless the cluster signs them, so the
	// certificate is asked for but not checked, as k8s-monitoring does.
	job.HTTPClientConfig.TLSConfig = promconfig.TLSConfig{
		CAFile:             path.Join(accountDir, "ca.crt"),
		ServerName:         "kubernetes",
		InsecureSkipVerify: true,
	}
	job.RelabelConfigs = compile([]rule{
		set("node", "$1", "(.*)", "__meta_kubernetes_node_name"),
		set("source", "kubernetes", "(.*)"),
	})
	job.MetricRelabelConfigs = compile(append(s.MetricsTuning.rules(s.list), s.own()...))
	return job
}

// allowList returns the patterns of a file below allowlists: one a line, # starts a comment.
func allowList(name string) []string {
	data, err := allowLists.ReadFile("allowlists/" + name + ".txt")
	if err != nil {
		panic(err) // The file is part of the program.
	}
	var patterns []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			patterns = append(patterns, line)
		}
	}
	return patterns
}
