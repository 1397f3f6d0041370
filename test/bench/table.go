//go:build linux

package main

import (
	"fmt"
	"io"
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
