package clustermetrics

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/model"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

// first keeps what the first transaction commits, as text.
type first struct {
	once sync.Once
	got  chan string
}

func (f *first) Appender(uint64) model.Appender { return &transaction{to: f} }

type transaction struct {
	to   *first
	text strings.Builder
}

func (x *transaction) Append(b *model.Batch) {
	for _, s := range b.Samples {
		fmt.Fprintf(&x.text, "%s %v\n", model.Labels(b.At(s.Labels)), s.V)
	}
}

func (x *transaction) Commit() error {
	x.to.once.Do(func() { x.to.got <- x.text.String() })
	return nil
}

func (x *transaction) Rollback() {}

// scrapeOnce runs the jobs of cfg against a kubelet that serves text on every path, and
// returns what the first scrape yields.
func scrapeOnce(t *testing.T, cfg Config, kubelet http.Handler) string {
	t.Helper()
	server := httptest.NewUnstartedServer(kubelet)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.StartTLS()
	defer server.Close()
	cfg.ServiceAccountDir = t.TempDir()
	for name, text := range map[string]string{
		"token":  "the-token",
		"ca.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
	} {
		if err := os.WriteFile(filepath.Join(cfg.ServiceAccountDir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	jobs := Jobs(cfg, nodeList{labels.FromStrings(
		"__address__", server.Listener.Addr().String(),
		"instance", "node-1",
		"__meta_kubernetes_node_name", "node-1",
		"__meta_kubernetes_node_label_zone", "z",
	)})
	for i := range jobs {
		// The target is scraped at an offset within the interval.
		jobs[i].Config.ScrapeInterval, jobs[i].Config.ScrapeTimeout = config.Duration(time.Second), config.Duration(time.Second)
		client, err := promconfig.NewClientFromConfig(jobs[i].Config.HTTPClientConfig, "test")
		if err != nil {
			t.Fatal(err)
		}
		jobs[i].Client = client
		defer client.CloseIdleConnections()
	}
	sink := &first{got: make(chan string, 1)}
	m := scrape.New(scrape.DefaultConfig(), slog.New(slog.DiscardHandler), prometheus.NewRegistry(), sink, scrape.Options{Version: "test"}, jobs)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	select {
	case got := <-sink.got:
		return got
	case <-time.After(20 * time.Second):
		t.Fatalf("no scrape within 20s; status %+v", m.Status())
		return ""
	}
}

// TestScrapesYieldTheSeriesOfTheContract runs recorded-like expositions through the whole
// scrape. The expected series are written by hand from the description of k8s-monitoring's
// output; comments in the exposition say what each rule is to do.
func TestScrapesYieldTheSeriesOfTheContract(t *testing.T) {
	golden(t, "testdata/series/*.txtar", func(t *testing.T, section map[string]string, _ func(string, string)) {
		t.Helper()
		cfg := load(t, section["config.yaml"])
		got := scrapeOnce(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if want := strings.TrimSpace(section["path"]); r.URL.Path != want {
				http.Error(w, "this is "+want, http.StatusNotFound)
				return
			}
			if r.Header.Get("Authorization") != "Bearer the-token" {
				http.Error(w, "Unauthorized", http.StatusUnauthorized)
				return
			}
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			_, _ = io.WriteString(w, section["exposition"])
		}))
		if diff := cmp.Diff(section["series"], got); diff != "" {
			t.Errorf("series -want +got\n%s", diff)
		}
	})
}

func TestTokenIsNotCarriedToARedirectsTarget(t *testing.T) {
	elsewhere := make(chan string, 10)
	thief := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		elsewhere <- r.Header.Get("Authorization")
	}))
	defer thief.Close()
	cfg := DefaultConfig()
	cfg.Kubelet.Enabled = true
	got := scrapeOnce(t, cfg, http.RedirectHandler(thief.URL, http.StatusFound))
	if !strings.Contains(got, `__name__="up"`) || !strings.Contains(got, "} 0\n") {
		t.Errorf("a redirect yields\n%s\nwant up 0", got)
	}
	select {
	case auth := <-elsewhere:
		t.Errorf("the redirect was followed, with Authorization %q", auth)
	default:
	}
}
