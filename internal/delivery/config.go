package delivery

import (
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// The values of Config.Durability.
const (
	// Behind writes blocks to disk only while their destination does not keep up.
	Behind = "behind"
	// Always writes every block to disk before it is sent.
	Always = "always"
)

// minBytes is the smallest useful cap: below it a queue would hold a handful of blocks.
const minBytes = config.MiB

// mostParallel bounds the requests in flight, each of which holds its block in memory.
const mostParallel = 128

// Config is the data block: how much a queue keeps on disk, for how long, and when a block
// gets there. It applies to each destination that has a directory.
type Config struct {
	// MaxBytes caps the queue files of one destination. When they would pass it, the oldest
	// blocks are dropped and counted. Default 4GiB, about a day of 10 000 samples a second.
	MaxBytes config.Size `yaml:"max_bytes"`
	// MaxAge is how long a block may wait; older ones are dropped and counted. Default 48h.
	MaxAge config.Duration `yaml:"max_age"`
	// Durability is behind or always. With behind a block goes to disk when the destination
	// has not acknowledged it within half a second, and at once while the destination fails
	// or has a backlog: normal operation writes nothing, and a crash loses at most what was
	// taken in the last flush interval and half a second before. With always every block is on
	// disk before it is sent. Default behind.
	Durability string `yaml:"durability"`
	// MaxParallel is how many requests may be on their way to one destination. One is the
	// start; more are sent at a time while blocks wait although requests succeed, and fewer
	// after the destination has failed. Default 8.
	MaxParallel int `yaml:"max_parallel"`
}

// DefaultConfig returns the defaults of the data block.
func DefaultConfig() Config {
	return Config{MaxBytes: 4 * config.GiB, MaxAge: config.Duration(48 * time.Hour), Durability: Behind, MaxParallel: 8}
}

// Validate returns every problem of the block as [config.Problems].
func (c Config) Validate() error {
	var ps config.Problems
	if c.MaxBytes < minBytes {
		ps.Add("max_bytes", "must be at least %s, is %s", minBytes, c.MaxBytes)
	}
	if c.MaxAge <= 0 {
		ps.Add("max_age", "must be longer than 0s, is %s", c.MaxAge)
	}
	if c.Durability != Behind && c.Durability != Always {
		ps.Add("durability", "must be behind or always, is %q", c.Durability)
	}
	if c.MaxParallel < 1 || c.MaxParallel > mostParallel {
		ps.Add("max_parallel", "must be from 1 to %d, is %d", mostParallel, c.MaxParallel)
	}
	return ps.Err()
}
