package app_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// canaries hands out marked secrets and remembers them.
type canaries struct {
	dir string
	all []string
}

// literal returns a new secret.
func (c *canaries) literal(place string) string {
	s := fmt.Sprintf("canary-%d-%s", len(c.all), place)
	c.all = append(c.all, s)
	return s
}

// file returns the path of a file with a new secret.
func (c *canaries) file(t *testing.T, place string) string {
	t.Helper()
	path := filepath.Join(c.dir, fmt.Sprint(len(c.all)))
	write(t, path, c.literal(place)+"\n")
	return path
}

// key returns a private key in one line of YAML; its middle is the canary.
func (c *canaries) key(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	c.all = append(c.all, strings.Split(text, "\n")[1])
	return fmt.Sprintf("%q", text)
}

// S14, S19, S20, P30: with a marked secret in every place that takes one, none is in the log,
// on a page or in a file, whatever goes wrong with it.
func TestNoSecretIsPrintedAnywhere(t *testing.T) {
	t.Parallel()
	// The other side refuses everything, and remembers what it was sent.
	var mu sync.Mutex
	sent := make(map[string]bool)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		mu.Lock()
		sent[fmt.Sprintf("%q %s %s %v", user, password, r.URL, r.Header)] = true
		mu.Unlock()
		http.Error(w, "bad credentials", http.StatusUnauthorized)
	}))
	defer server.Close()
	withUser := func(secret, path string) string {
		return strings.Replace(server.URL, "http://", "http://user:"+secret+"@", 1) + path
	}
	c := &canaries{dir: t.TempDir()}
	quote := func(s string) string { return fmt.Sprintf("%q", s) }
	ways := func(at string) []string { // one each, since a client takes one
		return []string{
			"basic_auth: {username: u, password: " + c.literal(at+"-password") + "}",
			"basic_auth: {username: u, password_file: " + c.file(t, at+"-password-file") + "}",
			"authorization: {credentials: " + c.literal(at+"-credentials") + "}",
			"authorization: {type: Token, credentials_file: " + c.file(t, at+"-credentials-file") + "}",
			"bearer_token: " + c.literal(at+"-bearer"),
			"bearer_token_file: " + c.file(t, at+"-bearer-file"),
			"oauth2: {client_id: i, client_secret: " + c.literal(at+"-client") + ", token_url: " + quote(server.URL+"/token") + ", endpoint_params: {}}",
			"oauth2: {client_id: i, client_secret_file: " + c.file(t, at+"-client-file") + ", token_url: " + quote(server.URL+"/token") + "}",
			"http_headers: {X-Key: {secrets: [" + c.literal(at+"-header") + "]}}",
			"http_headers: {X-Key: {files: [" + c.file(t, at+"-header-file") + "]}}",
			"proxy_url: " + quote(withUser(c.literal(at+"-proxy"), "")),
			"tls_config: {cert: nonsense, key: " + c.key(t) + "}",
		}
	}
	var destinations, jobs []string
	for i, way := range ways("metrics") {
		destinations = append(destinations, prometheusTo(fmt.Sprintf("m%d", i), server.URL+"/api/v1/push", way))
	}
	for i, way := range ways("logs") {
		destinations = append(destinations, lokiTo(fmt.Sprintf("l%d", i), server.URL+"/loki/api/v1/push", way))
	}
	destinations = append(
		destinations,
		prometheusTo("murl", server.URL+"/api/v1/push?token="+c.literal("metrics-query")),
		lokiTo("lurl", server.URL+"/loki/api/v1/push?token="+c.literal("logs-query")),
	)
	target := strings.TrimPrefix(server.URL, "http://")
	for i, way := range ways("scrape") {
		jobs = append(jobs, fmt.Sprintf("{job_name: s%d, %s, static_configs: [{targets: [%q]}]}", i, way, target))
	}
	for i, way := range ways("discovery") {
		jobs = append(jobs, fmt.Sprintf("{job_name: d%d, http_sd_configs: [{url: %q, %s}]}", i, server.URL+"/sd", way))
	}
	jobs = append(
		jobs,
		fmt.Sprintf("{job_name: durl, http_sd_configs: [{url: %q}]}", withUser(c.literal("discovery-url"), "/sd?token="+c.literal("discovery-query"))),
		scrapeJob("good", targets(t, 1, 3), "params: {token: ["+c.literal("scrape-param")+"]}"),
		scrapeJob("dropped", targets(t, 1, 3), "params: {api_key: ["+c.literal("dropped-param")+"]}",
			"relabel_configs: [{source_labels: [__address__], action: drop}]"),
	)
	tree := kit.NewPodLogWriter(t, t.TempDir())
	tree.Pod("shop", "cart").Container("main").Write(10)
	p := kit.Start(t, kit.ProcessConfig{
		Config: config(destinations, jobs, podLogs(tree.Dir)),
		Args:   []string{"--log.level", "debug"},
	})

	// Everybody has been told off, and the secrets have really been on the way.
	kit.Eventually(t, soon, "errors of all clients", func() error {
		have, err := queues(p)
		if err != nil {
			return err
		}
		for _, q := range have {
			if q.LastError == "" {
				return fmt.Errorf("%s has no error yet", q.Endpoint)
			}
		}
		n, err := p.Metric("ingot_scrape_discovery_failing")
		if want := len(ways("unused")) + 1; err != nil || int(n) != want {
			return fmt.Errorf("%g of %d discoveries have failed (%w)", n, want, err)
		}
		return nil
	})
	kit.Eventually(t, soon, "secrets on their way, since their absence would show nothing otherwise", func() error {
		mu.Lock()
		heard := strings.Join(slices.Collect(maps.Keys(sent)), "\n")
		mu.Unlock()
		for _, place := range []string{"metrics-password", "metrics-credentials-file", "logs-header", "scrape-bearer", "discovery-password-file", "metrics-query"} {
			if !strings.Contains(heard, "-"+place) {
				return fmt.Errorf("the server has not seen %s", place)
			}
		}
		return nil
	})

	look := func(where, text string) {
		t.Helper()
		for _, secret := range c.all {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("%s has the secret %s: %q", where, secret, text[max(0, at-200):min(len(text), at+len(secret)+50)])
			}
		}
	}
	for _, page := range []string{"/", "/config", "/metrics", "/status/queues", "/status/targets", "/status/logs", "/-/ready", "/-/healthy"} {
		body, err := p.Get(page)
		if err != nil {
			t.Fatal(err)
		}
		look(page, string(body))
	}
	if code, took := p.Stop(); code != 0 || took > stopLimit {
		t.Errorf("exit code %d after %s", code, took)
	}
	look("the log", p.Log())
	err := filepath.WalkDir(filepath.Join(p.Dir(), "data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		look(path, string(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, output := run(t, "check", filepath.Join(p.Dir(), "ingot.yaml"))
	look("check", output)
	// A user in the URL of a destination is refused, without repeating it.
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	write(t, bad, config([]string{
		prometheusTo("murl", withUser(c.literal("metrics-url"), "/push"), "basic_auth: {password: "+c.literal("x")+", pasword: "+c.literal("y")+"}"),
		lokiTo("lurl", ":"+withUser(c.literal("logs-url"), "/push"), "authorization: "+c.literal("z")),
	}, nil))
	if _, output = run(t, "check", bad); !strings.Contains(output, "destinations[0]") {
		t.Errorf("a user in a URL is no problem: %s", output)
	}
	look("check of a bad file", output)
}

// S28, P32: a password file that changes is read by the next request, without a restart, and
// nothing is lost in between.
func TestPasswordFileIsReadAgainWhenItChanges(t *testing.T) {
	t.Parallel()
	mimir, loki := kit.StartMetrics(t, kit.MetricsConfig{}), kit.StartLogs(t, kit.LogsConfig{})
	all := targets(t, 1, 3)
	tree, stop := startTree(t, 50, 1)
	file := filepath.Join(t.TempDir(), "password")
	write(t, file, "old\n")
	auth := fmt.Sprintf("basic_auth: {username: tiles, password_file: %q}", file)
	p := kit.Start(t, kit.ProcessConfig{Config: config(
		[]string{prometheusTo("metrics", mimir.PushURL(), auth), lokiTo("logs", loki.PushURL(), auth)},
		[]string{scrapeJob("app", all)}, podLogs(tree.Dir),
	)})
	uses := func(password string, since time.Time) {
		t.Helper()
		for name, requests := range map[string]func() []kit.Request{"metrics": mimir.Requests, "logs": loki.Requests} {
			kit.Eventually(t, soon, "requests with password "+password, func() error {
				n := 0
				for _, r := range requests() {
					if r.Time.Before(since) {
						continue
					}
					n++
					if user, got, _ := (&http.Request{Header: r.Header}).BasicAuth(); user != "tiles" || got != password {
						return fmt.Errorf("%s: %s:%s", name, user, got)
					}
				}
				if n == 0 {
					return fmt.Errorf("no request to %s", name)
				}
				return nil
			})
		}
	}
	uses("old", time.Time{})
	// As Kubernetes does it: the new file takes the name of the old one.
	write(t, file+".new", "new\n")
	check(t, os.Rename(file+".new", file))
	// A request that is being made at this moment may have the old one.
	uses("new", time.Now().Add(margin))
	stop()
	waitScrapes(t, all, mimir, before(time.Now()))
	if again := waitLines(t, tree, loki) + resent(mimir.Requests()) + resent(loki.Requests()); again > 0 {
		t.Errorf("%d requests or lines repeated, want none", again)
	}
	waitBalance(t, p)
}

// R17: a refused password pauses the destination, for half a minute at a time. Nothing is
// dropped, also not at a stop, and all arrives when the next start has the right one.
func TestR17RefusedPasswordPausesAndLosesNothing(t *testing.T) {
	t.Parallel()
	mimir := kit.StartMetrics(t, kit.MetricsConfig{})
	mimir.Faults.Set(kit.Answer(401))
	all := targets(t, 1, 3)
	file := filepath.Join(t.TempDir(), "password")
	write(t, file, "wrong\n")
	p := kit.Start(t, kit.ProcessConfig{Config: config(
		[]string{prometheusTo("metrics", mimir.PushURL(), fmt.Sprintf("basic_auth: {username: tiles, password_file: %q}", file))},
		[]string{scrapeJob("app", all)},
	)})
	kit.Eventually(t, soon, "state paused", func() error {
		have, err := queues(p)
		if q := have["metrics"]; err != nil || q.State != "paused" || q.Disk.Items == 0 {
			return fmt.Errorf("%+v (%w)", q, err)
		}
		return nil
	})
	if code, took := p.Stop(); code != 0 || took > stopLimit {
		t.Errorf("exit code %d after %s", code, took)
	}
	mimir.Faults.Clear()
	p = p.Again(t)
	waitScrapes(t, all, mimir, before(time.Now()))
	waitBalance(t, p)
}
