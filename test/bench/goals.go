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
	memoryRatio  = "RSS / vmagent"
	memory       = "RSS MB"
	disk         = "disk B/sample"
	wireRatio    = "wire bytes / vmagent"
	churnRatio   = "CPU / M1"
	shuffleExtra = "CPU µs/sample over M1"

	lineCost  = "CPU µs/line"
	gibCost   = "CPU-s/GiB"
	textSpeed = "MiB/CPU-s"
	coreUse   = "% of a core"
	rate      = "MB/s"
	fileCost  = "KB for each further file"
	delay     = "p99 s to the push"
)

// metricsGoals are those of the issue about the metrics engine.
func metricsGoals() []goal {
	return []goal{
		{"M1", cpuRatio, 0.38, 0.28, false},
		{"M1", memoryRatio, 0.4, 0, false},
		{"M1", memory, 45, 36, false},
		{"M1", wireRatio, 1.1, 0, false},
		{"M1", disk, 0, 0, false},
		{"M1/gzip", cpuRatio, 0.45, 0.36, false},
		{"M1/gzip", memoryRatio, 0.4, 0, false},
		{"M1/gzip", memory, 45, 36, false},
		{"M2", cpuRatio, 0.38, 0.28, false},
		{"M2", memoryRatio, 0.6, 0, false},
		{"M2", memory, 95, 75, false},
		{"M2/gzip", cpuRatio, 0.45, 0.36, false},
		{"M2/gzip", memoryRatio, 0.6, 0, false},
		{"M3", cpuRatio, 0.55, 0.3, false},
		{"M3", memoryRatio, 0.4, 0, false},
		{"unique", cpuRatio, 0.5, 0.4, false},
		{"unique", memoryRatio, 0.85, 0, false},
		{"unique-1M", cpuRatio, 0.5, 0.4, false},
		{"unique-1M", memoryRatio, 1.5, 0.8, false},
		{"M4", churnRatio, 1.25, 0, false},
		{"M5", shuffleExtra, 0.12, 0, false},
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
		known[[2]string{r.load, memory}] = megabytes(r.rssMean)
		known[[2]string{r.load, disk}] = float64(r.disk) / float64(r.scraped.Samples)
		if peer, ok := by[[2]string{r.load, vmagentName}]; ok {
			known[[2]string{r.load, cpuRatio}] = r.perSample() / peer.perSample()
			known[[2]string{r.load, memoryRatio}] = float64(r.rssMean) / float64(peer.rssMean)
			known[[2]string{r.load, wireRatio}] = r.wire() / peer.wire()
		}
		if m1, ok := by[[2]string{"M1", ingotName}]; ok {
			known[[2]string{r.load, churnRatio}] = r.perSample() / m1.perSample()
			known[[2]string{r.load, shuffleExtra}] = r.perSample() - m1.perSample()
		}
	}
	return known
}
