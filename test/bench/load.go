//go:build linux

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/ingot-telemetry/ingot/test/bench/exporter"
)

// outageLoad is the name of M1 with an outage.
const outageLoad = "M8"

// metricsLoad is a load and how it is scraped and sent.
type metricsLoad struct {
	exporter.Load
	name       string
	compressed bool // Scrapes.
	second     bool // Remote write 2.0.
	zstd       bool // In place of snappy.
	outage     bool
}

// findLoad returns the load of a name with what stands behind it, like M1/gzip/rw2.
func findLoad(name string) (l metricsLoad, err error) {
	words := strings.Split(name, "/")
	l.name = name
	if words[0] == outageLoad {
		words[0], l.outage = "M1", true
	}
	if l.Load, err = exporter.Find(words[0]); err != nil {
		return l, err
	}
	for _, word := range words[1:] {
		switch word {
		case "gzip":
			l.compressed = true
		case "rw2":
			l.second = true
		case "zstd":
			l.zstd = true
		case "outage":
			l.outage = true
		default:
			return l, fmt.Errorf("there is no load %q: what stands behind a name is one of /gzip, /rw2, /zstd and /outage", name)
		}
	}
	return l, nil
}

// describe says what the load is in a line.
func (l metricsLoad) describe(outage time.Duration) string {
	parts := []string{l.About, fmt.Sprintf("%d series each %s", l.Series(), l.Interval)}
	if l.compressed {
		parts = append(parts, "scrapes compressed")
	}
	if l.second {
		parts = append(parts, "remote write 2.0")
	}
	if l.zstd {
		parts = append(parts, "zstd in place of snappy")
	}
	if l.outage {
		parts = append(parts, fmt.Sprintf("the receiver is away for %s", outage))
	}
	return strings.Join(parts, "; ")
}

// wireFormat tells the loads apart whose requests differ in kind.
func (l metricsLoad) wireFormat() string {
	return fmt.Sprint(l.second, l.zstd, l.Protobuf)
}

// times returns how long one round lasts before its window, and the window.
func (l metricsLoad) times(o options) (warmup, window time.Duration) {
	if warmup = o.warmup; warmup == 0 {
		warmup = l.Interval * 3 / 2
	}
	return warmup, (o.window + l.Interval - 1).Truncate(l.Interval)
}

// estimate is about how long the rounds of a number of collectors last together.
func (l metricsLoad) estimate(o options, collectors int) time.Duration {
	const around = 4 * time.Second // Starting, draining, stopping.
	warmup, window := l.times(o)
	each := warmup + window + around
	if l.outage {
		each += o.outage * 5 / 4
	}
	return time.Duration(collectors*o.rounds) * each
}
