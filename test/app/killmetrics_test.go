package app_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// What `durability: behind` may lose at a SIGKILL: what was not yet a finished request, and
// requests that were neither acknowledged nor on disk, which takes half a second.
const (
	flushInterval = deadline + 500*time.Millisecond
	// noted is how long it may take until an acknowledgement is noted on disk: at once, but
	// not while the disk is busy with a sync. What came in between is sent again.
	noted = 100 * time.Millisecond
	// margin is for a machine that does other work.
	margin = 400 * time.Millisecond
)

// span is a SIGKILL: it happened between two moments.
type span struct{ from, to time.Time }

// killer runs lives of random length with a SIGKILL at the end of each.
type killer struct {
	least, most time.Duration
	rnd         *rand.Rand
	kills       []span
	answer      time.Duration // how long the backend takes for one
	cuts        []span        // moments at which the backend went away, with a request under way perhaps
}

// next lets the process live a while, kills it and starts the next.
func (k *killer) next(t *testing.T, p *kit.Process) *kit.Process {
	t.Helper()
	live(t, p, between(k.rnd, k.least, k.most))
	from := time.Now()
	p.Kill()
	k.kills = append(k.kills, span{from, time.Now()})
	return p.Again(t)
}

// settled tells of scrapes that were older than the flush interval at every kill.
func (k *killer) settled(s kit.Scrape) bool {
	for _, kill := range k.kills {
		if s.Ended.After(kill.from.Add(-flushInterval-margin)) && s.Began.Before(kill.to) {
			return false
		}
	}
	return true
}

// followed returns a function that tells of scrapes which another scrape of the same target
// and the same life has followed: only the last before each kill can have been under way.
func (k *killer) followed(target *kit.Target) func(kit.Scrape) bool {
	last := make(map[int64]bool)
	for _, kill := range k.kills {
		n := int64(0)
		for _, s := range target.Served() {
			if s.Began.Before(kill.to) {
				n = s.N
			}
		}
		last[n] = true
	}
	return func(s kit.Scrape) bool { return !last[s.N] }
}

// underWay returns how many requests had arrived so shortly before a kill or a cut that their
// answer may not have been seen or noted.
func (k *killer) underWay(requests []kit.Request) int {
	n := 0
	for _, kill := range slices.Concat(k.kills, k.cuts) {
		for _, r := range requests {
			if r.Time.After(kill.from.Add(-k.answer-noted-margin)) && r.Time.Before(kill.to) {
				n++
			}
		}
	}
	return n
}

// checkLedger waits for what must arrive, checks order and repeats, and reports how much the
// kills have cost.
func (k *killer) checkLedger(t *testing.T, all []*kit.Target, r *kit.MetricsReceiver, must func(*kit.Target) func(kit.Scrape) bool) {
	t.Helper()
	until := time.Now()
	repeated, lost := 0, 0
	oldest := time.Duration(0)
	for _, target := range all {
		must := must(target)
		repeated += waitScrapes(t, []*kit.Target{target}, r, func(s kit.Scrape) bool { return before(until)(s) && must(s) })
		for _, s := range missingScrapes(target, r, before(until)) {
			lost++
			for _, kill := range k.kills {
				if s.Began.Before(kill.to) { // the first kill after the scrape
					oldest = max(oldest, kill.to.Sub(s.Ended))
					break
				}
			}
		}
	}
	again, most, refused := resent(r.Requests()), k.underWay(r.Requests()), len(r.Refused())
	t.Logf("%d kills: %d scrapes lost, the oldest %s before its kill; %d requests sent twice (at most %d), %d samples repeated, %d refused as repeats",
		len(k.kills), lost, oldest.Round(time.Millisecond), again, most, repeated, refused)
	for _, s := range r.Disorder() {
		t.Errorf("out of order: %+v", s)
	}
	if again > most {
		t.Errorf("%d requests were sent twice, want at most the %d that were just under way at a kill", again, most)
	}
}

// R3, R4, P7, P14: SIGKILL at random points. What is older than the flush interval is on disk
// (behind); everything but the scrape under way is (always). Order per series is kept
// throughout; only requests that were just under way at a kill are sent twice.
func TestKillLosesNoSettledScrape(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		number, durability, backend string
	}{
		{"R03", "behind", "up"},
		{"R03", "behind", "slow"}, // each answer takes longer than the half second before blocks go to disk
		{"R04", "behind", "away"},
		{"R03", "always", "up"},
		{"R03", "always", "slow"},
		{"R04", "always", "away"},
	} {
		t.Run(c.number+" "+c.durability+"/"+c.backend, func(t *testing.T) {
			t.Parallel()
			testKill(t, c.durability, c.backend)
		})
	}
}

func testKill(t *testing.T, durability, backend string) {
	t.Helper()
	const kills, jobs, series = 7, 6, 3
	k := killer{least: 300 * time.Millisecond, most: 2 * time.Second, rnd: random(t)}
	mimir := kit.StartMetrics(t, kit.MetricsConfig{})
	if k.answer = 30 * time.Millisecond; backend == "slow" {
		k.answer = time.Second
	}
	mimir.Faults.Set(kit.Slow(k.answer))
	all := targets(t, jobs, series)
	to := prometheusTo("metrics", mimir.PushURL())
	if durability == "always" {
		// Whatever waited for this would be lost at a kill; nothing must.
		to = destination("metrics", "prometheus", mimir.PushURL(), []string{"batch_send_deadline: 10s"})
	}
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{to}, []string{scrapeJob("app", all)}, "data: {durability: "+durability+"}")})
	if backend == "away" {
		live(t, p, between(k.rnd, time.Second, 2*time.Second))
		from := time.Now()
		mimir.Down()
		k.cuts = append(k.cuts, span{from, time.Now()})
	}
	for range kills {
		p = k.next(t, p)
	}
	mimir.Faults.Clear()
	if err := mimir.Up(); err != nil {
		t.Fatal(err)
	}
	must := func(*kit.Target) func(kit.Scrape) bool { return k.settled }
	if durability == "always" {
		must = k.followed
	}
	// The last life shows that the new goes on behind the old.
	if err := all[0].WaitScrapes(t.Context(), soon, 3); err != nil {
		t.Fatal(err)
	}
	k.checkLedger(t, all, mimir, must)
	waitBalance(t, p)
}

// R4, P7: with `durability: always` a scrape is on disk before the next of the same target
// begins. The backend hangs and the kill comes before the half second after which every
// queue would write.
func TestR04AlwaysHasTheLastScrapeButOneOnDisk(t *testing.T) {
	t.Parallel()
	for i := range 3 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			mimir := kit.StartMetrics(t, kit.MetricsConfig{})
			mimir.Faults.Set(kit.Fault{Hang: true})
			all := targets(t, 1, 3)
			p := kit.Start(t, kit.ProcessConfig{Config: config(
				[]string{prometheusTo("metrics", mimir.PushURL())}, []string{scrapeJob("app", all)}, "data: {durability: always}",
			)})
			if err := all[0].WaitScrapes(t.Context(), soon, 2); err != nil {
				t.Fatal(err)
			}
			p.Kill()
			first := all[0].Served()[0]
			mimir.Faults.Clear()
			p.Again(t)
			waitScrapes(t, all, mimir, func(s kit.Scrape) bool { return s.N == first.N })
		})
	}
}
