package app

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/ingot-telemetry/ingot/internal/config"
)

var update = flag.Bool("update", false, "rewrite the golden problems in testdata/bad")

// TestBadFilesGetTheirProblems holds one archive for each kind of mistake: the file and the
// text that a user sees for it.
func TestBadFilesGetTheirProblems(t *testing.T) {
	names, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil || len(names) < 25 {
		t.Fatalf("testdata/bad holds %d archives, %v", len(names), err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Files) != 2 || a.Files[0].Name != "ingot.yaml" || a.Files[1].Name != "problems" || len(a.Comment) == 0 {
				t.Fatalf("%s must hold a comment, ingot.yaml and problems", name)
			}
			_, err = Parse(a.Files[0].Data)
			ps, ok := errors.AsType[config.Problems](err)
			if !ok {
				t.Fatalf("Parse = %v, want problems", err)
			}
			for _, p := range ps {
				if p.Line == 0 && strings.ContainsAny(p.Path, ".[") {
					t.Errorf("%v has no line", p)
				}
			}
			got := ps.Error() + "\n"
			if strings.Contains(got, "hunter2") {
				t.Errorf("a secret is printed:\n%s", got)
			}
			if *update {
				a.Files[1].Data = []byte(got)
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(a.Files[1].Data), got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// issueExample is the configuration that the project promised to take as it is.
const issueExample = `
cluster: tiles                     # stamped as labels cluster and k8s_cluster_name
destinations:
  - name: mimir
    type: prometheus               # remote write
    url: http://mimir-gateway.mimir.svc/api/v1/push
    tenant: tiles                  # X-Scope-OrgID
  - name: loki
    type: loki
    url: http://loki-gateway.loki.svc/loki/api/v1/push
    tenant: tiles
    basic_auth: {username: tiles, password_file: /etc/ingot/secrets/loki/http_passwd}
tls: {ca_file: /etc/ssl/certs/ca-certificates.crt}   # one trust bundle for every client
scrape: {interval: 60s, timeout: 10s}
scrape_configs: []                 # Prometheus scrape_config blocks; static, file, http discovery in this issue
cluster_metrics: {kubelet: {enabled: true}, cadvisor: {enabled: true}}
pod_logs: {enabled: true, path: /var/log/pods}       # metadata from the path alone when there is no Kubernetes
file_logs:
  - {paths: ["/var/log/*.log"], format: raw, labels: {job: integrations/talos}, stages: []}   # format cri|docker|raw
data: {max_bytes: 4GiB, max_age: 48h, durability: behind}
`

func TestTheExampleLoadsAsItIs(t *testing.T) {
	c, err := Parse([]byte(issueExample))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Destinations) != 2 || !c.ClusterMetrics.Cadvisor.Enabled || !c.PodLogs.Enabled || c.FileLogs[0].Labels["job"] != "integrations/talos" {
		t.Errorf("the example became %+v", c)
	}
	mimir, loki := c.Destinations[0], c.Destinations[1]
	if time.Duration(mimir.Timeout) != 30*time.Second || time.Duration(loki.Timeout) != 10*time.Second {
		t.Errorf("timeouts are %v and %v, want 30s and 10s", mimir.Timeout, loki.Timeout)
	}
	if mimir.HTTP.FollowRedirects || !mimir.HTTP.EnableHTTP2 {
		t.Errorf("follow_redirects is %v, enable_http2 is %v", mimir.HTTP.FollowRedirects, mimir.HTTP.EnableHTTP2)
	}
}

func TestExamplesLoad(t *testing.T) {
	names, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("examples: %v, %v", names, err)
	}
	for _, name := range names {
		if _, err := Load(name); err != nil {
			t.Errorf("%s:\n%v", name, err)
		}
	}
}

// TestPastedBlocksLoad takes what Prometheus' documentation shows of scrape_config and
// http_config, as far as this program supports it.
func TestPastedBlocksLoad(t *testing.T) {
	c, err := Parse([]byte(`
destinations:
  - {name: a, type: prometheus, url: "http://a/", tls_config: {ca_file: valid_ca_file, cert_file: valid_cert_file, key_file: valid_key_file}}
scrape_configs:
  - job_name: service-x
    basic_auth: {username: admin_name, password: "multiline\nmysecret\ntest"}
    scrape_interval: 50s
    scrape_timeout: 5s
    body_size_limit: 10MB
    sample_limit: 1000
    metrics_path: /my_path
    scheme: https
    file_sd_configs:
      - files: [foo/*.slow.json, single/file.yml]
        refresh_interval: 10m
    relabel_configs:
      - source_labels: [job, __meta_dns_name]
        regex: (.*)some-[regex]
        target_label: job
        replacement: foo-${1}
      - {source_labels: [abc], target_label: cde}
      - {replacement: static, target_label: abc}
      - {regex: "", replacement: static, target_label: abc}
      - {source_labels: [foo], target_label: abc, action: keepequal}
    metric_relabel_configs:
      - {source_labels: [__name__], regex: expensive_metric.*, action: drop}
  - job_name: service-y
    bearer_token_file: /var/run/token
    params: {module: [http_2xx]}
    http_sd_configs: [{url: "http://localhost/targets", authorization: {credentials: mysecret}}]
  - job_name: service-z
    authorization: {type: Bearer, credentials: mysecret}
    proxy_url: http://proxy
    http_headers: {foo: {values: [foobar], secrets: [bar, foo], files: [valid_password_file]}}
    static_configs:
      - targets: [localhost:9090, "localhost:9191"]
        labels: {my: label, your: label}
`))
	if err != nil {
		t.Fatal(err)
	}
	if a := c.ScrapeConfigs[1].HTTPClientConfig.Authorization; a == nil || a.CredentialsFile != "/var/run/token" {
		t.Errorf("bearer_token_file became %+v", a)
	}
}

func TestEffectiveConfigurationLoadsAgain(t *testing.T) {
	c, err := Parse([]byte(issueExample + "\n" + `kubernetes: {kubeconfig_file: /etc/kubeconfig}`))
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(first)
	if err != nil {
		t.Fatalf("%v\nin\n%s", err, first)
	}
	second, err := again.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(first), string(second)); diff != "" {
		t.Errorf("-first +second\n%s", diff)
	}
	// The second max_samples_per_send is that of metadata_config.
	if strings.Count(string(first), "batch_size") != 1 || strings.Count(string(first), "max_samples_per_send") != 2 {
		t.Errorf("a destination shows keys of the other type:\n%s", first)
	}
}

// marked has sixteen secrets, each SECRET and a number, in every place that takes one.
const marked = `
destinations:
  - name: a
    type: prometheus
    url: http://a/?token=SECRET01&x=y
    basic_auth: {username: tiles, password: SECRET02}
    proxy_url: http://u:SECRET03@proxy:3128
    proxy_connect_header: {Proxy-Authorization: [SECRET04]}
    http_headers: {X-Key: {secrets: [SECRET05]}, X-Api-Key: {values: [SECRET06]}}
    headers: {X-Own: SECRET16}
  - name: b
    type: loki
    url: http://b/
    authorization: {credentials: SECRET07}
    tls_config: {cert: c, key: SECRET08}
  - name: c
    type: loki
    url: http://c/
    oauth2:
      client_id: c
      client_secret: SECRET09
      token_url: http://u:SECRET10@idp/token
      endpoint_params: {password: SECRET11}
      proxy_url: http://u:SECRET12@proxy
scrape_configs:
  - job_name: a
    bearer_token: SECRET13
    params: {access_token: [SECRET14]}
    http_sd_configs: [{url: "http://u:SECRET15@sd/targets"}]
`

func TestNoSecretIsEverPrinted(t *testing.T) {
	if n := strings.Count(marked, "SECRET"); n != 16 {
		t.Fatalf("%d secrets are marked, want 16", n)
	}
	clean := func(what, text string) {
		t.Helper()
		if i := strings.Index(text, "SECRET"); i >= 0 {
			t.Errorf("%s prints %s:\n%s", what, text[i:i+8], text)
		}
	}
	c, err := Parse([]byte(marked))
	if err != nil {
		clean("the error", err.Error())
		t.Fatal(err)
	}
	out, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	clean("the effective configuration", string(out))
	if n := strings.Count(string(out), "<secret>"); n != 16 {
		t.Errorf("%d secrets are shown as hidden, want 16:\n%s", n, out)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "config", c)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "config", c)
	clean("a log line", log.String())
	for _, verb := range []string{"%v", "%+v", "%s"} {
		clean(verb, fmt.Sprintf(verb, c))
	}

	// The same secrets in files that do not load: each line broken in turn, in three ways.
	lines := strings.Split(marked, "\n")
	for i, line := range lines {
		for _, broken := range []string{
			"\t" + line,
			strings.ReplaceAll(line, ": ", ":"),
			strings.ReplaceAll(line, "SECRET", "[SECRET"),
			strings.ReplaceAll(strings.ReplaceAll(line, "SECRET", "{a: SECRET"), "}", "}}"),
			strings.ReplaceAll(line, "SECRET", "SECRET: SECRET"),
			strings.ReplaceAll(line, "http://", "http://%zz "),
			strings.ReplaceAll(line, "http://", "://"),
		} {
			changed := append(append(append([]string{}, lines[:i]...), broken), lines[i+1:]...)
			if _, err := Parse([]byte(strings.Join(changed, "\n"))); err != nil {
				clean(fmt.Sprintf("the error of %q", broken), err.Error())
			}
		}
	}
}

func TestRelativePathsStartAtTheFolderOfTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ingot.yaml")
	text := `
destinations:
  - name: m
    type: prometheus
    url: http://m/push
    basic_auth: {username: u, password_file: secrets/m}
tls: {ca_file: ca.crt}
scrape_configs:
  - job_name: j
    file_sd_configs: [{files: [targets/*.yml, /abs/x.yml]}]
    authorization: {credentials_file: token}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	j := c.ScrapeConfigs[0]
	got := []string{c.TLS.CAFile, c.Destinations[0].HTTP.BasicAuth.PasswordFile, j.HTTPClientConfig.Authorization.CredentialsFile, j.FileSDConfigs[0].Files[0], j.FileSDConfigs[0].Files[1], c.PodLogs.Path}
	want := []string{dir + "/ca.crt", dir + "/secrets/m", dir + "/token", dir + "/targets/*.yml", "/abs/x.yml", "/var/log/pods"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}

func TestLoadNamesTheFileThatIsNotThere(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"))
	if err == nil || !strings.Contains(err.Error(), "there is no file") || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("Load = %v", err)
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("a directory was loaded")
	}
	if _, err := os.Stat("/dev/zero"); err == nil {
		if _, err := Load("/dev/zero"); err == nil || !strings.Contains(err.Error(), "larger than 16MiB") {
			t.Errorf("Load(/dev/zero) = %v", err)
		}
	}
}

func FuzzParseNeverPanics(f *testing.F) {
	f.Add([]byte(issueExample))
	f.Add([]byte(marked))
	names, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err != nil {
			return
		}
		if _, err := c.YAML(); err != nil {
			t.Errorf("YAML: %v", err)
		}
	})
}
