package app_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// waitLines waits until every line of the tree that the node has not removed has arrived, and
// fails when a line came changed, out of order or from nowhere. It returns how many lines
// arrived more than once.
func waitLines(t *testing.T, tree *kit.PodLogWriter, r *kit.LogsReceiver) int {
	t.Helper()
	var rep kit.Report
	kit.Eventually(t, soon, "every line in the ledger", func() error {
		// The report is the judge; the sum keeps it from being made a hundred times.
		stored, removed := 0, 0
		for _, req := range r.Requests() {
			stored += req.Items
		}
		written := tree.Written()
		for _, l := range written {
			if l.Removed {
				removed++
			}
		}
		if stored < len(written)-removed {
			return fmt.Errorf("%d lines stored, %d written, %d of them removed", stored, len(written), removed)
		}
		rep = tree.ReportPresent(r, "")
		if len(rep.Lost) > 0 {
			return rep.Err()
		}
		return nil
	})
	if err := rep.Err(); err != nil {
		t.Fatal(err)
	}
	if refused := r.Refused(); len(refused) > 0 {
		t.Fatalf("%d lines refused, first %+v", len(refused), refused[0])
	}
	return len(rep.Repeated)
}

// missingScrapes returns the scrapes that the target answered completely, that must have
// arrived, and of which at least one sample has not. A scrape that the program itself reports
// as failed is not missing: a busy machine can take longer than the limit.
func missingScrapes(target *kit.Target, r *kit.MetricsReceiver, must func(kit.Scrape) bool) []kit.Scrape {
	got := make(map[int64]int) // series that arrived, by number of the scrape
	for _, s := range r.Series("", target.Selector()) {
		for _, sample := range s.Samples {
			if !sample.Stale() {
				got[int64(sample.V)]++
			}
		}
	}
	var missing []kit.Scrape
	for _, s := range target.Served() {
		if s.Mode != kit.ModeHonest || !s.Complete || !must(s) {
			continue
		}
		exposed, err := kit.ParseExposition(s.Body)
		if err != nil {
			panic(err) // the page is the kit's own
		}
		if got[s.N] < len(exposed.Find("seq")) && !reportedFailed(target, r, s) {
			missing = append(missing, s)
		}
	}
	return missing
}

// reportedFailed tells whether the ledger has up 0 for a scrape.
func reportedFailed(target *kit.Target, r *kit.MetricsReceiver, s kit.Scrape) bool {
	// up has the time that the scrape was due at. On a busy machine the request of a scrape that
	// the program has given up can reach the target's handler an interval later.
	const alignment, late = 10 * time.Millisecond, 2 * interval
	for _, up := range r.Series("", fmt.Sprintf("up{instance=%q}", target.Addr())) {
		for _, sample := range up.Samples {
			due := time.UnixMilli(sample.T).Add(-alignment)
			if sample.V == 0 && s.Began.After(due) && s.Began.Before(due.Add(late+2*alignment)) {
				return true
			}
		}
	}
	return false
}

// before tells of scrapes that ended before a time, with a moment for the way from the
// kernel's buffer into the program.
func before(until time.Time) func(kit.Scrape) bool {
	const way = 100 * time.Millisecond
	return func(s kit.Scrape) bool { return s.Ended.Before(until.Add(-way)) }
}

// waitScrapes waits until every scrape that must has arrived, and fails when a sample came
// from nowhere or out of order. It returns how many samples arrived more than once.
func waitScrapes(t *testing.T, all []*kit.Target, r *kit.MetricsReceiver, must func(kit.Scrape) bool) int {
	t.Helper()
	kit.Eventually(t, soon, "every scrape in the ledger", func() error {
		for i, target := range all {
			if missing := missingScrapes(target, r, must); len(missing) > 0 {
				return fmt.Errorf("target %d: %d scrapes missing, first number %d of %s", i, len(missing), missing[0].N, missing[0].Ended)
			}
		}
		return nil
	})
	repeated := 0
	for _, target := range all {
		rep := target.Report(r, "", time.Time{})
		if err := rep.Err(); err != nil {
			t.Fatal(err)
		}
		repeated += len(rep.Repeated)
	}
	return repeated
}

// resent returns how many of the requests had the body of an earlier one. Metadata of remote
// write 1.0, requests without a sample, are the same every time and do not count.
func resent(requests []kit.Request) int {
	seen, again := make(map[string]bool), 0
	for _, r := range requests {
		if r.Items == 0 && r.Status/100 == 2 && !seen[r.Digest] {
			continue
		}
		if seen[r.Digest] {
			again++
		}
		seen[r.Digest] = true
	}
	return again
}

// balance checks that everything that entered the parts of the program has left them or is
// counted as waiting, from one look at /metrics: conservation, P33.
func balance(p *kit.Process) error {
	m, err := p.Metrics()
	if err != nil {
		return err
	}
	for _, account := range []struct {
		in, out []string
	}{
		{
			in: []string{"ingot_delivery_put_items_total", "ingot_delivery_restored_items_total"},
			out: []string{
				"ingot_delivery_sent_items_total", "ingot_delivery_dropped_items_total",
				"ingot_delivery_queued_items",
			},
		},
		{
			in: []string{"ingot_delivery_put_bytes_total", "ingot_delivery_restored_bytes_total"},
			out: []string{
				"ingot_delivery_sent_bytes_total", "ingot_delivery_dropped_bytes_total",
				"ingot_delivery_queued_bytes",
			},
		},
		{
			in: []string{"ingot_podlogs_lines_read_total"},
			out: []string{
				"ingot_podlogs_lines_pushed_total", "ingot_podlogs_lines_dropped_total",
				"ingot_podlogs_parts_joined_total", "ingot_podlogs_parts_pending",
				"ingot_podlogs_lines_joined_total", "ingot_podlogs_lines_held",
			},
		},
	} {
		for _, endpoint := range m.Find("ingot_delivery_put_items_total") {
			name := endpoint.Labels.Get("endpoint")
			sum := func(metrics []string) (total float64) {
				for _, metric := range metrics {
					total += m.Sum(fmt.Sprintf("%s{endpoint=%q}", metric, name))
				}
				return total
			}
			if in, out := sum(account.in), sum(account.out); in != out {
				return fmt.Errorf("destination %s: %v is %g, %v is %g", name, account.in, in, account.out, out)
			}
		}
	}
	scraped := m.Sum("ingot_scrape_samples_scraped_total")
	left := m.Sum("ingot_scrape_samples_pushed_total") + m.Sum("ingot_scrape_samples_dropped_total")
	if scraped != left {
		return fmt.Errorf("%g samples scraped, %g pushed or dropped", scraped, left)
	}
	return balanceSamples(m)
}

// droppedEarly are the reasons for which samples are dropped before they are encoded.
const droppedEarly = "write_relabel|native_histograms_off|custom_buckets"

// balanceSamples checks the way of samples from the scrapes to the requests for each metrics
// destination.
func balanceSamples(m kit.Exposition) error {
	pushed := m.Sum("ingot_scrape_samples_pushed_total") + m.Sum("ingot_scrape_report_samples_pushed_total") +
		m.Sum("ingot_scrape_stale_markers_pushed_total")
	for _, endpoint := range m.Find("ingot_remotewrite_appended_samples_total") {
		name := endpoint.Labels.Get("endpoint")
		sum := func(metric, more string) float64 { return m.Sum(fmt.Sprintf("%s{endpoint=%q%s}", metric, name, more)) }
		appended := sum("ingot_remotewrite_appended_samples_total", "")
		encoded := sum("ingot_remotewrite_samples_total", "")
		early := sum("ingot_remotewrite_dropped_samples_total", fmt.Sprintf(",reason=~%q", droppedEarly))
		switch {
		case appended != pushed:
			return fmt.Errorf("destination %s: %g samples pushed by scrapes, %g handed over", name, pushed, appended)
		case appended != encoded+early:
			return fmt.Errorf("destination %s: %g samples handed over, %g encoded and %g dropped", name, appended, encoded, early)
		}
	}
	return nil
}

// queuedSamples returns how many samples were encoded for each metrics destination, and how
// many of those have got into its queue or were dropped on the way.
func queuedSamples(m kit.Exposition) (encoded, arrived map[string]float64) {
	encoded, arrived = make(map[string]float64), make(map[string]float64)
	for _, endpoint := range m.Find("ingot_remotewrite_samples_total") {
		name := endpoint.Labels.Get("endpoint")
		encoded[name] = endpoint.Value
		arrived[name] = m.Sum(fmt.Sprintf("ingot_delivery_put_items_total{endpoint=%q}", name)) +
			m.Sum(fmt.Sprintf(`ingot_remotewrite_dropped_samples_total{endpoint=%q,reason!~%q}`, name, droppedEarly))
	}
	return encoded, arrived
}

// waitBalance waits until the accounts are even. Those of parts that work at the moment may
// be a line or sample apart, since one page is not one instant. A request that is being put
// together is in no account; so what was encoded at the beginning has to get into the queue.
func waitBalance(t *testing.T, p *kit.Process) {
	t.Helper()
	m, err := p.Metrics()
	check(t, err)
	first, _ := queuedSamples(m)
	kit.Eventually(t, soon, "even accounts at /metrics", func() error { return balance(p) })
	kit.Eventually(t, soon, "encoded samples in the queue", func() error {
		now, err := p.Metrics()
		if err != nil {
			return err
		}
		encoded, arrived := queuedSamples(now)
		for name, n := range first {
			if arrived[name] < n || arrived[name] > encoded[name] {
				return fmt.Errorf("destination %s: %g samples were encoded before and %g are by now, %g were queued or dropped", name, n, encoded[name], arrived[name])
			}
		}
		return nil
	})
}
