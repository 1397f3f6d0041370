package app_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// bulk is series with random labels, of about size bytes a scrape, that hardly compress.
func bulk(rnd *rand.Rand, size int) string {
	const each, digits = 400, "0123456789abcdef"
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		value := make([]byte, each)
		for j := range value {
			value[j] = digits[rnd.IntN(len(digits))]
		}
		fmt.Fprintf(&b, "bulk{i=\"%d\",text=%q} 1\n", i, value)
	}
	return b.String()
}

// R9, P9: at the cap of the queue the oldest samples go, exactly as many as are counted, and
// the newest are kept.
func TestR09AtTheCapTheOldestGoAndAreCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{targets: 1, series: 3, blocks: []string{"data: {max_bytes: 1MiB}"}})
	r.complete(t) // something was sent before
	r.mimir.Down()
	r.all[0].SetExtra(bulk(random(t), 200<<10))
	r.until(t, "data dropped at the cap", func(q queue) bool { return len(q.Dropped) > 0 && q.Disk.Blocks > 0 })
	r.scrapes(t, 3)
	r.all[0].SetExtra("")
	ended := time.Now()
	check(t, r.mimir.Up())
	// The newest are all there: from the oldest that was kept on nothing is missing.
	waitScrapes(t, r.all, r.mimir, func(s kit.Scrape) bool { return s.Began.After(ended) && before(time.Now())(s) })
	r.until(t, "the end of the backlog", func(q queue) bool { return q.Disk.Blocks == 0 })
	missing := missingScrapes(r.all[0], r.mimir, before(ended))
	if len(missing) == 0 {
		t.Fatal("nothing is missing although something was dropped")
	}
	for i := 1; i < len(missing); i++ {
		if missing[i].N > missing[i-1].N+1 {
			t.Errorf("scrape %d is missing and %d is not: want the oldest to go first", missing[i].N, missing[i].N-1)
		}
	}
	if newest := missing[len(missing)-1]; newest.Ended.After(ended.Add(-interval)) {
		t.Errorf("the newest scrape before the end, %d, is missing", newest.N)
	}
	// What is not in the ledger is what was counted, to the sample.
	kit.Eventually(t, soon, "as many samples in the ledger as were sent", func() error {
		q := r.queue(t)
		if have, repeated := stored(r.mimir); q.Sent.Items != have+repeated {
			return fmt.Errorf("%d samples sent, %d in the ledger, %d of them again", q.Sent.Items, have+repeated, repeated)
		}
		return nil
	})
	for reason, a := range r.queue(t).Dropped {
		t.Logf("dropped as %s: %+v", reason, a)
	}
	waitBalance(t, r.p)
}

// R10, P11: a backlog drains at five times real time while new data comes in, which is not
// late for long, and in order.
func TestR10BacklogDrainsFiveTimesFasterThanItGrew(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{targets: 4, series: 300})
	r.complete(t)
	r.mimir.Faults.Set(kit.Slow(5 * time.Millisecond))
	began := time.Now()
	r.outage(t, 16)
	ended := time.Now()
	r.until(t, "the end of the backlog", func(q queue) bool { return q.Disk.Blocks == 0 && q.Memory.Blocks < 2 })
	drained := time.Now()
	waitScrapes(t, r.all, r.mimir, before(ended))
	// It began when the first request came through: the pause before it is a matter of R12.
	first := drained
	for _, req := range r.mimir.Requests() {
		if req.Time.After(ended) && req.Time.Before(first) {
			first = req.Time
		}
	}
	outage, drain := ended.Sub(began), drained.Sub(first)
	t.Logf("outage of %s drained in %s", outage, drain)
	if drain > outage/5 {
		t.Errorf("%s of data drained in %s, want at least five times faster", outage, drain)
	}
	r.complete(t)
	if again := resent(faulty(r.mimir.Requests())); again > 0 {
		t.Errorf("%d requests were sent twice", again)
	}
}

// R11: a kill and a stop in the middle of draining. What was sent is not sent again, but for
// requests that were just under way.
func TestR11KillInTheMiddleOfDrainingRepeatsOnlyWhatWasUnderWay(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{targets: 3, series: 100, blocks: []string{"data: {durability: always}"}})
	r.mimir.Down()
	r.scrapes(t, 12)
	k := killer{answer: 40 * time.Millisecond, rnd: random(t)}
	r.mimir.Faults.Set(kit.Slow(k.answer))
	check(t, r.mimir.Up())
	for i := range 3 {
		n := len(r.mimir.Requests())
		kit.Eventually(t, soon, "draining", func() error {
			if have := len(r.mimir.Requests()) - n; have < 5 {
				return fmt.Errorf("%d requests", have)
			}
			return nil
		})
		if i == 1 {
			if code, took := r.p.Stop(); code != 0 || took > stopLimit {
				t.Errorf("exit code %d after %s", code, took)
			}
			r.p = r.p.Again(t)
			continue
		}
		from := time.Now()
		r.p.Kill()
		k.kills = append(k.kills, span{from, time.Now()})
		r.p = r.p.Again(t)
	}
	k.checkLedger(t, r.all, r.mimir, k.followed)
	waitBalance(t, r.p)
}

// R14: a backend that throttles everything is asked less, not more, and gets everything when
// it can take it.
func TestR14ThrottlingIsNotAnsweredWithMoreRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{targets: 6, series: 20})
	r.complete(t)
	// The refusals are slow too, so that requests side by side would be seen.
	r.mimir.Faults.Set(kit.Fault{Delay: 30 * time.Millisecond, Status: http.StatusTooManyRequests})
	r.scrapes(t, 10)
	met := faulty(r.mimir.Requests())
	for i, req := range met[min(len(met), 8):] {
		if req.Beside > 1 {
			t.Errorf("request %d of those throttled was one of %d side by side", i+8, req.Beside)
		}
	}
	// Doubling pauses from 100 ms fit about six requests into five seconds.
	if most := 12; len(met) > most {
		t.Errorf("%d requests within %d scrapes, want at most %d", len(met), 10, most)
	}
	r.mimir.Faults.Clear()
	r.complete(t)
}

// R28: a backend that takes half of what comes has a queue that is seen to grow, and no
// scrape waits for it.
func TestR28SlowBackendIsSeenAndSlowsNoScrape(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{targets: 4, series: 50})
	r.complete(t)
	var mu sync.Mutex
	next := time.Now()
	r.mimir.Faults.Choose(func(*http.Request) (kit.Fault, bool) {
		mu.Lock()
		defer mu.Unlock()
		if time.Now().Before(next) {
			return kit.Fault{Status: http.StatusTooManyRequests, RetryAfter: "1"}, true
		}
		next = time.Now().Add(time.Second)
		return kit.Fault{}, true
	})
	began := time.Now()
	var items, ages []float64
	for range 4 {
		r.scrapes(t, 3)
		m, err := r.p.Metrics()
		check(t, err)
		items = append(items, m.Sum(`ingot_delivery_queued_items{endpoint="metrics"}`))
		ages = append(ages, m.Sum(`ingot_delivery_oldest_age_seconds{endpoint="metrics"}`))
	}
	if first, last := items[0], items[len(items)-1]; last < 1.5*first || ages[len(ages)-1] < 1 {
		t.Errorf("waiting samples %v, age of the oldest %v: want both to grow", items, ages)
	}
	for i, target := range r.all {
		worst, last := time.Duration(0), began
		for _, s := range target.Served() {
			if s.Began.After(began) {
				worst, last = max(worst, s.Began.Sub(last)), s.Began
			}
		}
		if worst > 2*interval+margin {
			t.Errorf("target %d was left alone for %s", i, worst)
		}
	}
	r.mimir.Faults.Clear()
	r.complete(t)
}

// R29, P14: many targets, answers that take a random time, failures in between. The backend
// takes nothing that is out of order.
func TestR29OrderHoldsWithRandomDelays(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{targets: 12, series: 20})
	rnd := random(t)
	r.mimir.Faults.Choose(func(*http.Request) (kit.Fault, bool) {
		f := kit.Slow(time.Duration(rnd.IntN(200)) * time.Millisecond)
		switch rnd.IntN(20) {
		case 0:
			f.Status = http.StatusServiceUnavailable
		case 1:
			f.CutAfter = true
		case 2:
			f.CutBefore = true
		}
		return f, true
	})
	r.scrapes(t, 4)
	r.outage(t, 8) // a backlog is what makes a sender send side by side
	r.scrapes(t, 8)
	most := 0
	for _, req := range r.mimir.Requests() {
		most = max(most, req.Beside)
	}
	r.mimir.Faults.Clear()
	t.Logf("%d samples repeated, at most %d requests side by side", r.complete(t), most)
}

// R30: the backend changes between quick, slow and throttling, so that the number of requests
// side by side goes up and down under load.
func TestR30ParallelismChangesWithoutLossOrDisorder(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{targets: 12, series: 20})
	for round := range 3 {
		r.outage(t, 4)
		for _, f := range []kit.Fault{kit.Slow(100 * time.Millisecond), {Status: 429}, {}, {Status: 500, Delay: 20 * time.Millisecond}} {
			r.mimir.Faults.Set(f)
			r.scrapes(t, 1)
		}
		r.mimir.Faults.Clear()
		r.scrapes(t, 2)
		t.Logf("round %d: %d requests", round, len(r.mimir.Requests()))
	}
	r.complete(t)
}

// R31: with another URL, tenant or header the backlog of a destination goes where its name
// leads now. A destination that was renamed keeps its backlog, and gets it back with its name.
func TestR31BacklogMovesWithTheNameOfItsDestination(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{targets: 2, series: 5})
	r.complete(t)
	r.mimir.Down()
	r.scrapes(t, 4)
	stopped := time.Now()
	if code, took := r.p.Stop(); code != 0 {
		t.Fatalf("exit code %d after %s", code, took)
	}
	dir, jobs := r.p.Dir(), []string{scrapeJob("app", r.all)}
	missing := missingScrapes(r.all[0], r.mimir, before(stopped))
	if len(missing) == 0 {
		t.Fatal("there is no backlog")
	}
	backlog := func(s kit.Scrape) bool { return s.N >= missing[0].N && s.N <= missing[len(missing)-1].N }
	files := func() []string {
		found, err := filepath.Glob(filepath.Join(dir, "data", "*", "*", "*"))
		check(t, err)
		return found
	}
	before := files()

	renamed := kit.StartMetrics(t, kit.MetricsConfig{})
	p := kit.Start(t, kit.ProcessConfig{Dir: dir, Config: config([]string{prometheusTo("renamed", renamed.PushURL())}, jobs)})
	check(t, r.all[0].WaitScrapes(t.Context(), soon, 2))
	p.Stop()
	if got := missingScrapes(r.all[0], renamed, backlog); len(got) != len(missing) {
		t.Errorf("a renamed destination has got %d scrapes of the backlog of another", len(missing)-len(got))
	}
	for _, f := range before {
		if !strings.HasSuffix(f, ".lock") && !slices.Contains(files(), f) {
			t.Errorf("%s of the destination that is configured no more is gone", f)
		}
	}

	moved := kit.StartMetrics(t, kit.MetricsConfig{RequireTenant: true})
	p = kit.Start(t, kit.ProcessConfig{Dir: dir, Config: config([]string{prometheusTo("metrics", moved.PushURL(), "tenant: other")}, jobs)})
	waitScrapes(t, r.all[:1], moved, backlog)
	if got := moved.Tenants(); len(got) != 1 || got[0] != "other" {
		t.Errorf("tenants %v, want other alone", got)
	}
	waitBalance(t, p)
}
