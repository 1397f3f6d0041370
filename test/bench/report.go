//go:build linux

package main

import (
	"fmt"
	"slices"
	"strconv"
)

func (b *bench) printMetrics(loads []metricsLoad, medians []metricsResult) {
	b.printHeader("Metrics")
	for _, l := range loads {
		fmt.Fprintf(b.out, "- %s: %s\n", l.name, l.describe(b.opts.outage))
	}
	fmt.Fprintln(b.out)
	head := []string{"load", "collector", "CPU µs/sample", "µs/scrape", "RSS MB", "highest", "table B/series", "wire B/sample", "disk B/sample", "lost", "others' CPU"}
	if b.instructions {
		head = slices.Insert(head, 3, "instructions/sample")
	}
	t := table{head: head}
	for _, r := range medians {
		tables := ""
		if r.perSeries > 0 {
			tables = fmt.Sprintf("%.1f", r.perSeries)
		}
		row := []string{
			r.load, r.collector, fmt.Sprintf("%.3f", r.perSample()), fmt.Sprintf("%.0f", r.perScrape()),
			fmt.Sprintf("%.1f", megabytes(r.rssMean)), fmt.Sprintf("%.1f", megabytes(r.rssHigh)), tables, fmt.Sprintf("%.1f", r.wire()),
			fmt.Sprintf("%.1f", float64(r.disk)/float64(r.scraped.Exposed)), r.lostText(), foreignText(r.foreign),
		}
		if b.instructions {
			row = slices.Insert(row, 3, fmt.Sprintf("%.0f", float64(r.instructions)/float64(r.scraped.Exposed)))
		}
		t.add(row...)
	}
	t.print(b.out)
}

func (r metricsResult) lostText() string {
	text := strconv.FormatInt(r.lost, 10)
	if r.damaged {
		text += ", values differ"
	}
	return text
}

// printOutages prints what outages cost, if there were any.
func (b *bench) printOutages(medians []metricsResult) {
	t := table{head: []string{
		"load", "collector", "away s", "RSS MB before", "while away", "highest", "CPU µs/sample away", "disk B/sample", "noticed after s", "caught up after s", "times real time", "CPU µs/sample then", "lost", "twice", "out of order",
	}}
	for _, r := range medians {
		o := r.away
		if o == nil {
			continue
		}
		t.add(r.load, r.collector, fmt.Sprintf("%.0f", o.away.window.Seconds()), fmt.Sprintf("%.1f", megabytes(r.rssMean)), fmt.Sprintf("%.1f", megabytes(o.away.rssMean)),
			fmt.Sprintf("%.1f", megabytes(o.rssHigh())), fmt.Sprintf("%.3f", micros(o.away.cpu)/float64(o.scraped)), fmt.Sprintf("%.1f", o.diskPerSample()),
			fmt.Sprintf("%.1f", o.noticed.Seconds()), fmt.Sprintf("%.1f", o.drain.window.Seconds()), fmt.Sprintf("%.1f", o.speed),
			fmt.Sprintf("%.3f", micros(o.drain.cpu)/float64(o.drained)), r.lostText(),
			strconv.FormatInt(r.verdict.Repeats, 10), strconv.FormatInt(r.verdict.Disorder, 10))
	}
	t.print(b.out)
}

// printRatios prints Ingot's figures divided by those of each peer: of the medians, and the
// range over the rounds.
func (b *bench) printRatios(results []metricsResult) {
	t := table{head: []string{"load", "Ingot divided by", "CPU", "of rounds", "RSS", "of rounds", "highest RSS", "wire bytes"}}
	if b.instructions {
		t.head = append(t.head, "instructions")
	}
	medians := metricsMedians(results)
	for _, ours := range medians {
		if ours.collector != ingotName {
			continue
		}
		for _, peer := range medians {
			if peer.load != ours.load || peer.collector == ingotName {
				continue
			}
			cpu := rangeText(results, ours.load, peer.collector, metricsResult.perSample)
			rss := rangeText(results, ours.load, peer.collector, func(r metricsResult) float64 { return float64(r.rssMean) })
			row := []string{
				ours.load, peer.collector, fmt.Sprintf("%.2f", ours.perSample()/peer.perSample()), cpu,
				fmt.Sprintf("%.2f", float64(ours.rssMean)/float64(peer.rssMean)), rss,
				fmt.Sprintf("%.2f", float64(ours.rssHigh)/float64(peer.rssHigh)), fmt.Sprintf("%.2f", ours.wire()/peer.wire()),
			}
			if b.instructions {
				row = append(row, fmt.Sprintf("%.2f", float64(ours.instructions)/float64(peer.instructions)*float64(peer.scraped.Exposed)/float64(ours.scraped.Exposed)))
			}
			t.add(row...)
		}
	}
	t.print(b.out)
}

// rangeText returns the lowest and the highest ratio of a figure of Ingot to that of a peer
// over the rounds that both have.
func rangeText(results []metricsResult, load, peer string, figure func(metricsResult) float64) string {
	var ratios []float64
	for _, ours := range results {
		for _, theirs := range results {
			if ours.load == load && theirs.load == load && ours.collector == ingotName && theirs.collector == peer && ours.round == theirs.round {
				ratios = append(ratios, figure(ours)/figure(theirs))
			}
		}
	}
	if len(ratios) == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f-%.2f", slices.Min(ratios), slices.Max(ratios))
}
