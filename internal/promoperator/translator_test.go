package promoperator

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-telemetry/ingot/internal/scrape"
)

// asked has every value and notes what it was asked for.
type asked struct{ questions []string }

func (a *asked) Secret(namespace, name, key string) (string, error) {
	a.questions = append(a.questions, namespace+"/"+name+"/"+key)
	return "value", nil
}

func (a *asked) ConfigMap(namespace, name, key string) (string, error) {
	return "", fmt.Errorf("there is no %s/%s/%s", namespace, name, key)
}

const withReferences = `
kind: PodMonitor
metadata: {name: web, namespace: shop}
spec:
  selector: {}
  podMetricsEndpoints:
    - {port: a, basicAuth: {username: {name: auth, key: user}, password: {name: auth, key: password}}}
    - {port: b, authorization: {credentials: {name: token, key: token}}, tlsConfig: {ca: {configMap: {name: ca, key: ca.crt}}}}
`

// A missing value may come later, so whoever watches has to know of it although there is no job.
func TestReferencesAreKnownAlsoOfRejectedObjects(t *testing.T) {
	in, err := Decode([]byte(withReferences))
	if err != nil {
		t.Fatal(err)
	}
	values := &asked{}
	got, err := New(DefaultConfig(), scrape.DefaultConfig(), values, values).Translate(in.Objects[0])
	if err == nil || len(got.Jobs) != 0 {
		t.Errorf("%d jobs without the ConfigMap, error %v", len(got.Jobs), err)
	}
	want := []Reference{{"Secret", "shop", "auth"}, {"Secret", "shop", "token"}, {"ConfigMap", "shop", "ca"}}
	if diff := cmp.Diff(want, got.References); diff != "" {
		t.Errorf("references -want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{"shop/auth/user", "shop/auth/password", "shop/token/token"}, values.questions); diff != "" {
		t.Errorf("asked for, -want +got\n%s", diff)
	}
}

// A translation leaves its object and the configuration as they are, since both are shared.
func TestTranslationChangesNothingItWasGiven(t *testing.T) {
	cfg := DefaultConfig()
	cfg.EnforcedNamespaceLabel = "namespace"
	cfg.PodTargetLabels = make([]string, 1, 8) // Room that a careless append would use.
	cfg.PodTargetLabels[0] = "team"
	rules := make([]ScrapeClass, 1)
	rules[0].Name, rules[0].Default = "usual", true
	cfg.ScrapeClasses = rules
	values := &asked{}
	tr := New(cfg, scrape.DefaultConfig(), values, certificates{values})
	render := func() string {
		in, err := Decode([]byte(withReferences))
		if err != nil {
			t.Fatal(err)
		}
		got, err := tr.Translate(in.Objects[0])
		if err != nil {
			t.Fatal(err)
		}
		again, err := tr.Translate(in.Objects[0])
		if err != nil {
			t.Fatal(err)
		}
		first, _ := RenderYAML(got.Jobs)
		second, _ := RenderYAML(again.Jobs)
		if diff := cmp.Diff(string(first), string(second)); diff != "" {
			t.Errorf("the same object translated twice\n%s", diff)
		}
		return string(first)
	}
	if diff := cmp.Diff(render(), render()); diff != "" {
		t.Errorf("the same configuration used twice\n%s", diff)
	}
}

// certificates has a certificate for every key of a ConfigMap.
type certificates struct{ *asked }

func (certificates) ConfigMap(string, string, string) (string, error) { return testCA, nil }
