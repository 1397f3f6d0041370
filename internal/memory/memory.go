// Package memory keeps the process below the memory limit of its container.
//
// A [Guard] gives the limit of the control group to Go's garbage collector, so that it works
// harder before the kernel kills the process, and watches what is really in use. Where that
// comes near the limit, sources shed load in a fixed order that [Level] names; what they shed
// they count themselves.
//
// The package changes settings of the whole process, so a program runs one Guard. It frees
// nothing but what the start of the program has left behind, and does not know who uses what.
package memory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// Level says how much must be shed.
type Level int32

// The levels. Each one sheds what those below it do.
const (
	// LevelOK sheds nothing.
	LevelOK Level = iota
	// LevelElevated, from 75 % of the limit on, sheds nothing yet and is shown.
	LevelElevated
	// LevelTight, from 85 %, takes no series that are not known already.
	LevelTight
	// LevelCritical, from 95 %, skips scrapes.
	LevelCritical
)

// String returns the word that status pages and logs use.
func (l Level) String() string {
	return [...]string{"ok", "elevated", "tight", "critical"}[l]
}

// Config is the memory block.
type Config struct {
	// Limit is what the process may use. Default 0: nine tenths of the control group's
	// limit, or what the environment variable GOMEMLIMIT says; without either there is no
	// limit and nothing is shed.
	Limit config.Size `yaml:"limit,omitempty"`
}

const minLimit = 32 * config.MiB

// Validate returns the problems of the block as [config.Problems].
func (c Config) Validate() error {
	var ps config.Problems
	if c.Limit != 0 && c.Limit < minLimit {
		ps.Add("limit", "must be at least %s, which an idle process needs, is %s", minLimit, c.Limit)
	}
	return ps.Err()
}

const (
	// gcPercent is Go's GOGC where the environment does not say: nearly all memory here is
	// free of pointers and little garbage is made, 0.4 MB a second of M1, so that a collection
	// is cheap and rare, and the room for garbage is what costs.
	gcPercent = 10
	goPercent = 100 // What Go has by itself.
	// checkPause is the time between two looks, a few microseconds each.
	checkPause = time.Second
	// refreshPause is how often the control group is asked, whose limit may be resized.
	refreshPause = time.Minute
	// forgetPause is how often what is not in use of the program itself is given back, and when
	// first: 2 MB come back in half a minute by what is needed rarely. It takes about a
	// millisecond, with the 200 faults for what is in use.
	forgetPause = 10 * time.Second
	// slack is by how much of the limit the use must fall below a level to leave it.
	slack = 0.05
)

// Guard watches the memory of the process.
type Guard struct {
	cfg   Config
	log   *slog.Logger
	level atomic.Int32
	probe func() (limit, used int64)

	mu          sync.Mutex // guards what follows
	limit, used int64
}

// New returns a guard. reg gets its metrics.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer) *Guard {
	g := &Guard{cfg: cfg, log: log, probe: probe}
	gauge := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ingot_memory_" + name, Help: help}, value))
	}
	gauge("limit_bytes", "Memory that the process may use, 0 without a limit.", func() float64 { return float64(g.Status().Limit) })
	gauge("used_bytes", "Memory in use without garbage, as compared with the limit.", func() float64 { return float64(g.Status().Used) })
	gauge("level", "What is shed to stay below the limit: 0 and 1 nothing, 2 new series, 3 scrapes as well.", func() float64 { return float64(g.Level()) })
	return g
}

// Level returns what must be shed now. It costs one atomic load.
func (g *Guard) Level() Level { return Level(g.level.Load()) }

// Status is a snapshot for the status pages. Sizes are in bytes; Limit 0 is none.
type Status struct {
	Level string `json:"level"`
	Limit int64  `json:"limit_bytes"`
	Used  int64  `json:"used_bytes"`
}

// Status returns a snapshot.
func (g *Guard) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Status{Level: g.Level().String(), Limit: g.limit, Used: g.used}
}

// Run sets the limits of the garbage collector and watches until ctx ends.
func (g *Guard) Run(ctx context.Context) error {
	defer g.configure()()
	ticker := time.NewTicker(checkPause)
	defer ticker.Stop()
	refreshed, forgotten := time.Now(), time.Now()
	for {
		g.check()
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			if now.Sub(refreshed) >= refreshPause {
				refreshed = now
				g.setLimit()
			}
			if now.Sub(forgotten) >= forgetPause {
				forgotten = now
				g.forget()
			}
		}
	}
}

// configure sets up the garbage collector and returns what undoes it.
func (g *Guard) configure() (undo func()) {
	limit := debug.SetMemoryLimit(-1)
	percent := debug.SetGCPercent(gcPercent)
	if percent != goPercent {
		debug.SetGCPercent(percent) // GOGC in the environment says so.
	}
	g.setLimit()
	return func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	}
}

// setLimit gives the limit to the garbage collector. The environment wins over the control
// group, the configuration over both.
func (g *Guard) setLimit() {
	if g.cfg.Limit > 0 {
		debug.SetMemoryLimit(int64(g.cfg.Limit))
		return
	}
	if _, err := memlimit.Set(); err != nil && !errors.Is(err, memlimit.ErrNoLimit) {
		g.log.Debug("no memory limit found in the control group", "err", fmt.Errorf("read the control group: %w", err))
	}
}

func (g *Guard) forget() {
	if err := forgetImage(); err != nil {
		g.log.Debug("pages of the program stay in memory", "err", err)
	}
}

// check looks at what is used and sets the level.
func (g *Guard) check() {
	limit, used := g.probe()
	g.mu.Lock()
	g.limit, g.used = limit, used
	g.mu.Unlock()
	before := g.Level()
	level := levelOf(before, limit, used)
	if level == before {
		return
	}
	g.level.Store(int32(level))
	attrs := []any{"level", level.String(), "before", before.String(), "bytes", used, "limit", limit}
	if max(level, before) < LevelTight {
		g.log.Info("memory use has changed its level", attrs...)
	} else {
		g.log.Warn("memory use has changed its level, raise the limit or lower sample_limit and targets", attrs...)
	}
}

// levelOf returns the level for that use, coming from another one.
func levelOf(before Level, limit, used int64) Level {
	if limit == 0 {
		return LevelOK
	}
	share := float64(used) / float64(limit)
	for level := LevelCritical; level > LevelOK; level-- {
		from := [...]float64{0, 0.75, 0.85, 0.95}[level]
		if level <= before {
			from -= slack
		}
		if share >= from {
			return level
		}
	}
	return LevelOK
}

// probe returns the limit of the garbage collector, 0 for none, and what is in use: all that
// Go has from the system, without what a collection would free or has freed.
func probe() (limit, used int64) {
	samples := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/gc/gomemlimit:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	if limit = value(5); limit == math.MaxInt64 {
		limit = 0
	}
	return limit, value(0) - value(1) - value(2) - value(3) + min(value(4), value(3))
}
