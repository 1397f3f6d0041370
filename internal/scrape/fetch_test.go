package scrape

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/httpclient"
)

// single is a loop that the test drives by hand, against real sockets.
type single struct {
	*loop
	*ledger
	r *running
}

func newSingle(t testing.TB, cfg Config, job, address string) *single {
	t.Helper()
	j := jobOf(t, job, newList(), nil)
	client, err := httpclient.NewScraper(j.Config.HTTPClientConfig, httpclient.TLS{}, "test", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	j.Client = client
	t.Cleanup(client.CloseIdleConnections)
	r := &running{ledger: &ledger{}, reg: prometheus.NewPedanticRegistry()}
	r.Manager = New(cfg, slog.New(slog.DiscardHandler), r.reg, r.ledger, Options{Version: "1.2.3"}, []Job{j})
	p := r.pools[0]
	tgt, err := newTarget(labels.NewBuilder(labels.EmptyLabels()), p.cfg, labels.FromStrings("__address__", address))
	if err != nil {
		t.Fatal(err)
	}
	tgt.addExternal(p.shared.external)
	m := newLabelMaker()
	l := newLoop(p, tgt, &m)
	p.loops[tgt.id] = l
	return &single{l, r.ledger, r}
}

// once scrapes and returns what was pushed.
func (s *single) once(t testing.TB) string {
	t.Helper()
	s.scrape(t.Context(), time.Now())
	b := s.take()
	if len(b) != 1 {
		t.Fatalf("%d batches from one scrape, want 1", len(b))
	}
	return brief(b[0])
}

func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func zipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestHostileTargetsFailWithANamedReason(t *testing.T) {
	bomb := zipped(t, bytes.Repeat([]byte("m 1\n"), 8<<20))
	const closed = "127.0.0.1:1" // No server has this port, and no other test is given it.
	tlsServer := httptest.NewUnstartedServer(http.NotFoundHandler())
	tlsServer.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	tlsServer.StartTLS()
	t.Cleanup(tlsServer.Close)
	text := func(contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, _ = io.WriteString(w, body)
		}
	}
	good := "good 1\n"
	endless := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, strings.Repeat(good, 1000)); err != nil {
				return
			}
		}
	}
	for _, c := range []struct {
		name    string
		job     string
		address string
		handler http.HandlerFunc
		reason  string
		text    string // Part of the error.
	}{
		{name: "refused", address: closed, reason: "connection_refused", text: "connection refused"},
		{name: "dns", address: "no-such-host.invalid:80", reason: "dns", text: "no-such-host.invalid"},
		{name: "tls to plain", job: "scheme: https", handler: text("", good), reason: "tls", text: "gave HTTP response to HTTPS"},
		{name: "unknown authority", job: "scheme: https", address: tlsServer.Listener.Addr().String(), reason: "tls", text: "certificate"},
		{name: "no password", job: "basic_auth: {username: a, password_file: /no/such/password}", reason: "file", text: "open /no/such/password: no such file"},
		{name: "status", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, good)
		}, reason: "status", text: "server returned HTTP status 500 Internal Server Error"},
		{name: "html", handler: text("text/html", "<!DOCTYPE html>\n<html>"), reason: "parse", text: `line 1: expected a metric name, found "<!DOCTYPE"`},
		{name: "html late", handler: text("text/plain", good+"<html>"), reason: "parse", text: `line 2: expected a metric name, found "<html>"`},
		{name: "garbage", handler: text("application/octet-stream", "\x1f\x8b\x08\xff"), reason: "parse", text: "line 1: expected a metric name"},
		{name: "openmetrics without an end", handler: text("application/openmetrics-text; version=1.0.0", good), reason: "parse", text: "does not end with # EOF"},
		{name: "text as protobuf", handler: text("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited", good), reason: "parse", text: "insufficient length of buffer"},
		{name: "endless", job: "body_size_limit: 1MiB", handler: endless, reason: "body_size_limit", text: "body_size_limit exceeded: the response has more than 1MiB"},
		{name: "declared too large", job: "body_size_limit: 1MiB", handler: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "99999999999") }, reason: "body_size_limit", text: "more than 1MiB"},
		{name: "trickle", job: "scrape_timeout: 200ms, scrape_interval: 1s", handler: func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, good)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, reason: "timeout", text: "no whole answer within the scrape timeout of 200ms (7 bytes read)"},
		{name: "silent", job: "scrape_timeout: 200ms, scrape_interval: 1s", handler: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, reason: "timeout", text: "(0 bytes read)"},
		{name: "redirect loop", handler: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }, reason: "redirect", text: "follow redirects: stopped after 10 redirects"},
		{name: "redirect not followed", job: "follow_redirects: false", handler: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }, reason: "status", text: "302 Found"},
		{name: "gzip bomb", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb)
		}, reason: "body_size_limit", text: "more than 200 times its size"},
		{name: "not gzip", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, good)
		}, reason: "encoding", text: "decompress the response: "},
		{name: "gzip cut off", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb[:1000])
		}, reason: "encoding", text: "unexpected EOF"},
		{name: "brotli", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			_, _ = io.WriteString(w, good)
		}, reason: "encoding", text: `content encoding is "br", which was not asked for`},
		{name: "header flood", handler: func(w http.ResponseWriter, _ *http.Request) {
			for i := range 100 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 1000))
			}
			_, _ = io.WriteString(w, good)
		}, reason: "header_limit", text: "limit is 65536"},
		{name: "cut off", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, good)
			_ = http.NewResponseController(w).Flush()
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = conn.Close()
			}
		}, reason: "network", text: "read the response: unexpected EOF"},
		{name: "many labels", handler: text("", "good{"+strings.Repeat("a=\"b\",", 100_000)+"} 1\n"), reason: "label_limit", text: "has 100001 labels"},
		{name: "long value", handler: text("", "good{a=\""+strings.Repeat("x", 1<<20)+"\"} 1\n"), reason: "label_limit", text: "has 1048576 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.address == "" {
				c.address = serve(t, c.handler)
			}
			s := newSingle(t, DefaultConfig(), strings.TrimSuffix("{job_name: j, "+c.job, ", ")+"}", c.address)
			got := s.once(t)
			if !strings.HasSuffix(got, "; up 0") || strings.Contains(got, "good") {
				t.Errorf("pushed %s, want report series with up 0 only", got)
			}
			st := s.status()
			if st.Health != HealthDown || st.Reason != c.reason || !strings.Contains(st.Error, c.text) {
				t.Errorf("status %s, reason %s, error %s\nwant down, %s, ...%s...", st.Health, st.Reason, st.Error, c.reason, c.text)
			}
			if n := s.r.metric(t, "ingot_scrape_failures_total", "reason", c.reason); n != 1 {
				t.Errorf("%v failures counted as %s, want 1", n, c.reason)
			}
			s.r.checkConservation(t)
			s.pool.shared.fetcher.buffers.mu.Lock()
			defer s.pool.shared.fetcher.buffers.mu.Unlock()
			if s.pool.shared.fetcher.buffers.held != 0 {
				t.Errorf("%d bytes still count as in flight after the scrape", s.pool.shared.fetcher.buffers.held)
			}
		})
	}
}

func TestRequestsSayWhatPrometheusSays(t *testing.T) {
	var got http.Header
	var path string
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got, path = r.Header, r.RequestURI
		_, _ = io.WriteString(w, "m 1\n")
	})
	f := func(job, wantPath string, want http.Header) {
		t.Helper()
		s := newSingle(t, DefaultConfig(), job, address)
		if b := s.once(t); !strings.HasSuffix(b, "up 1") {
			t.Errorf("%s: pushed %s", job, b)
		}
		if diff := cmp.Diff(want, got); diff != "" || path != wantPath {
			t.Errorf("%s: asked for %s, want %s; headers (-want +got):\n%s", job, path, wantPath, diff)
		}
	}
	f("{job_name: j}", "/metrics", http.Header{
		"Accept": {"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5," +
			"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"}, "Accept-Encoding": {"identity"},
		"User-Agent": {"Ingot/1.2.3"}, "X-Prometheus-Scrape-Timeout-Seconds": {"10"},
	})
	f(`{job_name: j, scrape_timeout: 1500ms, enable_compression: true, scrape_protocols: [PrometheusText1.0.0, PrometheusText0.0.4],
	  metrics_path: /probe, params: {module: [http], target: [a, "b c"]}, basic_auth: {username: u, password: p}}`, "/probe?module=http&target=a&target=b+c", http.Header{
		"Accept": {"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.4"}, "Accept-Encoding": {"gzip"},
		"User-Agent": {"Ingot/1.2.3"}, "X-Prometheus-Scrape-Timeout-Seconds": {"1.5"}, "Authorization": {"Basic dTpw"},
	})
}

func TestResponsesOfAnySizeAndEncodingAreRead(t *testing.T) {
	var want int
	var body []byte
	compress := false
	address := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if compress {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(zipped(t, body))
			return
		}
		_, _ = w.Write(body)
	})
	s := newSingle(t, DefaultConfig(), "{job_name: j}", address)
	for _, n := range []int{1, 100, 1637, 1638, 1639, 3, 20_000} {
		for _, compress = range []bool{false, true} {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, "m{i=\"%d\"} 1\n", i)
			}
			body, want = []byte(b.String()), n
			s.once(t)
			if st := s.status(); st.Health != HealthUp || st.Samples != want || st.Bytes != len(body) || st.Series != n {
				t.Errorf("%d lines, gzip %v: status %+v", n, compress, st)
			}
		}
	}
	s.r.checkConservation(t)
}

func TestBodiesInFlightAreBounded(t *testing.T) {
	big := strings.Repeat("m 1\n", 100_000)
	address := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, big) })
	cfg := DefaultConfig()
	cfg.MaxBodiesInFlight, cfg.BodySizeLimit = 600_000, 500_000
	s := newSingle(t, cfg, "{job_name: j}", address)
	other, err := s.pool.shared.fetcher.buffers.lend(400_000)
	if err != nil {
		t.Fatal(err)
	}
	if s.once(t); s.status().Reason != "body_budget" {
		t.Errorf("status %+v while another response fills the budget, want body_budget", s.status())
	}
	s.pool.shared.fetcher.buffers.giveBack(other)
	if s.once(t); s.status().Health != HealthUp {
		t.Errorf("status %+v with room, want up", s.status())
	}
}
