package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// snapshot is what queries found in the store at one moment.
type snapshot struct {
	jobs    []jobRow
	streams []streamRow
	last    []logLine
	written int // generated lines that had to be there, and were
}

// jobRow is one job: how many of its targets are up, and what comes from it.
type jobRow struct {
	name                     string
	up, targets, series, sps float64
}

// streamRow is one stream of lines.
type streamRow struct {
	name    string
	lines   int
	perSecs float64
}

// window is over which rates are taken.
const window = 10 * time.Second

// collect waits until everything that is expected has arrived and rates can be told, and
// returns what is there then and what is missing.
func (d *demo) collect(outer context.Context) (seen snapshot, missing []string, err error) {
	d.out.Begin("collecting")
	ctx, cancel := context.WithTimeout(outer, d.within)
	defer cancel()
	began := time.Now()
	due := d.pods.writer.Written() // written before the first look: all of it must arrive
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		must := due // written a second ago or more
		if time.Since(began) < window {
			// As long as we wait for the rates anyway, more lines become due.
			due = d.pods.writer.Written()
		}
		now, lacks, err := d.look(ctx, must)
		if err != nil && ctx.Err() == nil {
			return seen, nil, err
		}
		if err == nil {
			seen, missing = now, lacks
			d.out.Update("%s", seen.sum())
			if len(missing) == 0 && time.Since(began) > window+2*time.Second {
				d.out.Done("%s", seen.sum())
				return seen, nil, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if err := outer.Err(); err != nil {
				return seen, missing, err
			}
			d.out.Done("not everything arrived: %s", seen.sum())
			return seen, append(missing, seen.nothing()...), nil
		}
	}
}

// sum says how much a snapshot has seen.
func (s snapshot) sum() string {
	sps, n := 0.0, 0
	for _, j := range s.jobs {
		sps += j.sps
	}
	for _, st := range s.streams {
		n += st.lines
	}
	return fmt.Sprintf("%.0f samples/s, %d lines", sps, n)
}

// nothing says that the store never answered.
func (s snapshot) nothing() []string {
	if s.jobs == nil && s.streams == nil {
		return []string{"every answer of the store"}
	}
	return nil
}

// look asks the store once. The generated lines in due must be there by now, each once.
func (d *demo) look(ctx context.Context, due []kit.WrittenLine) (seen snapshot, missing []string, err error) {
	if seen.jobs, err = d.lookJobs(ctx); err != nil {
		return seen, nil, err
	}
	all, err := d.logQL(ctx, `{job=~".+"}`, "1w")
	if err != nil {
		return seen, nil, err
	}
	slices.SortStableFunc(all, func(a, b logLine) int { return cmp.Compare(b.t.UnixNano(), a.t.UnixNano()) })
	seen.streams, seen.last = streamRows(all), newest(all)
	missing = append(d.missingJobs(seen.jobs), d.missingStreams(seen.streams)...)
	rep := compareLines(due, all)
	seen.written = len(due)
	if n := len(rep.Lost); n > 0 {
		missing = append(missing, fmt.Sprintf("%d of %d generated log lines, such as %s", n, len(due), rep.Lost[0]))
	}
	if n := len(rep.Repeated); n > 0 {
		missing = append(missing, fmt.Sprintf("nothing, but %d log lines arrived twice, such as %s", n, rep.Repeated[0]))
	}
	return seen, missing, nil
}

// lineID tells one generated line from every other.
type lineID struct{ namespace, pod, container, text string }

// String names the line in a report.
func (l lineID) String() string {
	return fmt.Sprintf("%s/%s/%s %q", l.namespace, l.pod, l.container, cut(l.text, 60))
}

// compareLines holds generated lines against those of the store, as sets.
func compareLines(due []kit.WrittenLine, all []logLine) kit.Report {
	var want, got []lineID
	known := make(map[lineID]bool, len(due))
	for _, l := range due {
		k := lineID{l.Namespace, l.Pod, l.Container, l.Text}
		known[k] = true
		want = append(want, k)
	}
	for _, l := range all {
		k := lineID{l.labels["namespace"], l.labels["pod"], l.labels["container"], l.text}
		if known[k] {
			got = append(got, k)
		}
	}
	return kit.Compare(want, got)
}

// lookJobs asks by PromQL what is there of each job.
func (d *demo) lookJobs(ctx context.Context) ([]jobRow, error) {
	rows := make(map[string]*jobRow)
	for _, q := range []struct {
		text string
		set  func(*jobRow, float64)
	}{
		{`count by (job) (up)`, func(r *jobRow, v float64) { r.targets = v }},
		{`sum by (job) (up)`, func(r *jobRow, v float64) { r.up = v }},
		{`count by (job) ({__name__=~".+"})`, func(r *jobRow, v float64) { r.series = v }},
		{
			fmt.Sprintf(`sum by (job) (sum_over_time(scrape_samples_post_metric_relabeling[%.0fs])) / %[1]f`, window.Seconds()),
			func(r *jobRow, v float64) { r.sps = v },
		},
	} {
		values, err := d.promQL(ctx, q.text, "job")
		if err != nil {
			return nil, err
		}
		for job, v := range values {
			if rows[job] == nil {
				rows[job] = &jobRow{name: job}
			}
			q.set(rows[job], v)
		}
	}
	var all []jobRow
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		all = append(all, *rows[name])
	}
	return all, nil
}

// streamRows counts lines by namespace and container, or by job and file name.
func streamRows(all []logLine) []streamRow {
	rows := make(map[string]*streamRow)
	since := time.Now().Add(-window)
	for _, l := range all {
		name := l.labels["namespace"] + "/" + l.labels["container"]
		if file := l.labels["filename"]; file != "" {
			name = l.labels["job"] + " " + file
		}
		if rows[name] == nil {
			rows[name] = &streamRow{name: name}
		}
		rows[name].lines++
		if l.t.After(since) {
			rows[name].perSecs += 1 / window.Seconds()
		}
	}
	var sorted []streamRow
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		sorted = append(sorted, *rows[name])
	}
	return sorted
}

// newest returns the newest lines in the order of time, at most three of one container.
func newest(all []logLine) []logLine {
	const most, mostOfOne = 8, 3
	var picked []logLine
	count := make(map[string]int)
	for _, l := range all {
		if key := l.labels["job"]; count[key] < mostOfOne && len(picked) < most {
			count[key]++
			picked = append(picked, l)
		}
	}
	slices.Reverse(picked)
	return picked
}

// missingJobs says what is not as it should be: every target up but the one that is not there.
func (d *demo) missingJobs(rows []jobRow) (missing []string) {
	want := map[string]jobRow{selfJob: {up: 1, targets: 1}, absentJob: {up: 0, targets: 1}}
	for _, job := range d.exporters.jobs {
		n := float64(len(job.targets))
		want[job.name] = jobRow{up: n, targets: n}
	}
	got := make(map[string]jobRow)
	for _, r := range rows {
		got[r.name] = r
	}
	const report = 5 // series that every scrape has, up and its companions
	for _, name := range slices.Sorted(maps.Keys(want)) {
		w, g := want[name], got[name]
		if g.up != w.up || g.targets != w.targets {
			missing = append(missing, fmt.Sprintf("job %s: %.0f of %.0f targets up, want %.0f of %.0f", name, g.up, g.targets, w.up, w.targets))
		} else if w.up > 0 && g.series <= g.targets*report {
			missing = append(missing, fmt.Sprintf("job %s: only %.0f series", name, g.series))
		}
	}
	return missing
}

// missingStreams says which containers and files have no lines at all.
func (d *demo) missingStreams(rows []streamRow) (missing []string) {
	want := slices.Clone(d.pods.containers)
	for _, path := range d.files {
		want = append(want, filesJob+" "+path)
	}
	for _, name := range want {
		if !slices.ContainsFunc(rows, func(r streamRow) bool { return r.name == name }) {
			missing = append(missing, "stream "+name)
		}
	}
	return missing
}

// table renders a snapshot.
func (s snapshot) table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) } // a builder takes everything
	b.WriteString("\nMETRICS, by PromQL\n")
	row("up\tseries\tsamples/s\t  job\n")
	for _, j := range s.jobs {
		row("%.0f/%.0f\t%.0f\t%.1f\t  %s\n", j.up, j.targets, j.series, j.sps, j.name)
	}
	_ = w.Flush()
	b.WriteString("\nLOGS, by LogQL\n")
	row("lines\tlines/s\t  stream\n")
	for _, st := range s.streams {
		row("%d\t%.1f\t  %s\n", st.lines, st.perSecs, st.name)
	}
	_ = w.Flush()
	b.WriteString("\nLAST LINES\n")
	for _, l := range s.last {
		fmt.Fprintf(&b, "  %s  %-22s %s\n", l.t.Format("15:04:05.000"), l.labels["job"], cut(l.text, 90))
	}
	return b.String()
}

// proof says what was checked.
func (s snapshot) proof() string {
	return fmt.Sprintf("  checked: every target has its up, and %d generated log lines arrived, 0 lost, 0 twice", s.written)
}

// cut shortens a line for display and drops what a terminal could act upon.
func cut(text string, most int) string {
	clean := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	if runes := []rune(clean); len(runes) > most {
		return string(runes[:most-3]) + "..."
	}
	return clean
}
