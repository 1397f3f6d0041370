package scrape

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingot-telemetry/ingot/internal/expfmt"
	"github.com/ingot-telemetry/ingot/internal/model"
)

func TestScrapesUnderWayTakeAQuarterOfTheMemoryLimit(t *testing.T) {
	var limit atomic.Int64
	b := newBuffers(0, limit.Load)
	begin := func(most int) (n int) {
		for n < most && b.begin() == nil {
			n++
		}
		return n
	}
	if n := begin(1000); n != 1000 {
		t.Fatalf("%d scrapes without a limit, want as many as there are", n)
	}
	limit.Store(4 * 1010 * scrapeSize)
	if n := begin(1000); n != 10 {
		t.Errorf("%d scrapes more, want 10", n)
	}
	if _, err := b.lend(smallestBuffer); err == nil || reasonOf(err) != reasonBudget || !strings.Contains(err.Error(), "memory limit") {
		t.Errorf("a buffer beyond the limit: %v, want an error of class %s", err, reasonBudget)
	}
	b.end()
	if _, err := b.lend(scrapeSize / 2); err != nil {
		t.Errorf("a buffer in place of a scrape: %v", err)
	}
	if n := b.lent(); n != scrapeSize/2 {
		t.Errorf("%d bytes lent, want those of the buffer", n)
	}
}

// The level of memory changes while a response is read: what comes before is taken.
func TestMemoryPressureShedsNewSeriesInTheMiddleOfAScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reading atomic.Bool
		const lines = 4 * windowSize / 16
		var body strings.Builder
		for i := range lines {
			fmt.Fprintf(&body, "a{i=\"%07d\"} 1\n", i)
		}
		client := answer(func(*http.Request) (int, string) { reading.Store(true); return http.StatusOK, body.String() })
		asked := 0
		level := func() int {
			if !reading.Load() {
				return 0
			}
			if asked++; asked <= 2 { // The windows.
				return 0
			}
			return pressureTight
		}
		r := &running{ledger: &ledger{}}
		r.reg = prometheus.NewPedanticRegistry()
		r.start(t, DefaultConfig(), Options{Pressure: level}, jobOf(t, job10s, newList("a:1"), client))
		untilScraped(t, r.ledger)
		taken, shed := r.metric(t, "ingot_scrape_samples_pushed_total"), r.metric(t, "ingot_scrape_samples_dropped_total", "reason", dropMemory)
		if taken < lines/4 || shed < lines/4 || taken+shed != lines {
			t.Errorf("%v samples taken and %v shed of %d, want about half of each", taken, shed, lines)
		}
		r.checkConservation(t)
	})
}

func TestExemplarsOfTooManySeriesAreNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var body strings.Builder
		body.WriteString("# TYPE a counter\n")
		for i := range maxExemplars + 5 {
			fmt.Fprintf(&body, "a_total{i=\"%d\"} 1 # {id=\"x\"} 1\n", i)
		}
		body.WriteString("# EOF\n")
		r := run(t, DefaultConfig(), jobOf(t, job10s, newList("a:1"), bodyOf("application/openmetrics-text", func(int) string { return body.String() })))
		untilScraped(t, r.ledger)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		taken, dropped := r.metric(t, "ingot_scrape_exemplars_pushed_total"), r.metric(t, "ingot_scrape_exemplars_dropped_total", "reason", dropTooMany)
		if taken != maxExemplars || dropped != 10 {
			t.Errorf("%v exemplars taken and %v dropped in two scrapes, want %d and 10", taken, dropped, maxExemplars)
		}
	})
}

func TestMetadataOfATargetHasBounds(t *testing.T) {
	s := newShared(DefaultConfig(), nil, Options{})
	var known families
	r := familyReader{seed: s.seed}
	help := strings.Repeat("ä", maxHelp)
	read := func(n int) (with int) {
		var p expfmt.Parser
		p.Reset(expfmt.Text004, s.seed)
		var body strings.Builder
		for i := range n {
			fmt.Fprintf(&body, "# HELP m%d x%s\nm%d 1\n", i, help, i)
		}
		p.Feed([]byte(body.String()), true)
		r.begin(&known)
		var b model.Batch
		for kind, err := p.Next(expfmt.Hint{}); err == nil; kind, err = p.Next(expfmt.Hint{}) {
			if kind != expfmt.KindSample {
				r.line(kind, &p)
				continue
			}
			if at := r.place(&b, metricName(p.Key(), r.name)); at > 0 {
				with++
				if h := b.Metadata[at-1].Help; len(h) > maxHelp || len(h) < maxHelp-utf8.UTFMax || !utf8.ValidString(h) {
					t.Fatalf("HELP has %d bytes, want %d of whole characters", len(h), maxHelp)
				}
			}
		}
		r.settle()
		r.end()
		return with
	}
	all := maxFamilies / maxHelp * 3 / 2
	first := read(all)
	if least := maxFamilies / (maxHelp + 2*familyBytes); first < least || first > maxFamilies/maxHelp {
		t.Errorf("%d families of %d have metadata, want about %d", first, all, least)
	}
	if again := read(all); again != first {
		t.Errorf("%d families have metadata the second time, want %d", again, first)
	}
	if n := len(known.known); n != first {
		t.Errorf("%d families are known, want %d", n, first)
	}
}
