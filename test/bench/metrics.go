//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/ingot-telemetry/ingot/test/bench/exporter"
	"github.com/ingot-telemetry/ingot/test/bench/meter"
	"github.com/ingot-telemetry/ingot/test/bench/sink"
)

const (
	drainLimit = 15 * time.Second // How long a collector may take to send what it has.
	stopGrace  = 20 * time.Second
	gzipSuffix = "/gzip"
)

// metricsResult is one round of one collector.
type metricsResult struct {
	usage
	load, collector string
	scraped         exporter.Counts    // In the window.
	pushed          sink.MetricsCounts // In the window.
	lost            int64              // Of all samples since the start; negative is more than were scraped.
	damaged         bool               // All arrived, and their values differ.
}

func (r metricsResult) perSample() float64 { return micros(r.cpu) / float64(r.scraped.Samples) }
func (r metricsResult) perScrape() float64 { return micros(r.cpu) / float64(r.scraped.Scrapes) }
func (r metricsResult) wire() float64 {
	return float64(r.pushed.Wire) / float64(r.pushed.Samples+r.pushed.Reports)
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// metricsLoad is a load and how it is scraped.
type metricsLoad struct {
	exporter.Load
	compressed bool
}

func (l metricsLoad) name() string {
	if l.compressed {
		return l.Name + gzipSuffix
	}
	return l.Name
}

// metrics measures all collectors with all loads and prints the tables.
func (b *bench) metrics(ctx context.Context) error {
	var loads []metricsLoad
	for _, name := range b.opts.loads {
		plain, compressed := strings.CutSuffix(name, gzipSuffix)
		load, err := exporter.Find(plain)
		if err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		loads = append(loads, metricsLoad{load, compressed})
	}
	collectors := b.collectors()
	if len(loads) == 0 || len(collectors) == 0 {
		return fmt.Errorf("%w: no load or no collector is left to measure", errUsage)
	}
	receiver, err := sink.StartMetrics(ctx)
	if err != nil {
		return err
	}
	defer receiver.Close()
	var results []metricsResult
	var failed []error
	for i, load := range loads {
		found, err := b.metricsLoad(ctx, load, collectors, receiver, i == 0)
		results = append(results, found...)
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	medians := metricsMedians(results)
	b.printMetrics(loads, medians)
	missed := b.printGoals(metricsGoals(), metricsFigures(medians))
	for _, r := range results {
		if r.collector == ingotName && (r.lost > 0 || r.damaged) {
			failed = append(failed, fmt.Errorf("ingot lost %d samples under load %s, values differ: %v", r.lost, r.load, r.damaged))
		}
	}
	if missed > 0 && b.opts.enforce {
		failed = append(failed, fmt.Errorf("%d goals missed", missed))
	}
	return errors.Join(failed...)
}

// metricsLoad measures all collectors with one load. A collector that fails does not stop the
// others.
func (b *bench) metricsLoad(ctx context.Context, load metricsLoad, collectors []collector, receiver *sink.Metrics, first bool) ([]metricsResult, error) {
	if err := b.pin(false); err != nil {
		return nil, err
	}
	begin := time.Now()
	e, err := exporter.Start(ctx, load.Load, load.compressed)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	debug.FreeOSMemory() // Now, not while something is measured.
	b.progress("%s: %s, rendered in %.1f s", load.name(), load.About, time.Since(begin).Seconds())
	if err := b.pin(true); err != nil {
		return nil, err
	}
	var results []metricsResult
	var failed []error
	for round := range b.opts.rounds {
		for i := range collectors {
			c := collectors[(i+round)%len(collectors)]
			r, err := b.metricsRound(ctx, load, c, round, e, receiver)
			if err != nil {
				failed = append(failed, fmt.Errorf("%s under load %s: %w", c.name, load.name(), err))
				continue
			}
			results = append(results, r)
		}
	}
	if first && b.opts.verify && collectors[0].name == ingotName && ctx.Err() == nil {
		failed = append(failed, b.verifyMetrics(ctx, load, collectors[0], e, receiver))
	}
	return results, errors.Join(failed...)
}

// metricsRound measures one collector once.
func (b *bench) metricsRound(ctx context.Context, load metricsLoad, c collector, round int, e *exporter.Exporter, receiver *sink.Metrics) (r metricsResult, err error) {
	r = metricsResult{load: load.name(), collector: c.name}
	name := fmt.Sprintf("%s-%s-%d", strings.ReplaceAll(load.name(), "/", "-"), c.name, round+1)
	begin := e.Counts()
	p, logFile, err := b.startMetrics(load, c, name, e, receiver, false)
	if err != nil {
		return r, err
	}
	defer func() {
		if p.Stop(stopGrace) && err == nil {
			err = errors.New("it did not stop and was killed")
		}
		err = explain(err, logFile)
	}()
	warmup := b.opts.warmup
	if warmup == 0 {
		warmup = load.Interval * 3 / 2
	}
	if err = wait(ctx, p, warmup); err != nil {
		return r, err
	}
	window := (b.opts.window + load.Interval - 1).Truncate(load.Interval)
	scraped, pushed := e.Counts(), receiver.Counts()
	r.usage, err = b.measure(ctx, p, name, func() error { return wait(ctx, p, window) })
	if err != nil {
		return r, err
	}
	r.scraped, r.pushed = e.Counts().Sub(scraped), receiver.Counts().Sub(pushed)
	if r.scraped.Samples == 0 {
		return r, errors.New("it scraped nothing in the window")
	}
	e.Hold(true)
	if _, err = until(ctx, p, drainLimit, func() bool { return e.Counts().Sub(begin).Samples <= receiver.Counts().Samples }); err != nil {
		return r, err
	}
	p.Stop(stopGrace) // What it sends at its end counts.
	all, got := e.Counts().Sub(begin), receiver.Counts()
	r.lost = all.Samples - got.Samples
	r.damaged = r.lost == 0 && all.Bits != got.Bits
	b.progress("%s: %.3f µs a sample, %.1f MB, %d of %d samples arrived", name, r.perSample(), megabytes(r.rssMean), got.Samples, all.Samples)
	return r, nil
}

func (b *bench) startMetrics(load metricsLoad, c collector, name string, e *exporter.Exporter, receiver *sink.Metrics, verify bool) (*meter.Process, string, error) {
	e.Hold(false)
	receiver.Reset(verify)
	config := c.config(metricsSetup{url: receiver.URL(), jobs: e.Jobs(), interval: load.Interval, compressed: load.compressed})
	return b.start(c, name, config, receiver.URL())
}

// verifyMetrics runs a collector for three intervals, then lets all scrapes fail, and checks
// what arrived: each series in order, nothing twice, and at its end a stale marker.
func (b *bench) verifyMetrics(ctx context.Context, load metricsLoad, c collector, e *exporter.Exporter, receiver *sink.Metrics) (err error) {
	begin := e.Counts()
	p, logFile, err := b.startMetrics(load, c, "verify", e, receiver, true)
	if err != nil {
		return err
	}
	defer func() {
		p.Stop(stopGrace)
		err = explain(err, logFile)
	}()
	if err = wait(ctx, p, load.Interval*5/2); err != nil {
		return err
	}
	e.Hold(true)
	open := load.Stamped() // These never get a marker.
	if _, err = until(ctx, p, load.Interval+drainLimit, func() bool { return receiver.Verdict().Open <= open }); err != nil {
		return err
	}
	p.Stop(stopGrace)
	all, got, v := e.Counts().Sub(begin), receiver.Counts(), receiver.Verdict()
	b.progress("verified %s: %d samples of %d series; lost %d, repeated %d, out of order %d, without their stale marker %d, values equal: %v",
		load.name(), got.Samples, v.Series, all.Samples-got.Samples, v.Repeats, v.Disorder, v.Open-open, all.Bits == got.Bits)
	if v.Repeats+v.Disorder != 0 || v.Open != open || all.Samples != got.Samples || all.Bits != got.Bits || receiver.Err() != nil {
		return errors.Join(fmt.Errorf("verification of load %s failed", load.name()), receiver.Err())
	}
	return nil
}

// metricsMedians returns one result for each load and collector: the median of its rounds by
// CPU, without those that neighbours disturbed where others are left. What was lost is
// summed over all.
func metricsMedians(results []metricsResult) []metricsResult {
	var medians []metricsResult
	for len(results) > 0 {
		first := results[0]
		var rounds, others []metricsResult
		for _, r := range results {
			if r.load == first.load && r.collector == first.collector {
				rounds = append(rounds, r)
			} else {
				others = append(others, r)
			}
		}
		results = others
		var lost int64
		damaged := false
		for _, r := range rounds {
			lost += r.lost
			damaged = damaged || r.damaged
		}
		quiet := slices.DeleteFunc(slices.Clone(rounds), func(r metricsResult) bool { return r.foreign > noisy })
		if len(quiet) > 0 {
			rounds = quiet
		}
		slices.SortFunc(rounds, func(a, b metricsResult) int { return compareFloat(a.perSample(), b.perSample()) })
		m := rounds[len(rounds)/2]
		m.lost, m.damaged = lost, damaged
		medians = append(medians, m)
	}
	return medians
}
