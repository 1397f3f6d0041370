package scrape

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"

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
    scrape_protocols: [PrometheusProto, OpenMetricsText1.0.0, OpenMetricsText0.0.1, PrometheusText1.0.0, PrometheusText0.0.4]
    fallback_scrape_protocol: OpenMetricsText1.0.0
    scrape_native_histograms: true
    always_scrape_classic_histograms: true
    convert_classic_histograms_to_nhcb: false
    native_histogram_bucket_limit: 160
    native_histogram_min_bucket_factor: 1.1
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
    metric_name_escaping_scheme: dots
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
	if j.HonorTimestamps || !j.HonorLabels || *j.EnableCompression || !*j.ScrapeNativeHistograms || !*j.AlwaysScrapeClassicHistograms ||
		j.NativeHistogramBucketLimit != 160 || j.NativeHistogramMinBucketFactor != 1.1 || j.MetricNameEscapingScheme != "dots" || len(j.ScrapeProtocols) != 5 || j.HTTPClientConfig.FollowRedirects || j.BodySizeLimit != 10<<20 || j.Scheme != "https" {
		t.Errorf("pasted job lost something: %+v", j)
	}
	if got := time.Duration(j.FileSDConfigs[0].RefreshInterval); got != 5*time.Minute {
		t.Errorf("file_sd refresh interval is %s, want the default of 5m", got)
	}
	plain := doc.Jobs[1].WithDefaults(DefaultConfig())
	if !plain.HonorTimestamps || plain.EnableCompression != nil || *plain.ScrapeNativeHistograms || *plain.ConvertClassicHistogramsToNHCB || !plain.HTTPClientConfig.FollowRedirects || plain.MetricsPath != "/metrics" ||
		time.Duration(plain.ScrapeInterval) != time.Minute || time.Duration(plain.ScrapeTimeout) != 10*time.Second || plain.LabelLimit != 256 || plain.SampleLimit != 500_000 {
		t.Errorf("defaults are not those of Prometheus and the block scrape: %+v", plain)
	}
}

func TestProtocolsDependOnNativeHistogramsAsInPrometheus(t *testing.T) {
	f := func(job, want string, change func(*Config)) {
		t.Helper()
		global := DefaultConfig()
		if change != nil {
			change(&global)
		}
		var c JobConfig
		if err := config.Load([]byte(job), &c); err != nil {
			t.Fatal(err)
		}
		full := c.WithDefaults(global)
		if got := strings.Join(full.ScrapeProtocols, " "); got != want {
			t.Errorf("%s asks for %s, want %s", job, got, want)
		}
	}
	const text = "OpenMetricsText1.0.0 OpenMetricsText0.0.1 PrometheusText1.0.0 PrometheusText0.0.4"
	native := func(c *Config) { c.NativeHistograms = true }
	f("{}", text, nil)
	f("{scrape_native_histograms: true}", "PrometheusProto "+text, nil)
	f("{}", "PrometheusProto "+text, native)
	f("{scrape_native_histograms: false}", text, native)
	f("{scrape_native_histograms: true}", "PrometheusText0.0.4", func(c *Config) { c.Protocols = []string{"PrometheusText0.0.4"} })
	f("{scrape_protocols: [PrometheusText1.0.0]}", "PrometheusText1.0.0", native)
}

func TestEscapingFollowsTheValidationOfTheSameLevel(t *testing.T) {
	f := func(job string, validation model.ValidationScheme, escaping, want string) {
		t.Helper()
		global := DefaultConfig()
		global.MetricNameValidationScheme, global.MetricNameEscapingScheme = validation, escaping
		var c JobConfig
		if err := config.Load([]byte(job), &c); err != nil {
			t.Fatal(err)
		}
		if got := c.WithDefaults(global).MetricNameEscapingScheme; got != want {
			t.Errorf("%s below %s and %q asks for %s, want %s", job, validation, escaping, got, want)
		}
	}
	f("{}", model.UTF8Validation, "", "allow-utf-8")
	f("{}", model.LegacyValidation, "", "underscores")
	f("{}", model.UTF8Validation, "values", "values")
	f("{metric_name_validation_scheme: legacy}", model.UTF8Validation, "", "underscores")
	f("{metric_name_validation_scheme: legacy}", model.UTF8Validation, "values", "underscores")
	f("{metric_name_validation_scheme: utf8}", model.LegacyValidation, "", "allow-utf-8")
	f("{metric_name_escaping_scheme: dots}", model.LegacyValidation, "", "dots")
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
	f("- {job_name: a, scrape_protocols: [PrometheusProto, x, PrometheusProto], fallback_scrape_protocol: OpenMetricsText2}",
		`scrape_configs[0].scrape_protocols[1]: must be one of PrometheusProto, OpenMetricsText1.0.0, OpenMetricsText0.0.1, PrometheusText1.0.0, PrometheusText0.0.4, is "x"`,
		"scrape_configs[0].scrape_protocols[2]: PrometheusProto is there twice",
		`scrape_configs[0].fallback_scrape_protocol: must be one of PrometheusProto, OpenMetricsText1.0.0, OpenMetricsText0.0.1, PrometheusText1.0.0, PrometheusText0.0.4, is "OpenMetricsText2"`)
	f("- {job_name: a, metric_name_escaping_scheme: none}\n- {job_name: b, metric_name_escaping_scheme: allow-utf-8, metric_name_validation_scheme: legacy, native_histogram_min_bucket_factor: -1}",
		`scrape_configs[0].metric_name_escaping_scheme: must be one of allow-utf-8, underscores, dots, values, is "none"`,
		"scrape_configs[1].metric_name_escaping_scheme: must not be allow-utf-8 under metric_name_validation_scheme legacy; use underscores",
		"scrape_configs[1].native_histogram_min_bucket_factor: must be 0 or the smallest growth of buckets, such as 1.1, is -1")
	f("- {job_name: a, consul_sd_configs: [{names: [x]}], scrape_failure_log_file: x, http_sd_configs: []}\n- {job_name: b, scrape_classic_histograms: true}",
		"scrape_configs[0].consul_sd_configs: is not supported; use static_configs, or file_sd_configs, http_sd_configs, dns_sd_configs, kubernetes_sd_configs",
		"scrape_configs[0].scrape_failure_log_file: is not supported; failed scrapes are in the log and on the status page, with their reason",
		"scrape_configs[1].scrape_classic_histograms: has another name since Prometheus 3, use always_scrape_classic_histograms")
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

func TestAScrapeBlockIsReadOntoItsDefaults(t *testing.T) {
	c := DefaultConfig()
	err := config.Load([]byte("{native_histograms: true, protocols: [PrometheusProto], fallback_protocol: PrometheusProto, metric_name_validation_scheme: legacy, identity_networks: [10.1.0.0/16]}"), &c)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.NativeHistograms, want.Protocols, want.FallbackProtocol = true, []string{"PrometheusProto"}, "PrometheusProto"
	want.MetricNameValidationScheme, want.IdentityNetworks = model.LegacyValidation, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("read %+v, want %+v", c, want)
	}
	if err := config.Load([]byte("{identity_networks: [10.0.0.0]}"), &c); err == nil || !strings.Contains(err.Error(), "identity_networks[0]: ") {
		t.Errorf("an address in place of a network: %v", err)
	}
}

func TestWrongScrapeBlockIsRefused(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	c.Timeout, c.MaxBodiesInFlight = config.Duration(2*time.Minute), config.MiB
	c.Protocols, c.FallbackProtocol, c.MetricNameEscapingScheme = []string{"x"}, "y", "z"
	want := `timeout: must be at most the interval of 1m, is 2m
max_bodies_in_flight: must be at least body_size_limit of 64MiB, is 1MiB
protocols[0]: must be one of PrometheusProto, OpenMetricsText1.0.0, OpenMetricsText0.0.1, PrometheusText1.0.0, PrometheusText0.0.4, is "x"
fallback_protocol: must be one of PrometheusProto, OpenMetricsText1.0.0, OpenMetricsText0.0.1, PrometheusText1.0.0, PrometheusText0.0.4, is "y"
metric_name_escaping_scheme: must be one of allow-utf-8, underscores, dots, values, is "z"`
	if err := c.Validate(); err == nil || err.Error() != want {
		t.Errorf("problems:\n%v\nwant:\n%s", err, want)
	}
}
