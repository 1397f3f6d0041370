//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ingot-telemetry/ingot/test/bench/exporter"
	"github.com/ingot-telemetry/ingot/test/bench/meter"
)

// A collector is a program that is measured. All get the same jobs, interval, limits and
// external labels, and remote write 1.0 with snappy; metadata is off, as Ingot has none.
type collector struct {
	name, program string
	// args returns the command line for a configuration file, a folder for data and the
	// address to push to.
	args func(config, data, url string) []string
	// config is the text of the configuration.
	config func(m metricsSetup) string
}

// metricsSetup is what a collector of metrics must do.
type metricsSetup struct {
	url        string
	jobs       []exporter.Job
	interval   time.Duration
	compressed bool
}

const (
	ingotName     = "ingot"
	vmagentName   = "vmagent"
	promagentName = "promagent"
)

// wanted says whether a collector is to be measured.
func (b *bench) wanted(name string) bool { return slices.Contains(b.opts.only, name) }

// collectors returns those that are to be measured, Ingot first.
func (b *bench) collectors() []collector {
	all := []collector{
		{ingotName, b.ingot, ingotArgs, ingotMetrics},
		{vmagentName, b.peers[vmagentName], vmagentArgs, vmagentMetrics},
		{promagentName, b.peers[promagentName], promagentArgs, promagentMetrics},
	}
	return slices.DeleteFunc(all, func(c collector) bool { return !b.wanted(c.name) })
}

func ingotArgs(config, data, _ string) []string {
	return []string{"run", "--config", config, "--data", data, "--listen", "127.0.0.1:0", "--node-name", "bench", "--log.level", "warn"}
}

func ingotMetrics(m metricsSetup) string {
	return fmt.Sprintf(`destinations:
  - name: sink
    type: prometheus
    url: %s
    external_labels: {cluster: bench}
%s`, m.url, scrapeConfigs(m))
}

// ingotLogs returns a configuration that collects the container logs of a folder.
func ingotLogs(url, dir string) string {
	return fmt.Sprintf(`destinations:
  - name: sink
    type: loki
    url: %s
    external_labels: {cluster: bench}
pod_logs: {enabled: true, path: %s}
`, url, dir)
}

func vmagentArgs(config, data, url string) []string {
	return []string{
		"-promscrape.config=" + config, "-remoteWrite.tmpDataPath=" + data, "-remoteWrite.url=" + url,
		"-remoteWrite.forcePromProto", "-enableMetadata=false", "-promscrape.maxScrapeSize=64MB",
		"-httpListenAddr=127.0.0.1:0", "-loggerLevel=WARN", "-promscrape.suppressScrapeErrors",
	}
}

func vmagentMetrics(m metricsSetup) string {
	return "global: {external_labels: {cluster: bench}}\n" + scrapeConfigs(m)
}

func promagentArgs(config, data, _ string) []string { return []string{config, data} }

func promagentMetrics(m metricsSetup) string {
	return vmagentMetrics(m) + "remote_write:\n  - url: " + m.url + "\n    metadata_config: {send: false}\n"
}

// scrapeConfigs returns the jobs in the words that all understand.
func scrapeConfigs(m metricsSetup) string {
	var text strings.Builder
	text.WriteString("scrape_configs:\n")
	for _, j := range m.jobs {
		fmt.Fprintf(&text, `  - job_name: %s
    scrape_interval: %s
    scrape_timeout: %s
    honor_timestamps: true
    enable_compression: %v
    static_configs:
      - targets: [%s]
`, j.Name, m.interval, min(m.interval, 10*time.Second), m.compressed, strings.Join(j.Targets, ", "))
	}
	return text.String()
}

// start runs a collector with that configuration in a folder of its own.
func (b *bench) start(c collector, name, config, url string) (*meter.Process, string, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, "", fmt.Errorf("make folder of a run: %w", err)
	}
	file, data := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "data")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, "", fmt.Errorf("write configuration: %w", err)
	}
	logFile := filepath.Join(dir, "log")
	log, err := os.Create(logFile)
	if err != nil {
		return nil, "", fmt.Errorf("make log file: %w", err)
	}
	defer log.Close() // The collector has its own descriptor.
	p, err := meter.Start(b.programCPU, log, c.program, c.args(file, data, url)...)
	return p, logFile, err
}

// explain adds the end of a collector's log to an error.
func explain(err error, logFile string) error {
	if err == nil {
		return nil
	}
	text, readErr := os.ReadFile(logFile)
	if readErr != nil || len(text) == 0 {
		return err
	}
	const shown = 2000
	return fmt.Errorf("%w; the end of its log:\n%s", err, text[max(0, len(text)-shown):])
}
