package app_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// stopLimit is how long a stop may take whatever the backends do.
const stopLimit = 10 * time.Second

// upBackend is the state in which nothing may even be repeated.
const upBackend = "R01 up"

// backend is a state of both backends in which the program is told to stop.
type backend struct {
	name  string
	fault kit.Fault
	down  bool
}

// R1, R2, R11, L32, P6: a signal under each state of the backends. The exit code is 0 within
// ten seconds, and after a start with healthy backends everything has arrived.
func TestStopLosesNothingWhateverTheBackendsDo(t *testing.T) {
	t.Parallel()
	for i, state := range []backend{
		{name: upBackend},
		{name: "slow", fault: kit.Slow(500 * time.Millisecond)},
		{name: "R02 refusing connections", down: true},
		{name: "500", fault: kit.Answer(500)},
		{name: "429 for a minute", fault: kit.TooManyFor(time.Minute)},
		{name: "hanging", fault: kit.Fault{Hang: true}},
		{name: "cutting before it stores", fault: kit.Fault{CutBefore: true}},
		{name: "cutting after it stored", fault: kit.Fault{CutAfter: true}},
		{name: "trickling the answer", fault: kit.Fault{Trickle: 100 * time.Millisecond}},
		{name: "401", fault: kit.Answer(401)},
		{name: "404", fault: kit.Answer(404)},
	} {
		// Both signals take turns over the states, and both are tried with healthy backends.
		signals := []os.Signal{[]os.Signal{syscall.SIGTERM, syscall.SIGINT}[i%2]}
		if state.name == upBackend {
			signals = []os.Signal{syscall.SIGTERM, syscall.SIGINT}
		}
		for _, sig := range signals {
			t.Run(fmt.Sprintf("%s/%s", state.name, sig), func(t *testing.T) {
				t.Parallel()
				testStop(t, state, sig)
			})
		}
	}
}

func testStop(t *testing.T, state backend, sig os.Signal) {
	t.Helper()
	mimir, loki := kit.StartMetrics(t, kit.MetricsConfig{}), kit.StartLogs(t, kit.LogsConfig{})
	all := targets(t, 2, 3)
	tree, stopWriting := startTree(t, 100, 2)
	cfg := kit.ProcessConfig{Config: config(
		[]string{prometheusTo("metrics", mimir.PushURL()), lokiTo("logs", loki.PushURL())},
		[]string{scrapeJob("app", all)}, podLogs(tree.Dir),
	)}
	p := kit.Start(t, cfg)
	// Some was delivered before, so that the stop meets both what is sent and what is not.
	kit.Eventually(t, soon, "the first lines and samples", func() error {
		if len(loki.Lines("", "")) == 0 || len(mimir.Samples("", all[0].Selector())) == 0 {
			return fmt.Errorf("%d requests with samples, %d with lines", len(mimir.Requests()), len(loki.Requests()))
		}
		return nil
	})
	mimir.Faults.Set(state.fault)
	loki.Faults.Set(state.fault)
	if state.down {
		mimir.Down()
		loki.Down()
	}
	for _, target := range all {
		if err := target.WaitScrapes(t.Context(), soon, 3); err != nil {
			t.Fatal(err)
		}
	}

	began := time.Now()
	if err := p.Signal(sig); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*stopLimit)
	defer cancel()
	code, err := p.Wait(ctx)
	took := time.Since(began)
	t.Logf("%s, backends %s: exit code %d after %s", sig, state.name, code, took.Round(time.Millisecond))
	if err != nil || code != 0 || took > stopLimit {
		t.Errorf("exit code %d after %s (%v), want 0 within %s", code, took, err, stopLimit)
	}

	stopWriting()
	mimir.Faults.Clear()
	loki.Faults.Clear()
	if state.down {
		if err := mimir.Up(); err != nil {
			t.Fatal(err)
		}
		if err := loki.Up(); err != nil {
			t.Fatal(err)
		}
	}
	p = p.Again(t)
	samples := waitScrapes(t, all, mimir, before(began))
	lines := waitLines(t, tree, loki)
	t.Logf("repeated: %d samples, %d lines", samples, lines)
	if state.fault == (kit.Fault{}) && !state.down && samples+lines+resent(mimir.Requests())+resent(loki.Requests()) > 0 {
		t.Errorf("%d samples and %d lines repeated with healthy backends, want none", samples, lines)
	}
	for _, s := range mimir.Disorder() {
		t.Errorf("out of order: %+v", s)
	}
	waitBalance(t, p)
	if code, took := p.Stop(); code != 0 || took > stopLimit {
		t.Errorf("last stop: exit code %d after %s", code, took)
	}
}

// A second signal ends a stop that takes too long for somebody. It costs no more than a
// SIGKILL: lines wait in their files, and with `durability: always` scrapes on disk.
func TestSecondSignalEndsAtOnceAndLosesNothing(t *testing.T) {
	t.Parallel()
	mimir, loki := kit.StartMetrics(t, kit.MetricsConfig{}), kit.StartLogs(t, kit.LogsConfig{})
	mimir.Faults.Set(kit.Fault{Hang: true})
	loki.Faults.Set(kit.Fault{Hang: true})
	all := targets(t, 1, 3)
	tree, stop := startTree(t, 100, 1)
	p := kit.Start(t, kit.ProcessConfig{Config: config(
		[]string{prometheusTo("metrics", mimir.PushURL()), lokiTo("logs", loki.PushURL())},
		[]string{scrapeJob("app", all)}, podLogs(tree.Dir), "data: {durability: always}",
	)})
	if err := all[0].WaitScrapes(t.Context(), soon, 3); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	check(t, p.Signal(syscall.SIGTERM))
	kit.Eventually(t, soon, "the stop", func() error {
		if !strings.Contains(p.Log(), "msg=stopping") {
			return errors.New("not logged yet")
		}
		return nil
	})
	check(t, p.Signal(syscall.SIGTERM))
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if code, err := p.Wait(ctx); err != nil || code != 130 || time.Since(began) > 3*time.Second {
		t.Errorf("exit code %d after %s (%v), want 130 at once", code, time.Since(began), err)
	}
	mimir.Faults.Clear()
	loki.Faults.Clear()
	stop()
	p = p.Again(t)
	waitScrapes(t, all, mimir, before(began))
	waitLines(t, tree, loki)
	waitBalance(t, p)
}
