package kit

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// seqBody is a remote write of seq n at a time of its own.
func seqBody(t *testing.T, n int64) []byte {
	t.Helper()
	req := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{series(time.Now().UnixMilli()+n, float64(n), "__name__", "seq")}}
	raw, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, raw)
}

func TestFaultsRefuseWithoutStoring(t *testing.T) {
	r := StartMetrics(t, MetricsConfig{})
	when := time.Now().Add(time.Minute)
	r.Faults.Script(Answer(500), Answer(503), Answer(400), Answer(401), Answer(413),
		TooManyFor(30*time.Second), TooManyUntil(when), Fault{Status: 500, Body: "own words"}, Fault{})
	for i, want := range []struct {
		status int
		retry  string
		text   string
	}{
		{status: 500},
		{status: 503},
		{status: 400},
		{status: 401},
		{status: 413},
		{status: 429, retry: "30"},
		{status: 429, retry: when.UTC().Format(http.TimeFormat)},
		{status: 500, text: "own words"},
		{status: 200},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.PushURL(), strings.NewReader(string(seqBody(t, int64(i)))))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-protobuf")
		req.Header.Set("Content-Encoding", "snappy")
		req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want.status || resp.Header.Get("Retry-After") != want.retry {
			t.Errorf("request %d: %d, Retry-After %q, want %+v", i, resp.StatusCode, resp.Header.Get("Retry-After"), want)
		}
		if got := r.Requests()[i].Answer; want.text != "" && got != want.text {
			t.Errorf("request %d answered %q, want %q", i, got, want.text)
		}
	}
	if got := r.IDs("", "seq"); len(got) != 1 || got[0] != 8 {
		t.Errorf("stored %v, want only the last", got)
	}
}

func TestFaultsCutTheConnectionBeforeAndAfterStoring(t *testing.T) {
	r := StartMetrics(t, MetricsConfig{})
	r.Faults.Script(Fault{CutBefore: true}, Fault{CutAfter: true})
	for n := range int64(2) {
		if status, _, err := post(t.Context(), r.PushURL(), "", seqBody(t, n)); err == nil {
			t.Errorf("request %d was answered with %d", n, status)
		}
	}
	if got := r.IDs("", "seq"); len(got) != 1 || got[0] != 1 {
		t.Errorf("stored %v, want only what was cut afterwards", got)
	}
}

func TestFaultsHangAndTrickleUntilTheClientLeaves(t *testing.T) {
	r := StartMetrics(t, MetricsConfig{})
	for n, fault := range []Fault{{Hang: true}, {Trickle: time.Millisecond}, Slow(time.Hour)} {
		r.Faults.Script(fault)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if status, _, err := post(ctx, r.PushURL(), "", seqBody(t, int64(n))); err == nil {
			t.Errorf("%+v was answered with %d", fault, status)
		}
		cancel()
	}
	// Down waits for every request being served: it returns only when none hangs any more.
	r.Down()
	if got := r.IDs("", "seq"); len(got) != 1 || got[0] != 1 {
		t.Errorf("stored %v, want only what trickled", got)
	}
}

func TestFaultsOfOneTenantLeaveTheOthersAlone(t *testing.T) {
	r := StartMetrics(t, MetricsConfig{})
	r.Faults.SetFor("a", TooMany("1"))
	now := time.Now().UnixMilli()
	for tenant, want := range map[string]int{"a": 429, "b": 200} {
		if status, _ := push(t, r, tenant, series(now, 1, "__name__", "up")); status != want {
			t.Errorf("tenant %s: %d, want %d", tenant, status, want)
		}
	}
	r.Faults.Set(Answer(503))
	if status, _ := push(t, r, "b", series(now+1, 1, "__name__", "up")); status != 503 {
		t.Errorf("tenant b: %d, want 503", status)
	}
	r.Faults.Clear()
	if status, _ := push(t, r, "a", series(now, 1, "__name__", "up")); status != 200 {
		t.Errorf("tenant a after Clear: %d", status)
	}
}

func TestServerKeepsItsPortAcrossDownAndUp(t *testing.T) {
	r := StartMetrics(t, MetricsConfig{})
	url := r.PushURL()
	r.Down()
	if _, _, err := post(t.Context(), url, "", seqBody(t, 1)); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("push while down: %v, want a refused connection", err)
	}
	if err := r.Up(); err != nil {
		t.Fatal(err)
	}
	if status, _, err := post(t.Context(), url, "", seqBody(t, 1)); err != nil || status != 200 {
		t.Errorf("push after Up: %d, %v", status, err)
	}
}

func TestProxyBreaksWhatPassesThrough(t *testing.T) {
	r := StartMetrics(t, MetricsConfig{})
	p := StartProxy(t, r.Addr())
	url := "http://" + p.Addr() + MetricsPath
	send := func(n int64) error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, _, err := post(ctx, url, "", seqBody(t, n))
		return err
	}
	if err := send(1); err != nil {
		t.Fatal(err)
	}
	if p.Passed() == 0 {
		t.Error("Passed() = 0 after a request")
	}
	p.Refuse(true)
	if err := send(2); err == nil {
		t.Error("a request passed while the proxy refuses")
	}
	p.Refuse(false)

	p.BlackHole(true)
	result := make(chan error, 1)
	go func() { result <- send(3) }()
	select {
	case err := <-result:
		t.Fatalf("a request passed the black hole: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	p.BlackHole(false)
	if err := <-result; err != nil {
		t.Errorf("the request after the black hole: %v", err)
	}

	r.Faults.Script(Fault{Hang: true})
	go func() { result <- send(4) }()
	Eventually(t, 5*time.Second, "the cut request ends", func() error {
		p.Cut()
		select {
		case err := <-result:
			if err == nil {
				t.Error("a request passed although it was cut")
			}
			return nil
		default:
			return context.DeadlineExceeded
		}
	})

	const hold = 60 * time.Millisecond
	p.Delay(hold)
	began := time.Now()
	if err := send(5); err != nil || time.Since(began) < 2*hold {
		t.Errorf("delayed request: %v after %s, want both ways delayed by %s", err, time.Since(began), hold)
	}
}
