package promoperator

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-telemetry/ingot/internal/config"
)

func TestConfigReportsEveryProblem(t *testing.T) {
	f := func(yaml, want string) {
		t.Helper()
		cfg := DefaultConfig()
		got := ""
		if err := config.Load([]byte(yaml), &cfg); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", yaml, diff)
		}
	}
	f("service_monitors: {enabled: true, namespaces: [a], label_selector: 'a in (b)', role: endpoints}", "")
	f("service_monitors: {role: pods}", `service_monitors.role: must be endpointslice or endpoints, is "pods" (line 1)`)
	f("probes: {label_selector: 'a=='}\npod_monitors: {scrape_interval: 5s, scrape_timeout: 6s}",
		"pod_monitors.scrape_timeout: must be at most the interval of 5s, is 6s (line 2)")
	f("probes: {label_selector: 'a in'}",
		"probes.label_selector: must be a label selector such as app=web,tier in (a,b),!canary: unable to parse requirement: found '' expected: '(' (line 1)")
	f("scrape_configs: {metric_relabel_configs: [{action: hashmod, target_label: a}]}",
		"scrape_configs.metric_relabel_configs[0]: relabel configuration for hashmod requires non-zero modulus (line 1)")
	f("scrape_classes: [{}, {name: a, default: true, fallback_scrape_protocol: Smoke}, {name: a, default: true}]",
		"scrape_classes[0].name: must be set (line 1)\n"+
			`scrape_classes[1].fallback_scrape_protocol: must be one of PrometheusProto, OpenMetricsText1.0.0, OpenMetricsText0.0.1, PrometheusText1.0.0, PrometheusText0.0.4, is "Smoke" (line 1)`+"\n"+
			"scrape_classes[2].default: one class may be the default, and element 1 is (line 1)\n"+
			`scrape_classes[2].name: must be unique, but "a" is the name of element 1 too (line 1)`)
	f("scrape_classes: [{name: a, authorization: {type: basic, credentials: hunter2}}]",
		`scrape_classes[0].authorization: authorization type cannot be set to "basic", use "basic_auth" instead (line 1)`)
}

func TestSelectionSaysWhatStopsAnObject(t *testing.T) {
	f := func(k Kind, namespace, want string) {
		t.Helper()
		got := ""
		if err := k.Selects(namespace, map[string]string{"team": "web"}); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("Selects(%+v, %s) = %q, want %q", k, namespace, got, want)
		}
	}
	f(Kind{}, "a", "objects of this kind are not enabled")
	f(Kind{Enabled: true}, "a", "")
	f(Kind{Enabled: true, Namespaces: []string{"a", "b"}}, "b", "")
	f(Kind{Enabled: true, Namespaces: []string{"a", "b"}}, "c", "namespace c is not one of namespaces")
	f(Kind{Enabled: true, ExcludeNamespaces: []string{"c"}}, "c", "namespace c is one of exclude_namespaces")
	f(Kind{Enabled: true, LabelSelector: "team in (web,db)"}, "a", "")
	f(Kind{Enabled: true, LabelSelector: "team!=web"}, "a", `its labels do not match label_selector "team!=web"`)
}
