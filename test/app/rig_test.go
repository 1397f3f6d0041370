package app_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// rig is what most scenarios of remote write need: one backend, some targets, one process
// between them, whose only destination is called metrics.
type rig struct {
	mimir *kit.MetricsReceiver
	all   []*kit.Target
	p     *kit.Process
}

// rigConfig says how a rig is put together.
type rigConfig struct {
	receiver        kit.MetricsConfig
	targets, series int
	keys            []string // of the destination, each `key: value`
	blocks          []string // further top-level blocks of the configuration
}

func newRig(t *testing.T, cfg rigConfig) *rig {
	t.Helper()
	r := &rig{mimir: kit.StartMetrics(t, cfg.receiver), all: targets(t, cfg.targets, cfg.series)}
	r.p = kit.Start(t, kit.ProcessConfig{Config: config(
		[]string{prometheusTo("metrics", r.mimir.PushURL(), cfg.keys...)}, []string{scrapeJob("app", r.all)}, cfg.blocks...,
	)})
	return r
}

// queue returns the state of the destination.
func (r *rig) queue(t *testing.T) queue {
	t.Helper()
	have, err := queues(r.p)
	if err != nil {
		t.Fatal(err)
	}
	return have["metrics"]
}

// until waits for a state of the destination.
func (r *rig) until(t *testing.T, what string, check func(queue) bool) queue {
	t.Helper()
	return untilQueue(t, r.p, "metrics", what, check)
}

func untilQueue(t *testing.T, p *kit.Process, name, what string, check func(queue) bool) queue {
	t.Helper()
	var q queue
	kit.Eventually(t, soon, what, func() error {
		have, err := queues(p)
		if err != nil {
			return err
		}
		if q = have[name]; !check(q) {
			return fmt.Errorf("%+v", q)
		}
		return nil
	})
	return q
}

// scrapes waits for n more scrapes of every target.
func (r *rig) scrapes(t *testing.T, n int) {
	t.Helper()
	errs := make([]error, len(r.all))
	var wg sync.WaitGroup
	for i, target := range r.all {
		wg.Go(func() { errs[i] = target.WaitScrapes(t.Context(), soon, n) })
	}
	wg.Wait()
	check(t, errors.Join(errs...))
}

// outage takes the backend away for n scrapes of every target.
func (r *rig) outage(t *testing.T, n int) {
	t.Helper()
	r.mimir.Down()
	r.scrapes(t, n)
	check(t, r.mimir.Up())
}

// complete waits until all that was scraped so far has arrived, and fails when something was
// dropped, came out of order or from nowhere, or does not add up. It returns how many samples
// arrived more than once.
func (r *rig) complete(t *testing.T) int {
	t.Helper()
	repeated := waitScrapes(t, r.all, r.mimir, before(time.Now()))
	if q := r.queue(t); len(q.Dropped) > 0 {
		t.Errorf("dropped %v, want nothing", q.Dropped)
	}
	for _, s := range r.mimir.Disorder() {
		t.Errorf("out of order: %+v", s)
	}
	waitBalance(t, r.p)
	return repeated
}

// faulty returns the requests from the first that met a fault.
func faulty(requests []kit.Request) []kit.Request {
	for len(requests) > 0 && requests[0].Fault == (kit.Fault{}) {
		requests = requests[1:]
	}
	return requests
}

// waitRequests waits until the backend has met n requests since the first fault, it included.
func (r *rig) waitRequests(t *testing.T, n int) []kit.Request {
	t.Helper()
	var met []kit.Request
	kit.Eventually(t, soon, fmt.Sprintf("%d requests since the first fault", n), func() error {
		if met = faulty(r.mimir.Requests()); len(met) < n {
			return fmt.Errorf("%d requests", len(met))
		}
		return nil
	})
	return met
}

// stored returns how many samples the backend holds, of whatever series, and how many of them
// came again.
func stored(r *kit.MetricsReceiver) (samples, repeated int64) {
	for _, s := range r.Series("", `{__name__=~".+"}`) {
		samples += int64(len(s.Samples) + len(s.Histograms))
		repeated += int64(len(s.Repeated))
	}
	return samples, repeated
}
