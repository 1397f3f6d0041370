//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-telemetry/ingot/test/bench/exporter"
	"github.com/ingot-telemetry/ingot/test/bench/meter"
)

// A collector is a program that is measured. All get the same jobs, interval, limits and
// external labels, and remote write 1.0 with snappy unless the load says otherwise; metadata
// is off.
type collector struct {
	name, program string
	// args returns the command line for what start has made.
	args func(s setting) []string
	// config is the text of the configuration.
	config func(m metricsSetup) string
	// can says whether the collector is able to run a load.
	can func(l metricsLoad) bool
}

// A setting is where a collector finds its configuration and keeps its data, where it pushes
// to, and the address for its own pages.
type setting struct{ config, data, url, listen string }

// metricsSetup is what a collector of metrics must do.
type metricsSetup struct {
	url  string
	jobs []exporter.Job
	load metricsLoad
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
		{ingotName, b.ingot, ingotArgs, ingotMetrics, func(metricsLoad) bool { return true }},
		{vmagentName, b.peers[vmagentName], nil, vmagentMetrics, func(l metricsLoad) bool { return !l.Protobuf && !l.second }},
		{promagentName, b.peers[promagentName], promagentArgs, promagentMetrics, func(l metricsLoad) bool { return !l.zstd }},
	}
	return slices.DeleteFunc(all, func(c collector) bool { return !b.wanted(c.name) })
}

// able returns the collectors that are able to run a load.
func able(all []collector, load metricsLoad) []collector {
	var some []collector
	for _, c := range all {
		if !c.can(load) {
			continue
		}
		if c.name == vmagentName {
			c.args = vmagentArgs(load)
		}
		some = append(some, c)
	}
	return some
}

func ingotArgs(s setting) []string {
	return []string{"run", "--config", s.config, "--data", s.data, "--listen", s.listen, "--node-name", "bench", "--log.level", "warn"}
}

func ingotMetrics(m metricsSetup) string {
	more := ""
	if m.load.second {
		more += "    protobuf_message: io.prometheus.write.v2.Request\n"
	}
	if m.load.zstd {
		more += "    compression: zstd\n"
	}
	return fmt.Sprintf(`destinations:
  - name: sink
    type: prometheus
    url: %s
    external_labels: {cluster: bench}
    metadata_config: {send: false}
%s%s`, m.url, more, scrapeConfigs(m))
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

// vmagentArgs returns vmagent's command line. It speaks its own protocol, remote write 1.0 with
// zstd, unless told to speak Prometheus'.
func vmagentArgs(load metricsLoad) func(setting) []string {
	return func(s setting) []string {
		args := []string{
			"-promscrape.config=" + s.config, "-remoteWrite.tmpDataPath=" + s.data, "-remoteWrite.url=" + s.url,
			"-enableMetadata=false", "-promscrape.maxScrapeSize=64MB",
			"-httpListenAddr=" + s.listen, "-loggerLevel=WARN", "-promscrape.suppressScrapeErrors",
		}
		if !load.zstd {
			args = append(args, "-remoteWrite.forcePromProto")
		}
		return args
	}
}

func vmagentMetrics(m metricsSetup) string {
	return "global: {external_labels: {cluster: bench}}\n" + scrapeConfigs(m)
}

func promagentArgs(s setting) []string { return []string{s.config, s.data} }

func promagentMetrics(m metricsSetup) string {
	text := vmagentMetrics(m) + "remote_write:\n  - url: " + m.url + "\n    metadata_config: {send: false}\n"
	if m.load.second {
		text += "    protobuf_message: io.prometheus.write.v2.Request\n"
	}
	if m.load.Protobuf {
		text += "    send_exemplars: true\n    send_native_histograms: true\n"
	}
	return text
}

// scrapeConfigs returns the jobs in the words that all understand. Compression is said either
// way, so that no collector decides it by itself.
func scrapeConfigs(m metricsSetup) string {
	more := ""
	if m.load.Protobuf {
		more += "    scrape_protocols: [PrometheusProto]\n    scrape_native_histograms: true\n"
	}
	if rules := m.load.Rules; rules != (exporter.Rules{}) {
		more += fmt.Sprintf("    metric_relabel_configs:\n      - {source_labels: [__name__], regex: '%s', action: drop}\n      - {regex: '%s', action: labeldrop}\n",
			rules.Drop, rules.LabelDrop)
	}
	var text strings.Builder
	text.WriteString("scrape_configs:\n")
	for _, j := range m.jobs {
		fmt.Fprintf(&text, `  - job_name: %s
    scrape_interval: %s
    scrape_timeout: %s
    honor_timestamps: true
    enable_compression: %v
%s    static_configs:
      - targets: [%s]
`, j.Name, m.load.Interval, min(m.load.Interval, 10*time.Second), m.load.compressed, more, strings.Join(j.Targets, ", "))
	}
	return text.String()
}

// A running collector.
type running struct {
	*meter.Process
	logFile string
	listen  string // The address of its own pages, where it has them.
}

// start runs a collector with that configuration in a folder of its own.
func (b *bench) start(ctx context.Context, c collector, name, config, url string) (r running, err error) {
	dir := filepath.Join(b.dir, name)
	if err = os.MkdirAll(dir, 0o755); err != nil {
		return r, fmt.Errorf("make folder of a run: %w", err)
	}
	s := setting{config: filepath.Join(dir, "config.yaml"), data: filepath.Join(dir, "data"), url: url}
	if s.listen, err = freeAddress(ctx); err != nil {
		return r, err
	}
	if err = os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		return r, fmt.Errorf("write configuration: %w", err)
	}
	r.logFile, r.listen = filepath.Join(dir, "log"), s.listen
	log, err := os.Create(r.logFile)
	if err != nil {
		return r, fmt.Errorf("make log file: %w", err)
	}
	defer log.Close() // The collector has its own descriptor.
	r.Process, err = meter.Start(b.programCPU, log, c.program, c.args(s)...)
	return r, err
}

// freeAddress returns an address of loopback that nobody listens on. Another program may take
// it before the collector does, which then says so and ends.
func freeAddress(ctx context.Context) (string, error) {
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// explain adds the end of the collector's log to an error.
func (r running) explain(err error) error {
	if err == nil {
		return nil
	}
	text, readErr := os.ReadFile(r.logFile)
	if readErr != nil || len(text) == 0 {
		return err
	}
	const shown = 2000
	return fmt.Errorf("%w; the end of its log:\n%s", err, text[max(0, len(text)-shown):])
}

// metric adds up a metric of the collector's own over its labels. It returns false when the
// collector has no such metric.
func (r running) metric(ctx context.Context, name string) (sum float64, known bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.listen+"/metrics", http.NoBody)
	if err != nil {
		return 0, false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, false
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		if v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64); err == nil {
			sum, known = sum+v, true
		}
	}
	return sum, known
}
