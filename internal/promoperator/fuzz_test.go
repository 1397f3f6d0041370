package promoperator

import (
	"errors"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

// FuzzTranslate feeds manifests through decoding, translation and rendering: nothing may
// panic, every rejection names its fields, every job that comes out is valid, reads no file,
// and shows no secret.
func FuzzTranslate(f *testing.F) {
	for _, file := range goldens(f) {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(section(ar, "input.yaml")))
	}
	cfg := DefaultConfig()
	cfg.EnforcedNamespaceLabel = "tenant"
	global := scrape.DefaultConfig()
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := Decode(data)
		if err != nil {
			return
		}
		tr := New(cfg, global, canary{}, in.ConfigMaps)
		for _, o := range in.Objects {
			got, err := tr.Translate(o)
			if err != nil {
				if ps, ok := errors.AsType[config.Problems](err); !ok || len(ps) == 0 || len(got.Jobs) > 0 {
					t.Fatalf("%v: rejected with %#v and %d jobs", o, err, len(got.Jobs))
				}
				continue
			}
			for i := range got.Jobs {
				checkJob(t, &got.Jobs[i], o.Namespace, global)
			}
			text, err := RenderYAML(got.Jobs)
			if err != nil {
				t.Fatalf("%v: %v", o, err)
			}
			if strings.Contains(string(text), canaryValue) {
				t.Fatalf("a secret is rendered:\n%s", text)
			}
		}
	})
}

const canaryValue = "c4n4ry-5ecret"

// canary has every Secret.
type canary struct{}

func (canary) Secret(string, string, string) (string, error) { return canaryValue, nil }

// checkJob holds what is true for every job that an object becomes.
func checkJob(t *testing.T, job *scrape.JobConfig, namespace string, global scrape.Config) {
	t.Helper()
	if err := job.Validate(global); err != nil {
		t.Fatalf("%s is not valid: %v", job.JobName, err)
	}
	h := job.HTTPClientConfig
	if h.TLSConfig.CAFile+h.TLSConfig.CertFile+h.TLSConfig.KeyFile+h.BearerTokenFile != "" ||
		h.Authorization != nil && h.Authorization.CredentialsFile != "" || len(job.FileSDConfigs) > 0 {
		t.Fatalf("%s reads a file", job.JobName)
	}
	last := job.RelabelConfigs[len(job.RelabelConfigs)-1]
	if last.TargetLabel != "tenant" || last.Replacement != namespace {
		t.Fatalf("%s does not end with the enforced label but with %+v", job.JobName, last)
	}
}
