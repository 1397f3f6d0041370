package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pages() Pages {
	return Pages{
		Version: "v1 <script>",
		Config:  func() ([]byte, error) { return []byte("cluster: tiles\n"), nil },
		Targets: func() any { return []string{"t"} },
		Logs:    func() any { return map[string]int{"files": 3} },
		Queues:  func() any { return nil },

		Kubernetes: func() any { return []string{"pods"} },
		Memory:     func() any { return map[string]string{"level": "ok"} },
	}
}

func serve(t *testing.T, p Pages, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	reg := prometheus.NewRegistry()
	promauto.With(reg).NewCounter(prometheus.CounterOpts{Name: "x_total", Help: "X."}).Add(3)
	w := httptest.NewRecorder()
	s := New("127.0.0.1:0", slog.New(slog.DiscardHandler), reg, p)
	s.http.Handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
	return w
}

func TestEveryPageAnswers(t *testing.T) {
	f := func(path, contentType, want string) {
		t.Helper()
		w := serve(t, pages(), "GET", path)
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) || !strings.HasPrefix(w.Header().Get("Content-Type"), contentType) {
			t.Errorf("GET %s = %d %s\n%s\nwant %s with %q", path, w.Code, w.Header().Get("Content-Type"), w.Body, contentType, want)
		}
		if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
			t.Errorf("GET %s has the policy %q", path, csp)
		}
	}
	f("/metrics", "text/plain", "x_total 3")
	f("/-/healthy", "text/plain", "healthy\n")
	f("/-/ready", "text/plain", "ready\n")
	f("/config", "text/plain", "cluster: tiles\n")
	f("/status/targets", "application/json", "[\n  \"t\"\n]\n")
	f("/status/logs", "application/json", `"files": 3`)
	f("/status/queues", "application/json", "null\n")
	f("/status/kubernetes", "application/json", "[\n  \"pods\"\n]\n")
	f("/status/memory", "application/json", `"level": "ok"`)
	f("/", "text/html", "v1 &lt;script&gt;")
}

func TestTheIndexListsWhatThereIs(t *testing.T) {
	w := serve(t, pages(), "GET", "/")
	links := regexp.MustCompile(`href="([^"]+)"`).FindAllStringSubmatch(w.Body.String(), -1)
	if len(links) != 9 {
		t.Errorf("the index has %d links, want 9:\n%s", len(links), w.Body)
	}
	for _, l := range links {
		if got := serve(t, pages(), "GET", l[1]); got.Code != http.StatusOK {
			t.Errorf("GET %s = %d", l[1], got.Code)
		}
	}
	if w := serve(t, Pages{}, "GET", "/"); strings.Contains(w.Body.String(), "/status/") {
		t.Errorf("the index lists pages that are not there:\n%s", w.Body)
	}
}

func TestOnlyReadingIsPossible(t *testing.T) {
	f := func(method, path string, want int) {
		t.Helper()
		if w := serve(t, pages(), method, path); w.Code != want {
			t.Errorf("%s %s = %d, want %d", method, path, w.Code, want)
		}
	}
	f("POST", "/config", http.StatusMethodNotAllowed)
	f("DELETE", "/-/ready", http.StatusMethodNotAllowed)
	f("HEAD", "/-/ready", http.StatusOK)
	f("GET", "/nothing", http.StatusNotFound)
	f("GET", "/debug/pprof/", http.StatusNotFound)
	f("GET", "/status/targets/../../config", http.StatusTemporaryRedirect)
}

func TestProfilingIsThereOnlyWhenAskedFor(t *testing.T) {
	p := pages()
	p.Profiling = true
	if w := serve(t, p, "GET", "/debug/pprof/cmdline"); w.Code != http.StatusOK {
		t.Errorf("GET /debug/pprof/cmdline = %d", w.Code)
	}
	if w := serve(t, pages(), "GET", "/debug/pprof/cmdline"); w.Code != http.StatusNotFound {
		t.Errorf("without profiling GET /debug/pprof/cmdline = %d", w.Code)
	}
}

func TestUnreadyAndBrokenPagesSayWhy(t *testing.T) {
	f := func(p Pages, path string, code int, want string) {
		t.Helper()
		if w := serve(t, p, "GET", path); w.Code != code || !strings.Contains(w.Body.String(), want) {
			t.Errorf("GET %s = %d %s, want %d with %q", path, w.Code, w.Body, code, want)
		}
	}
	bad := func() error { return errors.New("pods are not listed yet") }
	f(Pages{Ready: bad}, "/-/ready", http.StatusServiceUnavailable, "not ready: pods are not listed yet")
	f(Pages{Ready: bad}, "/-/healthy", http.StatusOK, "healthy")
	f(Pages{Healthy: bad}, "/-/healthy", http.StatusServiceUnavailable, "not healthy: pods")
	f(Pages{Config: func() ([]byte, error) { return nil, errors.New("no YAML") }}, "/config", http.StatusInternalServerError, "no YAML")
	f(Pages{Logs: func() any { return func() {} }}, "/status/logs", http.StatusInternalServerError, "write status as JSON")
}

// start runs a server and returns its address as it logs it, and a function that stops it.
func start(t *testing.T, p Pages) (address string, stop func() error) {
	t.Helper()
	r, w := io.Pipe()
	t.Cleanup(func() { r.Close() })
	s := New("127.0.0.1:0", slog.New(slog.NewJSONHandler(w, nil)), prometheus.NewRegistry(), p)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	line, err := bufio.NewReader(r).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var logged struct{ Msg, Address string }
	if err := json.Unmarshal(line, &logged); err != nil || logged.Msg != "listening" {
		t.Fatalf("the first log line is %s, want listening with an address", line)
	}
	return logged.Address, func() error { cancel(); return <-done }
}

func TestRunListensLogsItsAddressAndStops(t *testing.T) {
	address, stop := start(t, pages())
	resp, err := http.Get("http://" + address + "/-/ready")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("ready = %d", resp.StatusCode)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := stop(); err != nil {
		t.Errorf("Run = %v, want nil after its context ended", err)
	}
}

func TestRunStopsAlthoughARequestHangs(t *testing.T) {
	entered, release := make(chan bool), make(chan bool)
	p := pages()
	p.Logs = func() any { close(entered); <-release; return nil }
	address, stop := start(t, p)
	failed := make(chan error, 1)
	go func() {
		resp, err := http.Get("http://" + address + "/status/logs")
		if err == nil {
			resp.Body.Close()
		}
		failed <- err
	}()
	<-entered
	began := time.Now()
	if err := stop(); err != nil {
		t.Errorf("Run = %v", err)
	}
	if took := time.Since(began); took > 5*stopTimeout {
		t.Errorf("stopping took %v", took)
	}
	if err := <-failed; err == nil {
		t.Error("the hanging request was answered")
	}
	close(release)
}

func TestAnAddressInUseIsAnError(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := New(ln.Addr().String(), slog.New(slog.DiscardHandler), prometheus.NewRegistry(), Pages{})
	err = s.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "address already in use; choose another address with --listen") {
		t.Errorf("Run = %v", err)
	}
}
