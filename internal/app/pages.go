package app

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/podlogs"
	"github.com/ingot-telemetry/ingot/internal/web"
)

// pages returns what the status pages show of the parts that run.
func (p *program) pages() web.Pages {
	pages := web.Pages{
		Version: p.Version,
		Config:  p.Config.YAML,
		Ready:   p.ready,
		Queues:  p.queueStatus,
		Memory:  func() any { return p.memory.Status() },

		Profiling: p.Profiling,
	}
	if p.scraping != nil {
		pages.Targets = func() any { return p.scraping.Status() }
	}
	if len(p.collectors) > 0 {
		pages.Logs = p.logStatus
	}
	if p.cluster != nil {
		pages.Kubernetes = func() any { return p.cluster.Status() }
	}
	return pages
}

// ready returns why the process cannot be counted on yet: a watch that something waits for
// has never been filled. It does not become unready again when the API server goes away.
func (p *program) ready() error {
	if p.cluster == nil {
		return nil
	}
	var errs []error
	for _, store := range p.cluster.Needed() {
		// What the API server refuses holds up those targets alone, which the targets show.
		if !store.Synced() && (!store.Refused() || p.scrapesCluster() && store.Kind() == "nodes") {
			errs = append(errs, fmt.Errorf("list %s: %w", store.Kind(), notYet(store.Err())))
		}
	}
	if p.runsLogs() && p.Config.PodLogs.Enabled && !p.cluster.Pods().Synced() {
		errs = append(errs, fmt.Errorf("list pods of node %s: %w", p.NodeName, notYet(p.cluster.Pods().Err())))
	}
	return errors.Join(errs...)
}

func notYet(err error) error {
	if err == nil {
		return errors.New("no answer from the API server yet")
	}
	return err
}

func (p *program) queueStatus() any {
	all := []delivery.Status{}
	for _, queues := range p.delivering {
		all = append(all, queues()...)
	}
	return all
}

func (p *program) logStatus() any {
	all := make([]podlogs.Status, len(p.collectors))
	for i, c := range p.collectors {
		all[i] = c.Status()
	}
	return all
}

// newBuildInfo is a gauge of value 1 that carries the version, as usual in the field.
func newBuildInfo(version string) prometheus.Collector {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ingot_build_info",
		Help: "Constant 1, labelled with the version of the program.",
	}, []string{"version"})
	g.WithLabelValues(version).Set(1)
	return g
}
