//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/ingot-telemetry/ingot/test/bench/meter"
	"github.com/ingot-telemetry/ingot/test/bench/podfiles"
	"github.com/ingot-telemetry/ingot/test/bench/sink"
)

// A logsLoad is what one run of the benchmark of logs writes.
type logsLoad struct {
	name, about string
	files, busy int
	lineSize    int
	perSecond   int // Lines; 0 writes nothing after the start.
	backlog     bool
	further     int // Files made in the middle, to see what they cost.
}

func logsLoads() []logsLoad {
	return []logsLoad{
		{name: "L1", about: "200 files, 20 000 lines/s of 289 B", files: 200, lineSize: 289, perSecond: 20_000},
		{name: "L2", about: "a backlog in 200 files", files: 200, lineSize: 289, backlog: true},
		{name: "L3", about: "50 files, 5 MiB/s of 208 B lines", files: 50, lineSize: 208, perSecond: 5 << 20 / 208},
		{name: "L4", about: "50 idle files, then 950 more", files: 50, lineSize: 289, further: 950},
		{name: "L5", about: "1000 files, 950 of them idle, 2000 lines/s", files: 1000, busy: 50, lineSize: 289, perSecond: 2000},
		{name: "rest", about: "1000 idle files", files: 1000, lineSize: 289},
		{name: "tiny", about: "5 files, 100 lines/s, to try the benchmark itself", files: 5, lineSize: 289, perSecond: 100},
	}
}

// logsResult is one round of one load.
type logsResult struct {
	usage
	load     logsLoad
	lines    int64 // That arrived in the window.
	bytes    int64 // Of the files, in the window.
	pushed   sink.LogsCounts
	lost     int64
	repeats  int64
	disorder int64
	delay    time.Duration // 99 of 100 lines arrived within it.
	perFile  float64       // KB of memory for each further file.
}

func (r logsResult) seconds() float64 { return r.cpu.Seconds() }

// logs measures Ingot with all loads of logs and prints the tables.
func (b *bench) logs(ctx context.Context) error {
	var loads []logsLoad
	for _, name := range b.opts.loads {
		i := slices.IndexFunc(logsLoads(), func(l logsLoad) bool { return l.name == name })
		if i < 0 {
			return fmt.Errorf("%w: there is no load %q", errUsage, name)
		}
		loads = append(loads, logsLoads()[i])
	}
	receiver, err := sink.StartLogs(ctx)
	if err != nil {
		return err
	}
	defer receiver.Close()
	if err := b.pin(true); err != nil {
		return err
	}
	var results []logsResult
	var failed []error
	for _, load := range loads {
		for round := range b.opts.rounds {
			r, err := b.logsRound(ctx, load, fmt.Sprintf("%s-%d", load.name, round+1), receiver)
			if err != nil {
				failed = append(failed, fmt.Errorf("ingot under load %s: %w", load.name, err))
				continue
			}
			if r.lost != 0 || r.disorder != 0 {
				failed = append(failed, fmt.Errorf("ingot lost %d lines under load %s and sent %d out of order", r.lost, load.name, r.disorder))
			}
			results = append(results, r)
		}
	}
	failed = append(failed, receiver.Err())
	medians := logsMedians(results)
	b.printLogs(loads, medians)
	if missed := b.printGoals(logsGoals(), logsFigures(medians)); missed > 0 && b.opts.enforce {
		failed = append(failed, fmt.Errorf("%d goals missed", missed))
	}
	return errors.Join(failed...)
}

// logsRound measures one load once.
func (b *bench) logsRound(ctx context.Context, load logsLoad, name string, receiver *sink.Logs) (r logsResult, err error) {
	r = logsResult{load: load}
	pods := filepath.Join(b.dir, name+"-pods")
	defer os.RemoveAll(pods) // Hundreds of MB; an error shows in the folder that stays.
	w, err := podfiles.New(podfiles.Config{Dir: pods, Files: load.files, Busy: load.busy, LineSize: load.lineSize})
	if err != nil {
		return r, err
	}
	defer w.Close()
	if load.backlog {
		if err = w.Backlog(b.opts.backlog); err != nil {
			return r, err
		}
	}
	receiver.Reset()
	ingot := collector{name: ingotName, program: b.ingot, args: ingotArgs}
	p, err := b.start(ctx, ingot, name, ingotLogs(receiver.URL(), pods), receiver.URL())
	if err != nil {
		return r, err
	}
	defer func() {
		if p.Stop(stopGrace) && err == nil {
			err = errors.New("it did not stop and was killed")
		}
		err = p.explain(err)
	}()
	switch {
	case load.backlog:
		err = b.catchUp(ctx, p.Process, name, w, receiver, &r)
	case load.further > 0:
		err = b.moreFiles(ctx, p.Process, name, w, &r)
	default:
		err = b.steady(ctx, p.Process, name, w, receiver, &r)
	}
	if err != nil {
		return r, err
	}
	written := w.Counts().Lines
	if _, err = until(ctx, p.Process, drainLimit, func() bool { return receiver.Counts().Lines >= written }); err != nil {
		return r, err
	}
	p.Stop(stopGrace)
	got := receiver.Counts()
	r.lost, r.repeats, r.disorder = written-got.Lines, got.Repeats, got.Disorder
	b.progress("%s: %.2f s CPU, %.1f MB, %d of %d lines arrived, %d twice", name, r.seconds(), megabytes(r.rssMean), got.Lines, written, got.Repeats)
	return r, nil
}

// steady measures while lines are written.
func (b *bench) steady(ctx context.Context, p *meter.Process, name string, w *podfiles.Writer, receiver *sink.Logs, r *logsResult) error {
	writing, stop := context.WithCancel(ctx)
	written := make(chan error, 1)
	if r.load.perSecond > 0 {
		go func() { written <- w.Run(writing, r.load.perSecond) }()
	} else {
		written <- nil
	}
	err := b.steadyWindow(ctx, p, name, receiver, r)
	stop()
	return errors.Join(err, <-written)
}

func (b *bench) steadyWindow(ctx context.Context, p *meter.Process, name string, receiver *sink.Logs, r *logsResult) (err error) {
	warmup := b.opts.warmup
	if warmup == 0 {
		warmup = 5 * time.Second
		if r.load.perSecond <= 2000 {
			warmup = 15 * time.Second // Until idle files are taken for idle.
		}
	}
	if err = wait(ctx, p, warmup); err != nil {
		return err
	}
	before := receiver.Counts()
	receiver.Watch(true)
	defer receiver.Watch(false)
	r.usage, err = b.measure(ctx, p, name, func() error { return wait(ctx, p, b.opts.window) })
	if err != nil {
		return err
	}
	r.pushed, r.delay = receiver.Counts().Sub(before), receiver.Latency(0.99)
	r.lines = r.pushed.Lines
	r.bytes = r.lines * int64(r.load.lineSize)
	if r.load.perSecond > 0 && r.lines == 0 {
		return errors.New("no line arrived in the window")
	}
	return nil
}

// catchUp measures from the start of the collector until the backlog has arrived.
func (b *bench) catchUp(ctx context.Context, p *meter.Process, name string, w *podfiles.Writer, receiver *sink.Logs, r *logsResult) (err error) {
	const limit = 5 * time.Minute
	all, arrived := w.Counts(), false
	r.usage, err = b.measure(ctx, p, name, func() (err error) {
		arrived, err = until(ctx, p, limit, func() bool { return receiver.Counts().Lines >= all.Lines })
		return err
	})
	if err != nil {
		return err
	}
	r.pushed = receiver.Counts()
	if r.lines, r.bytes = r.pushed.Lines, all.Bytes; !arrived {
		return fmt.Errorf("%d of %d lines arrived within %s", r.lines, all.Lines, limit)
	}
	return nil
}

// moreFiles measures the memory before and after files are added.
func (b *bench) moreFiles(ctx context.Context, p *meter.Process, name string, w *podfiles.Writer, r *logsResult) (err error) {
	settle := b.opts.window / 2
	if err = wait(ctx, p, settle); err != nil {
		return err
	}
	before, err := b.measure(ctx, p, name+"-before", func() error { return wait(ctx, p, settle) })
	if err != nil {
		return err
	}
	if err = w.Add(r.load.further); err != nil {
		return err
	}
	if err = wait(ctx, p, settle); err != nil {
		return err
	}
	if r.usage, err = b.measure(ctx, p, name, func() error { return wait(ctx, p, settle) }); err != nil {
		return err
	}
	r.perFile = float64(r.rssMean-before.rssMean) / 1024 / float64(r.load.further)
	return nil
}

// logsMedians returns the median round of each load, as metricsMedians does.
func logsMedians(results []logsResult) []logsResult {
	var medians []logsResult
	for len(results) > 0 {
		name := results[0].load.name
		var rounds, others []logsResult
		for _, r := range results {
			if r.load.name == name {
				rounds = append(rounds, r)
			} else {
				others = append(others, r)
			}
		}
		results = others
		var lost int64
		for _, r := range rounds {
			lost += r.lost
		}
		quiet := slices.DeleteFunc(slices.Clone(rounds), func(r logsResult) bool { return r.foreign > noisy })
		if len(quiet) > 0 {
			rounds = quiet
		}
		slices.SortFunc(rounds, func(a, b logsResult) int { return compareFloat(a.seconds(), b.seconds()) })
		m := rounds[len(rounds)/2]
		m.lost = lost
		medians = append(medians, m)
	}
	return medians
}

// logsFigures computes what goals are about.
func logsFigures(medians []logsResult) figures {
	known := figures{}
	for _, r := range medians {
		set := func(what string, v float64) { known[[2]string{r.load.name, what}] = v }
		set(memory, megabytes(r.rssMean))
		set(coreUse, 100*r.seconds()/r.window.Seconds())
		if r.load.further > 0 {
			set(fileCost, r.perFile)
		}
		if r.lines == 0 {
			continue
		}
		set(lineCost, micros(r.cpu)/float64(r.lines))
		set(gibCost, r.seconds()/float64(r.bytes)*(1<<30))
		set(textSpeed, float64(r.bytes)/(1<<20)/r.seconds())
		set(rate, float64(r.bytes)/1e6/r.window.Seconds())
		set(delay, r.delay.Seconds())
	}
	return known
}

func (b *bench) printLogs(loads []logsLoad, medians []logsResult) {
	b.printHeader("Logs")
	for _, l := range loads {
		fmt.Fprintf(b.out, "- %s: %s\n", l.name, l.about)
	}
	fmt.Fprintln(b.out)
	t := table{head: []string{"load", "CPU µs/line", "CPU-s/GiB", "MiB/CPU-s", "% of a core", "MB/s", "RSS MB", "highest", "wire B/line", "p99 s", "lost", "twice", "others' CPU"}}
	known := logsFigures(medians)
	for _, r := range medians {
		show := func(what, format string) string {
			v, ok := known[[2]string{r.load.name, what}]
			if !ok {
				return ""
			}
			return fmt.Sprintf(format, v)
		}
		wire, p99 := "", ""
		if r.lines > 0 {
			wire = fmt.Sprintf("%.1f", float64(r.pushed.Wire)/float64(r.lines))
		}
		if r.delay > 0 {
			p99 = fmt.Sprintf("%.2f", r.delay.Seconds())
		}
		t.add(r.load.name, show(lineCost, "%.2f"), show(gibCost, "%.2f"), show(textSpeed, "%.0f"), show(coreUse, "%.2f"), show(rate, "%.1f"),
			show(memory, "%.1f"), fmt.Sprintf("%.1f", megabytes(r.rssHigh)), wire, p99, strconv.FormatInt(r.lost, 10), strconv.FormatInt(r.repeats, 10), foreignText(r.foreign))
	}
	t.print(b.out)
}
