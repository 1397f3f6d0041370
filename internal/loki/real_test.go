package loki

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// realLoki starts the program that INGOT_LOKI names, such as that of the testbed, with low limits,
// and returns its address.
func realLoki(t *testing.T) (url string) {
	t.Helper()
	program := os.Getenv("INGOT_LOKI")
	if program == "" {
		t.Skip("INGOT_LOKI names no Loki")
	}
	var ports [2]int
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = l.Addr().(*net.TCPAddr).Port
		l.Close()
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "loki.yaml")
	text := fmt.Sprintf(`
target: all
auth_enabled: true
server: {http_listen_address: 127.0.0.1, http_listen_port: %d, grpc_listen_address: 127.0.0.1, grpc_listen_port: %d, log_level: error}
common:
  instance_addr: 127.0.0.1
  path_prefix: %q
  replication_factor: 1
  ring: {kvstore: {store: inmemory}}
  storage: {filesystem: {chunks_directory: %q, rules_directory: %q}}
schema_config:
  configs: [{from: 2020-01-01, store: tsdb, object_store: filesystem, schema: v13, index: {prefix: index_, period: 24h}}]
distributor: {max_recv_msg_size: 20000}
ingester: {lifecycler: {min_ready_duration: 0s, final_sleep: 0s, join_after: 0s}}
analytics: {reporting_enabled: false}
limits_config:
  max_line_size: 1KB
  max_label_names_per_series: 5
  max_label_name_length: 30
  max_label_value_length: 50
  max_structured_metadata_size: 200B
  max_structured_metadata_entries_count: 5
`, ports[0], ports[1], dir, dir+"/chunks", dir+"/rules")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-config.file="+file)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // It has nothing that is worth an orderly end.
		_ = cmd.Wait()
	})
	url = fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		resp, err := http.Get(url + "/ready")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return url
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("Loki does not become ready")
		}
	}
}

var discardedSample = regexp.MustCompile(`^loki_discarded_samples_total\{.*reason="([a-z_]+)".*\} (\d+)$`)

// discarded returns what Loki says it has refused, by reason.
func discarded(t *testing.T, url string) map[string]int64 {
	t.Helper()
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all := map[string]int64{}
	for lines := bufio.NewScanner(io.LimitReader(resp.Body, 64<<20)); lines.Scan(); {
		if m := discardedSample.FindStringSubmatch(lines.Text()); m != nil {
			n, err := strconv.ParseInt(m[2], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			all[m[1]] += n
		}
	}
	return all
}

// TestRealLokiCountsAsWeDo pushes what Loki refuses, and requests that are too large, and compares
// our counts with those of Loki. L38.
func TestRealLokiCountsAsWeDo(t *testing.T) {
	url := realLoki(t)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	header := Header("test")
	header.Set("X-Scope-OrgID", "tenant-a")
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	q := delivery.New(delivery.Config{MaxBytes: config.GiB, MaxAge: config.Duration(time.Hour), MaxParallel: 1}, t.TempDir(), log,
		delivery.NewMetrics(prometheus.NewRegistry()), delivery.Endpoint{
			Name: "loki", URL: url + "/loki/api/v1/push", Client: &http.Client{Transport: transport}, Header: header, Codec: Codec{}, Spool: true,
		})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- q.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	w, _ := newWriter(t, DefaultConfig(), "", q)
	push := func(streams ...model.Stream) {
		t.Helper()
		settled := make(chan struct{})
		if err := w.Push(ctx, &model.LogBatch{Streams: streams, Ack: func() { close(settled) }}); err != nil {
			t.Fatal(err)
		}
		if err := w.flush(ctx, w.own); err != nil {
			t.Fatal(err)
		}
		select {
		case <-settled:
		case <-time.After(30 * time.Second):
			t.Fatalf("not settled: %+v", q.Status())
		}
	}
	now := time.Now()
	lines := func(app string, n int, age time.Duration, text string, more ...string) model.Stream {
		s := model.Stream{Labels: labels(append([]string{"app", app}, more...)...)}
		for i := range n {
			s.Entries = append(s.Entries, model.Entry{T: now.Add(-age).UnixNano() + int64(i), Line: fmt.Appendf(nil, "%d %s", i, text)})
		}
		return s
	}
	manyLabels := []string{"a", "1", "b", "1", "c", "1", "d", "1", "e", "1"}
	withMetadata := func(s model.Stream, md model.Labels) model.Stream { s.Metadata = md; return s }
	push(lines("good", 10, 0, "x"),
		lines("old", 3, 8*24*time.Hour, "x"),
		lines("new", 2, -time.Hour, "x"),
		lines("long", 2, 0, strings.Repeat("x", 1500)),
		lines("many", 4, 0, "x", manyLabels...),
		lines("many", 2, 0, "y", manyLabels...),
		lines("value", 5, 0, "x", "v", strings.Repeat("v", 60)),
		lines("name", 6, 0, "x", strings.Repeat("n", 40), "v"),
		withMetadata(lines("md", 3, 0, "x"), labels("pod", strings.Repeat("p", 300))),
		withMetadata(lines("md", 1, 0, "y"), labels(append([]string{"f", "1"}, manyLabels...)...)),
		lines("good", 7, 0, "y"))
	push(lines("single", 1, 0, strings.Repeat("x", 1500)))
	push(lines("behind", 2, 0, "x"))
	push(lines("behind", 25, 2*time.Hour, "x"))
	push(lines("behind", 4, 2*time.Hour, "y"), lines("behind", 3, 0, "z"))
	before := q.Status().Sent.Items
	var big []model.Stream
	for i := range 50 { // Incompressible, so that it is 60 KB on the wire too.
		s := lines("big", 0, 0, "")
		text := make([]byte, 0, 900)
		for k := range 56 {
			text = fmt.Appendf(text, "%016x", uint64(i*1000+k)*0x9e3779b97f4a7c15^uint64(k)<<32)
		}
		s.Entries = []model.Entry{{T: now.UnixNano() + int64(i), Line: text}}
		big = append(big, s)
	}
	push(big...)
	s := q.Status()
	if got := s.Sent.Items - before; got != 50 {
		t.Errorf("%d of 50 lines of a request that is too large were taken: %+v", got, s)
	}
	got := map[string]int64{}
	for reason, a := range s.Dropped {
		got[reason] = a.Items
	}
	want := discarded(t, url)
	t.Logf("Loki refused %v; its last words were %q", want, s.LastError)
	delete(want, reasonInvalidLabels) // Counts those of the more exact reasons again.
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("refused (-Loki +ours):\n%s", diff)
	}
}
