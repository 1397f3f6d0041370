package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// scrapeEvery is short, so that a demo shows something soon.
const scrapeEvery = "1s"

// nobody is an address at which nothing listens.
const nobody = "127.0.0.1:1"

// config returns the configuration file of ingot.
func (d *demo) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Written by the demo.
cluster: demo
destinations:
  - {name: samples, type: prometheus, url: %q, tenant: %s}
  - {name: lines, type: loki, url: %q, tenant: %s}
scrape: {interval: %s, timeout: %s}
scrape_configs:
`, d.server.URL()+kit.MetricsPath, tenant, d.server.URL()+kit.LogsPath, tenant, scrapeEvery, scrapeEvery)
	for _, job := range d.exporters.jobs {
		fmt.Fprintf(&b, "  - {job_name: %s, static_configs: [{targets: [%s]}]}\n", job.name, strings.Join(job.targets, ", "))
	}
	fmt.Fprintf(&b, "  - {job_name: %s, static_configs: [{targets: [%q]}]}\n", absentJob, nobody)
	fmt.Fprintf(&b, "  - {job_name: %s, file_sd_configs: [{files: [%q], refresh_interval: 1s}]}\n", selfJob, d.selfTargets())
	fmt.Fprintf(&b, "pod_logs: {enabled: true, path: %q}\n", d.pods.writer.Dir)
	if len(d.files) > 0 {
		fmt.Fprintf(&b, "file_logs:\n  - {format: raw, labels: {job: %s}, paths: [%s]}\n", filesJob, quoted(d.files))
	}
	return b.String()
}

// The jobs that are not an exporter's.
const (
	selfJob   = "ingot"
	absentJob = "nobody-there"
	filesJob  = "machine"
)

// quoted writes a list of YAML strings.
func quoted(all []string) string {
	var parts []string
	for _, s := range all {
		parts = append(parts, fmt.Sprintf("%q", s))
	}
	return strings.Join(parts, ", ")
}

// selfTargets returns the path of the file that tells discovery where ingot listens.
func (d *demo) selfTargets() string {
	return filepath.Join(d.dir, "targets", "ingot.json")
}

// writeTargets writes a file for file discovery so that a reader never sees half of it.
func writeTargets(path string, targets ...string) error {
	body, err := json.Marshal([]map[string]any{{"targets": targets}})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", body, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// tail returns the last lines of a text.
func tail(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
