package scrape

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/expfmt"
	"github.com/ingot-telemetry/ingot/internal/httpclient"
)

// answering is a transport that answers each request with a header and a body.
type answering func(req *http.Request) (http.Header, io.Reader)

func (a answering) RoundTrip(req *http.Request) (*http.Response, error) {
	h, body := a(req)
	return &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Header: h, Body: io.NopCloser(body), ContentLength: -1, Request: req}, nil
}

// asked returns a fetcher and the request of one target.
func asked(t testing.TB, cfg Config, job, address string) (*fetcher, *request) {
	t.Helper()
	var c JobConfig
	if err := config.Load([]byte(job), &c); err != nil {
		t.Fatal(err)
	}
	full := c.WithDefaults(cfg)
	f := newFetcher(cfg, Options{Version: "1.2.3"})
	parsing, err := parsingOptions(labels.NewBuilder(labels.EmptyLabels()), &full)
	if err != nil {
		t.Fatal(err)
	}
	ask, err := f.newRequest(&target{url: address, timeout: time.Duration(full.ScrapeTimeout), parsing: parsing}, &full)
	if err != nil {
		t.Fatal(err)
	}
	return f, ask
}

// lines reads a response as a parser of lines would and returns what it has consumed. most
// is the most bytes of buffers that were lent at a time.
func lines(f *fetcher, client *http.Client, ask *request) (text []byte, most int, err error) {
	var r response
	defer r.close()
	if _, err = f.open(context.Background(), client, ask, &r); err != nil {
		return nil, 0, err
	}
	for final := false; !final; {
		var window []byte
		if window, final, err = r.fill(); err != nil {
			return text, most, err
		}
		most = max(most, f.buffers.lent())
		n := bytes.LastIndexByte(window, '\n') + 1
		if final {
			n = len(window)
		}
		text = append(text, window[:n]...)
		r.consumed(n)
	}
	if r.size() != len(text) {
		err = fmt.Errorf("size is %d, want %d", r.size(), len(text))
	}
	return text, most, err
}

func TestResponsesPassThroughTheWindowUnchanged(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) // What compresses too well is refused.
	line := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = 'a' + byte(random.IntN(26))
		}
		b[n-1] = '\n'
		return string(b)
	}
	var long strings.Builder
	for i := range 60_000 {
		fmt.Fprintf(&long, "m{i=\"%d\"} 1\n", i)
	}
	for name, body := range map[string]string{
		"empty": "", "one line": "m 1\n", "no line end": "m 1\nm 2", "small buffer": line(smallestBuffer), "one more": line(smallestBuffer + 1),
		"window": line(windowSize), "one over": line(windowSize + 1), "many lines": long.String(),
		"lines longer than the window": line(10) + line(windowSize*3) + line(5) + line(windowSize) + line(windowSize*2) + "m 1\n",
	} {
		for how, reader := range map[string]func(io.Reader) io.Reader{
			"at once": func(r io.Reader) io.Reader { return r }, "with the end": iotest.DataErrReader, "in halves": iotest.HalfReader,
		} {
			for _, compress := range []bool{false, true} {
				h, sent := http.Header{}, []byte(body)
				if compress {
					h.Set("Content-Encoding", "gzip")
					sent = zipped(t, sent)
				}
				client := &http.Client{Transport: answering(func(*http.Request) (http.Header, io.Reader) { return h, reader(bytes.NewReader(sent)) })}
				f, ask := asked(t, DefaultConfig(), "{}", "http://a/")
				for range 2 { // The second knows the size of the first.
					got, most, err := lines(f, client, ask)
					if err != nil || string(got) != body {
						t.Errorf("%s %s, gzip %v: %d bytes, %v, want %d", name, how, compress, len(got), err, len(body))
					}
					if limit := windowSize + unzipperSize; most > limit && !strings.Contains(name, "long") && name != "one over" {
						t.Errorf("%s %s, gzip %v: %d bytes lent, want at most %d", name, how, compress, most, limit)
					}
					if f.buffers.lent() != 0 {
						t.Errorf("%s %s, gzip %v: %d bytes count as lent afterwards", name, how, compress, f.buffers.lent())
					}
				}
			}
		}
	}
}

func TestFormatsThatAreReadAsAWholeComeInOneWindow(t *testing.T) {
	body := strings.Repeat("x", 3*windowSize+17)
	f := func(job, contentType string, want int) {
		t.Helper()
		client := &http.Client{Transport: answering(func(*http.Request) (http.Header, io.Reader) {
			return http.Header{"Content-Type": {contentType}}, strings.NewReader(body)
		})}
		f, ask := asked(t, DefaultConfig(), job, "http://a/")
		var r response
		defer r.close()
		if _, err := f.open(t.Context(), client, ask, &r); err != nil {
			t.Fatal(err)
		}
		if window, final, err := r.fill(); len(window) != want || final != (want == len(body)) || err != nil {
			t.Errorf("%s %s: window of %d, final %v, %v, want %d", job, contentType, len(window), final, err, want)
		}
	}
	f("{}", "text/plain", windowSize)
	f("{}", "application/vnd.google.protobuf", len(body))
	f("{convert_classic_histograms_to_nhcb: true}", "text/plain", len(body))
}

// endless yields a line for ever and counts what was taken.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	const line = "endless_metric 1\n"
	for i := range p {
		p[i] = line[(e.n+i)%len(line)]
	}
	e.n += len(p)
	return len(p), nil
}

func TestNoResponseTakesMoreMemoryThanItsWindow(t *testing.T) {
	const limit = 32 << 20
	bomb := zipped(t, bytes.Repeat([]byte("m 1\n"), 1<<20))
	f := func(name, job string, h http.Header, body io.Reader, want string, most int) {
		t.Helper()
		client := &http.Client{Transport: answering(func(*http.Request) (http.Header, io.Reader) { return h, body })}
		f, ask := asked(t, DefaultConfig(), job, "http://a/")
		var r response
		defer r.close()
		if _, err := f.open(t.Context(), client, ask, &r); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		held := 0
		for {
			window, final, err := r.fill()
			held = max(held, f.buffers.lent())
			if err != nil || final {
				if err == nil || !strings.Contains(err.Error(), want) || reasonOf(err) != reasonBodyLimit {
					t.Errorf("%s: %v, want ...%s...", name, err, want)
				}
				break
			}
			r.consumed(bytes.LastIndexByte(window, '\n') + 1)
		}
		runtime.ReadMemStats(&after)
		if got := int(after.TotalAlloc - before.TotalAlloc); got > 2*most || held > most {
			t.Errorf("%s: %d bytes lent, %d allocated in all, want at most %d and twice that", name, held, got, most)
		}
	}
	f("endless", "{body_size_limit: 32MiB}", http.Header{}, &endless{}, "body_size_limit exceeded: the response has more than 32MiB", windowSize)
	f("endless line", "{body_size_limit: 1MiB}", http.Header{}, bytes.NewReader(bytes.Repeat([]byte("x"), limit)), "more than 1MiB", 3<<20)
	f("endless protobuf", "{body_size_limit: 1MiB}", http.Header{"Content-Type": {"application/vnd.google.protobuf"}}, &endless{}, "more than 1MiB", 3<<20)
	f("endless protobuf, unasked", "{}", http.Header{"Content-Type": {"application/vnd.google.protobuf"}}, &endless{}, "which scrape_protocols does not ask for, has more than 8MiB", 3*maxUnasked)
	f("bomb", "{}", http.Header{"Content-Encoding": {"gzip"}}, bytes.NewReader(bomb), "more than 200 times its size", windowSize+unzipperSize)
	f("bomb below the ratio", "{body_size_limit: 512KiB}", http.Header{"Content-Encoding": {"gzip"}}, bytes.NewReader(bomb), "more than 512KiB", windowSize+unzipperSize)
}

func TestALineMayBeLongButNotEndless(t *testing.T) {
	for size, want := range map[int]bool{longestEntry - 10: true, longestEntry + windowSize: false} {
		body := append(bytes.Repeat([]byte("x"), size), '\n')
		client := &http.Client{Transport: answering(func(*http.Request) (http.Header, io.Reader) { return http.Header{}, bytes.NewReader(body) })}
		f, ask := asked(t, DefaultConfig(), "{}", "http://a/")
		_, most, err := lines(f, client, ask)
		if (err == nil) != want || err != nil && reasonOf(err) != reasonLabelLimit {
			t.Errorf("a line of %d bytes: %v", size, err)
		}
		if most > 2*longestEntry {
			t.Errorf("a line of %d bytes took buffers of %d", size, most)
		}
	}
}

// TestAResponseOfTheLimitIsTaken differs from Prometheus, which refuses one that has exactly
// body_size_limit bytes.
func TestAResponseOfTheLimitIsTaken(t *testing.T) {
	const body = "m 1\nn 22\n"
	client := &http.Client{Transport: answering(func(*http.Request) (http.Header, io.Reader) { return http.Header{}, strings.NewReader(body) })}
	for limit, want := range map[int]bool{len(body): true, len(body) - 1: false} {
		f, ask := asked(t, DefaultConfig(), fmt.Sprintf("{body_size_limit: %dB}", limit), "http://a/")
		if _, _, err := lines(f, client, ask); (err == nil) != want {
			t.Errorf("%d bytes under a limit of %d: %v", len(body), limit, err)
		}
	}
}

func TestATricklingTargetHoldsASmallBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body, in := io.Pipe()
		defer in.Close()
		client := &http.Client{Transport: answering(func(req *http.Request) (http.Header, io.Reader) {
			context.AfterFunc(req.Context(), func() { body.CloseWithError(req.Context().Err()) })
			return http.Header{}, body
		})}
		f, ask := asked(t, DefaultConfig(), "{scrape_timeout: 5s}", "http://a/")
		ask.last = 10 << 20 // As if it had been a large target before.
		done := make(chan error)
		go func() {
			_, _, err := lines(f, client, ask)
			done <- err
		}()
		if _, err := io.WriteString(in, "good 1\n"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if f.buffers.lent() != smallestBuffer {
			t.Errorf("%d bytes lent for 7 that came, want %d", f.buffers.lent(), smallestBuffer)
		}
		start := time.Now()
		err := <-done
		if err == nil || reasonOf(err) != reasonTimeout || err.Error() != "no whole answer within the scrape timeout of 5s (7 bytes read)" {
			t.Errorf("%v, want a timeout with what was read", err)
		}
		if d := time.Since(start); d != 5*time.Second || f.buffers.lent() != 0 {
			t.Errorf("gave up after %s with %d bytes lent, want 5s and none", d, f.buffers.lent())
		}
	})
}

func TestResponsesInFlightShareABudget(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxBodiesInFlight = 2*windowSize - 1
	body := strings.Repeat("m 1\n", windowSize)
	client := &http.Client{Transport: answering(func(*http.Request) (http.Header, io.Reader) { return http.Header{}, strings.NewReader(body) })}
	f, ask := asked(t, cfg, "{}", "http://a/")
	other, err := f.buffers.lend(windowSize)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := lines(f, client, ask); err == nil || reasonOf(err) != reasonBudget {
		t.Errorf("%v while another response fills the budget, want one of class %s", err, reasonBudget)
	}
	f.buffers.giveBack(other)
	if _, _, err := lines(f, client, ask); err != nil {
		t.Errorf("%v with room, want none", err)
	}
}

func TestScrapesGoOnWithTheSameBuffers(t *testing.T) {
	body := strings.Repeat("metric_with_a_name{label=\"value\"} 1\n", 20_000)
	z := zipped(t, []byte(body))
	for _, compress := range []bool{false, true} {
		h, sent := http.Header{"Content-Type": {"text/plain; version=0.0.4"}}, []byte(body)
		if compress {
			h.Set("Content-Encoding", "gzip")
			sent = z
		}
		client := &http.Client{Transport: answering(func(*http.Request) (http.Header, io.Reader) { return h, bytes.NewReader(sent) })}
		f, ask := asked(t, DefaultConfig(), "{}", "http://a/")
		var r response
		scrape := func() {
			if _, err := f.open(t.Context(), client, ask, &r); err != nil {
				t.Fatal(err)
			}
			for final := false; !final; {
				var window []byte
				var err error
				if window, final, err = r.fill(); err != nil {
					t.Fatal(err)
				}
				r.consumed(len(window))
			}
			r.close()
		}
		scrape()
		// The request with its context, the timer, and what the transport of the test makes.
		if n := testing.AllocsPerRun(20, scrape); n > 16 {
			t.Errorf("gzip %v: a scrape allocates %v times, want at most 16", compress, n)
		}
	}
}

func TestTheFormatFollowsTheContentType(t *testing.T) {
	contentType := ""
	client := &http.Client{Transport: answering(func(*http.Request) (http.Header, io.Reader) {
		return http.Header{"Content-Type": {contentType}}, strings.NewReader("")
	})}
	f, ask := asked(t, DefaultConfig(), "{fallback_scrape_protocol: OpenMetricsText1.0.0}", "http://a/")
	var r response
	for _, c := range []struct {
		contentType string
		want        expfmt.Format
	}{
		{"", expfmt.OpenMetrics100}, {"text/plain", expfmt.Text004}, {"text/plain", expfmt.Text004}, {"text/html", expfmt.OpenMetrics100}, {"", expfmt.OpenMetrics100},
	} {
		contentType = c.contentType
		if got, err := f.open(t.Context(), client, ask, &r); got != c.want || err != nil {
			t.Errorf("%q is read as %d, %v, want %d", c.contentType, got, err, c.want)
		}
		r.close()
	}
}

func TestRedirectsAreFollowedWithoutCredentials(t *testing.T) {
	var elsewhere, home []http.Header
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		elsewhere = append(elsewhere, r.Header)
		_, _ = io.WriteString(w, "m 1\n")
	}))
	defer other.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		home = append(home, r.Header)
		http.Redirect(w, r, other.URL+"/metrics", http.StatusFound)
	}))
	defer s.Close()
	var cfg promconfig.HTTPClientConfig
	if err := config.Load([]byte("{basic_auth: {username: u, password: p}}"), &cfg); err != nil {
		t.Fatal(err)
	}
	client, err := httpclient.NewScraper(cfg, httpclient.TLS{}, "test", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	f, ask := asked(t, DefaultConfig(), "{}", s.URL)
	for range 3 { // The first finds out that the target redirects.
		if got, _, err := lines(f, client, ask); string(got) != "m 1\n" || err != nil {
			t.Fatalf("read %q, %v", got, err)
		}
	}
	if len(home) != 4 || len(elsewhere) != 3 {
		t.Errorf("%d requests and %d after redirects, want 4 and 3", len(home), len(elsewhere))
	}
	for _, h := range home {
		if h.Get("Authorization") == "" {
			t.Error("the target did not get the credentials")
		}
	}
	for _, h := range elsewhere {
		if h.Get("Authorization") != "" {
			t.Error("another host got the credentials")
		}
		if h.Get("Accept") == "" || h.Get("X-Prometheus-Scrape-Timeout-Seconds") != "10" {
			t.Errorf("after the redirect the header is %v", h)
		}
	}
}

func TestErrorsOfTheNetworkComeWithoutTheURL(t *testing.T) {
	f := func(err error, want string) {
		t.Helper()
		client := &http.Client{Transport: answering(func(*http.Request) (http.Header, io.Reader) { return http.Header{}, iotest.ErrReader(err) })}
		fetcher, ask := asked(t, DefaultConfig(), "{}", "http://a/?token=hunter2")
		if _, _, got := lines(fetcher, client, ask); got == nil || got.Error() != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
	f(io.ErrUnexpectedEOF, "read the response: unexpected EOF")
	f(errors.New("reset"), "read the response: reset")

	client := &http.Client{Transport: &http.Transport{}}
	fetcher, ask := asked(t, DefaultConfig(), "{}", "http://127.0.0.1:1/?token=hunter2")
	for _, ask.redirects = range []bool{false, true} {
		if _, _, err := lines(fetcher, client, ask); err == nil || reasonOf(err) != reasonRefused || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v, want that the connection was refused, without the URL", err)
		}
	}
}
