package loki

import (
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// The limits of what may be configured: a request of at least a few lines, and of no more
// than what common gateways let through.
const (
	minBatchSize = 16 * config.KiB
	maxBatchSize = 64 * config.MiB
)

// Config is how lines for one destination are put together to requests. It is part of the
// destination's block.
type Config struct {
	// BatchSize ends a request that has this size before compression. Default 1MiB.
	BatchSize config.Size `yaml:"batch_size"`
	// BatchWait ends a request this long after its first line. Default 1s.
	BatchWait config.Duration `yaml:"batch_wait"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{BatchSize: config.MiB, BatchWait: config.Duration(time.Second)}
}

// Validate returns every problem as [config.Problems].
func (c Config) Validate() error {
	var ps config.Problems
	if c.BatchSize < minBatchSize || c.BatchSize > maxBatchSize {
		ps.Add("batch_size", "must be between %s and %s, is %s", minBatchSize, maxBatchSize, c.BatchSize)
	}
	if c.BatchWait <= 0 {
		ps.Add("batch_wait", "must be longer than 0s, is %s", c.BatchWait)
	}
	return ps.Err()
}
