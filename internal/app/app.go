// Package app is the composition root: it reads the root [Config], builds the components that
// a role needs, and runs them in tiers.
//
// Data goes one way: sources (scrape, podlogs) push into writers (remotewrite, loki), writers
// put finished bodies into queues (delivery), queues send them. Each destination of logs has a
// collector, a writer and a queue of its own, so that none can hold up another.
//
// The package decides what is connected to what and in which order things start and stop. It
// holds no logic of collecting, encoding or sending.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	promconfig "github.com/prometheus/common/config"

	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/httpclient"
	"github.com/ingot-telemetry/ingot/internal/kube"
	"github.com/ingot-telemetry/ingot/internal/loki"
	"github.com/ingot-telemetry/ingot/internal/memory"
	"github.com/ingot-telemetry/ingot/internal/model"
	"github.com/ingot-telemetry/ingot/internal/podlogs"
	"github.com/ingot-telemetry/ingot/internal/remotewrite"
	"github.com/ingot-telemetry/ingot/internal/scrape"
	"github.com/ingot-telemetry/ingot/internal/web"
)

// The values of Options.Role.
const (
	// RoleAll runs everything in one process.
	RoleAll = "all"
	// RoleMetrics scrapes and writes metrics.
	RoleMetrics = "metrics"
	// RoleSingleton does what must be done once in a cluster.
	RoleSingleton = "singleton"
	// RoleLogs reads the log files of its node.
	RoleLogs = "logs"
)

// Options is what exists before the configuration file: the command line.
type Options struct {
	// Config has passed Validate.
	Config Config
	// ConfigPath is where Config was read from, for the start-up line.
	ConfigPath string
	// DataDir holds queues and positions. It is created when needed.
	DataDir string
	// Listen is the address of the status pages, host:port; port 0 takes a free one.
	Listen string
	// Role is one of the constants above.
	Role string
	// NodeName is the name of the Kubernetes node that this process runs on.
	NodeName string
	// Version is the program's version.
	Version string
	// Profiling adds /debug/pprof/ to the status pages, see web.Pages.
	Profiling bool
	Log       *slog.Logger
}

// Run collects and delivers until ctx ends, then delivers or persists everything taken, in
// less than ten seconds, and returns nil. It returns an error when the parts cannot be built,
// when another process uses the data directory, or when a part cannot go on, such as an
// address in use; a destination or a target that fails is a state of that destination or
// target.
func Run(ctx context.Context, o Options) error {
	p, err := build(o)
	if err != nil {
		return err
	}
	release, err := lockData(o.DataDir, o.Log)
	if err != nil {
		return err
	}
	defer release()
	o.Log.Info("starting", "version", o.Version, "role", o.Role, "path", o.ConfigPath, "node", o.NodeName)
	if len(p.sources) == 0 {
		o.Log.Warn("the configuration has nothing for this role to collect", "role", o.Role, "path", o.ConfigPath)
	}
	warnOfLeftovers(o.DataDir, o.Config.Destinations, o.Log)
	if err := runTiers(ctx, p.sources, p.writers, p.queues, p.services); err != nil {
		return err
	}
	o.Log.Info("stopped")
	return nil
}

// program is the parts of one process by tier, and what the status pages ask.
type program struct {
	Options

	reg     *prometheus.Registry
	cluster *kube.Client // nil when nothing needs Kubernetes

	sources, writers, queues, services []part

	scraping   *scrape.Manager      // nil when the role scrapes nothing
	collectors []*podlogs.Collector // one for each destination of logs
	delivering []func() []delivery.Status
	memory     *memory.Guard
}

// build makes all parts and connects them. Nothing runs and nothing is opened yet.
func build(o Options) (*program, error) {
	p := &program{Options: o, reg: prometheus.NewRegistry()}
	p.reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newBuildInfo(o.Version),
	)
	p.memory = memory.New(o.Config.Memory, p.component("memory"), p.reg)
	p.services = append(p.services, part{"memory", p.memory.Run})
	queues := delivery.NewMetrics(p.reg)
	if p.runsLogs() || p.scrapesCluster() || p.discoversCluster() {
		if err := p.connectCluster(); err != nil {
			return nil, err
		}
	}
	if p.runsMetrics() {
		if err := p.buildMetrics(queues); err != nil {
			return nil, err
		}
	}
	if p.runsLogs() {
		if err := p.buildLogs(queues); err != nil {
			return nil, err
		}
	}
	server := web.New(o.Listen, p.component("web"), p.reg, p.pages())
	p.services = append(p.services, part{"web", server.Run})
	return p, nil
}

func (p *program) runsMetrics() bool {
	return (p.Role == RoleAll || p.Role == RoleMetrics) && len(p.Config.metricSources()) > 0
}

func (p *program) runsLogs() bool {
	return (p.Role == RoleAll || p.Role == RoleLogs) && len(p.Config.logSources()) > 0
}

func (p *program) scrapesCluster() bool {
	return p.runsMetrics() && p.Config.ClusterMetrics.Enabled()
}

// discoversCluster tells whether a job of the configuration finds its targets in the cluster.
func (p *program) discoversCluster() bool {
	return p.runsMetrics() && slices.ContainsFunc(p.Config.ScrapeConfigs, func(c scrape.JobConfig) bool {
		return len(c.KubernetesSDConfigs) > 0
	})
}

func (p *program) component(name string) *slog.Logger { return p.Log.With("component", name) }

func (p *program) userAgent() string { return "ingot/" + p.Version }

// connectCluster finds the API server. Outside of a cluster pod logs are still collected,
// with the labels that their paths give; what needs the API server is an error.
func (p *program) connectCluster() error {
	c, err := kube.New(p.Config.Kubernetes, p.NodeName, p.component("kube"), p.reg)
	switch {
	case errors.Is(err, kube.ErrNotInCluster) && !p.scrapesCluster() && !p.discoversCluster():
		return nil
	case err != nil && p.scrapesCluster():
		return fmt.Errorf("cluster_metrics: %w", err)
	case err != nil && p.discoversCluster():
		return fmt.Errorf("kubernetes_sd_configs: %w", err)
	case err != nil:
		return err
	}
	kube.LogThrough(p.component("kube"))
	p.cluster = c
	return nil
}

// buildMetrics connects scrape, one writer for all destinations, and a queue for each.
func (p *program) buildMetrics(m *delivery.Metrics) error {
	common := p.commonLabels()
	var endpoints []remotewrite.Endpoint
	for _, d := range p.Config.Destinations {
		if d.Type != Prometheus {
			continue
		}
		header := d.RemoteWrite.Header(p.userAgent())
		q, err := p.queue(d, m, filepath.Join(p.DataDir, "queues", d.Name), header, remotewrite.NewCodec(d.RemoteWrite))
		if err != nil {
			return err
		}
		endpoints = append(endpoints, remotewrite.Endpoint{
			Name:     d.Name,
			Config:   d.RemoteWrite,
			External: p.externalLabels(d).Without(common),
			Durable:  p.Config.Data.Durability == delivery.Always,
			Queue:    q,
		})
	}
	writer := remotewrite.New(p.component("remotewrite"), p.reg, endpoints)
	p.writers = append(p.writers, part{"remotewrite", writer.Run})

	jobs, err := p.jobs()
	if err != nil {
		return err
	}
	opts := scrape.Options{
		Version:  p.Version,
		External: common,
		Pressure: func() int { return int(p.memory.Level()) },

		MemoryLimit: func() int64 { return p.memory.Status().Limit },
	}
	p.scraping = scrape.New(p.Config.Scrape, p.component("scrape"), p.reg, writer, opts, jobs)
	p.sources = append(p.sources, part{"scrape", p.scraping.Run})
	return nil
}

// commonLabels returns the external labels that all destinations of metrics have in common.
// A scrape adds those once a series; the others are added for each destination and sample.
func (p *program) commonLabels() model.Labels {
	var common model.Labels
	first := true
	for _, d := range p.Config.Destinations {
		if d.Type != Prometheus {
			continue
		}
		own := p.externalLabels(d)
		if first {
			common, first = own, false
			continue
		}
		common = common.Without(common.Without(own))
	}
	return common
}

// buildLogs connects a collector, a writer and a queue for each destination.
func (p *program) buildLogs(m *delivery.Metrics) error {
	var pods podlogs.Pods
	if p.cluster != nil && p.Config.PodLogs.Enabled {
		pods = p.cluster.Pods()
		p.cluster.Pods().KeepOnly(p.Config.PodLogs.Needs())
		p.services = append(p.services, part{"kube pods", p.cluster.Pods().Run})
	}
	reading, writing := podlogs.NewMetrics(p.reg), loki.NewMetrics(p.reg)
	for _, d := range p.Config.Destinations {
		if d.Type != Loki {
			continue
		}
		tenants, err := p.tenants(d, m)
		if err != nil {
			return err
		}
		writer, err := loki.New(d.Loki, p.component("loki"), writing, d.Name, p.externalLabels(d), tenants)
		if err != nil {
			return err
		}
		positions := podlogs.NewPositions(filepath.Join(p.DataDir, "positions", d.Name), d.Name, p.component("podlogs"), reading)
		writer.OnSpooled(positions.Soon)
		cfg := podlogs.Config{Pods: p.Config.PodLogs, Files: p.Config.FileLogs}
		collector, err := podlogs.New(cfg, p.component("podlogs"), reading, pods, positions, writer)
		if err != nil {
			return err
		}
		if len(p.collectors) == 0 { // The others read the same lines.
			if err := p.countLines(collector); err != nil {
				return err
			}
		}
		p.collectors = append(p.collectors, collector)
		p.sources = append(p.sources, part{"podlogs of " + d.Name, collector.Run})
		p.writers = append(p.writers, part{"loki writer of " + d.Name, writer.Run})
		p.services = append(p.services, part{"positions of " + d.Name, positions.Run})
	}
	return nil
}

// countLines registers the metrics that stages make of lines.
func (p *program) countLines(c *podlogs.Collector) error {
	custom, err := c.CustomMetrics()
	if err != nil {
		return err
	}
	if err := p.reg.Register(custom); err != nil {
		return fmt.Errorf("register the metrics of stages: %w", err)
	}
	return nil
}

// queue builds the queue of one destination. dir is where it keeps what is behind, codec knows
// what is in its blocks.
func (p *program) queue(d Destination, m *delivery.Metrics, dir string, header http.Header, codec delivery.Codec) (*delivery.Queue, error) {
	client, err := p.client(d.HTTP, "destination "+d.Name)
	if err != nil {
		return nil, err
	}
	if d.Tenant != "" {
		header.Set(tenantHeader, d.Tenant)
	}
	ep := delivery.Endpoint{Name: d.Name, URL: d.URL, Client: client, Header: header, Timeout: time.Duration(d.Timeout), Codec: codec}
	q := delivery.New(p.Config.Data, dir, p.component("delivery"), m, ep)
	p.delivering = append(p.delivering, func() []delivery.Status { return []delivery.Status{q.Status()} })
	p.queues = append(p.queues, part{"queue of " + d.Name, q.Run})
	return q, nil
}

// client builds an HTTP client that trusts the bundle of the configuration.
func (p *program) client(cfg promconfig.HTTPClientConfig, name string) (*http.Client, error) {
	return httpclient.New(cfg, p.Config.TLS, name)
}

// externalLabels returns what is added to everything that goes to a destination. A label of
// the destination wins over those that name the cluster.
func (p *program) externalLabels(d Destination) model.Labels {
	ls := []model.Label{
		{Name: "cluster", Value: p.Config.Cluster},
		{Name: "k8s_cluster_name", Value: p.Config.Cluster},
	}
	for name, value := range d.ExternalLabels {
		ls = append(ls, model.Label{Name: name, Value: value})
	}
	return model.NewLabels(ls...)
}
