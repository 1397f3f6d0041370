package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// R12, R15, R17, R18, R21, R22.
func TestVerdictKeepsDataThatIsNotAtFault(t *testing.T) {
	f := func(want verdict, codes ...int) {
		t.Helper()
		for _, code := range codes {
			if got := judge(code, "some words"); got != want {
				t.Errorf("judge(%d) = %d, want %d", code, got, want)
			}
		}
	}
	f(accepted, 200, 202, 204, 299)
	f(rejected, 400, 409, 412, 418, 422, 424, 451)
	f(tooLarge, 413)
	f(retryLater, 408, 425, 429, 500, 502, 503, 504, 529, 599, 101, 0, 999)
	f(paused, 401, 403, 407)
	if got := judge(500, "rpc error: code = ResourceExhausted desc = grpc: received message larger than max (5 vs. 4)"); got != tooLarge {
		t.Errorf("a 500 for the size is %d, want %d", got, tooLarge)
	}
	f(misconfigured, 300, 301, 302, 303, 304, 307, 308, 404, 405, 410, 411, 414, 415, 421, 426, 431, 501)
}

func TestPlainHTTPToATLSPortKeepsTheData(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	defer server.Close()
	q := newQueue(t, testConfig(), "", http.DefaultTransport)
	q.ep.URL = "http://" + server.Listener.Addr().String()
	r := q.post(t.Context(), part{body: NewBody(nil, []byte("x"))}, 0)
	if r.verdict != misconfigured || !strings.Contains(r.text, "write https:// in url") {
		t.Errorf("verdict %d with %q, want %d and the cure", r.verdict, r.text, misconfigured)
	}
	for _, words := range []string{"400 The plain HTTP request was sent to HTTPS port", "You're speaking plain HTTP to an SSL-enabled server port."} {
		if got := judge(400, words); got != misconfigured {
			t.Errorf("judge(400, %q) = %d, want %d", words, got, misconfigured)
		}
	}
}

func TestStateIsRefusingUntilABlockIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(always(400, "out of order sample")) //nolint:bodyclose // The queue closes it.
		q := newQueue(t, testConfig(), "", b)
		r := start(t, q)
		put(t, q, 0, 1, 100)
		synctest.Wait()
		if s := q.Status(); s.State != StateRefusing || s.Dropped[dropRejected].Blocks != 1 {
			t.Errorf("after a refusal: %s, dropped %v", s.State, s.Dropped)
		}
		b.set(always(200, "")) //nolint:bodyclose // The queue closes it.
		put(t, q, 1, 2, 100)
		synctest.Wait()
		if s := q.Status(); s.State != StateOK || s.Sent.Blocks != 1 {
			t.Errorf("after an acceptance: %s, sent %v, want %s", s.State, s.Sent, StateOK)
		}
		r.shutdown()
	})
}

// R13.
func TestRetryAfterTakesSecondsAndDates(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f := func(header string, want time.Duration) {
		t.Helper()
		if got := retryAfter(header, now); got != want {
			t.Errorf("retryAfter(%q) = %s, want %s", header, got, want)
		}
	}
	f("", 0)
	f("30", 30*time.Second)
	f(" 7 ", 7*time.Second)
	f("0", 0)
	f("-5", 0)
	f("1.5", 0)
	f("1000000000", 5*time.Minute)
	f("99999999999999999999999999", 5*time.Minute)
	f("18446744073709551615", 5*time.Minute)
	f("soon", 0)
	f("Sun, 01 Mar 2026 12:00:45 GMT", 45*time.Second)
	f("Sunday, 01-Mar-26 12:00:45 GMT", 45*time.Second)
	f("Sun Mar  1 12:00:45 2026", 45*time.Second)
	f("Sun, 01 Mar 2026 11:00:45 GMT", 0)
	f("Sun, 01 Mar 2126 12:00:45 GMT", 5*time.Minute)
}

func TestPauseStaysInItsBounds(t *testing.T) {
	jitter := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		for n := 1; n < 200; n++ {
			want := min(100*time.Millisecond<<min(n-1, 20), time.Minute)
			if got := pause(retryLater, n, 0, jitter); got > want || got < want-want/10 {
				t.Fatalf("pause %d = %s, want at most %s, at least nine tenths of it", n, got, want)
			}
		}
		if got := pause(retryLater, 3, 10*time.Second, jitter); got < 10*time.Second || got > 11*time.Second {
			t.Fatalf("pause asked for = %s, want 10 to 11 s", got)
		}
		for _, asked := range []time.Duration{290 * time.Second, maxRetryAfter} {
			if got := pause(retryLater, 3, asked, jitter); got < asked || got > maxRetryAfter {
				t.Fatalf("pause asked for %s = %s, want that and at most five minutes", asked, got)
			}
		}
	}
}

// R24.
func TestErrorsSayWhatIsWrongButNotTheURL(t *testing.T) {
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer hang.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	cut := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer cut.Close()
	lookup := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "nowhere.test", IsNotFound: true}
	}}
	f := func(url string, rt http.RoundTripper, want string) {
		t.Helper()
		timeout := 10 * time.Second
		if strings.Contains(want, "200ms") {
			timeout = 200 * time.Millisecond
		}
		url = strings.Replace(url, "://", "://user:hunter2@", 1) + "/?token=hunter3"
		q := New(Config{}, "", logger(t), newTestMetrics(), Endpoint{Name: "test", URL: url, Client: &http.Client{Transport: rt}, Timeout: timeout})
		r := q.post(t.Context(), part{body: NewBody(nil, []byte("block 1 "))}, 0)
		if r.verdict != retryLater || !strings.HasPrefix(r.text, want) {
			t.Errorf("post to %s = %+v, want a retry with a text that begins %q", url, r, want)
		}
		if strings.Contains(r.text, "hunter") {
			t.Errorf("the text has a secret: %q", r.text)
		}
	}
	plain := func() http.RoundTripper { return &http.Transport{DisableKeepAlives: true} }
	f("http://127.0.0.1:1", plain(), "connection refused: ")
	f("http://nowhere.test", lookup, "DNS: look up nowhere.test: no such host")
	f(secure.URL, plain(), "TLS: ")
	f(strings.Replace(hang.URL, "http:", "https:", 1), plain(), "TLS: ")
	f(hang.URL, plain(), "timeout: no answer within 200ms")
	f(cut.URL, plain(), "connection cut before the answer: ")
}

// R18.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var hits int
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits++ }))
	defer elsewhere.Close()
	here := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer here.Close()
	rt := &http.Transport{DisableKeepAlives: true}
	q := New(Config{}, "", logger(t), newTestMetrics(), Endpoint{Name: "test", URL: here.URL, Client: &http.Client{Transport: rt}})
	if r := q.post(t.Context(), part{body: NewBody(nil, []byte("block 1 "))}, 0); r.verdict != misconfigured || hits != 0 {
		t.Errorf("post = %+v with %d requests elsewhere, want misconfigured and none", r, hits)
	}
}

// R22, R26.
func TestEndlessAnswerIsReadToOneKiB(t *testing.T) {
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusBadRequest)
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte(strings.Repeat("z", 1000))); err != nil {
				return
			}
		}
	}))
	defer endless.Close()
	rt := &http.Transport{DisableKeepAlives: true}
	q := New(Config{}, "", logger(t), newTestMetrics(), Endpoint{Name: "test", URL: endless.URL, Client: &http.Client{Transport: rt}})
	r := q.post(t.Context(), part{body: NewBody(nil, []byte("block 1 "))}, 0)
	if r.verdict != rejected || strings.Count(r.text, "z") != maxAnswer {
		t.Errorf("post = verdict %d with %d bytes, want rejected with %d", r.verdict, strings.Count(r.text, "z"), maxAnswer)
	}
}

func TestInvalidURLIsAStateAndNoCrash(t *testing.T) {
	q := New(Config{}, "", logger(t), newTestMetrics(), Endpoint{Name: "test", URL: "http://bad host:secret@/%zz"})
	if r := q.post(t.Context(), part{}, 0); r.verdict != misconfigured || strings.Contains(r.text, "secret") {
		t.Errorf("post = %+v, want misconfigured without the url", r)
	}
	if s := q.Status(); strings.Contains(s.URL, "secret") {
		t.Errorf("URL = %q shows a secret", s.URL)
	}
}

func TestDescribeHasAWordForEverything(t *testing.T) {
	f := func(err error, want string) {
		t.Helper()
		if got := describe(err, time.Second); got != want {
			t.Errorf("describe = %q, want %q", got, want)
		}
	}
	f(errors.New("odd"), "network: odd")
	_, err := os.ReadFile("testdata/no-such-password")
	f(fmt.Errorf("unable to read basic auth password: %w", err), "file: unable to read basic auth password: open testdata/no-such-password: no such file or directory")
}
