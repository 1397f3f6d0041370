//go:build linux

package main

import (
	"cmp"
	"fmt"
)

// A goal is a figure that has to be reached, and one that would be better still.
type goal struct {
	load, what    string
	must, stretch float64 // Stretch is 0 where there is none.
	atLeast       bool    // The figure is to be above the goal, not below.
}

// The figures that goals are about. Those with a peer are ratios to it.
const (
	cpuRatio     = "CPU / vmagent"
	scrapeRatio  = "CPU a scrape / vmagent"
	memoryRatio  = "RSS / vmagent"
	agentRatio   = "CPU / promagent"
	memory       = "RSS MB"
	disk         = "disk B/sample"
	wire         = "wire B/sample"
	wireRatio    = "wire bytes / vmagent"
	tableBytes   = "table B/series"
	churnRatio   = "CPU / M1"
	shuffleExtra = "CPU µs/sample over M1"
	outageMemory = "highest RSS MB over the mean before"
	outageDisk   = "disk B/sample while away"
	drainSpeed   = "caught up, times real time"

	lineCost  = "CPU µs/line"
	gibCost   = "CPU-s/GiB"
	textSpeed = "MiB/CPU-s"
	coreUse   = "% of a core"
	rate      = "MB/s"
	fileCost  = "KB for each further file"
	delay     = "p99 s to the push"
)

// metricsGoals are those of the issue about the metrics engine. M6 has those of M1, since
// relabelling happens once a series. What was lost is no goal: losing anything is an error.
func metricsGoals() []goal {
	return []goal{
		{"M1", cpuRatio, 0.38, 0.28, false},
		{"M1", agentRatio, 0.22, 0, false},
		{"M1", memoryRatio, 0.4, 0, false},
		{"M1", memory, 45, 36, false},
		{"M1", tableBytes, 45, 37, false},
		{"M1", wireRatio, 1.1, 0, false},
		{"M1", disk, 0, 0, false},
		{"M1/gzip", cpuRatio, 0.45, 0.36, false},
		{"M1/gzip", agentRatio, 0.30, 0, false},
		{"M1/gzip", memoryRatio, 0.4, 0, false},
		{"M1/gzip", memory, 45, 36, false},
		{"M1/rw2", wire, 16, 0, false},
		{"M1/rw2", memory, 45, 36, false},
		{"M1/rw2", disk, 0, 0, false},
		{"M2", cpuRatio, 0.38, 0.28, false},
		{"M2", memoryRatio, 0.6, 0, false},
		{"M2", memory, 95, 75, false},
		{"M2/gzip", cpuRatio, 0.45, 0.36, false},
		{"M2/gzip", memoryRatio, 0.6, 0, false},
		{"M2/gzip", memory, 95, 75, false},
		{"M3", scrapeRatio, 0.55, 0.3, false},
		{"M3", memoryRatio, 0.4, 0, false},
		{"M3", memory, 60, 40, false},
		{"unique", cpuRatio, 0.5, 0.4, false},
		{"unique", memoryRatio, 0.85, 0, false},
		{"unique", tableBytes, 160, 0, false},
		{"unique-1M", cpuRatio, 0.5, 0.4, false},
		{"unique-1M", memoryRatio, 1.5, 0.8, false},
		{"M4", churnRatio, 1.25, 0, false},
		{"M5", shuffleExtra, 0.12, 0, false},
		{"M6", cpuRatio, 0.38, 0.28, false},
		{"M6", memoryRatio, 0.4, 0, false},
		{"M8", outageMemory, 40, 0, false},
		{"M8", drainSpeed, 5, 0, true},
		{"M8/rw2", outageMemory, 40, 0, false},
		{"M8/rw2", outageDisk, 16, 0, false},
		{"M8/rw2", drainSpeed, 5, 0, true},
	}
}

// logsGoals are those of the issue about the log engine.
func logsGoals() []goal {
	return []goal{
		{"L1", lineCost, 1.3, 0.9, false},
		{"L1", memory, 30, 18, false},
		{"L1", delay, 2, 0, false},
		{"L2", gibCost, 2.0, 1.4, false},
		{"L2", rate, 120, 0, true},
		{"L2", memory, 30, 18, false},
		{"L3", textSpeed, 250, 400, true},
		{"L4", fileCost, 4, 0, false},
		{"L5", coreUse, 1.0, 0.5, false},
		{"rest", coreUse, 0.1, 0, false},
	}
}

// figures are what was measured, by load and figure.
type figures map[[2]string]float64

// verdict says whether a figure reaches a goal.
func (g goal) verdict(v float64) string {
	reached := func(limit float64) bool { return v <= limit && !g.atLeast || v >= limit && g.atLeast }
	switch {
	case !reached(g.must):
		return "MISSED"
	case g.stretch != 0 && reached(g.stretch):
		return "ok, stretch too"
	default:
		return "ok"
	}
}

// printGoals prints the goals of which the figures are known and returns how many are missed.
func (b *bench) printGoals(goals []goal, known figures) (missed int) {
	t := table{head: []string{"load", "goal", "measured", "must", "stretch", ""}}
	for _, g := range goals {
		v, ok := known[[2]string{g.load, g.what}]
		if !ok {
			continue
		}
		sign, stretch := "≤", ""
		if g.atLeast {
			sign = "≥"
		}
		if g.stretch != 0 {
			stretch = fmt.Sprintf("%s %g", sign, g.stretch)
		}
		verdict := g.verdict(v)
		if verdict == "MISSED" {
			missed++
		}
		t.add(g.load, g.what, fmt.Sprintf("%.3g", v), fmt.Sprintf("%s %g", sign, g.must), stretch, verdict)
	}
	t.print(b.out)
	return missed
}

func compareFloat(a, b float64) int { return cmp.Compare(a, b) }

// metricsFigures computes what goals are about. Figures without their counterpart are left
// out.
func metricsFigures(medians []metricsResult) figures {
	known := figures{}
	by := map[[2]string]metricsResult{}
	for _, r := range medians {
		by[[2]string{r.load, r.collector}] = r
	}
	for _, r := range medians {
		if r.collector != ingotName {
			continue
		}
		set := func(what string, v float64) { known[[2]string{r.load, what}] = v }
		set(memory, megabytes(r.rssMean))
		set(disk, float64(r.disk)/float64(r.scraped.Exposed))
		set(wire, r.wire())
		if r.perSeries > 0 {
			set(tableBytes, r.perSeries)
		}
		if peer, ok := by[[2]string{r.load, vmagentName}]; ok {
			set(cpuRatio, r.perSample()/peer.perSample())
			set(scrapeRatio, r.perScrape()/peer.perScrape())
			set(memoryRatio, float64(r.rssMean)/float64(peer.rssMean))
			set(wireRatio, r.wire()/peer.wire())
		}
		if peer, ok := by[[2]string{r.load, promagentName}]; ok {
			set(agentRatio, r.perSample()/peer.perSample())
		}
		if m1, ok := by[[2]string{"M1", ingotName}]; ok {
			set(churnRatio, r.perSample()/m1.perSample())
			set(shuffleExtra, r.perSample()-m1.perSample())
		}
		if o := r.away; o != nil {
			set(outageMemory, megabytes(o.rssHigh()-r.rssMean))
			set(outageDisk, o.diskPerSample())
			set(drainSpeed, o.speed)
		}
	}
	return known
}
