//go:build linux

package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A table is printed as Markdown that can be read as it is.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(out io.Writer) {
	if len(t.rows) == 0 {
		return
	}
	width := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	line := func(row []string) {
		for i, cell := range row {
			fmt.Fprintf(out, "| %s%s ", cell, strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)))
		}
		fmt.Fprintln(out, "|")
	}
	line(t.head)
	for _, w := range width {
		fmt.Fprintf(out, "|%s", strings.Repeat("-", w+2))
	}
	fmt.Fprintln(out, "|")
	for _, row := range t.rows {
		line(row)
	}
	fmt.Fprintln(out)
}

func megabytes(n int64) float64 { return float64(n) / (1 << 20) }

// printHeader says what, where and how was measured.
func (b *bench) printHeader(what string) {
	pinned := "not pinned"
	if b.loadCPU >= 0 {
		pinned = "collector and load on a CPU each"
	}
	fmt.Fprintf(b.out, "\n%s, %s, %s, %s, window %s, rounds %d.\n\n",
		what, time.Now().UTC().Format(time.DateOnly), machineText(), pinned, b.opts.window, b.opts.rounds)
}

// foreignText shows the share of others and marks it where it spoils the round.
func foreignText(share float64) string {
	text := fmt.Sprintf("%.0f%%", 100*share)
	if share > noisy {
		text += " !"
	}
	return text
}

func (b *bench) printMetrics(loads []metricsLoad, medians []metricsResult) {
	b.printHeader("Metrics")
	for _, l := range loads {
		fmt.Fprintf(b.out, "- %s: %s; %d series each %s\n", l.name(), l.About, l.Series(), l.Interval)
	}
	fmt.Fprintln(b.out)
	t := table{head: []string{"load", "collector", "CPU µs/sample", "µs/scrape", "RSS MB", "highest", "wire B/sample", "disk B/sample", "lost", "others' CPU"}}
	for _, r := range medians {
		lost := strconv.FormatInt(r.lost, 10)
		if r.damaged {
			lost += ", values differ"
		}
		t.add(r.load, r.collector, fmt.Sprintf("%.3f", r.perSample()), fmt.Sprintf("%.0f", r.perScrape()),
			fmt.Sprintf("%.1f", megabytes(r.rssMean)), fmt.Sprintf("%.1f", megabytes(r.rssHigh)), fmt.Sprintf("%.1f", r.wire()),
			fmt.Sprintf("%.1f", float64(r.disk)/float64(r.scraped.Samples)), lost, foreignText(r.foreign))
	}
	t.print(b.out)
}
