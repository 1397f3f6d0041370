package remotewrite

import (
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// The limits of what may be configured: a request of at least a few samples, and of no more
// than what common gateways let through.
const (
	minRequestBytes = 16 * config.KiB
	maxRequestBytes = 64 * config.MiB
)

// EndpointConfig is how samples for one destination are put together to requests. It is part
// of the destination's block.
type EndpointConfig struct {
	// MaxSamplesPerSend ends a request that has this many samples. Default 2000.
	MaxSamplesPerSend int `yaml:"max_samples_per_send"`
	// MaxBytes ends a request that has this size before compression, which makes it about
	// ten times smaller. Default 1MiB.
	MaxBytes config.Size `yaml:"max_bytes"`
	// BatchSendDeadline ends a request this long after its first sample. Default 1s.
	BatchSendDeadline config.Duration `yaml:"batch_send_deadline"`
}

// DefaultEndpointConfig returns the defaults.
func DefaultEndpointConfig() EndpointConfig {
	return EndpointConfig{MaxSamplesPerSend: 2000, MaxBytes: config.MiB, BatchSendDeadline: config.Duration(time.Second)}
}

// Validate returns every problem as [config.Problems].
func (c EndpointConfig) Validate() error {
	var ps config.Problems
	if c.MaxSamplesPerSend < 1 {
		ps.Add("max_samples_per_send", "must be at least 1, is %d", c.MaxSamplesPerSend)
	}
	if c.MaxBytes < minRequestBytes || c.MaxBytes > maxRequestBytes {
		ps.Add("max_bytes", "must be between %s and %s, is %s", minRequestBytes, maxRequestBytes, c.MaxBytes)
	}
	if c.BatchSendDeadline <= 0 {
		ps.Add("batch_send_deadline", "must be longer than 0s, is %s", c.BatchSendDeadline)
	}
	return ps.Err()
}
