package remotewrite

import (
	"maps"
	"net/http"
	"slices"
	"time"

	promconfig "github.com/prometheus/common/config"
	prommodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// The limits of what may be configured: a request of at least a few samples, and of no more
// than what common gateways let through.
const (
	minRequestBytes = 16 * config.KiB
	maxRequestBytes = 64 * config.MiB
)

// The values of EndpointConfig.ProtobufMessage.
const (
	// Message1 is remote write 1.0.
	Message1 = "prometheus.WriteRequest"
	// Message2 is remote write 2.0.
	Message2 = "io.prometheus.write.v2.Request"
	// MessageAuto is remote write 2.0, and 1.0 where the endpoint does not take that.
	MessageAuto = "auto"
)

// The values of EndpointConfig.Compression.
const (
	compressionSnappy = "snappy"
	compressionZstd   = "zstd"
)

// EndpointConfig is how samples for one destination are put together to requests. It is part
// of the destination's block.
type EndpointConfig struct {
	// MaxSamplesPerSend ends a request that has this many samples. Default 0: 10000, in 2.0
	// 20000, where a sample is about eight times smaller before compression.
	MaxSamplesPerSend int `yaml:"max_samples_per_send"`
	// MaxBytes ends a request that has this size before compression, which makes it about
	// ten times smaller. One of about 700KiB after compression ends in any case. Default 8MiB.
	MaxBytes config.Size `yaml:"max_bytes"`
	// BatchSendDeadline ends a request this long after its first sample. Default 1s.
	BatchSendDeadline config.Duration `yaml:"batch_send_deadline"`
	// ProtobufMessage is prometheus.WriteRequest (remote write 1.0),
	// io.prometheus.write.v2.Request (2.0), or auto: 2.0 until the endpoint shows that it does
	// not know that, then 1.0 for a day. Default prometheus.WriteRequest.
	ProtobufMessage string `yaml:"protobuf_message"`
	// Compression is snappy, which every receiver takes, or zstd, which VictoriaMetrics takes
	// with remote write 1.0. Default snappy.
	Compression string `yaml:"compression"`
	// SendExemplars sends exemplars along. Default true.
	SendExemplars bool `yaml:"send_exemplars"`
	// SendNativeHistograms sends native histograms, those with custom buckets by 2.0 only.
	// What is not sent is counted. Default true.
	SendNativeHistograms bool `yaml:"send_native_histograms"`
	// MetadataConfig says when type, help and unit of metric families are sent.
	MetadataConfig MetadataConfig `yaml:"metadata_config"`
	// WriteRelabelConfigs are applied to every series after external labels were added.
	WriteRelabelConfigs []*relabel.Config `yaml:"write_relabel_configs,omitempty"`
	// Headers are sent with every request. They cannot replace those of the protocol. Their
	// values are secrets, as API keys are; http_headers can read such ones from files.
	Headers map[string]promconfig.Secret `yaml:"headers,omitempty"`
}

// MetadataConfig is about type, help and unit of metric families. Remote write 2.0 sends them
// with every series, 1.0 in requests of their own.
type MetadataConfig struct {
	// Send sends metadata. Default true.
	Send bool `yaml:"send"`
	// SendInterval is the time between two sendings by remote write 1.0. Default 1m.
	SendInterval config.Duration `yaml:"send_interval"`
	// MaxSamplesPerSend is how many families a request of 1.0 has at most. Default 2000.
	MaxSamplesPerSend int `yaml:"max_samples_per_send"`
}

// DefaultEndpointConfig returns the defaults.
func DefaultEndpointConfig() EndpointConfig {
	return EndpointConfig{
		MaxBytes:             8 * config.MiB,
		BatchSendDeadline:    config.Duration(time.Second),
		ProtobufMessage:      Message1,
		Compression:          compressionSnappy,
		SendExemplars:        true,
		SendNativeHistograms: true,
		MetadataConfig:       MetadataConfig{Send: true, SendInterval: config.Duration(time.Minute), MaxSamplesPerSend: 2000},
	}
}

// reserved tells whether the protocol or the HTTP client sets a header, much as in Prometheus.
// Authentication has keys of its own, which read secrets from files.
func reserved(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Authorization", "Host", "Content-Encoding", "Content-Length", "Content-Type", "User-Agent",
		"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Www-Authenticate",
		"Accept-Encoding", "Transfer-Encoding", "Retry-Attempt", "X-Prometheus-Remote-Write-Version",
		"X-Prometheus-Remote-Read-Version", "X-Victoriametrics-Remote-Write-Version",
		"X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-Sha256":
		return true
	}
	return false
}

// Validate returns every problem as [config.Problems].
func (c EndpointConfig) Validate() error {
	var ps config.Problems
	if c.MaxSamplesPerSend < 0 {
		ps.Add("max_samples_per_send", "must be 0 or more, is %d", c.MaxSamplesPerSend)
	}
	if c.MaxBytes < minRequestBytes || c.MaxBytes > maxRequestBytes {
		ps.Add("max_bytes", "must be between %s and %s, is %s", minRequestBytes, maxRequestBytes, c.MaxBytes)
	}
	if c.BatchSendDeadline <= 0 {
		ps.Add("batch_send_deadline", "must be longer than 0s, is %s", c.BatchSendDeadline)
	}
	switch c.ProtobufMessage {
	case Message1, Message2, MessageAuto:
	default:
		ps.Add("protobuf_message", "must be %s, %s or %s, is %q", Message1, Message2, MessageAuto, c.ProtobufMessage)
	}
	switch {
	case c.Compression != compressionSnappy && c.Compression != compressionZstd:
		ps.Add("compression", "must be %s or %s, is %q", compressionSnappy, compressionZstd, c.Compression)
	case c.Compression == compressionZstd && c.ProtobufMessage != Message1:
		ps.Add("compression", "%s goes with protobuf_message %s only", compressionZstd, Message1)
	}
	ps.Merge("metadata_config", c.MetadataConfig.validate())
	for i, r := range c.WriteRelabelConfigs {
		at := config.Index("write_relabel_configs", i)
		if r == nil {
			ps.Add(at, "must not be empty")
			continue
		}
		rule := *r
		ps.Merge(at, rule.Validate(prommodel.UTF8Validation))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		if reserved(name) {
			ps.Add(config.Key("headers", name), "is set by the program itself, remove it; authentication has keys of its own")
		}
	}
	return ps.Err()
}

func (c MetadataConfig) validate() error {
	var ps config.Problems
	if c.Send && c.SendInterval <= 0 {
		ps.Add("send_interval", "must be longer than 0s, is %s", c.SendInterval)
	}
	if c.Send && c.MaxSamplesPerSend < 1 {
		ps.Add("max_samples_per_send", "must be at least 1, is %d", c.MaxSamplesPerSend)
	}
	return ps.Err()
}

// rules returns copies of the write relabelling rules that can be applied.
func (c EndpointConfig) rules() []*relabel.Config {
	var all []*relabel.Config
	for _, r := range c.WriteRelabelConfigs {
		rule := *r
		rule.NameValidationScheme = prommodel.UTF8Validation
		all = append(all, &rule)
	}
	return all
}
