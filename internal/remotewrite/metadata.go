package remotewrite

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ingot-telemetry/ingot/internal/model"
)

const (
	// metadataAge is how long a family is sent after it was last seen.
	metadataAge = 10 * time.Minute
	// noteEvery is how often the families of a target are noted, since that costs as much as
	// encoding its samples where families are small.
	noteEvery = time.Minute
	// maxMetadata bounds the families, as in no honest cluster.
	maxMetadata = 100_000
)

// collector knows the metadata of all families of all targets, which remote write 1.0 sends
// in requests of their own. As in Prometheus, families of one name whose metadata differ are
// all sent.
type collector struct {
	mu    sync.Mutex // guards what follows
	seen  map[model.Metadata]time.Time
	noted map[uint64]time.Time // when, by the key of a target
}

func newCollector() *collector {
	return &collector{seen: map[model.Metadata]time.Time{}, noted: map[uint64]time.Time{}}
}

// due reports whether the families of a target are to be noted, and takes it that they are.
func (c *collector) due(key uint64) bool {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.noted[key]; ok && now.Sub(at) < noteEvery {
		return false
	}
	c.noted[key] = now
	return true
}

// see notes the families of a scrape.
func (c *collector) see(families []model.Metadata) {
	if len(families) == 0 {
		return
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range families {
		if _, ok := c.seen[m]; ok || len(c.seen) < maxMetadata {
			c.seen[m] = now
		}
	}
}

// forget gives up what was not seen lately.
func (c *collector) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.noted, func(_ uint64, at time.Time) bool { return time.Since(at) > noteEvery })
	maps.DeleteFunc(c.seen, func(_ model.Metadata, at time.Time) bool { return time.Since(at) > metadataAge })
}

// all returns the families, by name.
func (c *collector) all() []model.Metadata {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Keys(c.seen), func(a, b model.Metadata) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Help, b.Help), cmp.Compare(a.Unit, b.Unit))
	})
}
