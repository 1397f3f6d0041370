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

// minSpool is the smallest useful spool: below it a few requests would fill it. That of samples is the same.
const minSpool = config.MiB

// Config is how lines for one destination are put together to requests, and where they wait. It
// is part of the destination's block.
type Config struct {
	// BatchSize ends a request that has this size before compression. Default 1MiB.
	BatchSize config.Size `yaml:"batch_size"`
	// BatchWait ends a request this long after its first line. Default 1s.
	BatchWait config.Duration `yaml:"batch_wait"`
	// Spool keeps lines on disk while the destination is away.
	Spool SpoolConfig `yaml:"spool"`
}

// SpoolConfig is the spool block of a destination of type loki. What the destination does not
// acknowledge within five seconds is written to the data directory, compressed, before the node
// deletes the log files; while all is well nothing is.
type SpoolConfig struct {
	// MaxBytes caps the disk space, all tenants of the destination together. What would pass it
	// pushes out the oldest requests, which are counted. 0 turns the spool off: reading then
	// waits for the destination, and what the node deletes meanwhile is lost and counted. Default
	// 10GiB, which holds six hours of 1 MB of log text a second that is compressed to half of it;
	// most logs take a quarter to a sixth.
	MaxBytes config.Size `yaml:"max_bytes"`
	// MaxAge is how long a request may wait; older ones are dropped and counted. Default 48h.
	// Loki itself refuses lines that are older than 7 days, unless configured otherwise.
	MaxAge config.Duration `yaml:"max_age"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		BatchSize: config.MiB, BatchWait: config.Duration(time.Second),
		Spool: SpoolConfig{MaxBytes: 10 * config.GiB, MaxAge: config.Duration(48 * time.Hour)},
	}
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
	if n := c.Spool.MaxBytes; n != 0 && n < minSpool {
		ps.Add("spool.max_bytes", "must be 0, for no spool, or at least %s, is %s", minSpool, n)
	}
	if c.Spool.MaxAge <= 0 {
		ps.Add("spool.max_age", "must be longer than 0s, is %s", c.Spool.MaxAge)
	}
	return ps.Err()
}
