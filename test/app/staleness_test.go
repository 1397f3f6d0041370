package app_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// ends checks of every series that a selector matches whether it ends with a stale marker.
func ends(r *kit.MetricsReceiver, selector string, series int, stale bool) error {
	found := r.Series("", selector)
	if len(found) != series {
		return fmt.Errorf("%s matches %d series, want %d", selector, len(found), series)
	}
	for _, s := range found {
		if last := s.Samples[len(s.Samples)-1]; last.Stale() != stale {
			return fmt.Errorf("%s ends with %v, stale marker wanted: %t", s.Labels, last, stale)
		}
	}
	return nil
}

// A series that vanishes, and all series of a target that goes down, end with one marker; up
// is 0 then. What comes back goes on. At a stop nothing is marked: the collector ends, not
// the target, and it may be back in a moment.
func TestStaleMarkersComeWhenSeriesEndAndNotAtAStop(t *testing.T) {
	t.Parallel()
	for _, message := range []kit.Message{kit.Message1, kit.Message2} {
		t.Run(string(message), func(t *testing.T) {
			t.Parallel()
			testStaleMarkers(t, message)
		})
	}
}

func testStaleMarkers(t *testing.T, message kit.Message) {
	t.Helper()
	mimir := kit.StartMetrics(t, kit.MetricsConfig{Messages: []kit.Message{message}})
	all := targets(t, 2, 5)
	target, other := all[0], all[1]
	p := kit.Start(t, kit.ProcessConfig{Config: config(
		[]string{prometheusTo("metrics", mimir.PushURL(), "protobuf_message: "+string(message))}, []string{scrapeJob("app", all)},
	)})
	seq := func(target *kit.Target, series string) string {
		return fmt.Sprintf("seq{instance=%q,i=~%q}", target.Addr(), series)
	}
	up := func(target *kit.Target) string { return fmt.Sprintf("up{instance=%q}", target.Addr()) }
	wait := func(what string, check func() error) { kit.Eventually(t, soon, what, check) }
	upIs := func(v float64) error {
		last, err := mimir.Last("", up(target))
		if err == nil && last.V != v {
			err = fmt.Errorf("up is %g, want %g", last.V, v)
		}
		return err
	}

	wait("all series", func() error { return ends(mimir, seq(target, ".*"), 5, false) })
	target.SetSeries(3)
	wait("markers of the vanished series", func() error { return ends(mimir, seq(target, "3|4"), 2, true) })
	if err := ends(mimir, seq(target, "0|1|2"), 3, false); err != nil {
		t.Error(err)
	}
	target.Down()
	wait("markers of a target that is down", func() error { return ends(mimir, seq(target, "0|1|2"), 3, true) })
	wait("up of a target that is down", func() error { return upIs(0) })
	if err := target.Up(); err != nil {
		t.Fatal(err)
	}
	wait("samples of a target that is back", func() error { return ends(mimir, seq(target, "0|1|2"), 3, false) })
	wait("up of a target that is back", func() error { return upIs(1) })
	target.SetMode(kit.ModeGarbage)
	wait("markers of a target that talks nonsense", func() error { return ends(mimir, seq(target, "0|1|2"), 3, true) })
	wait("up of a target that talks nonsense", func() error { return upIs(0) })
	target.SetMode(kit.ModeHonest)
	wait("samples of a target that makes sense again", func() error { return ends(mimir, seq(target, "0|1|2"), 3, false) })
	for _, s := range mimir.Series("", seq(target, ".*")) {
		before := false
		for _, sample := range s.Samples {
			if sample.Stale() && before {
				t.Errorf("%s has two markers in a row", s.Labels)
			}
			before = sample.Stale()
		}
	}

	// The other target was well all the time: no marker.
	for _, s := range mimir.Series("", seq(other, ".*")) {
		for _, sample := range s.Samples {
			if sample.Stale() {
				t.Errorf("%s has a marker", s.Labels)
			}
		}
	}
	if code, took := p.Stop(); code != 0 {
		t.Fatalf("exit code %d after %s", code, took)
	}
	if err := ends(mimir, seq(target, "0|1|2"), 3, false); err != nil {
		t.Errorf("after the stop: %v", err)
	}
	for _, selector := range []string{seq(other, ".*"), up(other), fmt.Sprintf("{instance=%q,__name__=~\"scrape_.*\"}", other.Addr())} {
		if found := mimir.Series("", selector); len(found) == 0 {
			t.Errorf("%s matches nothing", selector)
		} else if err := ends(mimir, selector, len(found), false); err != nil {
			t.Errorf("after the stop: %v", err)
		}
	}

	// A restart goes on as if nothing had been.
	markers := count(mimir)
	p = p.Again(t)
	if err := other.WaitScrapes(t.Context(), soon, 3); err != nil {
		t.Fatal(err)
	}
	waitScrapes(t, all[1:], mimir, before(time.Now()))
	if more := count(mimir); more != markers {
		t.Errorf("a restart made %d markers", more-markers)
	}
	waitBalance(t, p)
}

// count returns how many stale markers have arrived.
func count(r *kit.MetricsReceiver) int {
	n := 0
	for _, s := range r.Series("", `{__name__=~".+"}`) {
		for _, sample := range s.Samples {
			if sample.Stale() {
				n++
			}
		}
	}
	return n
}
