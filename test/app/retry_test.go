package app_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// rule is what must happen when some requests meet faults.
type rule struct {
	name   string
	faults []kit.Fault
	// wait is how long a sender must leave the backend alone after each of the faults. For a
	// 429 whose date is so far ahead of the request's time, that is until the date.
	wait, ahead time.Duration
	// dropped is the reason under which the request is counted and not sent again, "" when the
	// same payload must come again until it is taken.
	dropped string
}

// R12, R13, R15, R22, R23, L38, L39, P2: what is sent again after which answer, when, and
// how it is counted. In between nothing else is sent, or the order of a series would be lost.
func TestAnswersDecideWhatIsSentAgain(t *testing.T) {
	t.Parallel()
	for _, r := range []rule{
		{name: "R13 429 with seconds", faults: []kit.Fault{kit.TooMany("2")}, wait: 2 * time.Second},
		{name: "R13 429 with a date", ahead: 3 * time.Second},
		{name: "R13 503 with seconds", faults: []kit.Fault{{Status: 503, RetryAfter: "1"}}, wait: time.Second},
		{name: "R13 429 with a date of the past", faults: []kit.Fault{kit.TooManyUntil(time.Unix(0, 0))}},
		{name: "R13 429 with garbage", faults: []kit.Fault{kit.TooMany("soon")}},
		{name: "R12 500 three times", faults: []kit.Fault{kit.Answer(500), kit.Answer(502), kit.Answer(504)}},
		{name: "R12 408", faults: []kit.Fault{kit.Answer(408)}},
		{name: "R23 cut before it is stored", faults: []kit.Fault{{CutBefore: true}}},
		{name: "R23 cut after it was stored", faults: []kit.Fault{{CutAfter: true}}},
		{name: "R15 400", faults: []kit.Fault{kit.Answer(400)}, dropped: "rejected"},
		{name: "R15 422", faults: []kit.Fault{kit.Answer(422)}, dropped: "rejected"},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			testRule(t, r)
		})
	}
}

func testRule(t *testing.T, r rule) {
	t.Helper()
	mimir, loki := kit.StartMetrics(t, kit.MetricsConfig{}), kit.StartLogs(t, kit.LogsConfig{})
	all := targets(t, 1, 3)
	tree, stop := startTree(t, 50, 1)
	p := kit.Start(t, kit.ProcessConfig{Config: config(
		[]string{prometheusTo("metrics", mimir.PushURL()), lokiTo("logs", loki.PushURL())},
		[]string{scrapeJob("app", all)}, podLogs(tree.Dir),
	)})
	type backend struct {
		name     string
		faults   *kit.Faults
		requests func() []kit.Request
	}
	for _, b := range []backend{{"metrics", mimir.Faults, mimir.Requests}, {"logs", loki.Faults, loki.Requests}} {
		// An honest request first, so that the faults do not meet the start.
		kit.Eventually(t, soon, "the first request of "+b.name, func() error {
			if len(b.requests()) == 0 {
				return errors.New("no request yet")
			}
			return nil
		})
		faults := r.faults
		if faults == nil {
			faults = []kit.Fault{kit.TooManyUntil(time.Now().Add(r.ahead))}
		}
		b.faults.Script(faults...)
		var met []kit.Request // from the first that met a fault
		kit.Eventually(t, soon, "requests to "+b.name+" after the faults", func() error {
			met = b.requests()
			for len(met) > 0 && met[0].Fault == (kit.Fault{}) {
				met = met[1:]
			}
			if want := len(faults) + 3; len(met) < want {
				return fmt.Errorf("%d requests since the first fault, want %d", len(met), want)
			}
			return nil
		})
		checkRule(t, b.name, r, faults, met)
	}
	stop()
	checkDropped(t, p, r)
	if r.dropped == "" {
		waitScrapes(t, all, mimir, before(time.Now()))
		waitLines(t, tree, loki)
	} else {
		// What did not arrive is what was counted, to the line.
		kit.Eventually(t, soon, "all lines but those that were refused", func() error {
			have, err := queues(p)
			if err != nil {
				return err
			}
			counted := have["logs"].Dropped[r.dropped].Items
			if lost := len(tree.Report(loki, "").Lost); int64(lost) != counted {
				return fmt.Errorf("%d lines lost, %d counted as dropped", lost, counted)
			}
			return nil
		})
	}
	if disorder := mimir.Disorder(); len(disorder) > 0 {
		t.Errorf("out of order: %+v", disorder)
	}
	waitBalance(t, p)
}

// checkRule looks at the requests from the first that met a fault.
func checkRule(t *testing.T, backend string, r rule, faults []kit.Fault, met []kit.Request) {
	t.Helper()
	if r.dropped != "" {
		if again := resent(met); again > 0 {
			t.Errorf("%s: %d requests came again after a final answer", backend, again)
		}
		if gap := met[1].Time.Sub(met[0].Time); gap > 2*time.Second {
			t.Errorf("%s: the next request came %s after the refused one, want it at once", backend, gap)
		}
		return
	}
	for i := range faults {
		if met[i].Fault != faults[i] {
			t.Fatalf("%s: request %d met %+v, want %+v", backend, i, met[i].Fault, faults[i])
		}
		if met[i+1].Digest != met[0].Digest {
			t.Errorf("%s: request %d after %+v has another payload", backend, i+1, faults[i])
		}
		gap, wait := met[i+1].Time.Sub(met[i].Time), r.wait
		if date, err := http.ParseTime(faults[i].RetryAfter); err == nil {
			wait = max(date.Sub(met[i].Time), 0)
		}
		if gap < wait {
			t.Errorf("%s: came again after %s, want %s at least", backend, gap, wait)
		}
		if most := wait + 5*time.Second; gap > most {
			t.Errorf("%s: came again after %s, want %s at most", backend, gap, most)
		}
	}
	if after := met[len(faults)]; after.Status/100 != 2 {
		t.Errorf("%s: the repeated request was answered %d %s", backend, after.Status, after.Answer)
	}
	if again := resent(met[len(faults):]); again > 0 {
		t.Errorf("%s: %d requests came again after they were taken", backend, again)
	}
}

// checkDropped compares what is counted as dropped with what the rule says.
func checkDropped(t *testing.T, p *kit.Process, r rule) {
	t.Helper()
	have, err := queues(p)
	if err != nil {
		t.Fatal(err)
	}
	m, err := p.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	for name, q := range have {
		total := int64(m.Sum(fmt.Sprintf("ingot_delivery_dropped_items_total{endpoint=%q}", name)))
		byReason := int64(m.Sum(fmt.Sprintf("ingot_delivery_dropped_items_total{endpoint=%q,reason=%q}", name, r.dropped)))
		switch {
		case r.dropped == "" && (total != 0 || len(q.Dropped) != 0):
			t.Errorf("%s: %d items dropped (%v), want none", name, total, q.Dropped)
		case r.dropped != "" && (byReason == 0 || byReason != total || q.Dropped[r.dropped].Items != total || q.Dropped[r.dropped].Blocks != 1):
			t.Errorf("%s: dropped %v, /metrics has %d as %s of %d, want one request", name, q.Dropped, byReason, r.dropped, total)
		}
	}
}

// A push of lines that is too large comes again in parts, each of them once, and only a line
// that is too large alone is dropped and counted.
func TestPushOfLinesThatIsTooLargeIsSplit(t *testing.T) {
	t.Parallel()
	limits := kit.DefaultStreamLimits()
	limits.MaxBody = 8 << 10
	loki := kit.StartLogs(t, kit.LogsConfig{Limits: limits})
	tree := kit.NewPodLogWriter(t, t.TempDir())
	c := tree.Pod("shop", "cart").Container("main")
	for range 50 {
		c.Write(5)
		c.Line("stdout", noise(2<<10))
	}
	c.Line("stdout", noise(32<<10))
	for range 50 {
		c.Line("stdout", noise(2<<10))
		c.Write(5)
	}
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir))})
	q := untilQueue(t, p, "logs", "the line dropped as too large, the others sent", func(q queue) bool { return q.Sent.Items == 600 })
	if q.Dropped["too_large"].Items != 1 || len(q.Dropped) != 1 {
		t.Errorf("dropped %v, want one line as too_large", q.Dropped)
	}
	rep := tree.Report(loki, "")
	if len(rep.Lost) != 1 || len(rep.Lost[0]) < 80 || len(rep.Repeated)+len(rep.Disorder)+len(rep.Invented) > 0 {
		t.Errorf("%d lines lost, %d repeated, %d out of order", len(rep.Lost), len(rep.Repeated), len(rep.Disorder))
	}
	waitBalance(t, p)
}
