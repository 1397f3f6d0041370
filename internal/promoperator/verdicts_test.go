package promoperator

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

// verdict is one decision of the operator's selection.
type verdict struct {
	Kind       string
	Version    string
	Valid      bool
	Error      string
	Object     json.RawMessage
	Prometheus struct{ Spec monitoringv1.PrometheusSpec }
}

func TestObjectsAreRejectedAsByTheOperator(t *testing.T) {
	valid, invalid, skipped := 0, 0, map[string]int{}
	for _, file := range recorded(t, "verdicts") {
		var v verdict
		readJSON(t, file, &v)
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if reason := v.outOfScope(); reason != "" {
			skipped[reason]++
			continue
		}
		t.Run(name, func(t *testing.T) {
			_, err := v.translate(t)
			switch {
			case v.Valid && err != nil:
				t.Errorf("the operator takes it, we say: %v", err)
			case !v.Valid && err == nil:
				t.Errorf("we take it, the operator says: %s", v.Error)
			case v.Valid:
				valid++
			default:
				invalid++
				t.Logf("operator: %s", v.Error)
				t.Logf("ours:     %v", err)
				for _, p := range err.(config.Problems) { //nolint:forcetypeassert,errorlint // It is what the contract says.
					if p.Path == "" {
						t.Errorf("names no field: %v", p)
					}
				}
			}
		})
	}
	t.Logf("%d verdicts equal on good objects, %d on bad ones", valid, invalid)
	for _, reason := range slices.Sorted(maps.Keys(skipped)) {
		t.Logf("%d verdicts skipped: %s", skipped[reason], reason)
	}
}

var gate = regexp.MustCompile(`only supported (for|from|in) Prometheus`)

func (v *verdict) outOfScope() string {
	var m monitoringv1alpha1.ScrapeConfig
	if v.Kind == "ScrapeConfig" && json.Unmarshal(v.Object, &m) == nil && len(otherDiscovery(&m.Spec)) > 0 {
		return "a kind of discovery that Ingot does not have"
	}
	if gate.MatchString(v.Error) {
		return "a field that is newer than the Prometheus of the verdict"
	}
	if strings.HasPrefix(strings.TrimPrefix(v.Version, "v"), "2.") && strings.Contains(v.Error, "is invalid 'target_label'") {
		return "a label name that only a Prometheus before 3 refuses"
	}
	return ""
}

func (v *verdict) translate(t *testing.T) (Translation, error) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.ScrapeConfigs.FileDiscovery = true
	cfg.ScrapeClasses = classesOf(t, v.Prometheus.Spec.ScrapeClasses)
	var in Input
	var doc any
	if err := json.Unmarshal(v.Object, &doc); err != nil {
		t.Fatal(err)
	}
	doc.(map[string]any)["kind"] = v.Kind //nolint:forcetypeassert // An object.
	in.Ignored = map[string]int{}
	if err := in.document(doc); err != nil || len(in.Objects) != 1 {
		t.Fatalf("%d objects, %v", len(in.Objects), err)
	}
	secrets := SecretValues{}
	for key, value := range map[string]string{
		"key1": "val1", "key2": "val2", "ca": testCA, "cert": testCert, "key": testKey, "invalid_ca": "garbage",
	} {
		secrets[ValueRef{in.Objects[0].Namespace, "secret", key}] = value
	}
	return New(cfg, scrape.DefaultConfig(), secrets, ConfigMapValues{}).Translate(in.Objects[0])
}
