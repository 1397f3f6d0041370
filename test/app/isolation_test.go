package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// broken is a destination that takes nothing, and what its status must say.
type broken struct {
	name      string
	url       string // "" is that of a receiver with the fault
	fault     kit.Fault
	state     string
	lastError string // part of it
}

// nobody is an address where connections are refused. A port that was free a moment ago would
// soon belong to one of the receivers of this test.
const nobody = "127.0.0.1:1"

// brokenDestinations returns one destination for every way of taking nothing.
func brokenDestinations(path string) []broken {
	return []broken{
		{name: "unreachable", url: "http://" + nobody + path, state: "retrying", lastError: "connection refused"},
		{name: "misspelt", url: "http://mimir.invalid" + path, state: "retrying", lastError: "mimir.invalid"},
		{name: "notls", url: "https://HOST" + path, state: "retrying", lastError: "TLS"},
		{name: "wrongpath", url: "http://HOST/somewhere/else", state: "misconfigured", lastError: "404 page not found"},
		{name: "hanging", fault: kit.Fault{Hang: true}, state: "ok"}, // until the request times out
		{name: "unauthorized", fault: kit.Fault{Status: 401, Body: "no such user"}, state: "paused", lastError: "no such user"},
		{name: "forbidden", fault: kit.Fault{Status: 403, Body: "not your tenant"}, state: "paused", lastError: "not your tenant"},
		{name: "throttling", fault: kit.TooMany("60"), state: "retrying", lastError: "429"},
		{name: "failing", fault: kit.Fault{Status: 503, Body: "ring has no instances"}, state: "retrying", lastError: "ring has no instances"},
		{name: "refusing", fault: kit.Fault{Status: 400, Body: "label value too long"}, state: "refusing", lastError: "label value too long"},
	}
}

// R17, R18, R24, R25, R27, L37, P20: destinations that are unreachable, misspelt, wrong or
// refusing are states of their own, in the backend's words. The process runs on, and the two
// good destinations get everything without delay.
func TestR27BrokenDestinationsDisturbNobody(t *testing.T) {
	t.Parallel()
	mimir, loki := kit.StartMetrics(t, kit.MetricsConfig{}), kit.StartLogs(t, kit.LogsConfig{})
	want := make(map[string]broken)
	var destinations []string
	for _, b := range brokenDestinations(kit.MetricsPath) {
		bad := kit.StartMetrics(t, kit.MetricsConfig{})
		bad.Faults.Set(b.fault)
		if b.url = strings.Replace(b.url, "HOST", bad.Addr(), 1); b.url == "" {
			b.url = bad.PushURL()
		}
		destinations = append(destinations, prometheusTo("m-"+b.name, b.url))
		want["m-"+b.name] = b
	}
	for _, b := range brokenDestinations(kit.LogsPath) {
		bad := kit.StartLogs(t, kit.LogsConfig{})
		bad.Faults.Set(b.fault)
		if b.url = strings.Replace(b.url, "HOST", bad.Addr(), 1); b.url == "" {
			b.url = bad.PushURL()
		}
		destinations = append(destinations, lokiTo("l-"+b.name, b.url))
		want["l-"+b.name] = b
	}
	// The good ones come last, behind all the others.
	destinations = append(destinations, prometheusTo("good-metrics", mimir.PushURL()), lokiTo("good-logs", loki.PushURL()))

	all := targets(t, 2, 3)
	tree := kit.NewPodLogWriter(t, t.TempDir())
	container := tree.Pod("shop", "cart").Container("main")
	container.Write(10)
	p := kit.Start(t, kit.ProcessConfig{Config: config(destinations, []string{scrapeJob("app", all)}, podLogs(tree.Dir))})

	kit.Eventually(t, soon, "the state of every destination", func() error {
		have, err := queues(p)
		if err != nil {
			return err
		}
		for name, b := range want {
			q := have[name]
			if q.State != b.state || !strings.Contains(q.LastError, b.lastError) {
				return fmt.Errorf("%s is %q with error %q, want %q with %q", name, q.State, q.LastError, b.state, b.lastError)
			}
		}
		for _, name := range []string{"good-metrics", "good-logs"} {
			if q := have[name]; q.State != "ok" || q.LastError != "" || q.Sent.Items == 0 {
				return fmt.Errorf("%s is %+v", name, q)
			}
		}
		return nil
	})

	// Now everything that can hold up anything does.
	worst := time.Duration(0)
	for range 5 {
		began := time.Now()
		container.Write(100)
		waitLines(t, tree, loki)
		worst = max(worst, time.Since(began))
		for _, target := range all {
			if err := target.WaitScrapes(t.Context(), soon, 1); err != nil {
				t.Fatal(err)
			}
		}
		began = time.Now()
		waitScrapes(t, all, mimir, before(began))
		worst = max(worst, time.Since(began))
	}
	t.Logf("slowest arrival %s", worst.Round(time.Millisecond))
	if most := 2 * time.Second; worst > most {
		t.Errorf("with broken destinations beside it the slowest arrival took %s, want at most %s", worst, most)
	}
	if repeated := resent(mimir.Requests()) + resent(loki.Requests()); repeated > 0 {
		t.Errorf("%d requests to good destinations were sent twice", repeated)
	}
	waitBalance(t, p)

	// What the refusing destination does not take is counted, and does not come back.
	have, err := queues(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"m-refusing", "l-refusing"} {
		if q := have[name]; q.Dropped["rejected"].Items == 0 || q.Sent.Items != 0 {
			t.Errorf("%s: dropped %v, sent %d", name, q.Dropped, q.Sent.Items)
		}
	}
	if code, took := p.Stop(); code != 0 || took > stopLimit {
		t.Errorf("exit code %d after %s, want 0 within %s", code, took, stopLimit)
	}
}
