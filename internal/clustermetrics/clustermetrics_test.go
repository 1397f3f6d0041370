package clustermetrics

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/discovery"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

var update = flag.Bool("update", false, "rewrite golden files")

// nodeList is a source of given targets.
type nodeList []labels.Labels

func (n nodeList) Run(ctx context.Context, update func([]discovery.Group)) error {
	update(discovery.Whole(n))
	<-ctx.Done()
	return nil
}

func (nodeList) Err() error { return nil }

// golden runs f for each archive that matches, with its sections by name.
func golden(t *testing.T, pattern string, f func(t *testing.T, section map[string]string, write func(name, text string))) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files %s: %v", pattern, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			section := map[string]string{}
			for _, s := range ar.Files {
				section[s.Name] = string(s.Data)
			}
			f(t, section, func(name, text string) {
				for i := range ar.Files {
					if ar.Files[i].Name == name {
						ar.Files[i].Data = []byte(text)
					}
				}
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func load(t *testing.T, text string) Config {
	t.Helper()
	cfg := DefaultConfig()
	if err := config.Load([]byte(text), &cfg); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(scrape.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestSourcesBecomeJobs(t *testing.T) {
	golden(t, "testdata/jobs/*.txtar", func(t *testing.T, section map[string]string, write func(string, string)) {
		t.Helper()
		nodes := nodeList{}
		var configs []scrape.JobConfig
		for _, job := range Jobs(load(t, section["config.yaml"]), nodes) {
			if len(job.Sources) != 1 || !cmp.Equal(job.Sources[0], discovery.Source(nodes)) || !job.RelabelReports || job.Client != nil {
				t.Errorf("job %s: sources %v, relabel reports %t, client %v", job.Config.JobName, job.Sources, job.RelabelReports, job.Client)
			}
			configs = append(configs, job.Config)
		}
		data, err := yaml.Marshal(configs)
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			write("jobs.yaml", string(data))
			return
		}
		if diff := cmp.Diff(section["jobs.yaml"], string(data)); diff != "" {
			t.Errorf("jobs -want +got\n%s", diff)
		}
		// What is frozen here has to be a configuration that a user could write.
		var parsed struct {
			Jobs []scrape.JobConfig `yaml:"jobs"`
		}
		if err := config.Load([]byte("jobs:\n"+section["jobs.yaml"]), &parsed); err != nil {
			t.Fatalf("the golden jobs do not load: %v", err)
		}
		if err := scrape.ValidateJobs(scrape.DefaultConfig(), parsed.Jobs); err != nil {
			t.Errorf("the golden jobs are not valid: %v", err)
		}
	})
}

func TestNothingIsOnByItself(t *testing.T) {
	cfg := DefaultConfig()
	if jobs := Jobs(cfg, nodeList{}); len(jobs) != 0 || cfg.Enabled() {
		t.Errorf("the defaults make %d jobs, want none", len(jobs))
	}
	if err := cfg.Validate(scrape.DefaultConfig()); err != nil {
		t.Errorf("the defaults are not valid: %v", err)
	}
}

func TestAllowListsAreWhole(t *testing.T) {
	for name, want := range map[string]int{"kubelet": 36, "kubelet_resource": 2, "kubelet_probes": 1, "cadvisor": 19} {
		list := allowList(name)
		if len(list) != want || len(unique(list)) != want {
			t.Errorf("list %s has %d entries, %d different; want %d", name, len(list), len(unique(list)), want)
		}
		for _, p := range list {
			var ps config.Problems
			validatePattern(&ps, name, p)
			if err := ps.Err(); err != nil || strings.ContainsAny(p, " \t") {
				t.Errorf("list %s: entry %q: %v", name, p, err)
			}
		}
	}
}

func TestProblemsAreAllNamedWithTheirCure(t *testing.T) {
	cfg := DefaultConfig()
	err := config.Load([]byte(`
service_account_dir: relative
kubelet: {enabled: true, scrape_interval: 5s, job_label: ""}
kubelet_resource: {enabled: true, job_label: same, metrics_tuning: {include_metrics: ["a(", "a)|(b"], exclude_metrics: [""]}}
kubelet_probes: {enabled: true, job_label: same, scrape_interval: 10s, scrape_timeout: 20s}
cadvisor:
  metrics_tuning:
    normalize_unnecessary_labels: [{metric: "", labels: ["no label"]}]
    keep_physical_filesystem_devices: ["*"]
    keep_physical_network_devices: ["["]
    include_namespaces: ["("]
    exclude_namespaces: [")"]
`), &cfg)
	if err != nil {
		t.Fatal(err)
	}
	got := cfg.Validate(scrape.DefaultConfig()).Error()
	want := strings.Join([]string{
		`service_account_dir: must be an absolute path, is "relative"`,
		`kubelet.job_label: must be set; the default is integrations/kubernetes/ and the name of the source`,
		"kubelet_resource.metrics_tuning.include_metrics[0]: must be a regular expression: error parsing regexp: missing closing ): `a(`",
		"kubelet_resource.metrics_tuning.include_metrics[1]: must be a regular expression: error parsing regexp: unexpected ): `a)|(b`",
		`kubelet_resource.metrics_tuning.exclude_metrics[0]: must not be empty`,
		`kubelet_probes.scrape_timeout: must be at most the interval of 10s, is 20s`,
		`kubelet_probes.job_label: must be unique, but "same" is that of kubelet_resource too`,
		`cadvisor.metrics_tuning.normalize_unnecessary_labels[0].metric: must not be empty`,
		`cadvisor.metrics_tuning.normalize_unnecessary_labels[0].labels[0]: must be a label name such as boot_id, is "no label"`,
		"cadvisor.metrics_tuning.keep_physical_filesystem_devices[0]: must be a regular expression: error parsing regexp: missing argument to repetition operator: `*`",
		"cadvisor.metrics_tuning.keep_physical_network_devices[0]: must be a regular expression: error parsing regexp: missing closing ]: `[`",
		"cadvisor.metrics_tuning.include_namespaces[0]: must be a regular expression: error parsing regexp: missing closing ): `(`",
		"cadvisor.metrics_tuning.exclude_namespaces[0]: must be a regular expression: error parsing regexp: unexpected ): `)`",
	}, "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems -want +got\n%s", diff)
	}
}

func TestSourcesOfLaterReleasesAreUnknownKeys(t *testing.T) {
	cfg := DefaultConfig()
	if err := config.Load([]byte("api_server: {enabled: true}\n"), &cfg); err == nil {
		t.Error("a source that does not exist is accepted")
	}
}
