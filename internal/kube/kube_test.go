package kube

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/ingot-telemetry/ingot/test/kit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const node = "node-1"

// world is a client and the API server it talks to.
type world struct {
	*Client
	server *kit.Kube
	reg    *prometheus.Registry
	log    *logBuffer
	config string // the kubeconfig
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	server := kit.StartKube(t)
	w := &world{server: server, config: server.Kubeconfig(t)}
	w.connect(t)
	return w
}

// connect builds the client, with pauses that suit a test.
func (w *world) connect(t *testing.T) {
	t.Helper()
	w.reg, w.log = prometheus.NewRegistry(), &logBuffer{}
	log := slog.New(slog.NewTextHandler(w.log, nil))
	c, err := New(Config{KubeconfigFile: w.config}, node, log, w.reg)
	if err != nil {
		t.Fatal(err)
	}
	c.config.QPS, c.config.Burst = 1000, 1000
	quick := func(w *watcher) {
		p := &w.pace
		w.trust = 200 * time.Millisecond
		p.base, p.max, p.jitter = time.Millisecond, 20*time.Millisecond, func() float64 { return 0 }
	}
	quick(c.pods.w)
	c.podDetails.prepare, c.nodes.prepare, c.services.prepare = quick, quick, quick
	for _, s := range c.custom {
		s.prepare = quick
	}
	c.secrets.prepare, c.configMaps.prepare = quick, quick
	c.endpointSlices.prepare, c.ingresses.prepare, c.namespaces.prepare = quick, quick, quick
	w.Client = c
}

// runPods runs the pod store until the test ends or stop is called.
func (w *world) runPods(t *testing.T) (stop func()) {
	t.Helper()
	return run(t, w.pods.Run)
}

func (w *world) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	families, err := w.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			match := true
			for i := 0; i < len(labels); i += 2 {
				found := false
				for _, l := range m.GetLabel() {
					found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
				}
				match = match && found
			}
			if match {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// await polls, since some of what tests wait for (requests at the server, a store's error)
// has no signal.
func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20s for: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// lists counts the requests that made the server send everything.
func lists(rs []kit.KubeRequest) int {
	n := 0
	for _, r := range rs {
		if r.Verb == "list" || r.Streaming {
			n++
		}
	}
	return n
}

func TestNewNamesTheCureOutsideOfACluster(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	_, err := New(Config{}, node, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if !errors.Is(err, ErrNotInCluster) || !strings.Contains(err.Error(), "kubernetes.kubeconfig_file") {
		t.Errorf("New outside of a cluster = %v, want ErrNotInCluster with the key", err)
	}
}

func TestNewRefusesToWatchPodsOfNoNode(t *testing.T) {
	_, err := New(Config{}, "", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err == nil || !strings.Contains(err.Error(), "--node-name") {
		t.Errorf("New without a node name = %v, want an error that names the flag", err)
	}
}

func TestKubeconfigErrorsSayWhatIsWrong(t *testing.T) {
	head := "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
	for _, tc := range []struct{ name, text, want string }{
		{"no YAML", ":", "decode"},
		{"empty", "", `current-context "" is not among its contexts`},
		{"no context", head, `current-context "a" is not among its contexts`},
		{"no cluster", head + "contexts: [{name: a, context: {cluster: b}}]", `cluster "b" of context "a"`},
		{"no user", head + "contexts: [{name: a, context: {cluster: b, user: c}}]\n" +
			"clusters: [{name: b, cluster: {server: 'https://10.0.0.1'}}]", `user "c" of context "a"`},
		{"no server", head + "contexts: [{name: a, context: {cluster: b}}]\n" +
			"clusters: [{name: b, cluster: {server: 'nonsense'}}]", "server must be a URL such as"},
		{"old plugin", head + "contexts: [{name: a, context: {cluster: b, user: c}}]\n" +
			"clusters: [{name: b, cluster: {server: 'https://10.0.0.1'}}]\n" +
			"users: [{name: c, user: {auth-provider: {name: gcp}}}]", `auth-provider "gcp" is not supported`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kubeconfig")
			if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := New(Config{KubeconfigFile: path}, node, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "kubernetes.kubeconfig_file") {
				t.Errorf("New = %v, want an error with the key and %q", err, tc.want)
			}
		})
	}
	_, err := New(Config{KubeconfigFile: "/does/not/exist"}, node, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("New with a missing file = %v, want it to say so", err)
	}
}

func TestKubeconfigFilesAreRelativeToIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := `{apiVersion: v1, kind: Config, current-context: a,
contexts: [{name: a, context: {cluster: b, user: c}}],
clusters: [{name: b, cluster: {server: "https://10.0.0.1:6443", certificate-authority: ca.crt, tls-server-name: api, proxy-url: "http://p:3128"}}],
users: [{name: c, user: {client-certificate: /abs/c.crt, client-key: c.key, as: boss,
  exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, interactiveMode: Never}}}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := readKubeconfig(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	if c.CAFile != filepath.Join(dir, "ca.crt") || c.KeyFile != filepath.Join(dir, "c.key") || c.CertFile != "/abs/c.crt" {
		t.Errorf("files are %q, %q, %q", c.CAFile, c.KeyFile, c.CertFile)
	}
	if c.Host != "https://10.0.0.1:6443" || c.ServerName != "api" || c.Impersonate.UserName != "boss" || c.Proxy == nil {
		t.Errorf("config is %+v", c)
	}
	if c.ExecProvider == nil || c.ExecProvider.Command != "aws" {
		t.Errorf("exec is %+v", c.ExecProvider)
	}
}

func TestPodUsesItsServiceAccount(t *testing.T) {
	server := kit.StartKube(t)
	dir := server.ServiceAccount(t)
	host, port, _ := strings.Cut(strings.TrimPrefix(server.URL(), "https://"), ":")
	t.Setenv("KUBERNETES_SERVICE_HOST", host)
	t.Setenv("KUBERNETES_SERVICE_PORT", port)
	config, err := clientConfig(Config{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{config: config}
	conn, err := c.connect()
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Get().Resource("pods").Do(t.Context()).Error(); err != nil {
		t.Errorf("list with the service account: %v", err)
	}
}

func TestMissingTokenIsPassingTrouble(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, kit.KubePod("ns", "a", "u1", node, nil, nil))
	token := filepath.Join(filepath.Dir(w.config), "token")
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	w.runPods(t)
	await(t, "an error about the token", func() bool {
		err := w.pods.Err()
		return err != nil && strings.Contains(err.Error(), "token")
	})
	if err := os.WriteFile(token, []byte(w.server.Token()), 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, "the list", w.pods.Synced)
	if err := w.pods.Err(); err != nil {
		t.Errorf("Err after the token came = %v, want nil", err)
	}
}

func TestRotatedTokenIsReadAgain(t *testing.T) {
	w := newWorld(t)
	w.runPods(t)
	w.settle(t)
	w.server.SetToken("second")
	w.server.CloseWatches()
	await(t, "a refusal", func() bool {
		err := w.pods.Err()
		return err != nil && strings.Contains(err.Error(), "does not accept the token")
	})
	if err := os.WriteFile(filepath.Join(filepath.Dir(w.config), "token"), []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.server.Put(t, kit.KubePod("ns", "a", "u1", node, nil, nil))
	await(t, "the pod", func() bool { _, ok := w.pods.Pod("ns", "a", "u1"); return ok })
	if got := lists(w.server.Requests()); got != 1 {
		t.Errorf("whole lists = %d, want 1: a refused token is no reason to list again", got)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	w := newWorld(t)
	problems, err := testutil.GatherAndLint(w.reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

func TestGarbageInsteadOfObjectsIsCountedAndRetried(t *testing.T) {
	for name, body := range map[string]string{
		"HTML":      "<html>login</html>",
		"truncated": `{"type":"ADDED","object":{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMeta`,
		"empty":     "",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.server.Intercept(func(rw http.ResponseWriter, _ *http.Request) bool {
				rw.Header().Set("Content-Type", "application/json")
				_, _ = rw.Write([]byte(body))
				return true
			})
			w.runPods(t)
			await(t, "failures", func() bool { return w.metric(t, "ingot_kube_failures_total") >= 3 })
			if err := w.pods.Err(); err == nil || errors.Is(err, errNotListed) || w.pods.Synced() {
				t.Errorf("Err = %v, synced %t; want an error about what came", err, w.pods.Synced())
			}
			w.server.Intercept(nil)
			await(t, "the list", w.pods.Synced)
			await(t, "no error", func() bool { return w.pods.Err() == nil })
			if warned, healed := w.log.count("level=WARN"), w.log.count("recovered"); warned != 1 || healed != 1 {
				t.Errorf("log lines: %d warnings, %d recoveries; want one each", warned, healed)
			}
		})
	}
}
