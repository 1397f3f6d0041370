package app

import (
	"fmt"
	"net/http"
	"time"

	"github.com/ingot-telemetry/ingot/internal/clustermetrics"
	"github.com/ingot-telemetry/ingot/internal/discovery"
	"github.com/ingot-telemetry/ingot/internal/httpclient"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

// jobs returns everything that is scraped: the jobs of the configuration file and the
// built-in ones of the cluster.
func (p *program) jobs() ([]scrape.Job, error) {
	var jobs []scrape.Job
	for _, c := range p.Config.ScrapeConfigs {
		sources, err := p.discoverySources(c)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, scrape.Job{Config: c, Sources: sources})
	}
	if p.scrapesCluster() {
		nodes, err := discovery.NewKubernetes(discovery.KubernetesConfig{Role: discovery.RoleNode}, p.cluster)
		if err != nil {
			return nil, fmt.Errorf("cluster_metrics: %w", err)
		}
		jobs = append(jobs, clustermetrics.Jobs(p.Config.ClusterMetrics, nodes)...)
	}
	if p.cluster != nil {
		for _, store := range p.cluster.Needed() {
			p.services = append(p.services, part{"kube " + store.Kind(), store.Run})
		}
	}
	for i := range jobs {
		client, err := p.scrapeClient(jobs[i].Config)
		if err != nil {
			return nil, err
		}
		jobs[i].Client = client
	}
	return jobs, nil
}

func (p *program) scrapeClient(c scrape.JobConfig) (*http.Client, error) {
	interval := time.Duration(c.WithDefaults(p.Config.Scrape).ScrapeInterval)
	return httpclient.NewScraper(c.HTTPClientConfig, p.Config.TLS, "job "+c.JobName, interval)
}

// discoverySources returns one source for each discovery block of a job.
func (p *program) discoverySources(c scrape.JobConfig) ([]discovery.Source, error) {
	log := p.component("discovery").With("job", c.JobName)
	var sources []discovery.Source
	if len(c.StaticConfigs) > 0 {
		sources = append(sources, discovery.NewStatic(c.StaticConfigs))
	}
	for _, f := range c.FileSDConfigs {
		sources = append(sources, discovery.NewFile(f, log))
	}
	for i, h := range c.HTTPSDConfigs {
		client, err := p.client(h.HTTPClientConfig, fmt.Sprintf("job %s, http_sd_configs[%d]", c.JobName, i))
		if err != nil {
			return nil, err
		}
		sources = append(sources, discovery.NewHTTP(h, log, client, p.userAgent()))
	}
	for _, d := range c.DNSSDConfigs {
		sources = append(sources, discovery.NewDNS(d, log, discovery.NewResolver()))
	}
	for i, k := range c.KubernetesSDConfigs {
		source, err := discovery.NewKubernetes(k, p.cluster)
		if err != nil {
			return nil, fmt.Errorf("job %s, kubernetes_sd_configs[%d]: %w", c.JobName, i, err)
		}
		sources = append(sources, source)
	}
	return sources, nil
}
