package scrape

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-telemetry/ingot/internal/config"
)

func TestScrapeConfigOfPrometheusCanBePasted(t *testing.T) {
	var doc struct {
		Jobs []JobConfig `yaml:"scrape_configs"`
	}
	err := config.Load([]byte(`
scrape_configs:
  - job_name: pasted
    honor_labels: true
    honor_timestamps: false
    track_timestamps_staleness: true
    params: {module: [http_2xx]}
    scrape_interval: 15s
    scrape_timeout: 5s
    scrape_protocols: [OpenMetricsText1.0.0, PrometheusText0.0.4]
    fallback_scrape_protocol: PrometheusText0.0.4
    metrics_path: /probe
    scheme: https
    enable_compression: false
    follow_redirects: false
    enable_http2: false
    body_size_limit: 10MB
    sample_limit: 1000
    target_limit: 10
    label_limit: 30
    label_name_length_limit: 100
    label_value_length_limit: 200
    keep_dropped_targets: 5
    metric_name_validation_scheme: legacy
    extra_scrape_metrics: true
    authorization: {credentials_file: /etc/token}
    tls_config: {ca_file: /etc/ca.pem, server_name: x}
    static_configs: [{targets: [a:1], labels: {env: prod}}]
    file_sd_configs: [{files: ["targets/*.yaml"]}]
    http_sd_configs: [{url: "http://sd/targets", refresh_interval: 30s, basic_auth: {username: u, password_file: /p}}]
    relabel_configs: [{source_labels: [__address__], target_label: __param_target}]
    metric_relabel_configs: [{source_labels: [__name__], regex: "go_.*", action: drop}]
  - job_name: plain
`), &doc)
	if err != nil {
		t.Fatal(err)
	}
	if err := ValidateJobs(DefaultConfig(), doc.Jobs); err != nil {
		t.Fatal(err)
	}
	j := doc.Jobs[0]
	if j.HonorTimestamps || !j.HonorLabels || j.EnableCompression || j.HTTPClientConfig.FollowRedirects || j.BodySizeLimit != 10<<20 || j.Scheme != "https" {
		t.Errorf("pasted job lost something: %+v", j)
	}
	if got := time.Duration(j.FileSDConfigs[0].RefreshInterval); got != 5*time.Minute {
		t.Errorf("file_sd refresh interval is %s, want the default of 5m", got)
	}
	plain := doc.Jobs[1].WithDefaults(DefaultConfig())
	if !plain.HonorTimestamps || !plain.EnableCompression || !plain.HTTPClientConfig.FollowRedirects || plain.MetricsPath != "/metrics" ||
		time.Duration(plain.ScrapeInterval) != time.Minute || time.Duration(plain.ScrapeTimeout) != 10*time.Second || plain.LabelLimit != 256 || plain.SampleLimit != 1_000_000 {
		t.Errorf("defaults are not those of Prometheus and the block scrape: %+v", plain)
	}
}

func TestShortIntervalShortensTheTimeout(t *testing.T) {
	c := DefaultJobConfig()
	c.ScrapeInterval = config.Duration(5 * time.Second)
	if got := c.WithDefaults(DefaultConfig()).ScrapeTimeout; got != c.ScrapeInterval {
		t.Errorf("timeout is %s for an interval of 5s, want 5s", got)
	}
}

func TestWrongJobsAreRefusedWithPathAndCure(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		var doc struct {
			Jobs []JobConfig `yaml:"scrape_configs"`
		}
		var got []string
		err := config.Load([]byte("scrape_configs:\n"+text), &doc)
		var ps config.Problems
		ps.Merge("", err)
		if err == nil {
			ps.Merge("scrape_configs", ValidateJobs(DefaultConfig(), doc.Jobs))
		}
		for _, p := range ps {
			p.Line = 0
			got = append(got, p.Error())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("problems of %s (-want +got):\n%s", text, diff)
		}
	}
	f("- {job_name: a}\n- {job_name: a}\n- {}",
		`scrape_configs[1].job_name: must be unique, but "a" is the name of element 0 too`,
		"scrape_configs[2].job_name: must be set")
	f("- {job_name: a, scrape_interval: 10s, scrape_timeout: 20s, scheme: ftp}",
		"scrape_configs[0].scrape_timeout: must be at most the interval of 10s, is 20s",
		`scrape_configs[0].scheme: must be http or https, is "ftp"`)
	f("- {job_name: a, scrape_protocols: [PrometheusProto, x], fallback_scrape_protocol: OpenMetricsText1.0.0}",
		`scrape_configs[0].scrape_protocols[1]: must be one of [PrometheusProto OpenMetricsText0.0.1 OpenMetricsText1.0.0 PrometheusText1.0.0 PrometheusText0.0.4], is "x"`,
		"scrape_configs[0].scrape_protocols: must hold PrometheusText0.0.4 or PrometheusText1.0.0, the formats that Ingot reads",
		`scrape_configs[0].fallback_scrape_protocol: must be PrometheusText0.0.4 or PrometheusText1.0.0, is "OpenMetricsText1.0.0"`)
	f("- {job_name: a, static_configs: [{targets: ['http://a:1/']}], http_sd_configs: [{}]}",
		`scrape_configs[0].static_configs[0].targets[0]: must be host:port without scheme and path, is "http://a:1/"; use scheme and metrics_path`,
		"scrape_configs[0].http_sd_configs[0].url: must be set")
	f("- {job_name: a, relabel_configs: [{action: replace}], static_configs: [{targets: ['http://a:1/']}]}",
		"scrape_configs[0].relabel_configs[0]: relabel configuration for replace action requires 'target_label' value")
	f("- {job_name: a, metric_relabel_configs: [{action: hashmod, target_label: x}], basic_auth: {username: u, password: p, password_file: f}}",
		"scrape_configs[0]: at most one of basic_auth password, password_file & password_ref must be configured",
		"scrape_configs[0].metric_relabel_configs[0]: relabel configuration for hashmod requires non-zero modulus")
	f("- {job_name: a, honour_labels: true}", "scrape_configs[0].honour_labels: unknown key, did you mean \"honor_labels\"?")
}

func TestWrongScrapeBlockIsRefused(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	c.Timeout, c.MaxBodiesInFlight = config.Duration(2*time.Minute), config.MiB
	want := "timeout: must be at most the interval of 1m, is 2m\nmax_bodies_in_flight: must be at least body_size_limit of 64MiB, is 1MiB"
	if err := c.Validate(); err == nil || err.Error() != want {
		t.Errorf("problems:\n%v\nwant:\n%s", err, want)
	}
}
