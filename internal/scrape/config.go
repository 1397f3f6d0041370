package scrape

import (
	"cmp"
	"maps"
	"math"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/discovery"
)

// Config is the block scrape: what holds for every job that does not say otherwise, and
// the limits that keep a hostile target from hurting the others.
type Config struct {
	// Interval is the time between two scrapes of a target. Default 60s.
	Interval config.Duration `yaml:"interval"`
	// Timeout is how long one scrape may take. Default 10s; never above the interval.
	Timeout config.Duration `yaml:"timeout"`
	// BodySizeLimit is the largest response after decompression. Default 64MiB, 0 is no limit.
	BodySizeLimit config.Size `yaml:"body_size_limit"`
	// SampleLimit is how many samples a scrape may yield after metric relabelling; one more
	// fails the whole scrape. Default 500000, about what a response of 64MiB has; 0 is no limit.
	SampleLimit uint `yaml:"sample_limit"`
	// TargetLimit is how many targets a job may have; one more fails the scrapes of all of
	// them. Default 0, no limit.
	TargetLimit uint `yaml:"target_limit"`
	// LabelLimit is how many labels a series may have. Default 256, 0 is no limit.
	LabelLimit uint `yaml:"label_limit"`
	// LabelNameLengthLimit is the longest label name in bytes. Default 1024, 0 is no limit.
	LabelNameLengthLimit uint `yaml:"label_name_length_limit"`
	// LabelValueLengthLimit is the longest label value in bytes. Default 65536, 0 is no limit.
	LabelValueLengthLimit uint `yaml:"label_value_length_limit"`
	// KeepDroppedTargets is how many of the targets that relabelling dropped the status page
	// shows for each job. All are counted. Default 100, 0 shows none.
	KeepDroppedTargets uint `yaml:"keep_dropped_targets"`
	// ExtraScrapeMetrics adds scrape_timeout_seconds, scrape_sample_limit and
	// scrape_body_size_bytes to each target's series. Default false.
	ExtraScrapeMetrics bool `yaml:"extra_scrape_metrics"`
	// MaxBodiesInFlight is how many bytes scrapes under way may take, over all targets, and
	// never more than a quarter of the memory limit. A scrape that would exceed it fails. Each
	// takes 32 KiB, and for its response at most 256 KiB unless one line is longer, but all of
	// its size in protobuf. Default 512MiB, 0 is no limit but that of memory.
	MaxBodiesInFlight config.Size `yaml:"max_bodies_in_flight"`
	// Protocols are the formats to ask for, the most wanted first: PrometheusProto,
	// OpenMetricsText1.0.0, OpenMetricsText0.0.1, PrometheusText1.0.0, PrometheusText0.0.4.
	// Default, as in Prometheus: the last four in this order, and all five for jobs with
	// scrape_native_histograms.
	Protocols []string `yaml:"protocols,omitempty"`
	// FallbackProtocol is the format assumed for an answer without a known content type.
	// Default PrometheusText0.0.4. Prometheus has no default and fails such scrapes.
	FallbackProtocol string `yaml:"fallback_protocol"`
	// NativeHistograms takes native histograms, which targets expose in protobuf. Default false.
	NativeHistograms bool `yaml:"native_histograms"`
	// AlwaysScrapeClassicHistograms takes the classic buckets of a histogram that is also
	// exposed as a native one. Default false.
	AlwaysScrapeClassicHistograms bool `yaml:"always_scrape_classic_histograms"`
	// ConvertClassicHistogramsToNHCB turns classic histograms into native histograms with
	// custom buckets. Responses are then read as a whole by Prometheus' parser, which costs
	// memory and time. Default false.
	ConvertClassicHistogramsToNHCB bool `yaml:"convert_classic_histograms_to_nhcb"`
	// StartTimestamps takes the _created lines of OpenMetrics as the start timestamps of the
	// series that they are about, which remote write 2.0 sends; without it they are series.
	// Protobuf has start timestamps beside the samples, and these are always taken. Default
	// false. (Prometheus: the feature flag st-storage.)
	StartTimestamps bool `yaml:"start_timestamps"`
	// MetricNameValidationScheme is utf8 or legacy. Default utf8.
	MetricNameValidationScheme model.ValidationScheme `yaml:"metric_name_validation_scheme"`
	// MetricNameEscapingScheme is how targets are asked to escape names that are not valid
	// under the legacy scheme: allow-utf-8 (not at all), underscores, dots or values. Default
	// allow-utf-8, but underscores under the validation scheme legacy.
	MetricNameEscapingScheme string `yaml:"metric_name_escaping_scheme,omitempty"`
	// IdentityNetworks are the networks whose targets are asked for uncompressed responses:
	// where the network is fast, compression costs both sides more than it saves. Names that
	// are localhost or end in .svc or .cluster.local count as inside; a job with a proxy
	// counts as outside. Other targets are asked for gzip, and the key enable_compression of
	// a job decides for all of its targets. Default: loopback, link-local and private
	// networks, 100.64.0.0/10 included. [] asks all for gzip.
	IdentityNetworks []netip.Prefix `yaml:"identity_networks"`
}

// DefaultConfig returns the defaults of the block scrape.
func DefaultConfig() Config {
	return Config{
		Interval:              config.Duration(time.Minute),
		Timeout:               config.Duration(10 * time.Second),
		BodySizeLimit:         64 * config.MiB,
		SampleLimit:           500_000,
		LabelLimit:            256,
		LabelNameLengthLimit:  1024,
		LabelValueLengthLimit: 64 << 10,
		KeepDroppedTargets:    100,
		MaxBodiesInFlight:     512 * config.MiB,
		FallbackProtocol:      protocolText004,

		MetricNameValidationScheme: model.UTF8Validation,
		IdentityNetworks:           privateNetworks(),
	}
}

// privateNetworks returns where compression is not worth its price: this machine and the
// address ranges that clusters use for nodes, pods and services.
func privateNetworks() []netip.Prefix {
	var all []netip.Prefix
	for _, s := range [...]string{
		"127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10",
		"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7",
	} {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// Validate returns the problems of the block scrape.
func (c Config) Validate() error {
	var ps config.Problems
	if c.Interval <= 0 {
		ps.Add("interval", "must be positive, is %s", c.Interval)
	}
	if c.Timeout <= 0 {
		ps.Add("timeout", "must be positive, is %s", c.Timeout)
	}
	if c.Interval > 0 && c.Timeout > c.Interval {
		ps.Add("timeout", "must be at most the interval of %s, is %s", c.Interval, c.Timeout)
	}
	if c.MaxBodiesInFlight > 0 && c.MaxBodiesInFlight < c.BodySizeLimit {
		ps.Add("max_bodies_in_flight", "must be at least body_size_limit of %s, is %s", c.BodySizeLimit, c.MaxBodiesInFlight)
	}
	checkProtocols(&ps, "protocols", c.Protocols)
	checkProtocol(&ps, "fallback_protocol", c.FallbackProtocol)
	checkEscaping(&ps, c.MetricNameEscapingScheme, c.MetricNameValidationScheme)
	return ps.Err()
}

// JobConfig is one element of scrape_configs, with the keys and meanings of Prometheus'
// scrape_config. Limits, interval and timeout that are not set come from the block scrape.
type JobConfig struct {
	// JobName becomes the label job of targets that have none. It is unique.
	JobName string `yaml:"job_name"`
	// HonorLabels lets labels of the exposition win over those of the target. Otherwise a
	// clashing label of the exposition is renamed exported_<name>. Default false.
	HonorLabels bool `yaml:"honor_labels,omitempty"`
	// HonorTimestamps keeps timestamps of the exposition. Default true.
	HonorTimestamps bool `yaml:"honor_timestamps"`
	// TrackTimestampsStaleness ends series with timestamps of their own by stale markers
	// too. Default false.
	TrackTimestampsStaleness bool `yaml:"track_timestamps_staleness"`
	// Params are the query parameters of the request.
	Params url.Values `yaml:"params,omitempty"`
	// ScrapeInterval is the time between two scrapes of a target. Default: scrape.interval.
	ScrapeInterval config.Duration `yaml:"scrape_interval,omitempty"`
	// ScrapeTimeout is how long one scrape may take. Default: scrape.timeout, at most the interval.
	ScrapeTimeout config.Duration `yaml:"scrape_timeout,omitempty"`
	// ScrapeProtocols are the formats to ask for, the most wanted first: PrometheusProto,
	// OpenMetricsText1.0.0, OpenMetricsText0.0.1, PrometheusText1.0.0, PrometheusText0.0.4.
	// Default: scrape.protocols.
	ScrapeProtocols []string `yaml:"scrape_protocols,omitempty"`
	// FallbackScrapeProtocol is the format assumed for an answer without a known content
	// type. Default: scrape.fallback_protocol.
	FallbackScrapeProtocol string `yaml:"fallback_scrape_protocol,omitempty"`
	// ScrapeNativeHistograms takes native histograms. Default: scrape.native_histograms.
	ScrapeNativeHistograms *bool `yaml:"scrape_native_histograms,omitempty"`
	// AlwaysScrapeClassicHistograms takes the classic buckets of a histogram that is also
	// exposed as a native one. Default: scrape.always_scrape_classic_histograms.
	AlwaysScrapeClassicHistograms *bool `yaml:"always_scrape_classic_histograms,omitempty"`
	// ConvertClassicHistogramsToNHCB turns classic histograms into native histograms with
	// custom buckets. Default: scrape.convert_classic_histograms_to_nhcb.
	ConvertClassicHistogramsToNHCB *bool `yaml:"convert_classic_histograms_to_nhcb,omitempty"`
	// StartTimestamps takes the _created lines of OpenMetrics as the start timestamps of the
	// series that they are about. Default: scrape.start_timestamps.
	StartTimestamps *bool `yaml:"start_timestamps,omitempty"`
	// MetricsPath is the path of the request. Default /metrics.
	MetricsPath string `yaml:"metrics_path,omitempty"`
	// Scheme is http or https. Default http.
	Scheme string `yaml:"scheme,omitempty"`
	// EnableCompression asks for responses in gzip when true and for uncompressed ones when
	// false. Default: what scrape.identity_networks says about the target. (Prometheus: true.)
	EnableCompression *bool `yaml:"enable_compression,omitempty"`
	// BodySizeLimit is the largest response after decompression. Default: scrape.body_size_limit.
	BodySizeLimit config.Size `yaml:"body_size_limit,omitempty"`
	// SampleLimit is how many samples a scrape may yield after metric relabelling. Default: scrape.sample_limit.
	SampleLimit uint `yaml:"sample_limit,omitempty"`
	// TargetLimit is how many targets the job may have. Default: scrape.target_limit.
	TargetLimit uint `yaml:"target_limit,omitempty"`
	// LabelLimit is how many labels a series may have. Default: scrape.label_limit.
	LabelLimit uint `yaml:"label_limit,omitempty"`
	// LabelNameLengthLimit is the longest label name in bytes. Default: scrape.label_name_length_limit.
	LabelNameLengthLimit uint `yaml:"label_name_length_limit,omitempty"`
	// LabelValueLengthLimit is the longest label value in bytes. Default: scrape.label_value_length_limit.
	LabelValueLengthLimit uint `yaml:"label_value_length_limit,omitempty"`
	// KeepDroppedTargets is how many dropped targets the status page shows. Default: scrape.keep_dropped_targets.
	KeepDroppedTargets uint `yaml:"keep_dropped_targets,omitempty"`
	// NativeHistogramBucketLimit is how many buckets a native histogram may have. Buckets are
	// merged to keep it; where that is not possible, the scrape fails. Default 0, no limit.
	NativeHistogramBucketLimit uint `yaml:"native_histogram_bucket_limit,omitempty"`
	// NativeHistogramMinBucketFactor is how much larger each bucket must be than the one
	// before. Buckets are merged to keep it. Default 0, no limit.
	NativeHistogramMinBucketFactor float64 `yaml:"native_histogram_min_bucket_factor,omitempty"`
	// MetricNameValidationScheme is utf8 or legacy. Default: scrape.metric_name_validation_scheme.
	MetricNameValidationScheme model.ValidationScheme `yaml:"metric_name_validation_scheme,omitempty"`
	// MetricNameEscapingScheme is how targets are asked to escape names: allow-utf-8,
	// underscores, dots or values. Default: scrape.metric_name_escaping_scheme, but what suits
	// metric_name_validation_scheme where the job sets that.
	MetricNameEscapingScheme string `yaml:"metric_name_escaping_scheme,omitempty"`
	// ExtraScrapeMetrics adds three series a target. Default: scrape.extra_scrape_metrics.
	ExtraScrapeMetrics *bool `yaml:"extra_scrape_metrics,omitempty"`

	// StaticConfigs, FileSDConfigs, HTTPSDConfigs, KubernetesSDConfigs and DNSSDConfigs say
	// where the targets come from.
	StaticConfigs       []discovery.StaticConfig     `yaml:"static_configs,omitempty"`
	FileSDConfigs       []discovery.FileConfig       `yaml:"file_sd_configs,omitempty"`
	HTTPSDConfigs       []discovery.HTTPConfig       `yaml:"http_sd_configs,omitempty"`
	KubernetesSDConfigs []discovery.KubernetesConfig `yaml:"kubernetes_sd_configs,omitempty"`
	DNSSDConfigs        []discovery.DNSConfig        `yaml:"dns_sd_configs,omitempty"`

	// HTTPClientConfig holds authentication, TLS and proxy of the scrapes.
	HTTPClientConfig promconfig.HTTPClientConfig `yaml:",inline"`

	// RelabelConfigs are applied to discovered targets.
	RelabelConfigs []*relabel.Config `yaml:"relabel_configs,omitempty"`
	// MetricRelabelConfigs are applied to scraped series, once a series.
	MetricRelabelConfigs []*relabel.Config `yaml:"metric_relabel_configs,omitempty"`
}

// DefaultJobConfig returns what Prometheus has as the defaults of a scrape_config.
func DefaultJobConfig() JobConfig {
	return JobConfig{
		HonorTimestamps:  true,
		MetricsPath:      "/metrics",
		Scheme:           "http",
		HTTPClientConfig: promconfig.DefaultHTTPClientConfig,
	}
}

// UnmarshalYAML decodes onto the defaults. Keys of Prometheus that have no counterpart are
// refused with what to do instead.
func (c *JobConfig) UnmarshalYAML(unmarshal func(any) error) error {
	var keys map[string]ignored
	var ps config.Problems
	if unmarshal(&keys) == nil { // Otherwise the decoding below says what is wrong.
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if hint := unsupported(key); hint != "" {
				ps.Add(key, "%s", hint)
			}
		}
	}
	*c = DefaultJobConfig()
	type plain JobConfig
	err := unmarshal((*plain)(c))
	if len(ps) > 0 {
		return ps.Err() // In place of the problem that the key is unknown.
	}
	return err
}

// ignored is a value that is not looked at.
type ignored struct{}

// UnmarshalYAML does nothing.
func (ignored) UnmarshalYAML(func(any) error) error { return nil }

// unsupported says what to do about a key of Prometheus' scrape_config that Ingot does not
// have, "" for all others.
func unsupported(key string) string {
	switch key {
	case "scrape_failure_log_file":
		return "is not supported; failed scrapes are in the log and on the status page, with their reason"
	case "scrape_classic_histograms":
		return "has another name since Prometheus 3, use always_scrape_classic_histograms"
	case "file_sd_configs", "http_sd_configs", "dns_sd_configs", "kubernetes_sd_configs":
		return ""
	}
	if strings.HasSuffix(key, "_sd_configs") {
		return "is not supported; use static_configs, or file_sd_configs, http_sd_configs, dns_sd_configs, kubernetes_sd_configs"
	}
	return ""
}

// SetDirectory makes relative paths of the job start at dir, as Prometheus does with the
// folder of its configuration file.
func (c *JobConfig) SetDirectory(dir string) {
	c.HTTPClientConfig.SetDirectory(dir)
	for i := range c.FileSDConfigs {
		c.FileSDConfigs[i].SetDirectory(dir)
	}
	for i := range c.HTTPSDConfigs {
		c.HTTPSDConfigs[i].HTTPClientConfig.SetDirectory(dir)
	}
}

// WithDefaults returns the job with everything that it leaves open taken from global.
func (c JobConfig) WithDefaults(global Config) JobConfig {
	setZero(&c.ScrapeInterval, global.Interval)
	setZero(&c.ScrapeTimeout, min(global.Timeout, c.ScrapeInterval))
	setZero(&c.BodySizeLimit, global.BodySizeLimit)
	setZero(&c.SampleLimit, global.SampleLimit)
	setZero(&c.TargetLimit, global.TargetLimit)
	setZero(&c.LabelLimit, global.LabelLimit)
	setZero(&c.LabelNameLengthLimit, global.LabelNameLengthLimit)
	setZero(&c.LabelValueLengthLimit, global.LabelValueLengthLimit)
	setZero(&c.KeepDroppedTargets, global.KeepDroppedTargets)
	setDefault(&c.ExtraScrapeMetrics, global.ExtraScrapeMetrics)
	setDefault(&c.ScrapeNativeHistograms, global.NativeHistograms)
	setDefault(&c.AlwaysScrapeClassicHistograms, global.AlwaysScrapeClassicHistograms)
	setDefault(&c.ConvertClassicHistogramsToNHCB, global.ConvertClassicHistogramsToNHCB)
	setDefault(&c.StartTimestamps, global.StartTimestamps)
	c.setNames(global)
	switch {
	case len(c.ScrapeProtocols) > 0:
	case len(global.Protocols) > 0:
		c.ScrapeProtocols = global.Protocols
	case *c.ScrapeNativeHistograms:
		c.ScrapeProtocols = protocols()
	default:
		c.ScrapeProtocols = protocols()[1:]
	}
	setZero(&c.FallbackScrapeProtocol, cmp.Or(global.FallbackProtocol, protocolText004))
	c.RelabelConfigs = withScheme(c.RelabelConfigs, c.MetricNameValidationScheme)
	c.MetricRelabelConfigs = withScheme(c.MetricRelabelConfigs, c.MetricNameValidationScheme)
	return c
}

// setNames sets the schemes of names as Prometheus does: a job that sets the validation
// scheme alone gets the escaping that suits it.
func (c *JobConfig) setNames(global Config) {
	setZero(&global.MetricNameValidationScheme, model.UTF8Validation)
	setZero(&global.MetricNameEscapingScheme, escapingFor(global.MetricNameValidationScheme))
	if c.MetricNameValidationScheme == model.UnsetValidation {
		c.MetricNameValidationScheme = global.MetricNameValidationScheme
		setZero(&c.MetricNameEscapingScheme, global.MetricNameEscapingScheme)
	}
	setZero(&c.MetricNameEscapingScheme, escapingFor(c.MetricNameValidationScheme))
}

func escapingFor(scheme model.ValidationScheme) string {
	if scheme == model.LegacyValidation {
		return model.EscapeUnderscores
	}
	return model.AllowUTF8
}

func setZero[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func setDefault(v **bool, def bool) {
	if *v == nil {
		*v = &def
	}
}

// withScheme returns copies of the rules with their validation scheme set, without which
// relabelling panics. The rules themselves may be shared between jobs.
func withScheme(rules []*relabel.Config, scheme model.ValidationScheme) []*relabel.Config {
	out := make([]*relabel.Config, 0, len(rules))
	for _, r := range rules {
		if r == nil {
			continue
		}
		rule := *r
		setZero(&rule.NameValidationScheme, scheme)
		out = append(out, &rule)
	}
	return out
}

// Validate returns the problems of one job under the given block scrape.
func (c *JobConfig) Validate(global Config) error {
	var ps config.Problems
	if c.JobName == "" {
		ps.Add("job_name", "must be set")
	}
	full := c.WithDefaults(global)
	switch {
	case c.ScrapeInterval < 0:
		ps.Add("scrape_interval", "must be positive, is %s", c.ScrapeInterval)
	case c.ScrapeTimeout < 0:
		ps.Add("scrape_timeout", "must be positive, is %s", c.ScrapeTimeout)
	case full.ScrapeTimeout > full.ScrapeInterval:
		ps.Add("scrape_timeout", "must be at most the interval of %s, is %s", full.ScrapeInterval, full.ScrapeTimeout)
	}
	if c.Scheme != "http" && c.Scheme != "https" {
		ps.Add("scheme", "must be http or https, is %q", c.Scheme)
	}
	c.validateFormats(&ps, &full)
	ps.Merge("", c.HTTPClientConfig.Validate())
	c.validateSources(&ps)
	validateRules(&ps, "relabel_configs", c.RelabelConfigs, full.MetricNameValidationScheme)
	validateRules(&ps, "metric_relabel_configs", c.MetricRelabelConfigs, full.MetricNameValidationScheme)
	return ps.Err()
}

// ValidateJobs returns the problems of a list of jobs, with paths [0].job_name and so on.
func ValidateJobs(global Config, jobs []JobConfig) error {
	var ps config.Problems
	seen := make(map[string]int)
	for i := range jobs {
		ps.Merge(config.Index("", i), jobs[i].Validate(global))
		name := jobs[i].JobName
		if first, ok := seen[name]; ok && name != "" {
			ps.Add(config.Index("", i)+".job_name", "must be unique, but %q is the name of element %d too", name, first)
		} else {
			seen[name] = i
		}
	}
	return ps.Err()
}

func (c *JobConfig) validateFormats(ps *config.Problems, full *JobConfig) {
	checkProtocols(ps, "scrape_protocols", c.ScrapeProtocols)
	checkProtocol(ps, "fallback_scrape_protocol", c.FallbackScrapeProtocol)
	checkEscaping(ps, c.MetricNameEscapingScheme, full.MetricNameValidationScheme)
	if f := c.NativeHistogramMinBucketFactor; f < 0 || math.IsNaN(f) {
		ps.Add("native_histogram_min_bucket_factor", "must be 0 or the smallest growth of buckets, such as 1.1, is %v", f)
	}
}

func checkProtocols(ps *config.Problems, path string, list []string) {
	for i, p := range list {
		checkProtocol(ps, config.Index(path, i), p)
		if slices.Contains(list[:i], p) {
			ps.Add(config.Index(path, i), "%s is there twice", p)
		}
	}
}

func checkProtocol(ps *config.Problems, path, p string) {
	if p != "" && !slices.Contains(protocols(), p) {
		ps.Add(path, "must be one of %s, is %q", strings.Join(protocols(), ", "), p)
	}
}

func checkEscaping(ps *config.Problems, escaping string, scheme model.ValidationScheme) {
	const path = "metric_name_escaping_scheme"
	switch escaping {
	case "", model.EscapeUnderscores, model.EscapeDots, model.EscapeValues:
	case model.AllowUTF8:
		if scheme == model.LegacyValidation {
			ps.Add(path, "must not be %s under metric_name_validation_scheme legacy; use %s", model.AllowUTF8, model.EscapeUnderscores)
		}
	default:
		ps.Add(path, "must be one of %s, %s, %s, %s, is %q", model.AllowUTF8, model.EscapeUnderscores, model.EscapeDots, model.EscapeValues, escaping)
	}
}

func (c *JobConfig) validateSources(ps *config.Problems) {
	for i, s := range c.StaticConfigs {
		err := s.Validate()
		if len(c.RelabelConfigs) > 0 {
			err = nil // As in Prometheus: relabelling may make an address of anything.
		}
		ps.Merge(config.Index("static_configs", i), err)
	}
	for i := range c.FileSDConfigs {
		ps.Merge(config.Index("file_sd_configs", i), c.FileSDConfigs[i].Validate())
	}
	for i := range c.HTTPSDConfigs {
		ps.Merge(config.Index("http_sd_configs", i), c.HTTPSDConfigs[i].Validate())
	}
	for i := range c.KubernetesSDConfigs {
		ps.Merge(config.Index("kubernetes_sd_configs", i), c.KubernetesSDConfigs[i].Validate())
	}
	for i := range c.DNSSDConfigs {
		ps.Merge(config.Index("dns_sd_configs", i), c.DNSSDConfigs[i].Validate())
	}
}

func validateRules(ps *config.Problems, path string, rules []*relabel.Config, scheme model.ValidationScheme) {
	for i, r := range rules {
		if r == nil {
			ps.Add(config.Index(path, i), "must not be empty")
			continue
		}
		rule := *r
		ps.Merge(config.Index(path, i), rule.Validate(scheme))
	}
}
