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
	"github.com/ingot-telemetry/ingot/test/bench/sink"
)

const (
	drainLimit = 15 * time.Second // How long a collector may take to send what it has.
	stopGrace  = 20 * time.Second

	// tableMetric is what Ingot calls the memory of its series tables.
	tableMetric = "ingot_scrape_table_bytes"
)

// metricsResult is one round of one collector.
type metricsResult struct {
	usage
	load, collector string
	round           int
	scraped         exporter.Counts    // In the window.
	pushed          sink.MetricsCounts // In the window.
	lost            int64              // Of all samples, histograms and exemplars since the start; negative is more than were scraped.
	damaged         bool               // All arrived, and their values differ.
	perSeries       float64            // Bytes of the series tables for a series; 0 where unknown.
	away            *outage            // What the outage of the round cost, if it had one.
	verdict         sink.Verdict       // Of rounds with an outage.
}

// perSample is of what was exposed, so that dropping by a rule is not free.
func (r metricsResult) perSample() float64 { return micros(r.cpu) / float64(r.scraped.Exposed) }
func (r metricsResult) perScrape() float64 { return micros(r.cpu) / float64(r.scraped.Scrapes) }

// wire counts a histogram as a sample.
func (r metricsResult) wire() float64 {
	return float64(r.pushed.Wire) / float64(r.pushed.Values()+r.pushed.Reports)
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// metrics measures all collectors with all loads and prints the tables.
func (b *bench) metrics(ctx context.Context) error {
	var loads []metricsLoad
	for _, name := range b.opts.loads {
		load, err := findLoad(name)
		if err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		loads = append(loads, load)
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
	results, err := b.metricsLoads(ctx, loads, collectors, receiver)
	failed := []error{err}
	medians := metricsMedians(results)
	b.printMetrics(loads, medians)
	b.printOutages(medians)
	b.printRatios(results)
	missed := b.printGoals(metricsGoals(), metricsFigures(medians))
	for _, r := range results {
		if r.collector == ingotName && (r.lost > 0 || r.damaged) {
			failed = append(failed, fmt.Errorf("ingot lost %d samples under load %s, values differ: %v", r.lost, r.load, r.damaged))
		}
		if r.collector == ingotName && r.verdict.Repeats+r.verdict.Disorder > 0 {
			failed = append(failed, fmt.Errorf("ingot sent %d samples twice under load %s and %d out of order", r.verdict.Repeats, r.load, r.verdict.Disorder))
		}
	}
	if missed > 0 && b.opts.enforce {
		failed = append(failed, fmt.Errorf("%d goals missed", missed))
	}
	return errors.Join(failed...)
}

// metricsLoads measures all loads, one after another.
func (b *bench) metricsLoads(ctx context.Context, loads []metricsLoad, collectors []collector, receiver *sink.Metrics) ([]metricsResult, error) {
	var left time.Duration
	for _, load := range loads {
		left += load.estimate(b.opts, len(able(collectors, load)))
	}
	var results []metricsResult
	var failed []error
	verified := map[string]bool{}
	for i, load := range loads {
		b.progress("load %d of %d, about %s left", i+1, len(loads), max(left, time.Minute).Round(time.Minute))
		some := able(collectors, load)
		left -= load.estimate(b.opts, len(some))
		if len(some) == 0 {
			b.progress("%s: no collector that is measured can do it", load.name)
			continue
		}
		verify := b.opts.verify && some[0].name == ingotName && !verified[load.wireFormat()]
		found, err := b.metricsLoad(ctx, load, some, receiver, verify)
		results = append(results, found...)
		failed = append(failed, err)
		verified[load.wireFormat()] = verified[load.wireFormat()] || verify
		if ctx.Err() != nil {
			break
		}
	}
	return results, errors.Join(failed...)
}

// metricsLoad measures the collectors with one load. A collector that fails does not stop the
// others.
func (b *bench) metricsLoad(ctx context.Context, load metricsLoad, collectors []collector, receiver *sink.Metrics, verify bool) ([]metricsResult, error) {
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
	b.progress("%s: %s, rendered in %.1f s", load.name, load.About, time.Since(begin).Seconds())
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
				failed = append(failed, fmt.Errorf("%s under load %s: %w", c.name, load.name, err))
				continue
			}
			results = append(results, r)
		}
	}
	if verify && ctx.Err() == nil {
		failed = append(failed, b.verifyMetrics(ctx, load, collectors[0], e, receiver))
	}
	return results, errors.Join(failed...)
}

// metricsRound measures one collector once.
func (b *bench) metricsRound(ctx context.Context, load metricsLoad, c collector, round int, e *exporter.Exporter, receiver *sink.Metrics) (r metricsResult, err error) {
	r = metricsResult{load: load.name, collector: c.name, round: round}
	name := fmt.Sprintf("%s-%s-%d", strings.ReplaceAll(load.name, "/", "-"), c.name, round+1)
	begin := e.Counts()
	p, err := b.startMetrics(ctx, load, c, name, e, receiver, load.outage)
	if err != nil {
		return r, err
	}
	defer func() {
		if p.Stop(stopGrace) && err == nil {
			err = errors.New("it did not stop and was killed")
		}
		err = p.explain(err)
	}()
	warmup, window := load.times(b.opts)
	if err = wait(ctx, p.Process, warmup); err != nil {
		return r, err
	}
	scraped, pushed := e.Counts(), receiver.Counts()
	r.usage, err = b.measure(ctx, p.Process, name, func() error { return wait(ctx, p.Process, window) })
	if err != nil {
		return r, err
	}
	r.scraped, r.pushed = e.Counts().Sub(scraped), receiver.Counts().Sub(pushed)
	if err = load.asAgreed(r.scraped); err != nil {
		return r, err
	}
	if table, known := p.metric(ctx, tableMetric); known {
		r.perSeries = table / float64(load.Series())
	}
	if load.outage {
		if r.away, err = b.outage(ctx, p, name, begin, e, receiver); err != nil {
			return r, err
		}
	}
	e.Hold(true)
	if _, err = until(ctx, p.Process, drainLimit, func() bool { return e.Counts().Sub(begin).Values() <= receiver.Counts().Values() }); err != nil {
		return r, err
	}
	p.Stop(stopGrace) // What it sends at its end counts.
	all, got := e.Counts().Sub(begin), receiver.Counts()
	r.lost = all.Values() + all.Exemplars - got.Values() - got.Exemplars
	if failed := got.Failed - all.Refused; r.lost > 0 && failed > 0 {
		return r, fmt.Errorf("it gave up %d scrapes that were answered, so that %d samples may be lost or not: the machine is too busy for this load", failed, r.lost)
	}
	r.damaged = r.lost == 0 && all.Bits != got.Bits
	r.verdict = receiver.Verdict()
	b.progress("%s: %.3f µs a sample, %.1f MB, %d of %d samples arrived", name, r.perSample(), megabytes(r.rssMean), got.Values(), all.Values())
	return r, nil
}

// asAgreed says whether a collector scraped as the load demands: it may neither ask for
// compression by itself nor do without.
func (l metricsLoad) asAgreed(scraped exporter.Counts) error {
	switch {
	case scraped.Exposed == 0:
		return errors.New("it scraped nothing in the window")
	case l.compressed && scraped.Compressed < scraped.Scrapes:
		return fmt.Errorf("only %d of %d scrapes asked for compression", scraped.Compressed, scraped.Scrapes)
	case !l.compressed && scraped.Compressed > 0:
		return fmt.Errorf("%d of %d scrapes asked for compression, which is switched off", scraped.Compressed, scraped.Scrapes)
	}
	return nil
}

func (b *bench) startMetrics(ctx context.Context, load metricsLoad, c collector, name string, e *exporter.Exporter, receiver *sink.Metrics, verify bool) (running, error) {
	e.Hold(false)
	receiver.Away(false)
	receiver.Reset(verify)
	return b.start(ctx, c, name, c.config(metricsSetup{url: receiver.URL(), jobs: e.Jobs(), load: load}), receiver.URL())
}

// verifyMetrics runs a collector for three intervals, then lets all scrapes fail, and checks
// what arrived: each series in order, nothing twice, and at its end a stale marker.
func (b *bench) verifyMetrics(ctx context.Context, load metricsLoad, c collector, e *exporter.Exporter, receiver *sink.Metrics) (err error) {
	begin := e.Counts()
	p, err := b.startMetrics(ctx, load, c, "verify-"+strings.ReplaceAll(load.name, "/", "-"), e, receiver, true)
	if err != nil {
		return err
	}
	defer func() {
		p.Stop(stopGrace)
		err = p.explain(err)
	}()
	if err = wait(ctx, p.Process, load.Interval*5/2); err != nil {
		return err
	}
	e.Hold(true)
	open := load.Stamped() // These never get a marker.
	if _, err = until(ctx, p.Process, load.Interval+drainLimit, func() bool { return receiver.Verdict().Open <= open }); err != nil {
		return err
	}
	p.Stop(stopGrace)
	all, got, v := e.Counts().Sub(begin), receiver.Counts(), receiver.Verdict()
	lost := all.Values() - got.Values()
	b.progress("verified %s: %d samples of %d series; lost %d and %d exemplars, repeated %d, out of order %d, without their stale marker %d, values equal: %v",
		load.name, got.Values(), v.Series, lost, all.Exemplars-got.Exemplars, v.Repeats, v.Disorder, v.Open-open, all.Bits == got.Bits)
	failed := []error{receiver.Err()}
	if v.Repeats+v.Disorder != 0 || v.Open != open || lost != 0 || all.Exemplars != got.Exemplars || all.Bits != got.Bits {
		failed = append(failed, fmt.Errorf("verification of load %s failed: lost %d, repeated %d, out of order %d, without their stale marker %d",
			load.name, lost, v.Repeats, v.Disorder, v.Open-open))
	}
	if want := got.Requests; load.second && got.Requests2 != want {
		failed = append(failed, fmt.Errorf("verification of load %s failed: %d of %d requests were of remote write 2.0", load.name, got.Requests2, want))
	}
	return errors.Join(failed...)
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
